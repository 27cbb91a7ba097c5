"""Surfels seen by cameras of the house."""

import math

import pytest
import torch

from mvgamba.cameras import orbit_cameras, project
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.rasterize_surfels import rasterize_surfels
from mvgamba.render import depth_to_normals, render_surfels, unproject_depth
from mvgamba.types import Cameras, Surfels

FOVY = math.radians(49.1)


@pytest.fixture(autouse=True)
def _one_thread():
    """These tensors are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ball(n: int = 2500, radius: float = 0.45) -> Surfels:
    """A sphere of overlapping opaque discs, coloured by direction."""
    i = torch.arange(n) + 0.5
    z, angle = 1 - 2 * i / n, i * math.pi * (3 - math.sqrt(5))
    side = (1 - z * z).sqrt()
    d = torch.stack([side * angle.cos(), side * angle.sin(), z], -1)
    quats = torch.nn.functional.normalize(torch.stack([1 + d[:, 2], -d[:, 1], d[:, 0], torch.zeros(n)], -1), dim=1)
    spacing = radius * math.sqrt(4 * math.pi / n)
    return Surfels(d * radius, quats, torch.full((n, 2), 0.8 * spacing), torch.full((n,), 0.95), d * 0.5 + 0.5)


def ring(views: int, size: int = 64, radius: float = 1.5) -> Cameras:
    angles = [0.2 + 2 * math.pi * i / views for i in range(views)]
    return orbit_cameras(
        angles, [0.3 * (-1) ** i for i in range(views)], radius=radius, fovy=FOVY, height=size, width=size
    )


def test_ball_is_round_has_its_depth_and_its_normals():
    cameras = ring(3)
    out = render_surfels(ball(), cameras)
    points = unproject_depth(out.depth, cameras)
    inner = out.alpha > 0.99
    # The outline of a ball of radius r at distance d subtends asin(r / d).
    focal = cameras.intrinsics[0, 0, 0].item()
    expected = math.pi * (focal * math.tan(math.asin(0.45 / 1.5))) ** 2
    assert out.alpha[0].sum().item() == pytest.approx(expected, rel=0.15)  # discs stick out at the outline
    distance = points.norm(dim=1, keepdim=True)
    outward = points / distance.clamp_min(1e-6)
    back = cameras.c2w[:, :3, 2].float()
    facing = inner & ((outward * back[:, :, None, None]).sum(1, keepdim=True) > 0.5)
    assert facing.sum() > 1000
    assert (distance[facing] - 0.45).abs().max() < 0.02
    assert ((out.normals * outward).sum(1, keepdim=True)[facing] > 0.97).all()
    torch.testing.assert_close(out.normals.norm(dim=1, keepdim=True)[inner], torch.ones(int(inner.sum())))


def test_point_shows_where_the_camera_projects_it():
    cameras = ring(4)
    mean = torch.tensor([[0.2, 0.13, -0.1]])
    for view in range(4):
        one = cameras[[view]]
        towards = one.c2w[0, :3, 2].float()
        quat = torch.stack([1 + towards[2], -towards[1], towards[0], torch.zeros(())])
        surfel = Surfels(
            mean,
            torch.nn.functional.normalize(quat, dim=0)[None],
            torch.full((1, 2), 0.03),
            torch.ones(1),
            torch.ones(1, 3),
        )
        alpha = render_surfels(surfel, one).alpha[0, 0]
        x = (alpha.sum(0) * (torch.arange(64) + 0.5)).sum() / alpha.sum()
        y = (alpha.sum(1) * (torch.arange(64) + 0.5)).sum() / alpha.sum()
        pixel, _ = project(mean, one)
        torch.testing.assert_close(torch.stack([x, y]), pixel[0, 0], atol=0.05, rtol=0)


def test_background_shows_where_nothing_is():
    cameras = ring(2, size=32)
    white = render_surfels(ball(), cameras)
    blue = render_surfels(ball(), cameras, background=torch.tensor([0.0, 0.0, 1.0]))
    assert (white.rgb[:, :, 0, 0] == 1).all()
    assert (blue.rgb[:, :, 0, 0] == torch.tensor([0.0, 0.0, 1.0])).all()
    torch.testing.assert_close(white.rgb[:, 0] - blue.rgb[:, 0], 1 - white.alpha[:, 0])


def test_empty_pixels_have_no_depth_and_no_normal_and_pass_finite_gradients():
    source = ball(200)
    parts = [
        t.clone().requires_grad_() for t in (source.means, source.quats, source.scales, source.opacities, source.colors)
    ]
    out = render_surfels(Surfels(*parts), ring(2, size=32))
    empty = out.alpha[:, 0] == 0
    assert empty.sum() > 500
    assert not out.depth[:, 0][empty].any()
    assert not out.normals.permute(0, 2, 3, 1)[empty].any()
    (out.rgb.sum() + out.depth.square().sum() + out.normals.sum() + out.distortion.sum()).backward()
    for t in parts:
        assert t.grad.isfinite().all()
        assert t.grad.any()


def test_batch_axes_are_as_many_calls():
    cameras = ring(4, size=24)
    first, second = ball(300), ball(300, radius=0.3)
    both = Surfels(*(torch.stack([getattr(first, f), getattr(second, f)])[None] for f in Surfels.__annotations__))
    pair = Cameras(
        torch.stack([cameras.c2w[:2], cameras.c2w[2:]])[None],
        torch.stack([cameras.intrinsics[:2], cameras.intrinsics[2:]])[None],
        24,
        24,
    )
    out = render_surfels(both, pair)
    assert out.rgb.shape == (1, 2, 2, 3, 24, 24)
    torch.testing.assert_close(out.rgb[0, 1], render_surfels(second, cameras[2:4]).rgb)
    torch.testing.assert_close(out.depth[0, 0], render_surfels(first, cameras[:2]).depth)


def test_all_scenes_go_through_the_kernel_at_once(monkeypatch):
    calls = []
    kernel = rasterize_surfels.function("warp-cpu")
    monkeypatch.setitem(rasterize_surfels._functions, "warp-cpu", lambda *a, **k: calls.append(a) or kernel(*a, **k))
    one, cameras = ball(50), ring(2, size=16)
    scenes = Surfels(*(torch.stack([getattr(one, f)] * 3) for f in Surfels.__annotations__))
    pictures = render_surfels(
        scenes, Cameras(cameras.c2w.expand(3, 2, 4, 4), cameras.intrinsics.expand(3, 2, 3, 3), 16, 16)
    )
    assert len(calls) == 1
    torch.testing.assert_close(pictures.normals[2], render_surfels(one, cameras).normals)
    with pytest.raises(InvalidInput, match="At least one scene"):
        render_surfels(
            Surfels(*(getattr(scenes, f)[:0] for f in Surfels.__annotations__)),
            Cameras(cameras.c2w.expand(0, 2, 4, 4), cameras.intrinsics.expand(0, 2, 3, 3), 16, 16),
        )


def test_bad_input_is_named():
    cameras = ring(2, size=16)
    skewed = cameras.intrinsics.clone()
    skewed[0, 0, 1] = 0.5
    with pytest.raises(InvalidCameras, match="skew"):
        render_surfels(ball(10), Cameras(cameras.c2w, skewed, 16, 16))
    with pytest.raises(InvalidCameras, match="got none"):
        render_surfels(ball(10), cameras[:0])
    with pytest.raises(InvalidInput, match="batch axes"):
        render_surfels(ball(10), Cameras(cameras.c2w[None], cameras.intrinsics[None], 16, 16))


def test_normals_of_a_plane_in_any_pose_are_those_of_the_plane():
    cameras = orbit_cameras([0.7, 2.0], [0.5, -0.2], radius=2.0, fovy=0.7, height=20, width=30)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0, 0] *= 1.3
    intrinsics[:, 0, 2] += 2.5
    cameras = Cameras(cameras.c2w, intrinsics, 20, 30)
    for view in range(2):
        one = cameras[[view]]
        back = one.c2w[0, :3, 2]
        plane = torch.nn.functional.normalize(back + torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64), dim=0)
        rays = unproject_depth(torch.ones(1, 1, 20, 30, dtype=torch.float64), one)[0] - one.c2w[0, :3, 3, None, None]
        # plane.(origin + depth ray) = 0.1
        depth = (0.1 - plane @ one.c2w[0, :3, 3]) / torch.einsum("i,ihw->hw", plane, rays)
        normals = depth_to_normals(depth[None, None], one)[0]
        torch.testing.assert_close(normals[:, 1:-1, 1:-1], plane[:, None, None].expand(3, 18, 28))
        assert not normals[:, 0].any()


def test_normals_of_depth_stop_at_holes_and_are_differentiable():
    cameras = ring(1, size=12)
    depth = 1.5 + 0.05 * torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: depth_to_normals(d, cameras), depth.clone().requires_grad_())
    depth[0, 0, 5, 5] = 0
    normals = depth_to_normals(depth.requires_grad_(), cameras)
    normals.sum().backward()
    assert depth.grad.isfinite().all()
    for y, x in ((5, 5), (4, 5), (6, 5), (5, 4), (5, 6)):
        assert not normals[0, :, y, x].any()
    assert normals[0, :, 4, 4].norm().item() == pytest.approx(1)
