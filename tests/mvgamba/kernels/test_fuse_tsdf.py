import math

import numpy as np
import pytest
import torch
from skimage import measure

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.fuse_tsdf import fuse_tsdf

FOVY = math.radians(49.1)


def ball_depth(cameras, centre, radius):
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    rows, columns = torch.meshgrid(torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij")
    maps = []
    for transform, k in zip(w2c, cameras.intrinsics):
        middle = transform[:3, :3] @ torch.tensor(centre, dtype=torch.float64) + transform[:3, 3]
        rays = torch.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], torch.ones_like(rows)], dim=-1)
        rays = rays.double()
        a, b, c = (rays * rays).sum(-1), rays @ middle, middle @ middle - radius**2
        inside = b * b - a * c
        maps.append(torch.where(inside > 0, (b - inside.clamp(min=0).sqrt()) / a, 0.0))
    return torch.stack(maps).float()


def fuse(depth, weights, cameras, low, spacing, shape, **options):
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    return fuse_tsdf(depth, weights, w2c, cameras.intrinsics, torch.tensor(low), spacing, shape, **options)


def test_a_ball_keeps_its_place_and_radius():
    cameras = fibonacci_cameras(20, radius=1.5, fovy=FOVY, height=128, width=128)
    centre = [0.1, -0.05, 0.15]
    depth = ball_depth(cameras, centre, 0.35)
    field = fuse(depth, torch.ones_like(depth), cameras, [-0.6] * 3, 0.02, (61, 61, 61), truncation=0.1)
    assert field.min() == pytest.approx(-0.1)
    assert field[35, 28, 38].item() == pytest.approx(0.1)  # hidden from all, so inside
    vertices, *_ = measure.marching_cubes(field.numpy(), 0.0)
    radii = np.linalg.norm(vertices * 0.02 - 0.6 - centre, axis=1)
    # Rays that just miss the ball carve a little of it: less than a voxel.
    assert radii.min() > 0.35 - 0.015
    assert radii.mean() == pytest.approx(0.35, abs=0.005)
    assert radii.max() < 0.35 + 0.005


def test_a_plate_thinner_than_the_truncation_keeps_its_two_sides():
    cameras = fibonacci_cameras(2, radius=1.5, fovy=FOVY, height=64, width=64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    c2w[0, 2, 3] = 1.5
    c2w[1] = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    c2w[1, 2, 3] = -1.5
    depth = torch.full((2, 64, 64), 1.49)  # a wall 0.02 thick across z = 0
    w2c = c2w_to_w2c_opencv(c2w)
    field = fuse_tsdf(
        depth,
        torch.ones_like(depth),
        w2c,
        cameras.intrinsics,
        torch.tensor([0.0, 0.0, -0.2]),
        0.005,
        (1, 1, 81),
        truncation=0.04,
    )[0, 0]
    z = -0.2 + 0.005 * torch.arange(81)
    inside = z[field > 0]
    assert inside.min() >= -0.0151
    assert inside.max() <= 0.0151
    assert len(inside) >= 3


@pytest.mark.parametrize("has_hull", [False, True])
@pytest.mark.parametrize("shape", [(33, 19, 47), (1, 1, 1), (16, 8, 8), (1, 30, 2)])
@pytest.mark.parametrize("views", [1, 5])
@pytest.mark.parametrize("variant", ["warp-cpu", "warp-cuda"])
def test_variants_agree_with_the_reference(has_hull, shape, views, variant):
    cameras = fibonacci_cameras(views, radius=1.5, fovy=FOVY, height=45, width=45)
    depth = ball_depth(cameras, [0.1, 0.0, 0.2], 0.45)
    generator = torch.Generator().manual_seed(7)
    weights = torch.rand(depth.shape, generator=generator) * (torch.rand(depth.shape, generator=generator) > 0.2)
    weights[:, :, :20] = 0.7  # whole tiles that vote, so that blocks are decided at once
    hull = 0.2 * torch.randn(shape, generator=generator) if has_hull else None
    # The grid reaches beyond the frames and behind the cameras.
    low = torch.tensor([-0.7, -0.6, -1.7])
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    fields = [
        fuse_tsdf.function(name)(
            depth, weights, w2c, cameras.intrinsics, low, 0.07, shape, truncation=0.15, behind=0.1, hull=hull
        )
        for name in (variant, "reference")
    ]
    differs = (fields[0] - fields[1]).abs() > 1e-5
    assert differs.float().mean() < 1e-3  # a point on the border of two pixels may fall into either


def test_a_point_in_no_picture_is_outside_unless_a_hull_says_otherwise():
    cameras = fibonacci_cameras(1, radius=1.5, fovy=FOVY, height=32, width=32)
    depth, weights = torch.zeros(1, 32, 32), torch.ones(1, 32, 32)
    behind_the_camera = (cameras.c2w[0, :3, 3] * 2).tolist()
    alone = fuse(depth, weights, cameras, behind_the_camera, 0.1, (1, 1, 1), truncation=0.5)
    hull = torch.full((1, 1, 1), 0.3)
    with_hull = fuse(depth, weights, cameras, behind_the_camera, 0.1, (1, 1, 1), truncation=0.5, hull=hull)
    assert alone.item() == -0.5
    assert with_hull.item() == pytest.approx(0.3)


def test_pixels_without_weight_say_nothing():
    cameras = fibonacci_cameras(3, radius=1.5, fovy=FOVY, height=32, width=32)
    depth = ball_depth(cameras, [0.0, 0.0, 0.0], 0.3)
    field = fuse(depth, torch.zeros_like(depth), cameras, [-0.1] * 3, 0.1, (3, 3, 3), truncation=0.5)
    assert torch.equal(field, torch.full((3, 3, 3), 0.5))


VARIANTS = ["warp-cpu", "warp-cuda", "reference"]


def given(views=2, size=24):
    cameras = fibonacci_cameras(views, radius=1.5, fovy=FOVY, height=size, width=size)
    depth = ball_depth(cameras, [0.0, 0.0, 0.0], 0.4)
    return {
        "depth": depth,
        "weights": torch.ones_like(depth),
        "w2c": c2w_to_w2c_opencv(cameras.c2w),
        "intrinsics": cameras.intrinsics,
        "origin": torch.full((3,), -0.5),
        "spacing": 0.1,
        "shape": (11, 11, 11),
        "truncation": 0.3,
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels_that_are_not_finite_say_nothing(variant):
    call = fuse_tsdf.function(variant)
    wanted, broken = given(), given()
    wanted["weights"][:, 5:15, 5:15] = 0.0
    wanted["depth"][:, 5:15, 5:15] = 0.0
    broken["depth"][:, 5:10, 5:15] = float("nan")
    broken["depth"][:, 10:12, 5:15] = float("inf")
    broken["weights"][:, 12:14, 5:15] = float("nan")
    broken["weights"][:, 14:15, 5:15] = -1.0
    assert torch.equal(call(**broken), call(**wanted))


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_and_strides_are_taken(variant):
    call = fuse_tsdf.function(variant)
    exact = given()
    half = exact | {"depth": exact["depth"].half(), "weights": exact["weights"].half()}
    torch.testing.assert_close(call(**half), call(**(exact | {"depth": half["depth"].float()})))
    turned = exact | {"depth": exact["depth"].transpose(1, 2).contiguous().transpose(1, 2)}
    assert not turned["depth"].is_contiguous()
    assert torch.equal(call(**turned), call(**exact))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weights": torch.ones(2, 24, 24, device="meta")}, InvalidInput, "weights is on meta"),
        ({"depth": torch.ones(2, 0, 24), "weights": torch.ones(2, 0, 24)}, InvalidInput, "0 x 24"),
        ({"w2c": torch.full((2, 4, 4), float("nan"))}, InvalidCameras, "not finite"),
        ({"spacing": 0.0}, InvalidInput, "spacing"),
        ({"spacing": float("nan")}, InvalidInput, "spacing"),
        ({"shape": (2000, 2000, 2000)}, InvalidInput, "at most 2147483647 points"),
    ],
)
def test_what_cannot_be_fused_is_refused(variant, change, error, words):
    with pytest.raises(error, match=words):
        fuse_tsdf.function(variant)(**(given() | change))


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_grid_stays_empty(variant):
    assert fuse_tsdf.function(variant)(**(given() | {"shape": (0, 4, 4)})).shape == (0, 4, 4)
