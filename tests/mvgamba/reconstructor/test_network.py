"""The MVGamba network: sizes, scans, frames and the parts that the published code got wrong."""

import math

import pytest
import torch
import torch.nn.functional as F

from mvgamba.cameras import orbit_cameras, project
from mvgamba.errors import InvalidCameras, InvalidImage
from mvgamba.reconstructor.blocks import MambaMixer, causal_conv, drop_path_rates
from mvgamba.reconstructor.network import FirstCameraFrame, MVGambaNetwork, parameter_groups
from mvgamba.reconstructor.presets import PRESETS, NetworkConfig
from mvgamba.reconstructor.tokens import network_input, patches_to_sequence, plucker_rays, scan_orders
from mvgamba.types import Cameras, PosedViews, Surfels

TINY = NetworkConfig(width=32, num_layers=2, image_size=28, patch_size=14, mlp_width=48)
QUARTERS = [0.0, math.pi / 2, math.pi, 3 * math.pi / 2]


def ring(size: int, *, elevation: float = 0.0, radius: float = 1.5, turn: float = 0.0) -> Cameras:
    azimuths = [turn + a for a in QUARTERS]
    return orbit_cameras(azimuths, [elevation] * 4, radius=radius, fovy=math.radians(49.1), height=size, width=size)


def random_views(cameras: Cameras, *, seed: int = 0) -> PosedViews:
    generator = torch.Generator().manual_seed(seed)
    size = (cameras.num_views, 3, cameras.height, cameras.width)
    rgb = torch.rand(size, generator=generator)
    return PosedViews(rgb, torch.rand(size, generator=generator)[:, :1], cameras)


@pytest.mark.parametrize(
    ("preset", "scale_width", "count"),
    [
        ("paper", 3, 35_178_086),
        ("paper", 2, 35_178_086 - 513),
        ("released", 3, 86_629_734),
        ("released", 2, 86_629_734 - 769),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset, scale_width, count):
    # the published heads were sized for ellipsoids with three scales; discs have two, one row of the head less
    with torch.device("meta"):
        network = MVGambaNetwork(PRESETS[preset].replace(scale_width=scale_width))
    assert sum(p.numel() for p in network.parameters()) == count
    assert PRESETS[preset].num_tokens == 16_384


def test_code_scans_a_grid_of_three_in_the_orders_of_the_table():
    # patches are numbered by rows: 0 1 2 / 3 4 5 / 6 7 8
    assert scan_orders("code", 3).tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8],  # by rows from the upper left
        [0, 3, 6, 1, 4, 7, 2, 5, 8],  # by columns from the upper left
        [2, 1, 0, 5, 4, 3, 8, 7, 6],  # by rows from the upper right
        [6, 3, 0, 7, 4, 1, 8, 5, 2],  # by columns from the lower left
    ]


def test_paper_scans_are_two_routes_and_their_reverses_from_the_four_corners():
    scans = scan_orders("paper", 3)
    assert scans[:, 0].tolist() == [0, 8, 2, 6]
    assert scans[:, -1].tolist() == [8, 0, 6, 2]
    assert torch.equal(scans[1], scans[0].flip(0))
    assert torch.equal(scans[3], scans[2].flip(0))
    assert not torch.equal(scans[0], scans[2])


@pytest.mark.parametrize("order", ["paper", "code"])
def test_every_scan_meets_every_patch_once(order):
    for scan in scan_orders(order, 5):
        assert sorted(scan.tolist()) == list(range(25))


def test_sequence_holds_all_scans_of_a_view_before_the_next_view():
    patches = torch.arange(2 * 4).float().reshape(1, 2, 1, 2, 2)  # two views, 2 x 2 patches that hold their number
    sequence = patches_to_sequence(patches, "code")[0, :, 0].long().tolist()
    first = [0, 1, 2, 3, 0, 2, 1, 3, 1, 0, 3, 2, 2, 0, 3, 1]
    assert sequence == first + [4 + k for k in first]


def test_rays_meet_the_points_they_show():
    cameras = ring(20, elevation=0.3, turn=0.7)
    rays = plucker_rays(cameras)
    point = torch.tensor([[0.11, -0.2, 0.05]], dtype=torch.float64)
    pixels, _ = project(point, cameras)
    for view in range(4):
        x, y = pixels[view, 0].tolist()
        grid = torch.tensor([[[[2 * x / 20 - 1, 2 * y / 20 - 1]]]], dtype=torch.float32)
        moment, direction = F.grid_sample(rays[view : view + 1], grid, align_corners=False)[0, :, 0, 0].split(3)
        # the moment of a line is that of each of its points; bilinear reading of a 20 pixel image costs 1e-3
        torch.testing.assert_close(torch.linalg.cross(point[0].float(), direction), moment, rtol=0, atol=2e-3)


def test_rays_are_unit_float32_and_keep_their_digits_in_the_network():
    rays = plucker_rays(ring(28))
    assert rays.dtype == torch.float32
    torch.testing.assert_close(rays[:, 3:].norm(dim=1), torch.ones(4, 28, 28))
    network = MVGambaNetwork(TINY).eval()
    images = torch.randn(1, 4, 9, 28, 28)
    seen = []
    network.map_image.register_forward_hook(lambda module, args, result: seen.append((args[0].dtype, result.dtype)))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        network(images)
    assert seen == [(torch.float32, torch.float32)]


def test_input_is_white_where_nothing_is_and_composed_once():
    views = random_views(ring(28))
    empty = PosedViews(views.rgb, torch.zeros_like(views.alpha), views.cameras)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    white = ((1 - mean) / std)[None, :, None, None]
    torch.testing.assert_close(network_input(empty, TINY)[:, :3], white.expand(4, 3, 28, 28))
    half = PosedViews(torch.zeros_like(views.rgb), torch.full_like(views.alpha, 0.5), views.cameras)
    grey = ((0.5 - mean) / std)[None, :, None, None]
    torch.testing.assert_close(network_input(half, TINY)[:, :3], grey.expand(4, 3, 28, 28))


def test_larger_views_are_scaled_with_their_cameras():
    small = network_input(random_views(ring(28)), TINY)
    large = network_input(random_views(ring(56)), TINY)
    assert large.shape == small.shape
    torch.testing.assert_close(large[:, 3:], small[:, 3:])


def test_another_number_of_views_is_refused():
    views = random_views(ring(28))
    fewer = PosedViews(views.rgb[:3], views.alpha[:3], views.cameras[:3])
    with pytest.raises(InvalidCameras, match="4 views at once, got 3"):
        MVGambaNetwork(TINY).surfels_of(fewer)


def test_views_that_are_not_square_are_refused():
    views = random_views(ring(28))
    wide = PosedViews(views.rgb[..., :20, :], views.alpha[..., :20, :], views.cameras)
    with pytest.raises(InvalidImage, match="28 x 20"):
        MVGambaNetwork(TINY).surfels_of(wide)


@pytest.mark.parametrize("elevation", [0.0, 0.5])
def test_first_camera_becomes_the_identity_whatever_its_elevation(elevation):
    cameras = ring(28, elevation=elevation, radius=2.0, turn=1.1)
    frame = FirstCameraFrame.of(cameras)
    local = frame.cameras_from_world(cameras)
    expected = torch.eye(4, dtype=torch.float64)
    expected[2, 3] = 1.5
    torch.testing.assert_close(local.c2w[0], expected, rtol=0, atol=1e-12)
    distances = local.c2w[:, :3, 3].norm(dim=-1)  # all cameras look at the origin, at the distance of training
    torch.testing.assert_close(distances, torch.full((4,), 1.5, dtype=torch.float64))


def test_surfels_return_to_the_world_of_the_cameras():
    cameras = ring(28, elevation=0.4, radius=3.0, turn=0.3)
    frame = FirstCameraFrame.of(cameras)
    local_cameras = frame.cameras_from_world(cameras)
    generator = torch.Generator().manual_seed(0)
    quats = F.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=-1)
    local = Surfels(
        0.3 * torch.randn(7, 3, generator=generator, dtype=torch.float64),
        quats,
        torch.full((7, 2), 0.01, dtype=torch.float64),
        torch.full((7,), 0.5, dtype=torch.float64),
        torch.rand(7, 3, generator=generator, dtype=torch.float64),
    )
    world = frame.surfels_to_world(local)
    # the same pixels from the same cameras, and the tips of the discs too
    torch.testing.assert_close(project(world.means, cameras)[0], project(local.means, local_cameras)[0])
    tips = world.means + world.scales[:, :1] * _first_axis(world.quats)
    local_tips = local.means + local.scales[:, :1] * _first_axis(local.quats)
    torch.testing.assert_close(project(tips, cameras)[0], project(local_tips, local_cameras)[0])


def _first_axis(quats: torch.Tensor) -> torch.Tensor:
    w, x, y, z = quats.unbind(-1)
    return torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1)


@pytest.mark.parametrize("head", ["rotnet_soft", "rotnet_hard", "quat", "sixd"])
def test_surfels_are_activated_finite_and_have_gradients(head):
    torch.manual_seed(0)
    network = MVGambaNetwork(TINY.replace(rotation_head=head))
    surfels = network.surfels_of(random_views(ring(28, elevation=0.2)))
    assert surfels.num_surfels == TINY.num_tokens == 64
    torch.testing.assert_close(surfels.quats.norm(dim=-1), torch.ones(64))
    assert (surfels.scales > 0).all()
    assert ((surfels.opacities > 0) & (surfels.opacities < 1)).all()
    assert ((surfels.colors >= 0) & (surfels.colors <= 1)).all()
    loss = sum((value * torch.randn_like(value)).sum() for value in vars(surfels).values())
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_fresh_network_starts_small_grey_and_near_the_centre():
    torch.manual_seed(0)
    surfels = MVGambaNetwork(TINY).eval().surfels_of(random_views(ring(28)))
    assert surfels.means.abs().max() < 0.3
    torch.testing.assert_close(surfels.colors, torch.full((64, 3), 0.5))
    assert 0.005 < surfels.scales.median() < 0.04


def test_turning_all_cameras_turns_the_surfels_with_them():
    # the network sees only what the first camera sees, so the world around may turn freely
    torch.manual_seed(0)
    network = MVGambaNetwork(TINY.replace(rotation_head="sixd")).eval()
    with torch.no_grad():
        plain = network.surfels_of(random_views(ring(28)))
        turned = network.surfels_of(random_views(ring(28, turn=math.pi / 2)))
    x, y, z = plain.means.unbind(-1)
    torch.testing.assert_close(turned.means, torch.stack([z, y, -x], -1), rtol=0, atol=1e-5)


def test_a_batch_gives_what_its_members_give_alone():
    torch.manual_seed(0)
    network = MVGambaNetwork(TINY).eval()
    one, two = random_views(ring(28), seed=1), random_views(ring(28, elevation=0.3), seed=2)
    both = PosedViews(
        torch.stack([one.rgb, two.rgb]),
        torch.stack([one.alpha, two.alpha]),
        Cameras(
            torch.stack([one.cameras.c2w, two.cameras.c2w]),
            torch.stack([one.cameras.intrinsics, two.cameras.intrinsics]),
            28,
            28,
        ),
    )
    with torch.no_grad():
        batched = network.surfels_of(both)
        for i, views in enumerate((one, two)):
            alone = network.surfels_of(views)
            torch.testing.assert_close(batched.means[i], alone.means, rtol=0, atol=1e-5)
            torch.testing.assert_close(batched.colors[i], alone.colors, rtol=0, atol=1e-5)


def test_the_mixer_is_causal():
    torch.manual_seed(0)
    mixer = MambaMixer(TINY)
    x = torch.randn(1, 20, 32)
    changed = x.clone()
    changed[:, 12] += 1.0
    with torch.no_grad():
        difference = (mixer(x) - mixer(changed)).abs().amax(-1)[0]
    assert (difference[:12] == 0).all()
    assert (difference[12:15] > 0).all()


def test_shifted_additions_are_the_grouped_convolution():
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(6, 6, 4, groups=6, padding=3)
    x = torch.randn(2, 11, 6)
    expected = conv(x.transpose(1, 2))[..., :11].transpose(1, 2)
    torch.testing.assert_close(causal_conv(x, conv.weight, conv.bias), expected)


def test_weight_decay_spares_norms_biases_positions_and_the_scan():
    network = MVGambaNetwork(TINY)
    decay, rest = parameter_groups(network, weight_decay=0.05)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    decayed = {names[id(p)] for p in decay["params"]}
    spared = {names[id(p)] for p in rest["params"]}
    assert decayed | spared == set(names.values())
    assert not decayed & spared
    assert all(n.endswith(".weight") and "norm" not in n for n in decayed)
    for ending in ("A_log", ".D", "pos_embed", "dt_proj.bias", "norm.weight", "norm_f.weight", "map_image.bias"):
        assert any(n.endswith(ending) for n in spared), ending


def test_drop_path_rises_with_depth_and_only_while_training():
    rates = drop_path_rates(PRESETS["paper"])
    assert rates[:2] == [0.0, 0.0]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.1 * 12 / 13)
    torch.manual_seed(0)
    network = MVGambaNetwork(TINY.replace(num_layers=3, drop_path=0.9)).eval()
    images = torch.randn(1, 4, 9, 28, 28)
    with torch.no_grad():
        assert torch.equal(network(images).means, network(images).means)


def test_saving_memory_changes_no_gradient():
    images = torch.randn(1, 4, 9, 28, 28, generator=torch.Generator().manual_seed(0))
    gradients = []
    for save_memory in (False, True):
        torch.manual_seed(0)
        network = MVGambaNetwork(TINY.replace(drop_path=0.0)).train()
        network.transformer.save_memory = save_memory
        network(images).means.square().sum().backward()
        gradients.append(network.map_image.weight.grad)
    torch.testing.assert_close(*gradients)


def test_initial_steps_of_the_scan_lie_between_a_thousandth_and_a_tenth():
    torch.manual_seed(0)
    steps = F.softplus(MambaMixer(TINY).dt_proj.bias)
    assert 0.0009 < steps.min() < steps.max() < 0.11
