"""Requests as plain data, and the views that a server has made."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from blender_addon.core.errors import AddonError
from blender_addon.core.request import (
    MEMORY_MIB,
    CapturedView,
    ImageInput,
    JobOptions,
    JobRequest,
    SidePicture,
    Target,
    TextInput,
    VariationInput,
    approved_request,
    memory_word,
    views_from_transforms,
)

TARGET = Target("Scene", "", ("Barrel",), (1,))


@pytest.mark.parametrize(
    ("source", "kind"),
    [(None, "capture"), (TextInput("x"), "text"), (VariationInput("x"), "variation")],
)
def test_a_request_records_what_it_was_made_from(source, kind):
    record = json.loads(JobRequest("barrel", (), JobOptions(), TARGET, source=source).settings_json(seed=3))
    assert (record["kind"], record["seed"]) == (kind, 3)
    assert ("source" in record) == (source is not None)


def test_the_picture_of_a_request_is_one_of_its_files(tmp_path):
    request = JobRequest("barrel", (), JobOptions(), TARGET, source=ImageInput(tmp_path / "a.png", "x", 0.1))
    assert request.files() == [tmp_path / "a.png"]
    assert json.loads(request.settings_json())["source"]["image_path"] == str(tmp_path / "a.png")


A, B, C, D, E = (Path(f"{name}.png") for name in "abcde")


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        ([(A, "auto")], ImageInput(A)),
        ([(A, "LEFT"), (B, "FRONT")], ImageInput(B, others=(SidePicture(A, "left"),))),
        (
            [(A, "auto"), (B, "back"), (C, "auto"), (D, "auto")],
            ImageInput(A, others=(SidePicture(C, "right"), SidePicture(B, "back"), SidePicture(D, "left"))),
        ),
        ([(A, "back"), (B, "auto")], ImageInput(B, others=(SidePicture(A, "back"),))),
    ],
)
def test_pictures_are_sorted_by_their_sides(pictures, expected):
    assert ImageInput.of_sides(pictures) == expected
    assert ImageInput.of_sides(pictures, background="none").background == "none"
    request = JobRequest("barrel", (), JobOptions(), TARGET, source=expected)
    assert set(request.files()) == {path for path, _ in pictures}
    record = json.loads(request.settings_json())["source"]
    assert [other["side"] for other in record["others"]] == [other.side for other in expected.others]


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "add a picture"),
        ([(path, "auto") for path in (A, B, C, D, E)], "5 pictures; at most 4"),
        ([(A, "front"), (B, "back"), (C, "back")], "two pictures are of one side, back"),
        ([(A, "left")], "must be of the front"),
        ([(A, "top")], "of the side top"),
    ],
)
def test_pictures_that_cannot_be_sorted_are_refused(pictures, said):
    with pytest.raises(AddonError, match=said) as caught:
        ImageInput.of_sides(pictures)
    assert caught.value.reason == "INVALID_INPUT"


def test_views_of_a_server_stand_where_it_says(tmp_path):
    c2w = np.array([[1.0, 0, 0, 1], [0, 0, -1, -3], [0, 1, 0, 2], [0, 0, 0, 1]])
    frame = {"file_path": "../../front.png", "transform_matrix": c2w.tolist(), "fl_y": 32.0}
    (tmp_path / "transforms.json").write_text(json.dumps({"w": 64, "h": 64, "frames": [frame]}))
    (view,) = views_from_transforms(tmp_path / "transforms.json")
    # the name alone counts: nothing outside the folder is ever sent
    assert view.image_path == tmp_path / "front.png"
    np.testing.assert_array_equal(view.c2w, c2w)
    assert view.fovy == pytest.approx(math.pi / 2)
    assert view.intrinsics == pytest.approx((32.0, 32.0, 32.0, 32.0))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"w": 1, "h": 1, "frames": [{}]}', '{"w": 1, "h": 1, "frames": 3}'])
def test_a_list_of_views_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(ValueError):
        views_from_transforms(tmp_path / "transforms.json")


def test_an_approved_review_is_a_capture_with_the_same_options(tmp_path):
    options = JobOptions("high", 5, variants=3, review_views=True, generator="starter", recall=False)
    request = JobRequest("barrel", (), options, TARGET, source=ImageInput(tmp_path / "a.png", "a barrel"))
    views = (CapturedView(tmp_path / "front.png", np.eye(4), 0.8, 64, 64),)
    approved = approved_request(request, views, seed=6)
    assert (approved.kind, approved.views, approved.target) == ("capture", views, TARGET)
    assert approved.options == dataclasses.replace(options, variants=1, review_views=False, seed=6)
    assert approved.request_id != request.request_id
    assert json.loads(approved.settings_json())["capture"]["source"]["prompt"] == "a barrel"


@pytest.mark.parametrize(
    ("memory_mib", "word"),
    [(None, "AUTO"), (2048, "LOW"), (4096, "NORMAL"), (8192, "HIGH"), (500, "LOW"), (4095, "LOW"), (64_000, "HIGH")],
)
def test_a_budget_of_memory_has_a_word_that_takes_no_more(memory_mib, word):
    assert memory_word(memory_mib) == word
    assert MEMORY_MIB.get(memory_word(MEMORY_MIB.get(word))) == MEMORY_MIB.get(word)
