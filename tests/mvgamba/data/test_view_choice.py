"""Inputs stand around the object, others are others, and the same seed gives the same."""

import math

import pytest
import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.data.view_choice import choose_views, seen_point
from mvgamba.errors import InvalidInput

AZIMUTHS = [15 * i for i in range(24)]


def ring(elevations=(0.0,) * 24, center=(0.0, 0, 0)):
    angles = [[math.radians(a) for a in AZIMUTHS], [math.radians(e) for e in elevations]]
    c2w = orbit_cameras(*angles, radius=2.0, fovy=0.8, height=8, width=8).c2w
    c2w[:, :3, 3] += torch.tensor(center, dtype=torch.float64)
    return c2w


def test_inputs_are_quarter_turns_apart_wherever_the_object_is():
    c2w = ring(center=(5.0, -3, 2))
    assert torch.allclose(seen_point(c2w), torch.tensor([5.0, -3, 2], dtype=torch.float64))
    first = set()
    for variant in range(12):
        chosen = choose_views(c2w, seed=(3, variant), num_inputs=4, num_others=6, name="it")
        azimuths = [AZIMUTHS[i] for i in chosen[:4]]
        assert [(a - azimuths[0]) % 360 for a in azimuths] == [0, 90, 180, 270]
        assert len(set(chosen)) == 10
        assert chosen == choose_views(c2w, seed=(3, variant), num_inputs=4, num_others=6, name="it")
        first.add(azimuths[0])
    assert len(first) > 5


def test_no_input_is_taken_from_the_top_where_others_are_near():
    elevations = [20.0] * 24
    elevations[7], elevations[19] = 90.0, -90.0
    for variant in range(20):
        chosen = choose_views(ring(elevations), seed=(0, variant), num_inputs=4, num_others=6, name="it")
        assert not {7, 19} & set(chosen[:4])


def test_too_few_views_are_an_error_with_the_name():
    with pytest.raises(InvalidInput, match="the cup has 5 views; 4 inputs and 2 others need 6"):
        choose_views(ring()[:5], seed=(0,), num_inputs=4, num_others=2, name="the cup")
    assert sorted(choose_views(ring()[:5], seed=(0,), num_inputs=4, num_others=1, name="it")) == [0, 1, 2, 3, 4]
