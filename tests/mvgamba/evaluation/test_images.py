"""Photographs of drawables, the rig around them, and the scores of pictures."""

import math

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mvgamba.cameras import project
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable, Material, drawable_of, linear_to_srgb, read_drawable, srgb_to_linear
from mvgamba.evaluation.image_scores import EQUAL_DB, image_scores, psnr
from mvgamba.evaluation.photograph import disturbed, photograph
from mvgamba.evaluation.rig import (
    DISTANCE,
    FOVY,
    cameras_around,
    input_angles,
    random_placement,
    scored_angles,
)
from mvgamba.io.glb import write_glb
from mvgamba.types import PosedViews, Similarity, TexturedMesh


def box(color=(1.0, 1.0, 1.0), extents=(1.0, 1.0, 1.0)) -> Drawable:
    mesh = trimesh.creation.box(extents)
    count = len(mesh.vertices)
    return Drawable(
        np.asarray(mesh.vertices, np.float64),
        np.asarray(mesh.faces, np.int64),
        np.zeros((count, 2)),
        np.ones((count, 3)),
        np.zeros(len(mesh.faces), np.int64),
        [Material(np.array(color))],
    )


def quad(texture: np.ndarray, uvs: np.ndarray | None = None) -> Drawable:
    """A square of edge 1 in the xy plane that faces +Z, its upper left corner at texture (0, 0)."""
    corners = np.array([[-0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0.0]])
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]) if uvs is None else uvs
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    return Drawable(corners, faces, uvs, np.ones((4, 3)), np.zeros(2, np.int64), [Material(np.ones(3), texture)])


def front(drawable: Drawable, size: int = 64):
    return cameras_around(drawable, Similarity.identity(), [(0.0, 0.0)], size)


def test_transfer_functions_are_inverse():
    values = np.linspace(0, 1, 50)
    back = linear_to_srgb(torch.from_numpy(srgb_to_linear(values)))
    np.testing.assert_allclose(back.numpy(), values, atol=1e-6)


def test_silhouette_of_a_box_has_its_projected_size():
    # the front face of a unit cube at 0.5 before the centre is what the camera sees of it
    cube = box()
    views = photograph(cube, front(cube, 128))
    distance = DISTANCE * math.sqrt(3) / 2
    edge = 128 / 2 / math.tan(FOVY / 2) / (distance - 0.5)
    # four samples to a pixel's edge: each of the four sides is right to an eighth of a pixel
    assert views.alpha.sum().item() == pytest.approx(edge**2, abs=4 * edge / 8)


def test_factors_are_linear_and_colours_come_out_as_srgb():
    cube = box(color=(0.2, 0.5, 1.0))
    views = photograph(cube, front(cube, 32))
    expected = linear_to_srgb(torch.tensor([0.2, 0.5, 1.0]))
    torch.testing.assert_close(views.rgb[0, :, 16, 16], expected)


def test_soft_edges_have_the_straight_colour_of_the_object():
    cube = box(color=(0.5, 0.1, 0.1))
    views = photograph(cube, front(cube, 50))
    soft = (views.alpha[0, 0] > 0) & (views.alpha[0, 0] < 1)
    assert soft.any()
    expected = linear_to_srgb(torch.tensor([0.5, 0.1, 0.1]))
    torch.testing.assert_close(views.rgb[0][:, soft], expected[:, None].expand(3, int(soft.sum())))
    assert ((views.alpha * 16) % 1 == 0).all()


def test_samples_of_a_pixel_are_averaged_in_linear_light():
    # black and white stripes of 1/64 seen at 64 x 64 samples each: grey of half the light, not of half the value
    stripes = np.zeros((1, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    square = quad(stripes)
    views = photograph(square, front(square, 32))
    middle = views.rgb[0, :, 14:18, 14:18].mean()
    assert middle.item() == pytest.approx(float(linear_to_srgb(torch.tensor(0.5))), abs=0.03)


def test_texture_lies_with_its_first_row_on_top_and_its_first_column_on_the_left():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    square = quad(texture)
    image = photograph(square, front(square, 64)).rgb[0]
    inside = (photograph(square, front(square, 64)).alpha[0, 0] == 1).nonzero()
    top, left = inside.min(0).values.tolist()
    bottom, right = inside.max(0).values.tolist()
    torch.testing.assert_close(image[:, top, left], torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(image[:, top, right], torch.tensor([0, 1.0, 0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(image[:, bottom, left], torch.tensor([0, 0, 1.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(image[:, bottom, right], torch.tensor([0, 0, 0.0]), rtol=0, atol=1e-3)


def test_coordinates_outside_the_texture_repeat_it():
    texture = (np.random.default_rng(0).random((4, 4, 3)) * 255).astype(np.uint8)
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    plain, shifted = quad(texture, uvs * 0.5 + 0.25), quad(texture, uvs * 0.5 + 3.25)
    cameras = front(plain)
    torch.testing.assert_close(photograph(plain, cameras).rgb, photograph(shifted, cameras).rgb, rtol=0, atol=2e-4)


def test_depth_is_along_the_view_axis():
    cube = box()
    views = photograph(cube, front(cube), with_depth=True)
    seen = views.depth[0, 0][views.depth[0, 0] > 0]
    torch.testing.assert_close(seen, torch.full_like(seen, DISTANCE * math.sqrt(3) / 2 - 0.5))


def test_a_photograph_far_from_the_origin_is_the_same():
    cube = box(extents=(1.0, 0.6, 0.3))
    far = Similarity(0.01, torch.eye(3, dtype=torch.float64), torch.tensor([300.0, -500.0, 80.0], dtype=torch.float64))
    here = photograph(cube, cameras_around(cube, Similarity.identity(), [(0.4, 0.3)], 48))
    there = photograph(cube.placed(far), cameras_around(cube, far, [(0.4, 0.3)], 48))
    assert (here.alpha - there.alpha).abs().max() <= 1 / 16


def test_a_glb_of_ours_is_read_as_what_it_was(tmp_path):
    texture = (np.random.default_rng(0).random((8, 8, 3)) * 255).astype(np.uint8)
    square = quad(texture)
    mesh = TexturedMesh(square.vertices, square.faces, np.tile([[0.0, 0.0, 1.0]], (4, 1)), square.uvs, texture)
    write_glb(mesh, tmp_path / "a.glb")
    cameras = front(square)
    direct, back = photograph(drawable_of(mesh), cameras), photograph(read_drawable(tmp_path / "a.glb"), cameras)
    torch.testing.assert_close(back.alpha, direct.alpha)
    torch.testing.assert_close(back.rgb, direct.rgb, rtol=0, atol=1e-5)


def test_nodes_factors_and_mirrors_of_a_glb_are_honoured(tmp_path):
    factor = [0.013, 0.2, 0.7, 1.0]
    material = trimesh.visual.material.PBRMaterial(name="paint", baseColorFactor=factor)
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    scene = trimesh.Scene()
    transform = np.diag([-2.0, 1, 1, 1])
    transform[:3, 3] = (5, 6, 7)
    scene.add_geometry(mesh, transform=transform)
    (tmp_path / "b.glb").write_bytes(scene.export(file_type="glb"))
    read = read_drawable(tmp_path / "b.glb")
    np.testing.assert_allclose(read.center, (5, 6, 7), atol=1e-6)
    np.testing.assert_allclose(read.bounds[1] - read.bounds[0], (2, 1, 1), atol=1e-6)
    corners = read.vertices[read.faces]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(2.0)  # still wound outwards after the mirror
    np.testing.assert_allclose(read.materials[0].factor, np.round(np.array(factor[:3]) * 255) / 255, atol=1e-6)


def test_an_image_in_a_glb_multiplies_its_factor(tmp_path):
    image = Image.new("RGB", (2, 2), (255, 0, 255))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=[255, 255, 0, 255])
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.full((8, 2), 0.5), material=material)
    (tmp_path / "c.glb").write_bytes(trimesh.Scene(mesh).export(file_type="glb"))
    cube = read_drawable(tmp_path / "c.glb")
    color = photograph(cube, front(cube, 16)).rgb[0, :, 8, 8]
    torch.testing.assert_close(color, torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("content", [b"", b"glTF", b"not a glb at all, but long enough to look at"])
def test_a_file_that_is_no_glb_is_refused(tmp_path, content):
    (tmp_path / "x.glb").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"x\.glb"):
        read_drawable(tmp_path / "x.glb")


def test_every_camera_sees_the_whole_object_in_its_middle():
    tall = box(extents=(0.3, 2.0, 0.7))
    placement = random_placement(tall, 3)
    cameras = cameras_around(tall, placement, input_angles(24, 0) + scored_angles(), 64)
    pixels, depth = project(torch.from_numpy(tall.placed(placement).vertices), cameras)
    assert (depth > 0).all()
    assert pixels.min() > 0
    assert pixels.max() < 64
    center, _ = project(torch.from_numpy(tall.placed(placement).center)[None], cameras)
    torch.testing.assert_close(center, torch.full_like(center, 32.0))


def test_placement_stays_within_what_it_promises():
    thing = box(extents=(0.3, 2.0, 0.7))
    extents, turns = [], []
    for seed in range(60):
        placement = random_placement(thing, seed)
        low, high = thing.placed(placement).bounds
        extents.append(placement.scale * 2.0)
        turns.append(float(placement.rotation[0, 2]))
        assert high[1] - low[1] == pytest.approx(extents[-1])  # turned about the vertical only
        assert np.linalg.norm((low + high) / 2) <= 3 * extents[-1] + 1e-9
    assert 0.2 <= min(extents) < 0.4
    assert 2.5 < max(extents) <= 5.0
    assert min(turns) < -0.8
    assert max(turns) > 0.8


def test_first_four_input_cameras_are_a_level_ring_and_more_never_take_their_place():
    ring = [(k * math.pi / 2, 0.0) for k in range(4)]
    for count in (4, 8, 12, 16, 24):
        angles = input_angles(count, 5)
        assert len(angles) == count
        assert angles[:4] == ring
        assert len(set(angles)) == count
    eight = input_angles(8, 5)[4:]
    assert all(math.radians(35) <= abs(e) <= math.radians(50) for _, e in eight)
    assert [e > 0 for _, e in eight] == [True, False, True, False]
    assert [e for _, e in input_angles(10, 5)[8:]] == [math.pi / 2, -math.pi / 2]


def test_scoring_cameras_keep_their_distance_from_the_ring():
    def direction(azimuth, elevation):
        c = math.cos(elevation)
        return np.array([c * math.sin(azimuth), math.sin(elevation), c * math.cos(azimuth)])

    scored = scored_angles()
    assert len(scored) == 16
    assert all(math.radians(-20.001) <= e <= math.radians(60.001) for _, e in scored)
    nearest = max(direction(*a) @ direction(*b) for a in scored for b in input_angles(4, 0))
    assert math.degrees(math.acos(nearest)) > 11


def test_equal_pictures_score_full_marks():
    cube = box(color=(0.3, 0.2, 0.1))
    views = photograph(cube, cameras_around(cube, Similarity.identity(), scored_angles()[:2], 40))
    scores = image_scores(views, views)
    assert scores["psnr"] == scores["psnr_foreground"] == EQUAL_DB
    assert scores["ssim"] == pytest.approx(1.0)
    assert scores["iou"] == 1.0


def test_scores_of_known_pictures_are_known():
    rgb, alpha = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    cameras = front(box(), 32)
    truth_alpha, result_alpha = alpha.clone(), alpha.clone()
    truth_alpha[..., 8:24, 8:24] = 1  # 256 pixels, black on white
    result_alpha[..., 8:24, 8:16] = 1  # half of them
    scores = image_scores(PosedViews(rgb, truth_alpha, cameras), PosedViews(rgb, result_alpha, cameras))
    assert scores["iou"] == pytest.approx(0.5)
    assert scores["psnr"] == pytest.approx(psnr(128 / 1024))
    assert scores["psnr_foreground"] == pytest.approx(psnr(0.5))
    assert psnr(0.01) == pytest.approx(20.0)


def test_disturbed_views_differ_a_little_and_the_same_each_time():
    cube = box(color=(0.3, 0.2, 0.1))
    views = photograph(cube, front(cube))
    noisy = disturbed(views, 1)
    assert torch.equal(noisy.rgb, disturbed(views, 1).rgb)
    inside = views.alpha.expand_as(views.rgb) == 1
    ratio = noisy.rgb[inside].mean() / views.rgb[inside].mean()
    assert 0.94 < ratio < 1.06
    assert not torch.equal(noisy.alpha, views.alpha)
    solid = (views.alpha == 0) | (views.alpha == 1)
    assert torch.equal(noisy.alpha[solid], views.alpha[solid])
