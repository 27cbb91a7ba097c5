"""The ray network: what it reads, what it leaves out, and the order in which it reads."""

import dataclasses
import math

import pytest
import torch

from mvgamba.data import GlbFolder
from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.reconstructor.ray_inputs import ray_inputs
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork, pack, scan_orders, unpack
from mvgamba.reconstructor.ray_reconstructor import (
    RayReconstructor,
    fuse_prediction,
    load_ray_network,
    planes_of,
    save_ray_network,
)
from mvgamba.types import Cameras, PosedViews
from tests.mvgamba.data.objects import write_corpus

SMALL = RayConfig(width=32, num_layers=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def normalised(source):
    return normalise_views(source.views(1, 0, size=128).inputs)


@pytest.fixture(scope="module")
def given(normalised):
    return ray_inputs(normalised, size=128)


def test_rays_cross_the_hull_where_the_silhouettes_say(normalised, given):
    hit = given.near > 0
    assert (given.far >= given.near).all()
    # the hull projects into the silhouettes, up to the cells of its grid
    inside = normalised.views.alpha > 0.5
    assert (hit[:4] & inside).sum() > 0.97 * inside.sum()
    assert (hit[:4] & ~inside).sum() < 0.08 * inside.sum()
    # a box of depth 0.7 seen from the front, and what the hull of four views adds at its front and its back
    depth = (given.far - given.near)[0, 0].max() * normalised.to_world.scale
    assert 0.7 < depth < 0.95


def test_the_queried_view_from_the_top_is_turned_to_the_first_camera(normalised, given):
    top = given.cameras.c2w[4]
    assert torch.allclose(top[:3, 2], torch.tensor([0.0, 1.0, 0.0], dtype=top.dtype), atol=1e-9)
    first = normalised.views.cameras.c2w[0, :3, 3].clone()
    first[1] = 0.0
    down = -top[:3, 1]  # lower edge of the picture
    assert torch.dot(down, first / first.norm()).item() == pytest.approx(1.0, abs=1e-6)


def test_a_turned_world_gives_the_same_planes(normalised, given):
    angle = 0.7
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]], dtype=torch.float64)
    cameras = given.cameras
    turned = dataclasses.replace(
        given, cameras=Cameras(turn @ cameras.c2w, cameras.intrinsics, cameras.height, cameras.width)
    )
    torch.testing.assert_close(planes_of(turned), planes_of(given), atol=1e-5, rtol=1e-5)


def test_packing_keeps_every_patch_that_meets_the_hull_and_comes_back(given):
    planes = planes_of(given)[None]
    packed = pack(planes, 8)
    near = unpack(packed.pixels[..., 4], packed, views=6, size=128)
    assert torch.equal(near, planes[:, :, 4] * (near != 0))
    hit = planes[:, :, 6] > 0
    assert torch.equal(near[hit], planes[:, :, 4][hit])
    assert packed.valid.sum() < 0.6 * 6 * 16 * 16  # most of the pictures is background


def test_orders_are_permutations_with_what_is_not_valid_at_the_end(given):
    planes = planes_of(given)
    pair = torch.stack([planes, torch.where(torch.arange(6)[:, None, None, None] < 3, planes, 0.0)])
    packed = pack(pair, 8)
    assert not packed.valid.all()
    orders = scan_orders(packed, RayConfig().scans, views=6, grid=16)
    assert len(orders) == 6
    for order, back in orders:
        assert torch.equal(order.gather(1, back), torch.arange(order.shape[1]).expand_as(order))
        valid = packed.valid.gather(1, order)
        assert torch.equal(valid, packed.valid.sum(1, keepdim=True) > torch.arange(valid.shape[1]))
    # bands: the height in the picture never falls
    count = int(packed.valid[0].sum())
    rows = packed.index.gather(1, orders[2][0])[0, :count] // 16 % 16
    assert (rows.diff() >= 0).all()


def test_a_sample_does_not_depend_on_what_it_is_batched_with(given):
    torch.manual_seed(0)
    network = RayNetwork(SMALL).eval()
    planes = planes_of(given)
    less = torch.where(torch.arange(6)[:, None, None, None] < 3, planes, 0.0)
    with torch.no_grad():
        alone, packed_alone = network(less[None])
        both, packed_both = network(torch.stack([planes, less]))
    count = int(packed_alone.valid.sum())
    assert count < packed_both.index.shape[1]
    torch.testing.assert_close(both.depth[1, :count], alone.depth[0, :count], atol=1e-5, rtol=1e-4)


def test_depth_lies_within_the_hull_and_gradients_reach_everything(given):
    torch.manual_seed(0)
    network = RayNetwork(SMALL)
    output, packed = network(planes_of(given)[None])
    near, far = packed.pixels[..., 4], packed.pixels[..., 5]
    assert (output.depth >= near - 1e-5).all() and (output.depth <= far + 1e-5).all()
    (output.depth.sum() + output.log_error.sum() + output.solid.sum() + output.rgb.sum()).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not missing


def test_weights_go_to_a_file_and_back(tmp_path):
    torch.manual_seed(0)
    network = RayNetwork(SMALL)
    save_ray_network(network, tmp_path / "ray.safetensors", half=False)
    loaded = load_ray_network(tmp_path / "ray.safetensors")
    assert loaded.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))


def test_missing_and_broken_weights_are_named(tmp_path):
    with pytest.raises(WeightsMissing, match="needs trained weights"):
        load_ray_network(None)
    path = tmp_path / "ray.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(WeightsCorrupt, match="ray.safetensors"):
        load_ray_network(path)
    network = RayNetwork(SMALL)
    with torch.no_grad():
        network.norm.weight[0] = float("nan")
    save_ray_network(network, path)
    with pytest.raises(WeightsCorrupt, match="not finite"):
        load_ray_network(path)


def test_true_depth_gives_the_true_shape_and_any_weights_a_closed_mesh(source, normalised, tmp_path):
    save_ray_network(RayNetwork(SMALL), tmp_path / "ray.safetensors")
    reconstructor = RayReconstructor(tmp_path / "ray.safetensors", resolution=48, faces=4000)
    rough = reconstructor.reconstruct(normalised)
    assert rough.scaffold is not None and rough.surfels.num_surfels == len(rough.scaffold.faces)

    # what the network would say if it knew
    prediction = reconstructor.predict(normalised)
    truth = source.views(1, 0, size=128)
    c2w = prediction.views.cameras.c2w.clone()
    c2w[:, :3, 3] = normalised.to_world.apply(c2w[:, :3, 3])
    seen = truth.draw(Cameras(c2w, prediction.views.cameras.intrinsics, 128, 128))
    assert seen.depth is not None
    exact = PosedViews(seen.rgb, seen.alpha, prediction.views.cameras, (seen.depth / normalised.to_world.scale).float())
    known = dataclasses.replace(prediction, views=exact, error=torch.full_like(prediction.error, 0.01))
    from mvgamba.reconstructor.hull import hull_field

    field, origin, spacing = hull_field(normalised, resolution=64)
    fused = fuse_prediction(known, field, origin, spacing)
    cells = (fused > 0).sum() * spacing**3 * normalised.to_world.scale**3
    size = (1.0, 0.9, 0.7)
    volume = size[0] * size[1] * size[2] + 0.3 * 0.3 * (0.65 + 0.15 - 0.45)
    hull_cells = (field > 0).sum() * spacing**3 * normalised.to_world.scale**3
    assert float(cells) == pytest.approx(volume, rel=0.12)
    assert abs(float(cells) - volume) < abs(float(hull_cells) - volume)
