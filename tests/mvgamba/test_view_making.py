"""Prompts, and where the object of a variation stands."""

import dataclasses
import math

import pytest
import torch

from mvgamba.cameras import orbit_cameras, turn_about_vertical
from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.types import GenerateOptions, MultiviewOptions, Similarity, TextPrompt
from mvgamba.view_making import checked_prompt, choose_generator, place_of, placed


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("  a red\n\tbarrel ", "a red barrel"),
        ("a\x00red\x1b[31m barrel\u202e", "a red [31m barrel"),
        ("a re\u0301d barrel", "a réd barrel"),
        ("🛢️ 樽", "🛢️ 樽"),
    ],
)
def test_a_prompt_loses_control_characters_and_doubled_blanks(said, read):
    assert checked_prompt(said) == read


@pytest.mark.parametrize("said", ["", "   ", "\x00\n"])
def test_an_empty_prompt_is_refused_where_one_is_needed(said):
    with pytest.raises(InvalidInput, match="The prompt is empty"):
        checked_prompt(said)
    assert checked_prompt(said, may_be_empty=True) == ""


def test_a_prompt_of_ten_thousand_characters_is_refused():
    with pytest.raises(InvalidInput, match="10000 characters; at most 2000"):
        checked_prompt("barrel wood" * 909 + "x")


def test_a_generator_that_there_is_not_is_named():
    options = GenerateOptions(multiview=MultiviewOptions(generator="midjourney"))
    with pytest.raises(Unavailable, match="no multi-view generator named 'midjourney'"):
        choose_generator(TextPrompt("a barrel"), options)
    assert choose_generator(TextPrompt("a barrel"), GenerateOptions())[0] == "starter"


def test_the_place_of_cameras_is_found_again():
    place = Similarity(3.5, turn_about_vertical(0.7), torch.tensor([10.0, -2.0, 5.0], dtype=torch.float64))
    own = rig_cameras()
    moved = dataclasses.replace(own, c2w=placed(own.c2w, place))
    found = place_of(moved, own)
    assert found is not None and found.scale == pytest.approx(3.5)
    torch.testing.assert_close(found.rotation, place.rotation)
    torch.testing.assert_close(found.translation, place.translation)


def test_cameras_of_another_kind_have_no_place():
    own = rig_cameras()
    ring = [2 * math.pi * k / 5 for k in range(5)]
    other = orbit_cameras(ring, [0.0] * 5, radius=2.53, fovy=0.857, height=256, width=256)
    assert place_of(other, own) is None
    assert place_of(own[[0, 1, 2]], own) is None
    narrow = dataclasses.replace(
        own, intrinsics=own.intrinsics * torch.tensor([[2.0], [2.0], [1.0]], dtype=torch.float64)
    )
    assert place_of(narrow, own) is None
