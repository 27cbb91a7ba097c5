"""Coarser copies, collision, the Asset Browser, and files for other programs."""

import hashlib
import json
import math

import numpy as np
import pytest
from PIL import Image

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def lods(addon, scene):
    return addon.module("scene.lods")


@pytest.fixture
def assets(addon, scene):
    return addon.module("scene.assets")


@pytest.fixture
def export(addon, scene):
    return addon.module("scene.export")


@pytest.fixture
def barrel(addon, scene):
    """A result as placing leaves it: a textured ball of 4,000 faces at an odd place."""
    bpy.ops.mesh.primitive_uv_sphere_add(segments=64, ring_count=32, radius=0.5)
    obj = bpy.context.object
    bpy.ops.object.modifier_add(type="TRIANGULATE")
    bpy.ops.object.modifier_apply(modifier="Triangulate")
    obj.name, obj.matrix_world = "Faß ☃", ODD
    _, tree, output = props.new_material("Oak", obj)
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = props.solid_image("Oak", (120, 80, 40))
    tree.links.new(node.outputs["Color"], props.principled(tree, output).inputs["Base Color"])
    own = obj.mvgamba
    own.kind, own.prompt, own.seed, own.generator = "TEXT", "a weathered oak barrel with iron hoops", 41, "starter"
    own.settings_json = addon.request.JobRequest(
        "barrel", (), addon.request.JobOptions(seed=41), addon.request.Target("Scene", "", (), ())
    ).settings_json()
    bpy.context.view_layer.update()
    return obj


def is_convex(mesh):
    points = np.array([v.co for v in mesh.vertices])
    return all(((points - np.array(f.center)) @ np.array(f.normal)).max() < 1e-4 for f in mesh.polygons)


def test_each_lod_has_half_the_faces_of_the_one_before(lods, barrel):
    made = lods.add_lods(bpy.context, barrel, 3)
    assert [part.name for part in made] == ["Faß ☃_LOD1", "Faß ☃_LOD2", "Faß ☃_LOD3"]
    faces = [len(obj.data.polygons) for obj in (barrel, *made)]
    for finer, coarser in zip(faces, faces[1:], strict=False):
        assert coarser == pytest.approx(finer / 2, rel=0.02)
    for part in made:
        bpy.context.view_layer.update()
        assert part.hide_get() and part.hide_render and part.parent == barrel
        assert part.data.uv_layers and list(part.data.materials) == list(barrel.data.materials)
        np.testing.assert_allclose(np.array(part.matrix_world), np.array(barrel.matrix_world), atol=1e-6)
        np.testing.assert_allclose(part.dimensions, barrel.dimensions, rtol=0.03)
    assert barrel.modifiers.keys() == [] and not barrel.hide_get()


def test_lods_can_be_made_again_and_leave_nothing(lods, barrel):
    before = len(bpy.data.meshes), len(bpy.data.objects)
    lods.add_lods(bpy.context, barrel, 3)
    assert [p.name for p in lods.add_lods(bpy.context, barrel, 1)] == ["Faß ☃_LOD1"]
    assert (len(bpy.data.meshes), len(bpy.data.objects)) == (before[0] + 1, before[1] + 1)
    assert lods.add_lods(bpy.context, barrel, 0) == []
    assert (len(bpy.data.meshes), len(bpy.data.objects)) == before


def test_lods_hold_what_modifiers_make(lods, barrel):
    barrel.modifiers.new("Twice", "ARRAY")
    (lod,) = lods.add_lods(bpy.context, barrel, 1)
    assert len(lod.data.polygons) == pytest.approx(len(barrel.data.polygons), rel=0.02) and not lod.modifiers


def test_a_hull_is_convex_closed_and_small(lods, barrel, addon):
    proxy = lods.add_collision(bpy.context, barrel, "CONVEX")
    mesh = proxy.data
    assert proxy.name == "UCX_Faß ☃" and 4 <= len(mesh.vertices) <= 255 and is_convex(mesh)
    edges = [tuple(sorted(key)) for polygon in mesh.polygons for key in polygon.edge_keys]
    assert all(edges.count(edge) == 2 for edge in set(edges))
    points, normals = addon.module("scene.mesh_data").positions(barrel.data), mesh.polygons
    outside = max(((points - np.array(f.center)) @ np.array(f.normal)).max() for f in normals)
    assert outside < 0.02  # of a ball of radius 0.5: 255 corners follow it that closely
    assert proxy.hide_render and proxy.display_type == "WIRE"


@pytest.mark.parametrize("seed", range(6))
def test_a_hull_of_few_corners_is_exact(lods, barrel, seed):
    """Corners that no direction of the lattice finds are found all the same, and what lies inside is left out."""
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(40, 3))
    corners = np.concatenate(
        [corners / np.linalg.norm(corners, axis=1, keepdims=True), [[1.01, 1e-3, 0], [1.01, 0, 0]]]
    )
    points = np.concatenate([corners, 0.5 * rng.normal(size=(3000, 3)) / 3]) + (5.0, 0.0, -3.0)
    barrel.data.clear_geometry()
    barrel.data.from_pydata(points.tolist(), [], [(0, 1, 2)])
    mesh = lods.add_collision(bpy.context, barrel, "CONVEX").data
    assert is_convex(mesh)
    outside = max(((points - np.array(f.center)) @ np.array(f.normal)).max() for f in mesh.polygons)
    assert outside < 1e-5
    made = np.array([v.co for v in mesh.vertices])
    assert np.linalg.norm(made[:, None] - points[None], axis=-1).min(axis=1).max() < 1e-5
    assert len(np.unique(np.round(made, 3), axis=0)) >= 40  # also the one that lies a thousandth beside another


def test_parts_do_not_evaluate_the_scene(lods, barrel):
    """Of a large one that takes long; it happens once, when the undo step is made."""
    bpy.context.view_layer.update()
    seen = []

    def note(scene, _depsgraph):
        seen.append(scene.name)

    bpy.app.handlers.depsgraph_update_post.append(note)
    try:
        lods.add_lods(bpy.context, barrel, 2)
        lods.add_collision(bpy.context, barrel, "CONVEX")
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(note)
    assert bpy.context.scene.name not in seen
    assert [scene.name for scene in bpy.data.scenes] == [bpy.context.scene.name]


def test_lods_keep_colors_and_attributes(lods, barrel):
    barrel.data.color_attributes.new("Paint", "BYTE_COLOR", "CORNER")
    barrel.data.attributes.new("wear", "FLOAT", "POINT")
    (lod,) = lods.add_lods(bpy.context, barrel, 1)
    assert {"Paint", "wear"} <= set(lod.data.attributes.keys())


def test_a_box_is_the_bounding_box(lods, barrel):
    proxy = lods.add_collision(bpy.context, barrel, "BOX")
    assert len(proxy.data.vertices) == 8
    points = np.array([v.co for v in proxy.data.vertices])
    np.testing.assert_allclose(points.max(axis=0), (0.5, 0.5, 0.5), atol=1e-6)
    lods.add_collision(bpy.context, barrel, "CONVEX")
    assert [o.name for o in bpy.data.objects if o.name.startswith("UCX_")] == ["UCX_Faß ☃"]


def test_a_flat_result_has_a_collision_with_a_volume(lods, barrel):
    barrel.data.transform(Matrix.Diagonal((1, 1, 0, 1)))
    for shape in ("BOX", "CONVEX"):
        mesh = lods.add_collision(bpy.context, barrel, shape).data
        assert len(mesh.vertices) == 8 and np.ptp([v.co.z for v in mesh.vertices]) > 0


def test_what_has_no_extent_says_so(addon, lods, barrel):
    barrel.data.clear_geometry()
    with pytest.raises(addon.errors.AddonError, match="no extent"):
        lods.add_collision(bpy.context, barrel, "CONVEX")


def test_parts_turn_with_their_result_and_follow_its_variant(addon, lods, barrel):
    lod = lods.add_lods(bpy.context, barrel, 1)[0]
    barrel.data.transform(Matrix.Diagonal((1, 1, 3, 1)))
    lods.renew_parts(bpy.context, barrel)
    lod = bpy.data.objects["Faß ☃_LOD1"]
    assert np.ptp([v.co.z for v in lod.data.vertices]) == pytest.approx(3.0, rel=0.03)
    addon.module("scene.result").adjust(barrel, Matrix.Rotation(math.pi / 2, 4, "X"))
    assert np.ptp([v.co.y for v in lod.data.vertices]) == pytest.approx(3.0, rel=0.03)


def test_an_asset_says_what_it_is(assets, barrel, tmp_path):
    picture = props.save_png(tmp_path / "preview.png")
    assets.mark_asset(barrel, preview=picture, license="CC0-1.0", copyright="2026 me")
    data = barrel.asset_data
    assert data.description == "a weathered oak barrel with iron hoops"
    assert [tag.name for tag in data.tags] == ["MVGamba", "Text", "weathered", "oak", "barrel", "iron", "hoops"]
    assert data.catalog_id == assets.CATALOG_ID and data.author == ""
    assert (data.license, data.copyright) == ("CC0-1.0", "2026 me")
    assert tuple(barrel.preview.image_size) != (0, 0)


def test_marking_again_keeps_what_the_user_has_written(assets, barrel):
    assets.mark_asset(barrel)
    data = barrel.asset_data
    data.description, data.author, data.catalog_id = "mine", "me", "00000000-0000-0000-0000-000000000007"
    assets.mark_asset(barrel)
    assert (data.description, data.author) == ("mine", "me") and data.catalog_id.endswith("7")
    assert [tag.name for tag in data.tags].count("MVGamba") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("a red, RED barrel of the sea!", ["red", "barrel", "sea"]),
        ("ein Faß aus Eiche 木の樽 x2", ["ein", "faß", "aus", "eiche", "木の樽"]),
    ],
)
def test_main_words_tell_assets_apart(assets, text, words):
    assert assets.main_words(text) == words


def test_a_library_file_holds_one_asset_with_all_that_it_knows(assets, barrel, tmp_path):
    picture = props.save_png(tmp_path / "preview.png")
    names = sorted(o.name for o in bpy.data.objects)
    path = assets.save_to_library(barrel, tmp_path / "libräry", preview=picture)
    assert path.name == "Faß ☃.blend" and barrel.asset_data is None
    assert sorted(o.name for o in bpy.data.objects) == names
    assert not (path.parent / assets.CATALOG_FILE).exists()
    again = assets.save_to_library(barrel, tmp_path / "libräry")
    assert again.name == "Faß ☃ 2.blend"
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(path), assets_only=True) as (there, into):
        assert there.objects == ["Faß ☃"]
        into.objects = there.objects
    (obj,) = into.objects
    assert obj.asset_data.description == "a weathered oak barrel with iron hoops"
    assert obj.mvgamba.seed == 41 and json.loads(obj.mvgamba.settings_json)["options"]["seed"] == 41
    assert obj.location.length == 0 and obj.material_slots[0].material.name == "Oak"
    assert next(n.image for n in obj.material_slots[0].material.node_tree.nodes if n.type == "TEX_IMAGE").packed_file


def test_a_catalog_is_added_once_and_others_stay(addon, assets, tmp_path):
    assert assets.add_catalog(tmp_path) is True and assets.add_catalog(tmp_path) is False
    text = (tmp_path / assets.CATALOG_FILE).read_text(encoding="utf-8")
    assert "VERSION 1" in text and text.count(assets.CATALOG_ID) == 1
    own = "VERSION 1\n\n11111111-1111-1111-1111-111111111111:Möbel:Möbel\n"
    (tmp_path / assets.CATALOG_FILE).write_text(own, encoding="utf-8")
    assets.add_catalog(tmp_path)
    assert (tmp_path / assets.CATALOG_FILE).read_text(encoding="utf-8").startswith(own)
    (tmp_path / assets.CATALOG_FILE).write_text("VERSION 2\n", encoding="utf-8")
    with pytest.raises(addon.errors.AddonError, match="unknown version"):
        assets.add_catalog(tmp_path)


def test_a_library_that_cannot_be_written_is_a_sentence_and_changes_nothing(addon, assets, barrel, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(addon.errors.AddonError) as caught:
        assets.save_to_library(barrel, tmp_path / "file")
    assert caught.value.reason == "OUTPUT_FAILED" and barrel.name == "Faß ☃"


def test_an_export_holds_meshes_textures_and_where_they_came_from(lods, export, barrel, tmp_path):
    lods.add_lods(bpy.context, barrel, 2)
    lods.add_collision(bpy.context, barrel, "CONVEX")
    bpy.context.view_layer.update()
    state = props.state_of_file()
    written = export.export_result(bpy.context, barrel, tmp_path)
    assert props.state_of_file() == state
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "Faß ☃/Faß ☃.glb",
        "Faß ☃/Faß ☃.json",
        "Faß ☃/Faß ☃_LOD1.glb",
        "Faß ☃/Faß ☃_LOD2.glb",
        "Faß ☃/UCX_Faß ☃.glb",
        "Faß ☃/textures/Oak.png",
    ]
    note = json.loads((tmp_path / "Faß ☃" / "Faß ☃.json").read_text(encoding="utf-8"))
    assert note["seed"] == 41 and note["request"]["options"]["seed"] == 41 and note["generator"] == "starter"
    for name, facts in note["files"].items():
        assert hashlib.sha256((tmp_path / "Faß ☃" / name).read_bytes()).hexdigest() == facts["sha256"]
    assert note["files"]["Faß ☃_LOD1.glb"]["faces"] < note["files"]["Faß ☃.glb"]["faces"]
    with Image.open(tmp_path / "Faß ☃" / "textures" / "Oak.png") as texture:
        assert texture.convert("RGB").getpixel((0, 0)) == pytest.approx((120, 80, 40), abs=1)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "Faß ☃" / "Faß ☃.glb"))
    (back,) = [obj for obj in bpy.data.objects if obj.type == "MESH"]
    bpy.context.view_layer.update()
    assert back.name == "Faß ☃" and back.matrix_world.translation.length < 1e-6
    np.testing.assert_allclose(back.dimensions, ODD.to_scale(), rtol=1e-3)


def test_names_become_files_everywhere(addon):
    names = addon.module("core.file_names")
    assert names.file_stem('a/b\\c:d*e?"<>|') == "a_b_c_d_e_____" and names.file_stem(" .. ") == "result"
    assert names.file_stem("CON") == "CON_" and names.file_stem("木の樽 Faß") == "木の樽 Faß"
    assert len(names.file_stem("木" * 500).encode()) <= 240
