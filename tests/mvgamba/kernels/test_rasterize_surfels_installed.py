"""How others' rasterizers are called. The packages need CUDA, so recorders stand in for them: only the mapping is checked."""

import sys
from types import SimpleNamespace

import pytest
import torch

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras
from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.kernels.kernel import always
from mvgamba.kernels.rasterize_surfels import (
    DEPTH_MEANS,
    DISTORTION_SLOPE,
    check_depth_for_fusion,
    rasterize_surfels,
)

HEIGHT, WIDTH = 6, 8


def scene(n: int = 5) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    return [random(n, 3) - 0.5, random(n, 4) + 0.1, random(n, 2) + 0.1, random(n) + 0.1, random(n, 3)]


def cameras(views: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    ring = orbit_cameras([0.3 * i for i in range(views)], [0.2] * views, radius=1.5, fovy=0.8, height=6, width=8)
    k = ring.intrinsics.float().clone()
    k[:, 0, 2] += 1.5
    return c2w_to_w2c_opencv(ring.c2w).float(), k


def test_gsplat_gets_all_views_and_three_scales_and_only_what_can_be_drawn(monkeypatch):
    calls = []

    def rasterization_2dgs(**given):
        calls.append(given)
        ramp = lambda start, count: torch.arange(start, start + count).float().expand(2, HEIGHT, WIDTH, count)  # noqa: E731
        return ramp(0, 4), ramp(10, 1), ramp(20, 3), None, ramp(30, 1), ramp(40, 1), {}

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization_2dgs=rasterization_2dgs))
    surfels, (w2c, k) = scene(), cameras()
    surfels[0][1, 2] = float("nan")
    planes = rasterize_surfels.function("gsplat")(*surfels, w2c, k, height=HEIGHT, width=WIDTH)
    given = calls[0]
    assert given["means"].shape == (4, 3) and given["scales"].shape == (4, 3)
    assert torch.equal(given["viewmats"], w2c) and torch.equal(given["Ks"], k)
    assert (given["near_plane"], given["far_plane"], given["render_mode"]) == (0.2, 100.0, "RGB+D")
    assert planes.rgb[1, :, 0, 0].tolist() == [0, 1, 2]
    assert [getattr(planes, p)[0, 0, 0, 0].item() for p in ("alpha", "depth", "median_depth", "distortion")] == [
        10,
        3,
        40,
        30,
    ]
    assert planes.normals[0, :, 0, 0].tolist() == [20, 21, 22]


def test_diff_surfel_gets_a_projection_that_hits_the_same_pixels(monkeypatch):
    calls = []

    class Rasterizer:
        def __init__(self, raster_settings):
            self.settings = raster_settings

        def __call__(self, **given):
            calls.append((self.settings, given))
            return torch.zeros(3, HEIGHT, WIDTH), None, torch.arange(7.0)[:, None, None].expand(7, HEIGHT, WIDTH)

    fake = SimpleNamespace(GaussianRasterizationSettings=SimpleNamespace, GaussianRasterizer=Rasterizer)
    monkeypatch.setitem(sys.modules, "diff_surfel_rasterization", fake)
    surfels, (w2c, k) = scene(), cameras()
    planes = rasterize_surfels.function("diff-surfel-rasterization")(*surfels, w2c, k, height=HEIGHT, width=WIDTH)
    assert len(calls) == 2
    settings, given = calls[1]
    assert given["scales"].shape == (5, 2) and given["opacities"].shape == (5, 1)
    torch.testing.assert_close(given["rotations"].norm(dim=1), torch.ones(5))
    point = surfels[0][0]
    clip = torch.cat([point, torch.ones(1)]) @ settings.projmatrix
    size = torch.tensor([WIDTH, HEIGHT])
    # the package: index = ((ndc + 1) size - 1) / 2, and index i is our coordinate i + 0.5
    pixel = ((clip[:2] / clip[3] + 1) * size - 1) / 2 + 0.5
    seen = k[1] @ (w2c[1, :3, :3] @ point + w2c[1, :3, 3])
    torch.testing.assert_close(pixel, seen[:2] / seen[2])
    assert planes.depth[0, 0, 0, 0] == 0 and planes.alpha[0, 0, 0, 0] == 1 and planes.median_depth[0, 0, 0, 0] == 5
    torch.testing.assert_close(planes.normals[1, :, 0, 0], w2c[1, :3, :3].T @ torch.tensor([2.0, 3.0, 4.0]))
    # m = constant - slope / z, with 0.2 and 100 in theirs
    assert planes.distortion[0, 0, 0, 0].item() == pytest.approx(6 * (DISTORTION_SLOPE / (20 / 99.8)) ** 2)
    with pytest.raises(InvalidInput, match="far = 5"):
        rasterize_surfels.function("diff-surfel-rasterization")(*surfels, w2c, k, height=HEIGHT, width=WIDTH, far=5.0)


@pytest.mark.parametrize("name", ["gsplat", "diff-surfel-rasterization"])
def test_others_are_used_only_when_asked_for_and_say_why_not(name):
    assert list(rasterize_surfels.variants).index(name) > list(rasterize_surfels.variants).index("reference")
    assert "CUDA" in rasterize_surfels.explain("cpu")[name]
    with rasterize_surfels.use(name), pytest.raises(Unavailable, match="CUDA"):
        rasterize_surfels(*scene(), *cameras(), height=HEIGHT, width=WIDTH)


def test_depth_of_centres_is_not_fused(monkeypatch):
    assert set(DEPTH_MEANS) == set(rasterize_surfels.variants)
    check_depth_for_fusion("cpu")
    variant = rasterize_surfels.variants["gsplat"]
    monkeypatch.setitem(rasterize_surfels.variants, "gsplat", type(variant)("gsplat", variant.function, always))
    with rasterize_surfels.use("gsplat"), pytest.raises(Unavailable, match="centre of each surfel"):
        check_depth_for_fusion("cpu")
