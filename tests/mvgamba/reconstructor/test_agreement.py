"""Which view is blamed when silhouettes contradict each other, and that nobody is when they do not."""

import dataclasses
import logging

import pytest
import torch

from mvgamba.pipeline import generate
from mvgamba.reconstructor.agreement import contradicting_view, share_outside
from mvgamba.types import GenerateOptions, GenerateRequest, PosedViews


def some(views: PosedViews, chosen: list[int]) -> PosedViews:
    return PosedViews(views.rgb[chosen], views.alpha[chosen], views.cameras[chosen])


def with_alpha(views: PosedViews, at: int, alpha: torch.Tensor) -> PosedViews:
    changed = views.alpha.clone()
    changed[at] = alpha
    return dataclasses.replace(views, alpha=changed)


def dust(views: PosedViews) -> torch.Tensor:
    return torch.rand(views.alpha[0].shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [3, 4, 8, 20])
def test_views_of_one_object_agree(box_views, count):
    views = some(box_views, list(range(count)))
    assert share_outside(views, list(range(count))) < 1e-3
    assert contradicting_view(views) is None


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_noise_for_a_picture_is_blamed(box_views, wrong):
    views = some(box_views, [0, 4, 9, 13, 19])
    assert contradicting_view(with_alpha(views, wrong, dust(views))) == wrong


def test_a_picture_that_lost_most_of_its_object_is_blamed(box_views):
    views = some(box_views, [0, 4, 9, 13, 19])
    alpha = views.alpha[2].clone()
    alpha[:, :, :50] = 0
    assert 0 < alpha.sum() < 0.6 * views.alpha[2].sum()
    assert contradicting_view(with_alpha(views, 2, alpha)) == 2


def test_with_two_views_nobody_knows_which_is_wrong(box_views):
    views = some(box_views, [0, 9])
    assert contradicting_view(with_alpha(views, 1, dust(views))) is None


def test_two_broken_views_are_told_and_left(box_views, caplog):
    views = some(box_views, [0, 4, 9, 13, 19])
    views = with_alpha(with_alpha(views, 1, dust(views)), 3, views.alpha[3].flip(-1).roll(40, -1))
    with caplog.at_level(logging.WARNING):
        assert contradicting_view(views) is None
    assert "contradict" in caplog.text


def test_an_object_that_every_frame_cuts_off_contradicts_nothing(box_views):
    views = some(box_views, [0, 4, 9, 13, 19])
    middle = slice(28, 68)
    k = views.cameras.intrinsics.clone()
    k[:, :2, 2] -= 28
    cameras = dataclasses.replace(views.cameras, intrinsics=k, height=40, width=40)
    cropped = PosedViews(views.rgb[..., middle, middle], views.alpha[..., middle, middle], cameras)
    assert contradicting_view(cropped) is None


def test_a_job_leaves_the_broken_view_out_and_says_so(box_views):
    views = some(box_views, [0, 4, 9, 13, 19])
    options = GenerateOptions(quality="draft", texture_size=128, target_faces=500, refine=False, reconstructor="hull")
    result = generate(GenerateRequest(with_alpha(views, 3, dust(views)), options))
    assert result.facts["left_out"] == [3]
    assert "View 3 was left out" in result.facts["warnings"][0]
    fewer = generate(GenerateRequest(some(views, [0, 1, 2, 4]), options))
    assert fewer.facts["left_out"] == []
    assert (fewer.mesh.vertices == result.mesh.vertices).all()
