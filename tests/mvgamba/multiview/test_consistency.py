"""Views of one solid agree; views of two do not."""

import dataclasses
import math

import pytest
import torch
import trimesh

from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidInput
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.types import Cameras, PosedViews
from tests.mvgamba.conftest import box, photograph

AZIMUTHS = [math.radians(a) for a in (0, 90, 180, 270, 45, 225)]
ELEVATIONS = [math.radians(e) for e in (15, 15, 15, 15, 65, -35)]


def six_cameras(size: int = 64) -> Cameras:
    """About the unit ball, as generated views have them."""
    return orbit_cameras(AZIMUTHS, ELEVATIONS, radius=2.53, fovy=math.radians(49.1), height=size, width=size)


def views_of(name: str, size: int = 64) -> PosedViews:
    if name == "sphere":
        ball = trimesh.creation.icosphere(3, 0.8)
        return photograph(torch.tensor(ball.vertices), torch.tensor(ball.faces), six_cameras(size))
    halves = {"box": (0.7, 0.4, 0.3), "plate": (0.7, 0.02, 0.6), "rod": (0.02, 0.9, 0.02)}
    return photograph(*box(torch.zeros(3), torch.tensor(halves[name])), six_cameras(size))


def with_alpha(views: PosedViews, view: int, alpha: torch.Tensor) -> PosedViews:
    changed = views.alpha.clone()
    changed[view] = alpha
    return dataclasses.replace(views, alpha=changed)


@pytest.mark.parametrize("name", ["sphere", "box", "plate", "rod"])
def test_views_of_one_solid_agree(name: str) -> None:
    agreement = hull_agreement(views_of(name))
    assert agreement.shape == (6,)
    assert float(agreement.min()) > 0.97


@pytest.mark.parametrize("name", ["sphere", "box", "plate"])
def test_the_further_a_view_is_shifted_the_less_all_agree(name: str) -> None:
    views = views_of(name)
    means = [
        float(hull_agreement(with_alpha(views, 1, views.alpha[1].roll(shift, -1))).mean()) for shift in (0, 4, 8, 16)
    ]
    assert means == sorted(means, reverse=True)
    assert means[1] < 0.99 and means[3] < 0.95


def test_a_view_of_another_thing_disagrees() -> None:
    views, other = views_of("box"), views_of("sphere")
    agreement = hull_agreement(with_alpha(views, 2, other.alpha[2]))
    # 0.822 by counting pixels that any of 260 cubed points falls into, each kept where all pictures of 128 x 128 cover it
    assert abs(float(agreement[2]) - 0.822) < 0.01
    assert float(agreement.mean()) < 0.98


def test_a_view_that_shows_nothing_contradicts_all() -> None:
    views = views_of("box")
    assert hull_agreement(with_alpha(views, 3, torch.zeros(1, 64, 64))).tolist() == [0.0] * 6


def test_the_size_of_the_pictures_matters_little() -> None:
    # the same contradiction at twice the pixels; 0.02 is about a row of pixels of the silhouette
    def shifted(size: int) -> torch.Tensor:
        views = views_of("box", size)
        return hull_agreement(with_alpha(views, 1, views.alpha[1].roll(size // 8, -1)))

    assert torch.allclose(shifted(64), shifted(128), atol=0.02)


def test_the_frame_may_be_larger_than_the_unit_ball() -> None:
    views = views_of("box")
    c2w = views.cameras.c2w.clone()
    c2w[:, :3, 3] *= 5
    larger = dataclasses.replace(views, cameras=dataclasses.replace(views.cameras, c2w=c2w))
    assert torch.allclose(hull_agreement(larger, extent=5.0), hull_agreement(views), atol=1e-3)


def test_what_the_frame_cuts_off_is_not_held_against_the_view() -> None:
    near = orbit_cameras(AZIMUTHS, ELEVATIONS, radius=1.3, fovy=math.radians(49.1), height=64, width=64)
    views = photograph(*box(torch.zeros(3), torch.tensor((0.7, 0.4, 0.3))), near)
    assert bool((views.alpha[:, 0, :, 0] > 0.5).any())
    assert float(hull_agreement(views).min()) > 0.97


def test_one_view_and_an_extent_that_is_no_length_are_refused() -> None:
    views = views_of("box")
    with pytest.raises(InvalidInput, match="at least 2"):
        hull_agreement(views[:1])
    with pytest.raises(InvalidInput, match="extent must be positive"):
        hull_agreement(views, extent=0.0)
