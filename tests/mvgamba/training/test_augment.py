"""Disturbed views: the first is left alone, strength nothing changes nothing, and cameras stay on their spheres."""

import math

import numpy as np
import pytest
import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidInput
from mvgamba.training.augment import Augmentation, disturbed, grid_distorted, jittered, random_background
from mvgamba.types import PosedViews

ALWAYS = Augmentation(grid_distortion=1.0, camera_jitter=1.0)


@pytest.fixture
def views():
    cameras = orbit_cameras([0.0, 1.6, 3.1, 4.7], [0.3, -0.2, 0.5, 0.0], radius=1.5, fovy=0.85, height=40, width=40)
    generator = torch.Generator().manual_seed(2)
    return PosedViews(torch.rand(4, 3, 40, 40, generator=generator), torch.ones(4, 1, 40, 40), cameras)


def ramp(cameras):
    """Colours that say where they come from: columns in red, rows in green."""
    at = (torch.arange(40.0) + 0.5) / 40
    picture = torch.stack([at.expand(40, 40), at[:, None].expand(40, 40), torch.zeros(40, 40)])
    return PosedViews(picture.expand(4, 3, 40, 40).contiguous(), torch.ones(4, 1, 40, 40), cameras)


def test_the_first_view_is_untouched_and_the_others_are_not(views):
    other = disturbed(views, ALWAYS, np.random.default_rng([3, 8]))
    assert torch.equal(other.rgb[0], views.rgb[0]) and torch.equal(other.alpha[0], views.alpha[0])
    assert torch.equal(other.cameras.c2w[0], views.cameras.c2w[0])
    for i in range(1, 4):
        assert not torch.allclose(other.rgb[i], views.rgb[i], atol=0.05)
        assert not torch.allclose(other.cameras.c2w[i], views.cameras.c2w[i], atol=0.01)


def test_what_is_disturbed_follows_from_the_seed_and_the_step(views):
    one, same, next_step = (disturbed(views, ALWAYS, np.random.default_rng([3, step])) for step in (8, 8, 9))
    assert torch.equal(one.rgb, same.rgb) and torch.equal(one.cameras.c2w, same.cameras.c2w)
    assert not torch.equal(one.rgb, next_step.rgb) and not torch.equal(one.cameras.c2w, next_step.cameras.c2w)


def test_strength_nothing_changes_nothing(views):
    still = grid_distorted(views, 0.0, np.random.default_rng(1))
    torch.testing.assert_close(still.rgb, views.rgb, atol=1e-4, rtol=0)  # float32 places of 40 pixels
    torch.testing.assert_close(still.alpha, views.alpha, atol=1e-6, rtol=0)
    torch.testing.assert_close(jittered(views.cameras, 0.0, np.random.default_rng(1)).c2w, views.cameras.c2w)
    never = disturbed(views, Augmentation(grid_distortion=0.0, camera_jitter=0.0), np.random.default_rng(1))
    assert never is views


def test_pixels_move_along_their_axes_by_half_a_knot_at_most(views):
    plain = ramp(views.cameras)
    moved = grid_distorted(plain, 0.5, np.random.default_rng(4)).rgb
    for channel, axis in ((0, -2), (1, -1)):
        shown = moved[1:, channel]
        # every row (column) of a view is moved alike, and the order of its pixels is kept
        torch.testing.assert_close(shown, shown.narrow(axis, 0, 1).expand_as(shown), atol=1e-5, rtol=0)
        along = shown.diff(dim=-1 if axis == -2 else -2)
        assert (along > 0).all()
        gap = (shown - plain.rgb[1:, channel]).abs().max()
        assert 0.5 / 40 < gap < 0.25 / 7 + 0.5 / 40  # 8 knots, and half a pixel of the border


def test_a_warped_outline_has_no_dark_fringe(views):
    disc = (torch.linspace(-1, 1, 40)[None] ** 2 + torch.linspace(-1, 1, 40)[:, None] ** 2 < 0.5).float()
    alpha = disc.expand(4, 1, 40, 40).contiguous()
    red = torch.tensor([0.9, 0.2, 0.1])[:, None, None] * alpha
    warped = grid_distorted(PosedViews(red, alpha, views.cameras), 0.5, np.random.default_rng(4))
    soft = (warped.alpha > 0.01) & (warped.alpha < 0.99)
    assert soft[1:].any()
    assert warped.rgb[:, 0][soft[:, 0]].min() > 0.899


def test_a_jittered_camera_stays_on_its_sphere_and_looks_at_the_origin(views):
    largest = 0.0
    for seed in range(30):
        c2w = jittered(views.cameras, 0.1 * math.pi, np.random.default_rng(seed)).c2w
        before = views.cameras.c2w
        torch.testing.assert_close(c2w[:, :3, 3].norm(dim=1), before[:, :3, 3].norm(dim=1))
        torch.testing.assert_close(c2w[:, :3, 3], 1.5 * c2w[:, :3, 2])  # back along its own axis from the origin
        torch.testing.assert_close(c2w[:, :3, :3] @ c2w[:, :3, :3].mT, torch.eye(3).double().expand(4, 3, 3))
        turned = torch.einsum("vij,vij->v", c2w[:, :3, :3], before[:, :3, :3])
        angles = torch.acos(((turned - 1) / 2).clamp(-1, 1))[1:]
        largest = max(largest, float(angles.max()))
    # 18 degrees about up and 9 about right make 20.1 together
    assert math.radians(16) < largest < math.radians(20.2)


def test_backgrounds_are_any_colour_or_pure():
    pure = torch.stack([random_background(1.0, np.random.default_rng(i)) for i in range(40)])
    assert {tuple(row) for row in pure.tolist()} == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)}
    mixed = torch.stack([random_background(0.0, np.random.default_rng(i)) for i in range(200)])
    assert mixed.min() < 0.05 and mixed.max() > 0.95 and abs(float(mixed.mean()) - 0.5) < 0.06


def test_a_probability_above_one_is_refused():
    with pytest.raises(InvalidInput, match="camera_jitter is 1.5"):
        Augmentation(camera_jitter=1.5)
