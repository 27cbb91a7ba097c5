"""Photographs of one size: what a pixel is worth, where a point is seen, and what is refused."""

import numpy as np
import pytest
import torch

from mvgamba.cameras import intrinsics_from_fovy, orbit_c2w, project
from mvgamba.data.photographs import posed_views, resized, squared, training_views
from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.types import Cameras, PosedViews


def views_of(rgb, alpha, depth=None):
    height, width = alpha.shape[-2:]
    k = intrinsics_from_fovy(0.8, height, width).expand(len(alpha), 3, 3).clone()
    c2w = orbit_c2w(0.4, 0.3, 2.0).expand(len(alpha), 4, 4).clone()
    return PosedViews(rgb, alpha, Cameras(c2w, k, height, width), depth)


def test_colours_count_by_alpha_and_depth_is_that_of_the_centre():
    rgb, alpha, depth = torch.zeros(1, 3, 6, 6), torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 6, 6)
    rgb[0, 0], alpha[0, 0, 0, 0], alpha[0, 0, 1, 1], depth[0, 0, 1, 1] = 1.0, 1.0, 0.5, 2.0
    rgb[0, :, 0, 0] = torch.tensor([0.0, 0.6, 0.0])
    small = resized(views_of(rgb, alpha, depth), 2)
    assert small.alpha[0, 0, 0, 0].item() == pytest.approx(1.5 / 9)
    torch.testing.assert_close(small.rgb[0, :, 0, 0], torch.tensor([1 / 3, 0.4, 0.0]))
    assert small.depth[0, 0, 0, 0] == 2.0
    assert not small.rgb[0, :, 1, 1].any()  # the red that nobody sees is gone
    assert small.cameras.height == 2


def test_the_same_size_changes_nothing_but_hidden_colours():
    rgb, alpha = torch.rand(2, 3, 5, 5), torch.rand(2, 1, 5, 5).round()
    same = resized(views_of(rgb, alpha), 5)
    torch.testing.assert_close(same.rgb, rgb * alpha)
    assert torch.equal(same.alpha, alpha)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (15, 12)])
def test_margins_keep_points_where_they_are_seen(shape):
    rgb, alpha = torch.rand(1, 3, *shape), torch.zeros(1, 1, *shape)
    alpha[0, 0, 5, 6] = 1
    before = views_of(rgb, alpha)
    after = squared(before, names=["a"])
    assert after.cameras.height == after.cameras.width == max(shape)
    point = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    moved = (after.alpha[0, 0].nonzero()[0] - torch.tensor([5, 6])).flip(0)
    shift = project(point, after.cameras)[0] - project(point, before.cameras)[0]
    torch.testing.assert_close(shift[0, 0], moved.double())


def test_what_is_cut_off_empty_or_too_small_is_refused_by_name():
    alpha = torch.zeros(2, 1, 20, 12)
    alpha[:, 0, 8, 6], alpha[1, 0, 8, 11] = 1, 1
    with pytest.raises(InvalidImage, match="b.png is not square and its object is cut off"):
        training_views(views_of(torch.rand(2, 3, 20, 12), alpha), num_inputs=1, size=8, names=["a.png", "b.png"])
    with pytest.raises(InvalidImage, match="b.png shows nothing"):
        training_views(
            views_of(torch.rand(2, 3, 4, 4), torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 1, 4, 4)),
            num_inputs=1,
            size=2,
            names=["a.png", "b.png"],
        )
    with pytest.raises(InvalidInput, match="9 pixels was asked for, but the images have 4"):
        resized(views_of(torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4)), 9)
    images = [np.zeros((4, 4, 4), np.float32), np.zeros((4, 5, 4), np.float32)]
    with pytest.raises(InvalidImage, match="b.png is 5 x 4 pixels, a.png is 4 x 4"):
        posed_views(images, [np.eye(4)] * 2, [np.eye(3)] * 2, names=["a.png", "b.png"])
