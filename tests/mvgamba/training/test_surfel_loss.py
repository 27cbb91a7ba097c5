"""Rendered losses: nothing for the truth, each for its own mistake, over the pixels that it speaks of."""

import math

import pytest
import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.render import render_surfels
from mvgamba.training.surfel_loss import FAR, NEAR, SurfelLossWeights, normal_consistency, surfel_losses
from mvgamba.types import Cameras, PosedViews, Surfels

GREY = torch.full((3,), 0.4)
PLAIN = SurfelLossWeights(normal=0.0, opacity=0.0)


def cameras(count=2, size=32):
    one = orbit_cameras([0.2 * i for i in range(count)], [0.3] * count, radius=1.5, fovy=0.85, height=size, width=size)
    k = one.intrinsics.clone()
    k[:, 0, 0] *= 1.3  # so that a mistaken focal length shows
    k[:, 0, 2] += 2.0
    return Cameras(one.c2w[None], k[None], size, size)


def plane(*, turn=0.0, opacity=0.95):
    """Discs on a slanted plane, each turned out of it about the plane's own x by an angle."""
    at = torch.linspace(-0.35, 0.35, 15)
    x, y = (g.reshape(-1) for g in torch.meshgrid(at, at, indexing="xy"))
    tilt = 0.5  # of the plane, about x
    means = torch.stack([x, y * math.cos(tilt), y * math.sin(tilt)], -1)
    half = (tilt + turn) / 2
    quats = torch.tensor([math.cos(half), math.sin(half), 0.0, 0.0]).expand(len(x), 4)
    colors = torch.stack([0.5 + x, 0.5 + y, 0.5 - x], -1)
    full = torch.full((len(x),), opacity)
    return Surfels(means[None], quats[None], torch.full((1, len(x), 2), 0.04), full[None], colors[None])


def truth_of(surfels, lens):
    render = render_surfels(surfels, lens, background=torch.zeros(3))
    return PosedViews(render.rgb / render.alpha.clamp_min(1e-6), render.alpha, lens)


def test_the_truth_costs_nothing():
    surfels, lens = plane(), cameras()
    losses, _ = surfel_losses(surfels, truth_of(surfels, lens), GREY, weights=PLAIN)
    assert float(losses["rgb"]) < 1e-8 and float(losses["mask"]) < 1e-10
    assert float(losses["total"]) < 1e-8 and float(losses["psnr"]) > 80


def test_colour_coverage_and_opacity_are_charged_for_themselves():
    surfels, lens = plane(), cameras()
    truth = truth_of(surfels, lens)
    red = Surfels(surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors * 0.7)
    losses, _ = surfel_losses(red, truth, GREY, weights=PLAIN)
    assert losses["rgb"] > 1e-3 and float(losses["mask"]) < 1e-10
    faint, render = surfel_losses(plane(opacity=0.3), truth, GREY, weights=SurfelLossWeights(normal=0.0, opacity=2.0))
    assert faint["mask"] > 1e-3
    assert float(faint["opacity"]) == pytest.approx(2.0 * 0.7)
    expected = (render.alpha - truth.alpha).square().mean()
    assert float(faint["mask"]) == pytest.approx(float(expected))


def test_a_render_that_is_too_bright_still_has_a_gradient():
    surfels, lens = plane(), cameras()
    white = truth_of(surfels, lens)
    white = PosedViews(torch.ones_like(white.rgb), white.alpha, lens)
    colors = torch.full_like(surfels.colors, 1.5, requires_grad=True)
    bright = Surfels(surfels.means, surfels.quats, surfels.scales, surfels.opacities, colors)
    surfel_losses(bright, white, GREY, weights=PLAIN)[0]["total"].backward()
    assert (colors.grad > 0).float().mean() > 0.9


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.6])
def test_normals_are_compared_with_those_of_the_plane_they_lie_on(turn):
    # discs a tenth as large as their distance would leave holes; these overlap, so a turned one still gives depth near the plane
    surfels, lens = plane(turn=turn), cameras(size=64)
    tiny = Surfels(surfels.means, surfels.quats, surfels.scales * 0.8, surfels.opacities, surfels.colors)
    loss = float(normal_consistency(render_surfels(tiny, lens), truth_of(tiny, lens)))
    if turn == 0.0:
        assert loss < 1e-3
    else:
        assert 0.3 * (1 - math.cos(turn)) < loss < 4 * (1 - math.cos(turn))


def test_a_wrong_focal_length_is_seen_by_the_normals():
    surfels, lens = plane(), cameras(size=64)
    render, truth = render_surfels(surfels, lens), truth_of(surfels, lens)
    mirrored = (
        lens.intrinsics * torch.tensor([-0.69, -0.69, 1.0], dtype=torch.float64)[:, None]
    )  # of a tangent of degrees
    wrong = PosedViews(truth.rgb, truth.alpha, Cameras(lens.c2w, mirrored, 64, 64))
    assert normal_consistency(render, wrong) > 0.1 > 100 * normal_consistency(render, truth)


def layers(z):
    """Two large discs across the view of a camera at the origin's front, 60 % opaque."""
    means = torch.tensor([[0.0, 0.0, 1.5 - d] for d in z])
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    return Surfels(means[None], quats[None], torch.full((1, 2, 2), 50.0), torch.full((1, 2), 0.6), torch.ones(1, 2, 3))


def test_distortion_counts_from_near_to_far():
    level = orbit_cameras([0.0], [0.0], radius=1.5, fovy=0.85, height=16, width=16)
    lens = Cameras(level.c2w[None], level.intrinsics[None], 16, 16)
    depths = (1.2, 1.8)
    surfels = layers(depths)
    weights = SurfelLossWeights(normal=0.0, distortion=1.0)
    losses, _ = surfel_losses(surfels, truth_of(surfels, lens), GREY, weights=weights)
    m = [FAR / (FAR - NEAR) * (1 - NEAR / z) for z in depths]
    assert float(losses["distortion"]) == pytest.approx(0.6 * 0.24 * (m[0] - m[1]) ** 2, rel=0.01)
    one, _ = surfel_losses(layers((1.5, 1.5)), truth_of(surfels, lens), GREY, weights=weights)
    assert float(one["distortion"]) == pytest.approx(0.0, abs=1e-6)


def test_terms_begin_at_their_steps():
    surfels, lens = plane(), cameras()
    weights = SurfelLossWeights(perceptual_from=5, normal_from=10, distortion=1.0, distortion_from=20)
    truth, seen = truth_of(surfels, lens), []

    def distance(a, b):
        seen.append((tuple(a.shape), float(torch.minimum(a.min(), b.min())), float(torch.maximum(a.max(), b.max()))))
        return (a - b).abs().mean((1, 2, 3)) + 1.0

    at = {
        s: surfel_losses(surfels, truth, GREY, weights=weights, step=s, perceptual=distance)[0] for s in (0, 5, 10, 20)
    }
    new = [{"perceptual", "normal", "distortion"} & set(losses) for losses in at.values()]
    assert new == [set(), {"perceptual"}, {"perceptual", "normal"}, {"perceptual", "normal", "distortion"}]
    assert float(at[5]["perceptual"]) == pytest.approx(0.6, rel=1e-3)
    shape, low, high = seen[0]
    assert shape == (2, 3, 256, 256) and low < -0.1 and high <= 1.2


def test_two_halves_of_a_batch_make_the_mean_of_the_whole():
    lens, one, two = cameras(), plane(turn=0.4), plane(turn=0.1, opacity=0.7)
    both = Surfels(
        *(torch.cat([getattr(one, n), getattr(two, n)]) for n in ("means", "quats", "scales", "opacities", "colors"))
    )
    weights = SurfelLossWeights(normal=1.0, distortion=10.0)
    double = Cameras(lens.c2w.repeat(2, 1, 1, 1), lens.intrinsics.repeat(2, 1, 1, 1), 32, 32)
    truth, small = truth_of(plane(), lens), (truth_of(plane(), lens))
    pair = PosedViews(truth.rgb.repeat(2, 1, 1, 1, 1), truth.alpha.repeat(2, 1, 1, 1, 1), double)
    whole, _ = surfel_losses(both, pair, GREY, weights=weights)
    counts: list[list[torch.Tensor]] = []
    for surfels in (one, two):
        mine: list[torch.Tensor] = []
        surfel_losses(surfels, small, GREY, weights=weights, mean_count=lambda c, mine=mine: (mine.append(c), c)[1])
        counts.append(mine)
    means = [(a + b) / 2 for a, b in zip(*counts, strict=True)]
    halves = []
    for surfels in (one, two):
        turn = iter(means)
        halves.append(
            surfel_losses(surfels, small, GREY, weights=weights, mean_count=lambda c, turn=turn: next(turn))[0]
        )
    assert counts[0] != counts[1]
    for name in ("normal", "distortion", "rgb", "total"):
        assert float((halves[0][name] + halves[1][name]) / 2) == pytest.approx(float(whole[name]), rel=1e-4), name
