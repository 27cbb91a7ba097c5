"""Hard and large scenes for every variant of the surfel rasterizer: what is rare, what is broken, what is too much."""

import dataclasses
import math

import pytest
import torch

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras
from mvgamba.errors import InvalidInput, OutOfMemory
from mvgamba.kernels import rasterize_surfels_cuda, rasterize_surfels_warp
from mvgamba.kernels.kernel import always
from mvgamba.kernels.rasterize_surfels import MAX_SURFELS, rasterize_surfels
from mvgamba.kernels.rasterize_surfels_reference import rasterize_surfels_reference
from mvgamba.kernels.rasterize_surfels_warp import count_entries

PLANES = ("rgb", "alpha", "depth", "normals", "median_depth", "distortion")
BODIES = {"warp-cpu": rasterize_surfels_warp, "warp-cuda": rasterize_surfels_cuda}


@pytest.fixture(autouse=True)
def _one_thread():
    """These tensors are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["warp-cpu", "warp-cuda", "reference"])
def variant(request, monkeypatch):
    """Each variant that runs here, and the one for CUDA, whose blocks a CPU can run as fibers."""
    if request.param == "warp-cuda":
        emulated = dataclasses.replace(rasterize_surfels.variants["warp-cuda"], why_not=always)
        monkeypatch.setitem(rasterize_surfels.variants, "warp-cuda", emulated)
    with rasterize_surfels.use(request.param):
        yield request.param


def cameras(views: int, height: int, width: int, radius: float = 1.5) -> dict[str, object]:
    angles = [0.4 + 2.0 * i for i in range(views)]
    ring = orbit_cameras(angles, [0.3] * views, radius=radius, fovy=0.8, height=height, width=width)
    w2c, k = c2w_to_w2c_opencv(ring.c2w).float(), ring.intrinsics.float()
    return {"w2c": w2c, "intrinsics": k, "height": height, "width": width}


def doubled(cameras: dict[str, object]) -> dict[str, object]:
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in cameras.items()}


def wild_scene(n: int, seed: int) -> list[torch.Tensor]:
    """From below a pixel to larger than the picture, needles and discs, opacities of exactly 0 and 1, some behind the camera."""
    g = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    opacities = random(n)
    opacities[: n // 8], opacities[n // 8 : n // 4] = 0.0, 1.0
    scales = torch.exp(math.log(1e-3) + random(n, 2) * math.log(600.0))
    return [(random(n, 3) - 0.5) * 2.4, torch.randn(n, 4, generator=g), scales, opacities, random(n, 3)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [1.5, 0.4], ids=["outside", "within"])
def test_wild_scenes_look_as_the_reference_in_double_precision(variant, seed, radius):
    surfels = wild_scene(60, seed)
    view = cameras(2, 21, 30, radius)
    leaves = [t.clone().requires_grad_() for t in surfels]
    got = rasterize_surfels(*leaves, **view)
    want = rasterize_surfels_reference(*(t.double() for t in surfels), **doubled(view))
    assert want.alpha.max() > 0.5
    for name in PLANES:
        a, b = getattr(got, name).double(), getattr(want, name)
        off = (a - b).abs() / (1 + b.abs())
        # In single precision a pixel may fall on the other side of a threshold; then one surfel of 1/255 more or less shows.
        assert (off > 1e-4).double().mean() < 3e-3, name
        assert off.max() < 1 if name == "median_depth" else off.max() < 0.05, name
    sum(getattr(got, name).sum() for name in PLANES).backward()
    for t in leaves:
        assert t.grad.isfinite().all()
    assert not leaves[0].grad[: 60 // 8].any()  # opacity 0


def test_gradient_is_the_slope_of_the_loss_away_from_thresholds(variant):
    # Large, faint discs: within the step no pixel changes sides.
    g = torch.Generator().manual_seed(4)
    random = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    surfels = [
        (random(5, 3) - 0.5) * 0.8, torch.randn(5, 4, generator=g, dtype=torch.float64), 0.4 * (0.4 + random(5, 2)),
        0.2 + 0.3 * random(5), random(5, 3),
    ]  # fmt: skip
    view = cameras(2, 8, 8)
    probes = None

    def loss(planes, kind):
        nonlocal probes
        values = torch.cat([getattr(planes, name).flatten() * (100 if name == "distortion" else 1) for name in PLANES])
        probes = torch.randn(len(values), generator=g, dtype=torch.float64) if probes is None else probes
        return (values * probes.to(kind)).sum()

    leaves = [t.float().requires_grad_() for t in surfels]
    gradients = torch.autograd.grad(loss(rasterize_surfels(*leaves, **view), torch.float32), leaves)
    step = 1e-6
    for i, gradient in enumerate(gradients):
        for _ in range(3):
            direction = torch.randn(surfels[i].shape, generator=g, dtype=torch.float64)
            ends = []
            for sign in (step, -step):
                moved = [t + sign * direction if j == i else t for j, t in enumerate(surfels)]
                ends.append(loss(rasterize_surfels_reference(*moved, **doubled(view)), torch.float64))
            slope = (ends[0] - ends[1]) / (2 * step)
            scale = gradient.double().norm() * direction.norm()
            assert (slope - (gradient.double() * direction).sum()).abs() < 2e-3 * scale


@pytest.mark.parametrize(("matrix", "row", "column"), [("w2c", 0, 0), ("w2c", 2, 3), ("intrinsics", 0, 0)])
def test_cameras_that_are_not_finite_see_nothing(variant, matrix, row, column):
    surfels = [t.requires_grad_() for t in wild_scene(20, 0)]
    view = cameras(2, 12, 12)
    view[matrix][1, row, column] = float("nan")
    planes = rasterize_surfels(*surfels, **view)
    planes.rgb.sum().backward()
    assert planes.alpha[0].any() and not planes.alpha[1].any()
    assert all(t.grad.isfinite().all() for t in surfels)


def test_a_scene_without_surfels_is_empty_and_passes_gradients(variant):
    shapes = ((0, 3), (0, 4), (0, 2), (0,), (0, 3))
    surfels = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    planes = rasterize_surfels(*surfels, **cameras(2, 9, 17))
    assert all(not getattr(planes, name).any() for name in PLANES)
    if planes.rgb.requires_grad:
        planes.rgb.sum().backward()
        assert all(t.grad is None or t.grad.shape == t.shape for t in surfels)


def test_no_scene_at_all_is_refused(variant):
    surfels = [torch.zeros(0, *t.shape) for t in wild_scene(3, 0)]
    with pytest.raises(InvalidInput, match="At least one scene"):
        rasterize_surfels(*surfels, torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 3, 3), height=8, width=8)


def test_more_surfels_than_can_be_indexed_are_refused(variant):
    n = MAX_SURFELS + 1
    surfels = [torch.zeros(1).expand(n, *tail) for tail in ((3,), (4,), (2,), (), (3,))]
    with pytest.raises(InvalidInput, match="at most"):
        rasterize_surfels(*surfels, **cameras(1, 8, 8))


@pytest.mark.parametrize("name", BODIES)
def test_groups_with_too_many_entries_are_drawn_in_parts(name, monkeypatch):
    view = cameras(5, 24, 40)
    function, module = rasterize_surfels.function(name), BODIES[name]

    def run():
        leaves = [t.clone().requires_grad_() for t in wild_scene(40, 1)]
        planes = function(*leaves, **view)
        return [*torch.autograd.grad(planes.rgb.square().sum() + planes.depth.sum(), leaves), planes.rgb, planes.depth]

    whole = run()
    monkeypatch.setattr(module, "_BODY", dataclasses.replace(module._BODY, max_entries=40 * 6))
    for a, b in zip(whole, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(module, "_BODY", dataclasses.replace(module._BODY, max_entries=3))
    with pytest.raises(OutOfMemory, match="40 surfels meet .* tiles in a view of 24 x 40; at most 3"):
        run()


def test_entries_beyond_31_bits_are_counted_and_refused():
    # 40,000 surfels over all of 4096 x 4096 meet 65,536 tiles each.
    n = 40_000
    g = torch.Generator().manual_seed(0)
    means = (torch.rand(n, 3, generator=g) - 0.5) * 0.2
    surfels = [
        means,
        torch.randn(n, 4, generator=g),
        torch.full((n, 2), 50.0),
        torch.full((n,), 0.01),
        torch.rand(n, 3),
    ]
    view = cameras(1, 4096, 4096)
    assert count_entries(*surfels, **view) > 2**31
    with pytest.raises(OutOfMemory, match="Draw a smaller picture"):
        rasterize_surfels(*surfels, **view)


def test_the_last_column_and_row_of_4096_pixels_are_drawn():
    # A disc that fills the picture, of which only the corner's depth is looked at.
    view = cameras(1, 4096, 4096)
    towards = -view["w2c"][0, 2, :3]
    quat = torch.stack([1 + towards[2], -towards[1], towards[0], torch.zeros(())])
    disc = [torch.zeros(1, 3), quat[None], torch.full((1, 2), 5.0), torch.tensor([0.9]), torch.ones(1, 3)]
    planes = rasterize_surfels(*disc, **view)
    assert planes.alpha[0, 0, -1, -1] > 0.8 and planes.alpha.min() > 0.8
    torch.testing.assert_close(planes.depth[0, 0, -1, -1] / planes.alpha[0, 0, -1, -1], torch.tensor(1.5))


@pytest.mark.parametrize("n", [200_000, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_as_many_surfels_as_a_large_scene_has(n):
    g = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    quats = torch.stack([1 + d[:, 2], -d[:, 1], d[:, 0], torch.zeros(n)], 1)
    surfels = [0.4 * d, quats, torch.full((n, 2), 0.003), torch.full((n,), 0.7), d * 0.5 + 0.5]
    leaves = [t.requires_grad_() for t in surfels]
    planes = rasterize_surfels(*leaves, **cameras(1, 64, 64))
    assert planes.alpha[0, 0, 32, 32] > 0.99
    assert planes.depth[0, 0, 32, 32].item() == pytest.approx(1.1, abs=0.02)
    planes.rgb.sum().backward()
    assert all(t.grad.isfinite().all() for t in leaves)
