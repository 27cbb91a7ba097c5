import math

import numpy as np
import pytest
import torch
from skimage import measure

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.kernels.silhouettes import signed_distance_2d

FOVY = math.radians(49.1)


def ball_silhouettes(cameras, centre, radius):
    """Signed pixel distance (to first order) to the outline of a ball."""
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    rows, columns = torch.meshgrid(torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij")
    maps = []
    for transform, k in zip(w2c, cameras.intrinsics):
        middle = transform[:3, :3] @ torch.tensor(centre, dtype=torch.float64) + transform[:3, 3]
        rays = torch.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], torch.ones_like(rows)], dim=-1)
        rays = rays.double() / rays.norm(dim=-1, keepdim=True)
        along = rays @ middle
        angle = math.asin(radius / middle.norm()) - torch.acos((along / middle.norm()).clamp(-1, 1))
        maps.append(angle * k[0, 0] / rays[..., 2])
    return torch.stack(maps).float()


def carve(silhouettes, cameras, low, spacing, shape, **options):
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    return carve_silhouettes(silhouettes, w2c, cameras.intrinsics, torch.tensor(low), spacing, shape, **options)


def test_a_ball_keeps_its_place_and_radius():
    cameras = fibonacci_cameras(24, radius=1.5, fovy=FOVY, height=128, width=128)
    centre = [0.1, -0.05, 0.15]
    field = carve(ball_silhouettes(cameras, centre, 0.35), cameras, [-0.6] * 3, 0.02, (61, 61, 61))
    vertices, *_ = measure.marching_cubes(field.numpy(), 0.0)
    radii = np.linalg.norm(vertices * 0.02 - 0.6 - centre, axis=1)
    assert radii.min() > 0.35 - 0.005
    assert radii.max() < 0.35 * 1.15  # the hull of 24 views bulges between them
    # In the middle the nearest outline is one radius away.
    assert field[35, 28, 38].item() == pytest.approx(0.35, abs=0.03)


def test_values_are_world_distances_near_the_outline():
    cameras = fibonacci_cameras(1, radius=2.0, fovy=FOVY, height=96, width=96)
    k = cameras.intrinsics.clone()
    k[:, :2] *= 1.5
    silhouettes = torch.full((1, 96, 96), 3.0)
    field = carve_silhouettes(
        silhouettes, c2w_to_w2c_opencv(cameras.c2w), k, torch.zeros(3), 0.1, (1, 1, 1), outside_frame="ignore"
    )
    assert field.item() == pytest.approx(3.0 * 2.0 / k[0, 0, 0].item(), rel=1e-5)


@pytest.mark.parametrize("outside_frame", ["empty", "ignore"])
@pytest.mark.parametrize("shape", [(33, 9, 47), (1, 1, 1), (8, 8, 8), (1, 40, 2)])
@pytest.mark.parametrize("views", [1, 5])
@pytest.mark.parametrize("variant", ["warp-cpu", "warp-cuda"])
def test_variants_agree_with_the_reference(outside_frame, shape, views, variant):
    cameras = fibonacci_cameras(views, radius=1.5, fovy=FOVY, height=45, width=45)
    silhouettes = ball_silhouettes(cameras, [0.3, 0.1, 0.0], 0.45)
    # The grid reaches beyond the frames and behind the cameras.
    low = torch.tensor([-1.9, -0.4, -1.7])
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    fields = [
        carve_silhouettes.function(name)(
            silhouettes, w2c, cameras.intrinsics, low, 0.08, shape, outside_frame=outside_frame, truncation=0.5
        )
        for name in (variant, "reference")
    ]
    torch.testing.assert_close(fields[0], fields[1], atol=2e-6, rtol=1e-5)


def test_points_outside_the_frame_are_carved_or_left_alone():
    cameras = fibonacci_cameras(1, radius=1.5, fovy=FOVY, height=32, width=32)
    everything = torch.full((1, 32, 32), 64.0)
    above = [0.0, 3.0, 0.0] if abs(cameras.c2w[0, 1, 3]) < 1 else [3.0, 0.0, 0.0]
    carved = carve(everything, cameras, above, 0.1, (1, 1, 1), outside_frame="empty")
    kept = carve(everything, cameras, above, 0.1, (1, 1, 1), outside_frame="ignore")
    assert carved.item() < 0
    assert kept.item() == math.inf


def coverage(inside, size, samples=12):
    rows, columns = np.mgrid[0 : size * samples, 0 : size * samples]
    hit = inside((columns + 0.5) / samples, (rows + 0.5) / samples)
    return torch.from_numpy(hit.reshape(size, samples, size, samples).mean((1, 3)).astype(np.float32))


@pytest.mark.parametrize("radius", [2.3, 5.5, 9.3, 20.7])
def test_the_outline_of_a_disc_is_found_to_a_tenth_of_a_pixel(radius):
    alpha = coverage(lambda x, y: np.hypot(x - 31.37, y - 30.81) < radius, 64)
    distance = signed_distance_2d(alpha[None])[0].numpy()
    outline = np.concatenate(measure.find_contours(distance, 0.0)) + 0.5
    radii = np.hypot(outline[:, 1] - 31.37, outline[:, 0] - 30.81)
    assert np.abs(radii - radius).max() < 0.1
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    true = radius - np.hypot(columns - 31.37, rows - 30.81)
    assert np.abs(distance - true).max() < 0.45


def test_near_a_straight_edge_the_distance_is_alpha_less_one_half():
    alpha = torch.zeros(1, 9, 12)
    alpha[..., 5] = 0.3
    alpha[..., 6:] = 1.0
    distance = signed_distance_2d(alpha)[0]
    expected = torch.arange(12) - 5 - 0.2
    torch.testing.assert_close(distance, expected.expand(9, 12).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.78])
def test_a_line_thinner_than_a_pixel_stays(turn):
    def line(x, y):
        along = (x - 16.4) * math.cos(turn) + (y - 16.2) * math.sin(turn)
        across = (y - 16.2) * math.cos(turn) - (x - 16.4) * math.sin(turn)
        return (np.abs(across) < 0.3) & (np.abs(along) < 12)

    distance = signed_distance_2d(coverage(line, 32)[None])[0].numpy()
    _, parts = measure.label(distance > 0, connectivity=2, return_num=True)
    assert parts == 1
    assert 12 < (distance > 0).sum() < 48


def test_a_soft_edge_of_a_thick_part_does_not_move():
    ramp = torch.tensor([0.0, 0.0, 0.1, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0])
    distance = signed_distance_2d(ramp.expand(1, 9, 9))[0, 4]
    assert distance[3] < 0 < distance[4]


def test_views_without_an_edge_are_far_inside_or_far_outside():
    distance = signed_distance_2d(torch.stack([torch.zeros(5, 7), torch.ones(5, 7)]))
    assert torch.equal(distance[0], torch.full((5, 7), -12.0))
    assert torch.equal(distance[1], torch.full((5, 7), 12.0))


VARIANTS = ["warp-cpu", "warp-cuda", "reference"]


def given():
    cameras = fibonacci_cameras(2, radius=1.5, fovy=FOVY, height=24, width=24)
    return {
        "silhouettes": ball_silhouettes(cameras, [0.0, 0.0, 0.0], 0.4),
        "w2c": c2w_to_w2c_opencv(cameras.c2w),
        "intrinsics": cameras.intrinsics,
        "origin": torch.full((3,), -0.5),
        "spacing": 0.1,
        "shape": (11, 11, 11),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_and_strides_are_taken(variant):
    call = carve_silhouettes.function(variant)
    exact = given()
    half = exact["silhouettes"].half()
    torch.testing.assert_close(call(**(exact | {"silhouettes": half})), call(**(exact | {"silhouettes": half.float()})))
    turned = exact["silhouettes"].transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(call(**(exact | {"silhouettes": turned})), call(**exact))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"silhouettes": torch.full((2, 24, 24), float("nan"))}, InvalidInput, "not finite"),
        ({"silhouettes": torch.full((2, 24, 24), float("inf"))}, InvalidInput, "not finite"),
        ({"silhouettes": torch.ones(2, 24, 0)}, InvalidInput, "24 x 0"),
        ({"intrinsics": torch.full((2, 3, 3), float("inf"))}, InvalidCameras, "not finite"),
        ({"spacing": -1.0}, InvalidInput, "spacing"),
        ({"shape": (1291, 1291, 1291)}, InvalidInput, "at most 2147483647 points"),
    ],
)
def test_what_cannot_be_carved_is_refused(variant, change, error, words):
    with pytest.raises(error, match=words):
        carve_silhouettes.function(variant)(**(given() | change))


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_grid_stays_empty(variant):
    assert carve_silhouettes.function(variant)(**(given() | {"shape": (4, 0, 4)})).shape == (4, 0, 4)
