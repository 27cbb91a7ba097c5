"""Requests as plain data, and the views that a server has made."""

import dataclasses
import json
import math

import numpy as np
import pytest

from blender_addon.core.request import (
    CapturedView,
    ImageInput,
    JobOptions,
    JobRequest,
    Target,
    TextInput,
    VariationInput,
    approved_request,
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
    options = JobOptions("high", 5, variants=3, review_views=True, generator="starter")
    request = JobRequest("barrel", (), options, TARGET, source=ImageInput(tmp_path / "a.png", "a barrel"))
    views = (CapturedView(tmp_path / "front.png", np.eye(4), 0.8, 64, 64),)
    approved = approved_request(request, views, seed=6)
    assert (approved.kind, approved.views, approved.target) == ("capture", views, TARGET)
    assert approved.options == dataclasses.replace(options, variants=1, review_views=False, seed=6)
    assert approved.request_id != request.request_id
    assert json.loads(approved.settings_json())["capture"]["source"]["prompt"] == "a barrel"
