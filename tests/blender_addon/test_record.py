"""A request survives the way to JSON and back."""

import json

import numpy as np
import pytest

from blender_addon.core.facts import ResultFacts, read_facts
from blender_addon.core.record import request_from_record, views_record
from blender_addon.core.request import (
    CapturedView,
    ImageInput,
    JobOptions,
    JobRequest,
    Target,
    TextInput,
    VariationInput,
)

OPTIONS = JobOptions(
    "high", 41, refine=False, variants=3, generator="starter", steps=12, guidance=2.5, device="cuda:1", memory_mib=2048
)
TARGET = Target("Szene ☃", "/props/fass.blend", ("Faß", "Deckel"), (7, 8), location=(1.0, -2.5, 0.25), size=0.9)


def request(source=None, views=()):
    return JobRequest("Faß", views, OPTIONS, TARGET, {"views": 8, "shading": "flat"}, source=source)


@pytest.mark.parametrize(
    "source",
    [
        None,
        TextInput("ein altes Faß", "rot"),
        VariationInput("aus Stein", strength=0.3, job_id="jobs/9", asset_name="mesh_2.glb"),
    ],
)
def test_a_request_comes_back_as_it_was(source):
    assert request_from_record(request(source).settings_json()).__dict__ | {"request_id": ""} == request(
        source
    ).__dict__ | {"request_id": ""}


def test_a_request_keeps_its_identity():
    sent = request()
    assert request_from_record(sent.settings_json()).request_id == sent.request_id


def test_files_are_found_where_the_folder_went(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new ☃"
    c2w = np.arange(16.0).reshape(4, 4) / 3
    view = CapturedView(old / "view_00.png", c2w, 0.857, 448, 448, old / "depth_00.npy", (0.1, -0.2))
    outside = CapturedView(tmp_path / "elsewhere.png", c2w, 0.857, 448, 448)
    sent = request(ImageInput(old / "input.png", "a barrel", 0.1), (view, outside))
    record = json.loads(json.dumps({**json.loads(sent.settings_json()), "views": views_record(sent, old)}))
    back = request_from_record(record, new)
    assert (back.views[0].image_path, back.views[0].depth_path) == (new / "view_00.png", new / "depth_00.npy")
    assert back.views[1].image_path == tmp_path / "elsewhere.png" and back.views[1].depth_path is None
    np.testing.assert_array_equal(back.views[0].c2w, c2w)
    assert [view.intrinsics for view in back.views] == [view.intrinsics for view in sent.views]
    assert back.source == ImageInput(old / "input.png", "a barrel", 0.1)


def test_what_another_version_has_written_is_read_as_far_as_it_goes():
    table = json.loads(request(TextInput("x")).settings_json())
    table["options"]["of_the_future"] = 5
    table["future"] = {}
    del table["options"]["steps"], table["target"]
    back = request_from_record(table)
    assert back.options.seed == 41 and back.options.steps is None and back.target.source_names == ()


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"kind": "text", "options": {}}', '{"kind": "capture"}'])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ValueError):
        request_from_record(text)


def test_facts_of_a_server_are_read(tmp_path):
    path = tmp_path / "facts.json"
    row = {"asset": "mesh.glb", "seed": 5, "generator": "starter", "reconstructor": "rays", "warnings": ["x"]}
    path.write_text(json.dumps({"version": "0.1.0", "results": [row, {"asset": "mesh_2.glb", "seed": None}]}))
    first, second = read_facts(path)
    assert first == ResultFacts("mesh.glb", 5, "starter", "rays", "", "0.1.0", ("x",))
    assert (second.seed, second.generator, second.backend_version) == (None, "", "0.1.0")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"results": [3]}', b"\xff\xfe", b'{"results": 3}'])
def test_damaged_facts_are_none(tmp_path, data):
    (tmp_path / "facts.json").write_bytes(data)
    assert read_facts(tmp_path / "facts.json") == ()
    assert read_facts(tmp_path / "missing.json") == ()


def test_weights_are_told_with_the_beginning_of_their_hash(tmp_path):
    row = {
        "generator_weights": "starter-cpu",
        "reconstructor_weights": "own",
        "weights_sha256": {"starter-cpu": "ab" * 32},
    }
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"results": [row, {"reconstructor_weights": None, "weights_sha256": {}}]}))
    assert [facts.weights for facts in read_facts(path)] == ["starter-cpu abababababab, own", ""]


def test_a_record_from_before_there_were_budgets_loads():
    record = json.loads(request().settings_json())
    del record["options"]["memory_mib"], record["options"]["device"]
    options = request_from_record(record).options
    assert (options.memory_mib, options.device, options.seed) == (None, "auto", 41)
