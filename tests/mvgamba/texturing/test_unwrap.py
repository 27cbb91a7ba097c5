import numpy as np
import pytest
import trimesh

from mvgamba.errors import InvalidInput
from mvgamba.texturing.unwrap import rasterize_uvs, unwrap
from mvgamba.types import Mesh


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))


def spiral(turns: float = 2.5, steps: int = 60) -> Mesh:
    """A winding ramp: all of it looks up, and every turn lies above the one before."""
    angle = np.linspace(0, 2 * np.pi * turns, steps + 1)
    inner = np.stack([0.4 * np.cos(angle), 0.1 * angle, 0.4 * np.sin(angle)], axis=1)
    outer = inner * [2.5, 1.0, 2.5]
    vertices = np.stack([inner, outer], axis=1).reshape(-1, 3)
    i = 2 * np.arange(steps)[:, None]
    faces = np.concatenate([i + [0, 2, 1], i + [1, 2, 3]])
    return Mesh(vertices, faces)


def bumpy_torus() -> Mesh:
    torus = mesh_of(trimesh.creation.torus(1.0, 0.35, major_sections=60, minor_sections=40))
    noise = np.random.default_rng(5).normal(0, 0.01, torus.vertices.shape)
    return Mesh(torus.vertices + noise, torus.faces)


SHAPES = {
    "box": lambda: mesh_of(trimesh.creation.box()),
    "ball": lambda: mesh_of(trimesh.creation.icosphere(subdivisions=3)),
    "bumpy torus": bumpy_torus,
    "spiral": spiral,
    "one triangle": lambda: Mesh(np.eye(3), np.array([[0, 1, 2]])),
}


def texel_area(uvs: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """Signed; negative for faces that are not mirrored (v runs downwards)."""
    a, b, c = (uvs[faces[:, i]] * size for i in range(3))
    return 0.5 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_faces_keep_their_order_and_place(shape):
    mesh = SHAPES[shape]()
    flat = unwrap(mesh, texture_size=256)
    assert flat.faces.shape == mesh.faces.shape
    np.testing.assert_array_equal(flat.vertices[flat.faces], mesh.vertices[mesh.faces])
    np.testing.assert_array_equal(mesh.vertices[flat.source_vertices], flat.vertices)
    np.testing.assert_allclose(np.linalg.norm(flat.normals, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_texel_has_two_owners(shape):
    flat = unwrap(SHAPES[shape](), texture_size=256)
    area = texel_area(flat.uvs, flat.faces, 256)
    assert (area <= 0).all()  # none is mirrored
    covered = (rasterize_uvs(flat.uvs, flat.faces, 256).face_ids >= 0).sum().item()
    # If faces overlapped, fewer texels would be covered than their areas add up to. Counting centres of texels has an
    # error that grows with the length of the outlines: two per cent here.
    assert covered == pytest.approx(-area.sum(), rel=0.02)
    assert flat.uvs.min() > 0 and flat.uvs.max() < 1


@pytest.mark.parametrize("shape", ["box", "ball", "bumpy torus"])
def test_charts_are_far_enough_apart_for_their_padding(shape):
    flat = unwrap(SHAPES[shape](), texture_size=256, padding=3)
    ids = rasterize_uvs(flat.uvs, flat.faces, 256).face_ids[0].numpy()
    charts = np.where(ids >= 0, flat.charts[ids], -1)
    for shift in range(1, 6):  # three texels around each of two neighbours
        for axis in (0, 1):
            a = charts.take(range(256 - shift), axis)
            b = charts.take(range(shift, 256), axis)
            assert not ((a != b) & (a >= 0) & (b >= 0)).any()
    border = np.concatenate([charts[:3].ravel(), charts[-3:].ravel(), charts[:, :3].ravel(), charts[:, -3:].ravel()])
    assert (border == -1).all()


def test_texels_have_about_the_same_size_everywhere():
    mesh = SHAPES["ball"]()
    flat = unwrap(mesh, texture_size=512)
    corners = mesh.vertices[mesh.faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    density = -texel_area(flat.uvs, flat.faces, 512) / area
    assert density.max() / density.min() < 1 / 0.3  # the steepest face that a chart may hold
    assert (rasterize_uvs(flat.uvs, flat.faces, 512).face_ids >= 0).float().mean() > 0.45


def test_a_ramp_that_winds_above_itself_is_cut():
    flat = unwrap(spiral(), texture_size=256)
    assert flat.charts.max() >= 2


def test_hard_edges_keep_their_normals_and_round_ones_are_smooth():
    box = unwrap(SHAPES["box"](), texture_size=128)
    corners = box.vertices[box.faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    face_normals /= np.linalg.norm(face_normals, axis=1, keepdims=True)
    np.testing.assert_allclose(box.normals[box.faces], face_normals[:, None].repeat(3, 1), atol=1e-6)
    ball = unwrap(SHAPES["ball"](), texture_size=128)
    np.testing.assert_allclose(ball.normals, ball.vertices, atol=0.02)


def test_faces_without_area_do_no_harm():
    mesh = SHAPES["box"]()
    broken = Mesh(mesh.vertices, np.concatenate([mesh.faces, [[0, 0, 1], [2, 2, 2]]]))
    flat = unwrap(broken, texture_size=128)
    assert np.isfinite(flat.uvs).all() and np.isfinite(flat.normals).all()
    assert (flat.uvs > 0).all() and (flat.uvs < 1).all()


@pytest.mark.parametrize(
    "mesh,size,words",
    [
        (Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)), 256, "no faces"),
        (Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), 256, "not finite"),
        (Mesh(np.eye(3), np.array([[0, 1, 3]])), 256, "0 to 3, but there are 3"),
        (Mesh(np.eye(3), np.array([[0, 1, 2]])), 8, "between 16 and 8192"),
        (Mesh(np.eye(3), np.array([[0, 1, 2]])), 10_000, "between 16 and 8192"),
    ],
)
def test_bad_input_is_named(mesh, size, words):
    with pytest.raises(InvalidInput, match=words):
        unwrap(mesh, texture_size=size)


def test_too_many_charts_for_a_texture_are_named():
    offsets = np.stack(np.meshgrid(*[np.arange(9.0) * 3] * 3), axis=-1).reshape(-1, 1, 3)
    vertices = (np.eye(3)[None] + offsets).reshape(-1, 3)
    mesh = Mesh(vertices, np.arange(len(vertices)).reshape(-1, 3))
    with pytest.raises(InvalidInput, match="729 charts"):
        unwrap(mesh, texture_size=16)
