"""Our own reader of GLBs: what it makes of a surface, what it leaves alone, and that it believes no file."""

import itertools
import json
import os
import random
import struct

import numpy as np
import pytest

from blender_addon.core import mesh_file, png
from blender_addon.core.errors import AddonError
from blender_addon.core.glb import read_positions
from blender_addon.core.mesh_file import UnusualFile, mesh_arrays, prepare, prepared_path, read_mesh, read_picture
from tests.blender_addon import glb_files


@pytest.fixture
def textured(tmp_path):
    return glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())


def same(one, other):
    for name in ("vertices", "corners", "uvs"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or (a.dtype == b.dtype and np.array_equal(a, b))), name
    assert (one.name, one.material) == (other.name, other.material)


def test_a_surface_is_closed_over_the_seams_of_its_texture(textured):
    arrays = read_mesh(textured)
    points, faces, uvs = glb_files.ball()
    edges = np.sort(arrays.corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert len(arrays.vertices) == 2 + 5 * 8 and len(arrays.corners) == len(faces)  # the sphere of Euler
    turned = np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)
    np.testing.assert_allclose(arrays.vertices[arrays.corners], turned[faces], atol=1e-6)
    np.testing.assert_array_equal(arrays.uvs, np.stack([uvs[..., 0], 1 - uvs[..., 1]], axis=-1)[faces])


def test_names_factors_and_the_picture_are_those_of_the_file(textured):
    arrays = read_mesh(textured)
    material = arrays.material
    assert (arrays.name, material.name) == ("surface", "coat")
    assert (material.metallic, material.roughness, material.is_double_sided) == (0.125, 0.75, False)
    assert (material.image_name, material.extension, material.interpolation) == ("albedo", "EXTEND", "Linear")
    assert read_picture(textured, material) == glb_files.picture()


def slow_weld(points, distance):
    """Each stands for itself, unless an earlier one that does so is as near."""
    stands_for = list(range(len(points)))
    for i, j in itertools.combinations(range(len(points)), 2):
        if stands_for[i] == i and stands_for[j] == j and np.linalg.norm(points[i] - points[j]) <= distance:
            stands_for[j] = i
    return stands_for


def slow_faces(faces, stands_for):
    seen, kept = set(), []
    for index, face in enumerate(faces):
        corners = frozenset(stands_for[i] for i in face)
        if len(corners) == 3 and corners not in seen:
            seen.add(corners)
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(40))
def test_welding_and_sorting_out_agree_with_a_slow_way(tmp_path, seed):
    rng = np.random.default_rng(seed)
    extent = 10.0 ** rng.integers(-3, 4)
    places = (rng.integers(-4, 5, (int(rng.integers(6, 40)), 3)) * extent / 4).astype(np.float32)
    points = places[rng.integers(0, len(places), 70)]
    # Half of the weld's distance in a few steps, so that there are chains too.
    points = points + rng.integers(-1, 2, points.shape).astype(np.float32) * np.float32(0.4e-7 * extent)
    faces = rng.integers(0, len(points), (60, 3))
    arrays = read_mesh(glb_files.write(tmp_path / "mesh.glb", points, faces))
    used = np.unique(faces)
    turned = np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1).astype(np.float32)
    distance = mesh_file.WELD * float(np.ptp(turned[used].astype(np.float64), axis=0).max())
    stands_for = dict(zip(used, used[slow_weld(turned[used].astype(np.float64), distance)], strict=True))
    kept = slow_faces(faces, stands_for)
    expected = turned[np.array([[stands_for[i] for i in faces[k]] for k in kept])]
    np.testing.assert_array_equal(arrays.vertices[arrays.corners], expected)
    assert len(np.unique(arrays.corners)) == len(arrays.vertices)  # nothing loose


def test_points_in_rows_and_planes_are_welded_in_time():
    """Where many share a coordinate, and where a hundred share all of them."""
    grid = np.stack(np.meshgrid(*[np.arange(30.0)] * 3), axis=-1).reshape(-1, 3)
    points = np.concatenate([grid, grid[::-1], np.zeros((100, 3))])
    stands_for = mesh_file.weld(points, 1e-6)
    np.testing.assert_array_equal(points[stands_for], points)
    assert len(np.unique(stands_for)) == len(grid)
    np.testing.assert_array_equal(stands_for[stands_for], stands_for)


def test_very_many_points_in_one_place_are_left_to_blender():
    rng = np.random.default_rng(0)
    with pytest.raises(UnusualFile):
        mesh_file.weld(rng.random((3000, 3)) * 1e-9, 1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_nodes_that_turn_scale_and_move_are_followed(tmp_path, seed):
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=4)
    moves = [
        {"translation": rng.normal(size=3).tolist(), "rotation": (turn / np.linalg.norm(turn)).tolist()},
        {"scale": rng.uniform(0.5, 2.0, 3).tolist()},
    ]

    def change(document):
        document["nodes"] = [{**moves[0], "children": [1]}, {"mesh": 0, **moves[1]}]

    points, faces, uvs = glb_files.ball()
    path = glb_files.write(tmp_path / "mesh.glb", points, faces, uvs, change=change)
    arrays, world = read_mesh(path), read_positions(path)
    x, y, z = world.T
    np.testing.assert_allclose(arrays.vertices[arrays.corners], np.stack([x, -z, y], axis=1)[faces], atol=1e-5)


def test_a_prepared_file_is_what_was_read(textured):
    prepare([textured])
    same(mesh_arrays(textured), read_mesh(textured))
    assert [path.name for path in sorted(textured.parent.iterdir())] == ["mesh.glb", "mesh.glb.npz"]


def test_the_prepared_file_is_used(textured, monkeypatch):
    prepare([textured])
    monkeypatch.setattr(mesh_file, "read_mesh", lambda path: pytest.fail("the GLB was read"))
    assert len(mesh_arrays(textured).corners) == 80


def test_a_mesh_without_texture_is_prepared_too(tmp_path):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball()[:2])
    prepare([path])
    same(mesh_arrays(path), read_mesh(path))
    assert mesh_arrays(path).uvs is None and mesh_arrays(path).material is None


def test_what_was_prepared_of_another_file_is_not_used(textured):
    prepare([textured])
    points, faces, uvs = glb_files.ball()
    glb_files.write(textured, 3 * points, faces, uvs, image=glb_files.picture())  # of the same length
    os.utime(textured, ns=(5, 5))
    assert np.ptp(mesh_arrays(textured).vertices, axis=0).max() == pytest.approx(6.0)


@pytest.mark.parametrize("seed", range(30))
def test_a_prepared_file_that_was_spoilt_is_not_used(textured, seed):
    prepare([textured])
    wanted, path, chance = read_mesh(textured), prepared_path(textured), random.Random(seed)
    data = bytearray(path.read_bytes())
    if seed % 2:
        data = data[: chance.randrange(len(data))]
    else:
        for _ in range(200):
            data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    same(mesh_arrays(textured), wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"corners": np.array([[0, 1, 9999]], np.int32)},
        {"corners": np.array([[0, 1, -1]], np.int32)},
        {"corners": np.array([[0, 1, 2]], np.int64)},
        {"vertices": np.full((42, 3), np.nan, np.float32)},
        {"vertices": np.zeros((42, 2), np.float32)},
        {"uvs": np.zeros((1, 3, 2), np.float32)},
        {"table": np.frombuffer(b"{}", np.uint8)},
    ],
)
def test_numbers_that_do_not_fit_are_not_used(textured, change):
    """They would go to Blender as they are, which crashes of a corner without a vertex."""
    prepare([textured])
    with np.load(prepared_path(textured)) as archive:
        arrays = dict(archive)
    np.savez(prepared_path(textured), **{**arrays, **change})
    same(mesh_arrays(textured), read_mesh(textured))


def test_preparing_never_fails(tmp_path, textured):
    (tmp_path / "empty.glb").write_bytes(b"")
    (tmp_path / "text.glb").write_bytes(b"not a glb")
    prepared_path(tmp_path / "blocked.glb").mkdir()
    (tmp_path / "blocked.glb").write_bytes(textured.read_bytes())
    prepare([tmp_path / name for name in ("missing.glb", "empty.glb", "text.glb", "blocked.glb", "mesh.glb")])
    assert prepared_path(textured).is_file() and not list(tmp_path.glob("*.part"))
    same(mesh_arrays(tmp_path / "blocked.glb"), read_mesh(textured))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]),
        lambda d: d.update(extensionsUsed=["KHR_materials_unlit"]),
        lambda d: d.update(skins=[{"joints": [0]}]),
        lambda d: d.update(animations=[]),
        lambda d: d["asset"].update(version="3.0"),
        lambda d: d["scenes"].append({"nodes": []}),
        lambda d: d["nodes"][0].update(skin=0),
        lambda d: d["nodes"][0].update(scale=[-1, 1, 1]),
        lambda d: d["nodes"][0].update(scale=[0, 1, 1]),
        lambda d: d["nodes"][0].update(children=[0]),
        lambda d: d["nodes"][0].pop("mesh"),
        lambda d: d["meshes"][0]["primitives"].append(d["meshes"][0]["primitives"][0]),
        lambda d: d["meshes"][0]["primitives"][0].update(mode=1),
        lambda d: d["meshes"][0]["primitives"][0].update(targets=[]),
        lambda d: d["meshes"][0]["primitives"][0].pop("indices"),
        lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(COLOR_0=2),
        lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(TEXCOORD_0=1),
        lambda d: d["accessors"][1].update(sparse={}),
        lambda d: d["accessors"][1].update(count=10**6),
        lambda d: d["accessors"][1].update(count=10**30),
        lambda d: d["accessors"][1].update(count=1),
        lambda d: d["accessors"][0].update(componentType=5126),
        lambda d: d["accessors"][0].update(count=4),
        lambda d: d["accessors"][0].update(count=0),
        lambda d: d["bufferViews"][1].update(byteStride=16),
        lambda d: d["materials"].append({}),
        lambda d: d["materials"][0].update(normalTexture={"index": 0}),
        lambda d: d["materials"][0].update(alphaMode="MASK"),
        lambda d: d["materials"][0]["pbrMetallicRoughness"].update(metallicRoughnessTexture={"index": 0}),
        lambda d: d["materials"][0]["pbrMetallicRoughness"].update(roughnessFactor=7),
        lambda d: d["materials"][0]["pbrMetallicRoughness"].pop("baseColorTexture"),
        lambda d: d["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"].update(texCoord=1),
        lambda d: d["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"].update(extensions={}),
        lambda d: d["samplers"][0].update(wrapS=10497),
        lambda d: d["images"][0].update(mimeType="image/jpeg"),
        lambda d: d["images"][0].update(bufferView=0),
        lambda d: d["images"].clear(),
        lambda d: d["bufferViews"][-1].update(byteLength=10**9),
        lambda d: d["bufferViews"][-1].update(byteOffset=-8),
    ],
)
def test_what_is_of_another_form_is_left_to_blender(tmp_path, change):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture(), change=change)
    with pytest.raises(UnusualFile):
        read_mesh(path)


@pytest.mark.parametrize(
    ("points", "faces"),
    [
        (np.zeros((3, 3)), [[0, 1, 2]]),
        (np.eye(3), [[0, 1, 1]]),
        (np.full((3, 3), np.nan), [[0, 1, 2]]),
        (np.where(np.eye(3) > 0, np.inf, 0.0), [[0, 1, 2]]),
        (np.eye(3) * 1e30, [[0, 1, 2]]),
        (np.eye(3), [[0, 1, 3]]),
    ],
)
def test_what_is_no_surface_is_left_to_blender(tmp_path, points, faces):
    """It says there what is the matter with it."""
    with pytest.raises(UnusualFile):
        read_mesh(glb_files.write(tmp_path / "mesh.glb", points, np.array(faces)))


@pytest.mark.parametrize("seed", range(60))
def test_a_spoilt_file_is_refused_or_gives_a_sound_mesh(textured, seed):
    chance, data = random.Random(seed), bytearray(textured.read_bytes())
    length = struct.unpack_from("<I", data, 12)[0]
    for _ in range(1 + seed % 4):  # the JSON, where it hurts
        at = 20 + chance.randrange(length) if seed % 3 else chance.randrange(len(data))
        data[at] = chance.choice(b'0123456789-eE"[]{}:,nt') if seed % 3 else chance.randrange(256)
    textured.write_bytes(data)
    try:
        arrays = read_mesh(textured)
    except UnusualFile:
        return
    assert arrays.corners.min() >= 0 and arrays.corners.max() < len(arrays.vertices)
    assert np.isfinite(arrays.vertices).all() and len(arrays.uvs) == len(arrays.corners)


def test_a_part_between_json_and_binary_does_not_shift_the_picture(textured):
    """More chunks may follow the two that everybody knows."""
    data = textured.read_bytes() + struct.pack("<I4s", 4, b"MORE") + b"1234"
    textured.write_bytes(data[:8] + struct.pack("<I", len(data)) + data[12:])
    assert read_picture(textured, read_mesh(textured).material) == glb_files.picture()


def test_a_picture_that_is_gone_is_no_picture(textured):
    material = read_mesh(textured).material
    textured.write_bytes(textured.read_bytes()[:-100])
    with pytest.raises(UnusualFile):
        read_picture(textured, material)
    textured.unlink()
    with pytest.raises(UnusualFile):
        read_picture(textured, material)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"optimize": True}])
def test_a_sound_png_is_known_as_one(mode, options):
    assert png.is_whole(glb_files.picture(40, mode=mode, **options))


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_other_kinds_of_png_are_left_to_blender(mode):
    data = glb_files.picture(mode="L") if mode == "I;16" else glb_files.picture(mode=mode)
    assert not png.is_whole(data.replace(b"\x08\x00", b"\x10\x00", 1) if mode == "I;16" else data)
    assert not png.is_whole(glb_files.picture(kind="JPEG"))


def test_any_byte_of_a_png_that_is_wrong_is_noticed():
    data = glb_files.picture(6)
    for at in range(len(data)):
        assert not png.is_whole(data[:at])
        for flip in (1, 128):
            assert not png.is_whole(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]), at


def test_files_of_the_backend_are_of_the_form_that_is_read(tmp_path):
    """Of the library, and of the pipeline that only plays."""
    glb = pytest.importorskip("mvgamba.io.glb", reason="needs the library")
    types = pytest.importorskip("mvgamba.types")
    engine = pytest.importorskip("mvgamba_backend.engine.cube")
    points, faces, uvs = glb_files.ball()
    albedo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mesh = types.TexturedMesh(
        vertices=points.astype(np.float64),
        faces=faces,
        normals=points.astype(np.float64),
        uvs=uvs.astype(np.float64),
        albedo=albedo,
        roughness=0.9,
        metallic=0.0,
    )
    glb.write_glb(mesh, tmp_path / "mesh.glb", extras={"mvgamba": {"seed": 1}})
    arrays = read_mesh(tmp_path / "mesh.glb")
    assert len(arrays.vertices) == 42 and arrays.material.roughness == 0.9
    picture = engine.png_bytes(albedo)
    (tmp_path / "cube.glb").write_bytes(engine.cube_glb(np.array([1.0, 2.0, 3.0]), 0.5, texture=picture))
    arrays = read_mesh(tmp_path / "cube.glb")
    assert arrays.vertices.shape == (8, 3) and arrays.corners.shape == (12, 3)
    assert read_picture(tmp_path / "cube.glb", arrays.material) == picture


def test_positions_are_those_of_the_file(textured, tmp_path):
    np.testing.assert_array_equal(read_positions(textured), glb_files.ball()[0])
    textured.write_bytes(textured.read_bytes()[:60])
    with pytest.raises(AddonError):
        read_positions(textured)
    circle = {"scenes": [{"nodes": [0]}], "nodes": [{"children": [0]}], "asset": {"version": "2.0"}}
    with pytest.raises(AddonError):
        read_positions(glb_files.pack(tmp_path / "circle.glb", json.loads(json.dumps(circle)), b"\0" * 4))
