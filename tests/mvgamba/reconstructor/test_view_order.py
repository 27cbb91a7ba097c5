"""Four views out of more, any of them first."""

import dataclasses
import math

import pytest
import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidCameras
from mvgamba.reconstructor.checkpoint import save_checkpoint
from mvgamba.reconstructor.mvgamba_reconstructor import MVGambaReconstructor
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.view_order import cyclic_orders, match_of, ring_of
from mvgamba.render import render_surfels
from mvgamba.types import PosedViews
from tests.mvgamba.conftest import box, photograph

TINY = NetworkConfig(width=32, num_layers=1, image_size=28, patch_size=14, mlp_width=48, rotation_head="sixd")


def cameras(azimuths_deg, elevations_deg=None, *, size=48):
    elevations = [math.radians(e) for e in elevations_deg or [0.0] * len(azimuths_deg)]
    return orbit_cameras(
        [math.radians(a) for a in azimuths_deg], elevations, radius=1.5, fovy=0.857, height=size, width=size
    )


def test_a_ring_keeps_its_order_and_is_found_among_others():
    assert ring_of(cameras([0, 90, 180, 270]).c2w, 4) == [0, 1, 2, 3]
    assert ring_of(cameras([30, 300, 120, 210]).c2w, 4) == [0, 2, 3, 1]
    mixed = cameras([0, 45, 90, 135, 180, 225, 270, 315], [0, 40, 0, -40, 0, 40, 0, -40])
    assert ring_of(mixed.c2w, 4) == [0, 2, 4, 6]


def test_views_without_a_ring_are_refused_with_their_angle():
    with pytest.raises(InvalidCameras, match="takes 4 views, got 3"):
        ring_of(cameras([0, 90, 180]).c2w, 4)
    with pytest.raises(InvalidCameras, match="degrees from its place"):
        ring_of(cameras([0, 10, 20, 30]).c2w, 4)


def test_cyclic_orders_begin_with_each_view_once():
    assert cyclic_orders(3) == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


@pytest.fixture(scope="module")
def reconstructor(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_checkpoint(MVGambaNetwork(TINY), path)
    return MVGambaReconstructor(path)


def box_views(angles, elevations=None):
    return photograph(
        *box(torch.zeros(3), torch.tensor([0.3, 0.4, 0.2])), cameras(angles, elevations, size=32), samples=2
    )


def test_the_order_that_shows_the_views_best_is_kept(reconstructor):
    views = normalise_views(box_views([0, 90, 180, 270]))
    best = reconstructor.reconstruct(views).surfels
    reconstructor.view_order = "given"
    try:
        matches = []
        for order in cyclic_orders(4):
            turned = PosedViews(views.views.rgb[order], views.views.alpha[order], views.views.cameras[order])
            alone = reconstructor.reconstruct(dataclasses.replace(views, views=turned)).surfels
            matches.append((match_of(alone, views.views), alone))
    finally:
        reconstructor.view_order = "auto"
    assert len({round(m[0][0], 6) for m in matches}) == 4  # the orders do differ
    winner = max(matches, key=lambda m: m[0])[1]
    torch.testing.assert_close(best.means, winner.means)


def test_four_of_eight_views_are_taken(reconstructor):
    angles, tilts = [0, 45, 90, 135, 180, 225, 270, 315], [0, 40, 0, -40, 0, 40, 0, -40]
    views = normalise_views(box_views(angles, tilts))
    ring = dataclasses.replace(
        views, views=PosedViews(views.views.rgb[::2], views.views.alpha[::2], views.views.cameras[::2])
    )
    torch.testing.assert_close(
        reconstructor.reconstruct(views).surfels.means, reconstructor.reconstruct(ring).surfels.means
    )


def test_a_perfect_result_matches_best(reconstructor):
    views = normalise_views(box_views([0, 90, 180, 270]))
    surfels = reconstructor.reconstruct(views).surfels
    drawn = render_surfels(surfels, views.views.cameras, background=torch.zeros(3))
    again = PosedViews((drawn.rgb / drawn.alpha.clamp_min(1e-6)).clamp(0, 1), drawn.alpha, views.views.cameras)
    own, other = match_of(surfels, again), match_of(surfels, views.views)
    assert own[0] > other[0] and own[1] > other[1]
