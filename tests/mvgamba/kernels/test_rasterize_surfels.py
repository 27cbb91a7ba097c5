"""What every variant of the surfel rasterizer must do; the reference in float64 says what is right."""

import dataclasses
import math

import pytest
import torch

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras, intrinsics_from_fovy, orbit_cameras
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.kernel import always
from mvgamba.kernels.rasterize_surfels import SurfelPlanes, rasterize_surfels
from mvgamba.kernels.rasterize_surfels_reference import rasterize_surfels_reference

RUNNABLE = [name for name, why in rasterize_surfels.explain("cpu").items() if why is None]
PLANES = ("rgb", "alpha", "depth", "normals", "median_depth", "distortion")
NAMES = ("means", "quats", "scales", "opacities", "colors")


@pytest.fixture(autouse=True)
def _one_thread():
    """These tensors are too small to share; the test of threads asks for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[*RUNNABLE, "warp-cuda"])
def variant(request, monkeypatch):
    """Each variant that runs here, and the one for CUDA, whose blocks a CPU can run as fibers."""
    if request.param == "warp-cuda":
        emulated = dataclasses.replace(rasterize_surfels.variants["warp-cuda"], why_not=always)
        monkeypatch.setitem(rasterize_surfels.variants, "warp-cuda", emulated)
    with rasterize_surfels.use(request.param):
        yield request.param


def random_scene(n: int, seed: int = 0, size: float = 0.06) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(n, 3, generator=g) - 0.5) * 0.9,
        torch.randn(n, 4, generator=g),
        size * (0.3 + torch.rand(n, 2, generator=g)),
        0.05 + 0.95 * torch.rand(n, generator=g),
        torch.rand(n, 3, generator=g),
    ]


def odd_cameras(views: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Neither square pixels nor a centred principal point."""
    cameras = fibonacci_cameras(views, radius=1.5, fovy=0.8, height=height, width=width)
    k = cameras.intrinsics.clone()
    k[:, 0, 0] *= 1.15
    k[:, 0, 2] += 0.08 * width
    k[:, 1, 2] -= 0.05 * height
    return c2w_to_w2c_opencv(cameras.c2w).float(), k.float()


def front_camera(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    cameras = orbit_cameras([0.0], [0.0], radius=1.5, fovy=0.8, height=height, width=width)
    return c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()


def exact(surfels: list[torch.Tensor], w2c: torch.Tensor, k: torch.Tensor, **size: int) -> SurfelPlanes:
    return rasterize_surfels_reference(*(t.double() for t in surfels), w2c.double(), k.double(), **size)


def disc(mean, *, normal=(0.0, 0.0, 1.0), scale=0.05, opacity=1.0, color=(1.0, 0.5, 0.25)) -> list[torch.Tensor]:
    """One round disc; the quaternion is the shortest turn from +Z to the normal."""
    n = torch.nn.functional.normalize(torch.tensor(normal), dim=0)
    quat = torch.tensor([1 + n[2], -n[1], n[0], 0.0])
    return [torch.tensor([mean]), quat[None], torch.full((1, 2), scale), torch.tensor([opacity]), torch.tensor([color])]


@pytest.mark.parametrize(
    ("n", "views", "height", "width", "size"),
    [
        (0, 1, 8, 8, 0.06),
        (1, 2, 16, 16, 0.2),
        (60, 1, 1, 1, 0.2),
        (40, 3, 37, 21, 0.1),
        (17, 2, 16, 33, 0.3),
        (40, 1, 24, 32, 0.004),
        (80, 5, 18, 20, 0.2),
    ],
)
def test_variant_agrees_with_reference_forward_and_backward(variant, n, views, height, width, size):
    surfels = [t.requires_grad_() for t in random_scene(n, size=size)]
    doubles = [t.detach().double().requires_grad_() for t in surfels]
    w2c, k = odd_cameras(views, height, width)
    got = rasterize_surfels(*surfels, w2c, k, height=height, width=width)
    want = exact(doubles, w2c, k, height=height, width=width)
    for name in PLANES:
        a, b = getattr(got, name), getattr(want, name)
        probe = torch.randn(b.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        # Single precision; the depth of a disc seen at grazing incidence loses digits by the cosine.
        atol = 3e-5 if "depth" in name else 1e-5
        torch.testing.assert_close(a.double(), b, atol=atol, rtol=0, msg=lambda m, name=name: f"{name}: {m}")
        if n == 0:
            assert not a.any()
            continue
        gradients = torch.autograd.grad((a * probe.float()).sum(), surfels, retain_graph=True, allow_unused=True)
        wanted = torch.autograd.grad((b * probe).sum(), doubles, retain_graph=True, allow_unused=True)
        largest = max(w.norm().item() for w in wanted if w is not None)
        for parameter, g, w in zip(NAMES, gradients, wanted, strict=True):
            # None is a zero; what is zero exactly (depth of a plane does not depend on the disc's size) may be rounded.
            w = torch.zeros(()) if w is None else w
            error = ((torch.zeros(()) if g is None else g) - w).norm() / max(w.norm().item(), 0.01 * largest, 1e-4)
            assert error < 1e-3, f"{name} -> {parameter}: relative error {error:.1e}"


def test_gradient_of_all_planes_is_the_sum_of_theirs(variant):
    surfels = [t.requires_grad_() for t in random_scene(80)]
    w2c, k = odd_cameras(2, 20, 20)
    planes = rasterize_surfels(*surfels, w2c, k, height=20, width=20)
    together = torch.autograd.grad(sum(getattr(planes, p).sum() for p in PLANES), surfels, retain_graph=True)
    for i in range(5):
        parts = [
            torch.autograd.grad(getattr(planes, p).sum(), surfels[i], retain_graph=True, allow_unused=True)[0]
            for p in PLANES
        ]
        torch.testing.assert_close(together[i], sum(p for p in parts if p is not None), atol=1e-3, rtol=1e-3)


def test_same_numbers_every_time_and_on_one_thread(variant):
    w2c, k = odd_cameras(2, 40, 40)

    def run():
        surfels = [t.requires_grad_() for t in random_scene(150)]
        planes = rasterize_surfels(*surfels, w2c, k, height=40, width=40)
        return *torch.autograd.grad(planes.rgb.square().sum() + planes.depth.sum(), surfels), planes.rgb

    alone = run()
    torch.set_num_threads(2)
    first = run()
    for a, b, c in zip(first, run(), alone, strict=True):
        assert torch.equal(a, b)
        if variant != "reference":  # torch's own sums depend on the number of threads
            assert torch.equal(a, c)


def test_disc_shows_where_its_centre_projects_and_is_not_mirrored(variant):
    w2c, k = front_camera(40, 60)
    # +x of the world is right in the picture, +y is up.
    planes = rasterize_surfels(*disc((0.25, 0.1, 0.0)), w2c, k, height=40, width=60)
    focal = intrinsics_from_fovy(0.8, 40, 60)[0, 0].item()
    alpha = planes.alpha[0, 0]
    total = alpha.sum()
    x = (alpha.sum(0) * (torch.arange(60) + 0.5)).sum() / total
    y = (alpha.sum(1) * (torch.arange(40) + 0.5)).sum() / total
    assert x.item() == pytest.approx(30 + focal * 0.25 / 1.5, abs=0.02)
    assert y.item() == pytest.approx(20 - focal * 0.1 / 1.5, abs=0.02)
    assert y < 20 < 30 < x


def test_parallel_disc_has_the_depth_of_its_plane_and_its_own_colour(variant):
    w2c, k = front_camera(32, 32)
    planes = rasterize_surfels(*disc((0.1, 0.0, 0.2)), w2c, k, height=32, width=32)
    seen = planes.alpha > 0
    assert seen.sum() > 20
    torch.testing.assert_close(planes.depth[seen], 1.3 * planes.alpha[seen])
    torch.testing.assert_close(planes.median_depth[seen], torch.full_like(planes.alpha[seen], 1.3))
    torch.testing.assert_close(planes.rgb[:, 1:2], 0.5 * planes.alpha)
    assert planes.alpha.max() <= 0.99
    assert not planes.distortion.any()


def test_tilted_disc_has_the_depth_where_the_ray_meets_it(variant):
    w2c, k = front_camera(64, 64)
    normal = torch.tensor([math.sin(0.9), 0.0, math.cos(0.9)])
    planes = rasterize_surfels(*disc((0.0, 0.0, 0.0), normal=normal.tolist(), scale=0.15), w2c, k, height=64, width=64)
    row = 32
    seen = planes.alpha[0, 0, row] > 0
    columns = torch.arange(64)[seen] + 0.5
    ray = torch.stack(
        [(columns - 32) / k[0, 0, 0], torch.full_like(columns, -0.5) / k[0, 0, 0], -torch.ones_like(columns)]
    )
    wanted = -1.5 * normal[2] / (normal @ ray)
    depth = (planes.depth / planes.alpha)[0, 0, row, seen]
    assert depth.max() - depth.min() > 0.2
    torch.testing.assert_close(depth, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_normal_is_in_world_axes_and_towards_the_camera(variant, flip):
    cameras = orbit_cameras([1.1], [0.4], radius=1.5, fovy=0.8, height=24, width=24)
    towards = cameras.c2w[0, :3, 2].float()
    planes = rasterize_surfels(
        *disc((0.0, 0.0, 0.0), normal=(flip * towards).tolist(), scale=0.1),
        c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float(), height=24, width=24,
    )  # fmt: skip
    got = (planes.normals / planes.alpha)[0, :, 12, 12]
    torch.testing.assert_close(got, towards, atol=1e-5, rtol=0)


def test_nearer_disc_hides_the_farther_one_whatever_their_order(variant):
    w2c, k = front_camera(16, 16)
    near, far = disc((0, 0, 0.3), scale=0.5, color=(1.0, 0, 0)), disc((0, 0, -0.3), scale=0.5, color=(0, 0, 1.0))
    for pair in ((near, far), (far, near)):
        planes = rasterize_surfels(*(torch.cat(t) for t in zip(*pair, strict=True)), w2c, k, height=16, width=16)
        assert planes.rgb[0, 0, 8, 8] > 0.95
        assert planes.rgb[0, 2, 8, 8] < 0.05
        assert planes.median_depth[0, 0, 8, 8].item() == pytest.approx(1.2, abs=1e-5)


def test_disc_below_a_pixel_still_covers_one(variant):
    w2c, k = front_camera(33, 33)
    planes = rasterize_surfels(*disc((0.0, 0.0, 0.0), scale=1e-5), w2c, k, height=33, width=33)
    assert planes.alpha[0, 0, 16, 16].item() == pytest.approx(0.99, abs=1e-4)
    assert (planes.alpha > 0).sum() < 30


def test_disc_that_reaches_behind_the_camera_draws_only_what_is_in_front(variant):
    w2c, k = front_camera(32, 32)
    surfels = disc((0.0, -0.4, 0.9), normal=(0.0, 1.0, 0.05), scale=1.0)
    planes = rasterize_surfels(*surfels, w2c, k, height=32, width=32)
    want = exact(surfels, w2c, k, height=32, width=32)
    assert planes.alpha[0, 0, -1].mean() > 0.5
    assert planes.alpha[0, 0, 0].max() == 0
    torch.testing.assert_close(planes.depth.double(), want.depth, atol=1e-4, rtol=0)


def test_surfels_that_cannot_be_drawn_are_left_out_without_harm(variant):
    surfels = random_scene(40)
    w2c, k = odd_cameras(2, 20, 20)
    want = rasterize_surfels(*(t[20:] for t in surfels), w2c, k, height=20, width=20)
    nan, inf = float("nan"), float("inf")
    surfels[0][0, 1] = nan
    surfels[0][1, 2] = inf
    surfels[1][2] = 0.0
    surfels[1][3, 0] = nan
    surfels[2][4, 0] = 0.0
    surfels[2][5, 1] = -0.1
    surfels[2][6, 0] = nan
    surfels[3][7] = nan
    surfels[3][8] = 0.001
    surfels[3][9] = -1.0
    surfels[4][10, 2] = inf
    surfels[2][11, 1] = inf
    surfels[0][12:20] = 400.0 * torch.nn.functional.normalize(surfels[0][12:20], dim=1)  # behind, or too far
    surfels = [t.requires_grad_() for t in surfels]
    got = rasterize_surfels(*surfels, w2c, k, height=20, width=20)
    for name in PLANES:
        torch.testing.assert_close(getattr(got, name), getattr(want, name))
    sum(getattr(got, name).sum() for name in PLANES).backward()
    for t in surfels:
        assert not t.grad[:12].any()
        assert t.grad.isfinite().all()


def test_disc_seen_exactly_from_the_side_is_not_drawn(variant):
    w2c, k = front_camera(16, 16)
    surfels = [t.requires_grad_() for t in disc((0.0, 0.0, 0.0), normal=(1.0, 0.0, 0.0), scale=0.2)]
    planes = rasterize_surfels(*surfels, w2c, k, height=16, width=16)
    planes.depth.sum().backward()
    assert not planes.alpha.any()
    assert not surfels[0].grad.any()


def test_many_surfels_in_one_pixel_stop_when_the_light_is_spent(variant):
    surfels = random_scene(900, size=0.5)
    w2c, k = odd_cameras(1, 16, 16)
    got = rasterize_surfels(*surfels, w2c, k, height=16, width=16)
    want = exact(surfels, w2c, k, height=16, width=16)
    assert got.alpha.min() > 0.999
    torch.testing.assert_close(got.rgb.double(), want.rgb, atol=1e-5, rtol=0)


def test_faint_surfels_by_the_hundred_are_all_counted(variant):
    surfels = random_scene(600, size=0.5)
    surfels[3] *= 0.02
    w2c, k = odd_cameras(1, 6, 8)
    results = []
    for kind in (torch.float32, torch.float64):
        inputs = [t.to(kind).requires_grad_() for t in surfels]
        if kind == torch.float32:
            planes = rasterize_surfels(*inputs, w2c, k, height=6, width=8)
        else:
            planes = exact(inputs, w2c, k, height=6, width=8)
        loss = planes.rgb.square().sum() + planes.depth.sum() + planes.distortion.sum()
        results.append((planes.rgb.double(), *(g.double() for g in torch.autograd.grad(loss, inputs))))
    for got, want in zip(*results, strict=True):
        assert (got - want).norm() < 1e-3 * want.norm()


def test_memory_layout_of_the_input_does_not_matter(variant):
    surfels = random_scene(30)
    w2c, k = odd_cameras(2, 16, 16)
    want = rasterize_surfels(*surfels, w2c, k, height=16, width=16)
    strided = [torch.stack([t, torch.full_like(t, 7.0)], -1)[..., 0].requires_grad_() for t in surfels]
    assert not strided[0].is_contiguous()
    got = rasterize_surfels(
        *strided, w2c.transpose(1, 2).contiguous().transpose(1, 2), k[:1].expand(2, 3, 3), height=16, width=16
    )
    assert torch.equal(got.rgb[0], want.rgb[0])
    got.rgb.permute(0, 2, 3, 1).square().sum().backward()
    assert strided[0].grad.abs().sum() > 0


@pytest.mark.parametrize("axes", [(3,), (2, 2)])
def test_scenes_of_one_call_are_those_of_many(variant, axes):
    count = math.prod(axes)
    scenes = [random_scene(40, seed=i) for i in range(count)]
    cameras = [odd_cameras(3, 12, 20) for _ in range(count)]
    cameras = [(w2c.roll(i, 0), k) for i, (w2c, k) in enumerate(cameras)]
    stacked = [torch.stack(t).reshape(*axes, *t[0].shape).requires_grad_() for t in zip(*scenes, strict=True)]
    w2c, k = (torch.stack(t).reshape(*axes, *t[0].shape) for t in zip(*cameras, strict=True))
    together = rasterize_surfels(*stacked, w2c, k, height=12, width=20)
    assert together.normals.shape == (*axes, 3, 3, 12, 20)
    gradients = torch.autograd.grad(sum(getattr(together, p).square().sum() for p in PLANES), stacked)
    for i in range(count):
        alone = [t.requires_grad_() for t in scenes[i]]
        planes = rasterize_surfels(*alone, *cameras[i], height=12, width=20)
        for name in PLANES:
            torch.testing.assert_close(getattr(together, name).flatten(0, len(axes) - 1)[i], getattr(planes, name))
        wanted = torch.autograd.grad(sum(getattr(planes, p).square().sum() for p in PLANES), alone)
        for g, w in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(g.flatten(0, len(axes) - 1)[i], w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(variant, kind):
    surfels = [t.to(kind).requires_grad_() for t in random_scene(30)]
    w2c, k = odd_cameras(2, 12, 20)
    got = rasterize_surfels(*surfels, w2c, k, height=12, width=20)
    want = rasterize_surfels(*(t.detach().float() for t in surfels), w2c, k, height=12, width=20)
    assert got.rgb.dtype == torch.float32
    assert torch.equal(got.depth, want.depth)
    got.rgb.sum().backward()
    assert all(t.grad.dtype == kind for t in surfels[:3])


def test_views_are_independent_of_each_other(variant):
    surfels = random_scene(50)
    w2c, k = odd_cameras(6, 16, 16)
    together = rasterize_surfels(*surfels, w2c, k, height=16, width=16)
    for i in range(6):
        alone = rasterize_surfels(*surfels, w2c[i : i + 1], k[i : i + 1], height=16, width=16)
        torch.testing.assert_close(together.rgb[i], alone.rgb[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"quats": torch.zeros(4, 3)}, InvalidInput, r"quats must have shape \(N, 4\)"),
        ({"opacities": torch.zeros(4, 1)}, InvalidInput, "opacities must have shape"),
        ({"colors": torch.zeros(5, 3)}, InvalidInput, "N = 4"),
        ({"scales": torch.zeros(4, 2, dtype=torch.float64)}, InvalidInput, "float64"),
        ({"w2c": torch.zeros(0, 4, 4), "intrinsics": torch.zeros(0, 3, 3)}, InvalidCameras, "got none"),
        ({"intrinsics": torch.zeros(2, 3, 3)}, InvalidCameras, "intrinsics must have shape"),
        ({"height": 0}, InvalidInput, "got 0 x 8"),
        ({"width": 40000}, InvalidInput, "1 to 32767 pixels, got 8 x 40000"),
        ({"colors": torch.zeros(4, 3, device="meta")}, InvalidInput, "colors .* device of means .* on meta"),
        ({"means": torch.zeros(2, 4, 3)}, InvalidInput, r"quats must have shape \(2, N, 4\)"),
        ({"means": torch.zeros(4, 3, dtype=torch.int64)}, InvalidInput, "means must be floating point"),
        ({"near": 3.0, "far": 2.0}, InvalidInput, "near"),
    ],
)
def test_bad_input_is_named(variant, change, error, words):
    w2c, k = front_camera(8, 8)
    given = dict(zip(NAMES, random_scene(4), strict=True)) | {"w2c": w2c, "intrinsics": k, "height": 8, "width": 8}
    with pytest.raises(error, match=words):
        rasterize_surfels(**(given | change))


def test_other_devices_are_served_by_the_cpu_rather_than_by_the_reference():
    expected = "warp-cuda" if torch.cuda.is_available() else "warp-cpu-copied"
    assert rasterize_surfels.choose("cuda") == expected
    assert rasterize_surfels.choose("cpu") == "warp-cpu"


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["warp-cuda", "warp-cpu-copied", "reference"])
def test_cuda_tensors_give_the_same_on_cuda(name):
    height, width = 100, 140
    w2c, k = odd_cameras(3, height, width)
    surfels = random_scene(2000)
    doubles = [t.double().requires_grad_() for t in surfels]
    want = exact(doubles, w2c, k, height=height, width=width)
    moved = [t.cuda().requires_grad_() for t in surfels]
    with rasterize_surfels.use(name):
        got = rasterize_surfels(*moved, w2c.cuda(), k.cuda(), height=height, width=width)
    probes = {p: torch.randn(getattr(want, p).shape, generator=torch.Generator().manual_seed(1)) for p in PLANES}
    for p in PLANES:
        # A few pixels sit on a threshold and may fall on either side of it.
        wrong = (getattr(got, p).cpu() - getattr(want, p)).abs() > 1e-4
        assert wrong.double().mean() < 1e-4, p
    gradients = torch.autograd.grad(sum((getattr(got, p) * probes[p].cuda()).sum() for p in PLANES), moved)
    wanted = torch.autograd.grad(sum((getattr(want, p) * probes[p]).sum() for p in PLANES), doubles)
    for parameter, g, w in zip(NAMES, gradients, wanted, strict=True):
        assert (g.cpu() - w).norm() < 5e-3 * w.norm(), parameter


def test_copied_variant_gives_planes_and_gradients_of_the_cpu():
    # On the CPU the copies are the tensors themselves; the call is the same as for any other device.
    w2c, k = odd_cameras(2, 16, 16)
    results = []
    for name in ("warp-cpu", "warp-cpu-copied"):
        surfels = [t.requires_grad_() for t in random_scene(40)]
        planes = rasterize_surfels.function(name)(*surfels, w2c, k, height=16, width=16)
        results.append((planes.rgb, *torch.autograd.grad(planes.rgb.sum() + planes.distortion.sum(), surfels)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_warp_variant_refuses_other_types_instead_of_rounding():
    w2c, k = front_camera(8, 8)
    with rasterize_surfels.use("warp-cpu"), pytest.raises(InvalidInput, match="float32"):
        rasterize_surfels(*(t.double() for t in random_scene(4)), w2c.double(), k.double(), height=8, width=8)
