"""Surfels that a model pulls: the loop, its drawing and its measures, with a model that wants one thing and with a tiny starter."""

import math

import pytest
import torch
import torch.nn.functional as F

from mvgamba.cameras import orbit_cameras
from mvgamba.distilling import DistilOptions, distil, draw, expectation_gap, placed, views_of
from mvgamba.errors import Cancelled, InvalidInput
from mvgamba.multiview.distillation import Group, GuidanceOptions, StarterPrior
from mvgamba.progress import CancelToken
from mvgamba.types import Similarity, Surfels
from tests.mvgamba.multiview.tiny import tiny_model


def ball(count: int = 300, *, radius: float = 0.5) -> Surfels:
    """Grey discs on a sphere, normals outward."""
    k = torch.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, k * math.pi * (3 - 5**0.5)
    flat = (1 - height.square()).sqrt()
    out = torch.stack([flat * turn.cos(), height, flat * turn.sin()], 1)
    # from +Z to a direction: the half-way quaternion
    quats = F.normalize(torch.stack([1 + out[:, 2], -out[:, 1], out[:, 0], 0 * out[:, 0]], 1), dim=1)
    return Surfels(
        radius * out,
        quats,
        torch.full((count, 2), 2.0 * radius / count**0.5),
        torch.full((count,), 0.9),
        torch.full((count, 3), 0.5),
    )


class WantsColor:
    """Knows the silhouettes to be right and every colour to be one."""

    def __init__(self, color: tuple[float, float, float], *, size: int = 16) -> None:
        self.color, self.size = torch.tensor(color)[:, None, None], size

    def group(self, generator):
        size = self.size
        cameras = orbit_cameras([0.0, 2.0, 4.0], [0.3, 0.0, -0.3], radius=2.5, fovy=0.8, height=size, width=size)
        return Group(cameras)

    def encode(self, rgb, alpha):
        return torch.cat([rgb, alpha], 1)

    def noised(self, latents, time, noise):
        return latents

    def predict_clean(self, noisy, time, group, shown):
        clean = torch.cat([self.color * shown[:, 3:], shown[:, 3:]], 1)
        return clean, clean


PLAIN = GuidanceOptions(1.0, 0.0)


def test_surfels_take_the_color_that_the_model_wants_and_keep_their_place():
    prior, start = WantsColor((0.8, 0.3, 0.1)), ball()
    seen = []
    options = DistilOptions(steps=40, guidance=PLAIN, color_lr=4e-2)
    made = distil(start, prior, options, report=seen.append)
    views = views_of(made.surfels, prior.group(torch.Generator()).cameras, size=16)
    inside = views.alpha[:, 0] > 0.9
    color = views.rgb.permute(0, 2, 3, 1)[inside].mean(0)
    torch.testing.assert_close(color, torch.tensor([0.8, 0.3, 0.1]), rtol=0, atol=0.05)
    assert float((made.surfels.means.norm(dim=1) - 0.5).abs().mean()) < 0.03
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0 and len(made.losses) == 40
    assert made.losses[-1] < 0.1 * made.losses[0]
    gaps = [expectation_gap(s, prior, PLAIN, groups=1) for s in (start, made.surfels)]
    assert gaps[1] < 0.1 * gaps[0]


def test_every_part_of_a_surfel_is_moved_by_the_starter_network_and_the_seed_decides():
    prior, start = StarterPrior(tiny_model(), "a red barrel", turned=0.5), ball(60)
    options = DistilOptions(steps=3)
    one, other, third = (distil(start, prior, options, seed=seed).surfels for seed in (1, 1, 2))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert float((getattr(one, name) - getattr(start, name)).abs().max()) > 1e-4, name
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)
    assert float((one.means - third.means).abs().max()) > 1e-4
    assert float((one.quats.norm(dim=1) - 1).abs().max()) < 1e-5
    assert float((start.means - ball(60).means).abs().max()) == 0.0


def test_discs_turn_into_the_surface():
    start, prior = ball(), WantsColor((0.5, 0.5, 0.5), size=32)
    generator = torch.Generator().manual_seed(0)
    tilted = Surfels(
        start.means,
        F.normalize(start.quats + 0.25 * torch.randn(start.quats.shape, generator=generator), dim=1),
        start.scales,
        start.opacities,
        start.colors,
    )
    options = DistilOptions(steps=40, guidance=PLAIN, normal_weight=10.0, mean_lr=0.0, normal_lr=2e-2)
    made = distil(tilted, prior, options).surfels

    def outward(surfels: Surfels) -> float:
        w, x, y, z = surfels.quats.unbind(1)
        normals = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
        return float((normals * F.normalize(surfels.means, dim=1)).sum(1).abs().mean())

    assert outward(start) > 0.999
    assert 1 - outward(made) < 0.7 * (1 - outward(tilted))


def test_views_have_soft_edges_and_the_right_size():
    cameras = orbit_cameras([0.0], [0.0], radius=2.5, fovy=0.8, height=64, width=64)
    drawn = draw(ball(), cameras, 16)
    assert drawn.rgb.shape == (1, 3, 16, 16) and drawn.samples.alpha.shape == (1, 1, 32, 32)
    views = views_of(ball(), cameras, size=16)
    assert views.cameras.height == 16 and float(((views.alpha > 0.1) & (views.alpha < 0.9)).float().mean()) > 0
    assert float(views.rgb[:, :, 8, 8].std()) < 0.01


def test_surfels_are_placed_by_a_similarity():
    turn = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    place = Similarity(2.0, turn, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    start = ball(50)
    moved = placed(start, place)
    torch.testing.assert_close(place.inverse_apply(moved.means.double()).float(), start.means, rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.scales, 2 * start.scales)
    cameras = orbit_cameras([0.3], [0.2], radius=2.5, fovy=0.8, height=32, width=32)
    c2w = cameras.c2w.clone()
    c2w[0, :3, :3], c2w[0, :3, 3] = turn @ c2w[0, :3, :3], place.apply(c2w[0, :3, 3])
    there = type(cameras)(c2w, cameras.intrinsics, 32, 32)
    torch.testing.assert_close(draw(moved, there, 32).alpha, draw(start, cameras, 32).alpha, rtol=0, atol=2e-3)


def test_a_fit_can_be_cancelled():
    token = CancelToken()

    def report(fraction: float) -> None:
        if fraction > 0:
            token.cancel()

    with pytest.raises(Cancelled):
        distil(ball(50), WantsColor((1.0, 0.0, 0.0)), DistilOptions(steps=5), report=report, cancel=token)


def test_wrong_input_is_named():
    empty = Surfels(*(getattr(ball(50), name)[:0] for name in ("means", "quats", "scales", "opacities", "colors")))
    with pytest.raises(InvalidInput, match="at least one"):
        distil(empty, WantsColor((1.0, 0.0, 0.0)), DistilOptions())
    for changes, message in (({"steps": 0}, "steps is 0"), ({"first_noise": 1.0}, "first_noise is 1.0"), ({"mean_lr": -1.0}, "mean_lr is -1.0")):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            DistilOptions(**changes)
