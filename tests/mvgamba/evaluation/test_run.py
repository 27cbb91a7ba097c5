"""The whole evaluation, with reconstructions that are trivial, wrong or missing."""

import dataclasses
import json
import math

import numpy as np
import pytest
import trimesh
from PIL import Image

from mvgamba.errors import Cancelled, EmptyReconstruction, InvalidInput, OutputFailed
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.objects import objects_of
from mvgamba.evaluation.report import markdown_table, terminal_table
from mvgamba.evaluation.rig import input_angles, protocol_angles, random_placement, scored_angles
from mvgamba.evaluation.run import EvaluationSettings, evaluate_folder, object_seed
from mvgamba.pipeline import generate
from mvgamba.types import GenerateOptions, GenerateRequest, TexturedMesh

SMALL = EvaluationSettings(num_views=4, image_size=48)


@pytest.fixture
def props(tmp_path):
    folder = tmp_path / "props"
    folder.mkdir()
    for name, extents in (("crate", (1, 1, 1)), ("plank", (2, 0.4, 0.5))):
        mesh = trimesh.creation.box(extents)
        material = trimesh.visual.material.PBRMaterial(name=name, baseColorFactor=[200, 30, 30, 255])
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        (folder / f"{name}.glb").write_bytes(trimesh.Scene(mesh).export(file_type="glb"))
    return folder


def the_answer(folder, *, seed: int = 0, shift: float = 0.0):
    """A reconstruction that knows the objects: it returns them in the order in which they are asked for."""
    paths = iter(objects_of(folder))

    def reconstruct(views):
        path = next(paths)
        thing = read_drawable(path)
        placed = thing.placed(random_placement(thing, object_seed(path.stem, seed)))
        linear = thing.materials[0].factor
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        color = np.round(255 * srgb).astype(np.uint8)
        count = len(placed.vertices)
        return TexturedMesh(
            placed.vertices + shift * placed.radius,
            placed.faces,
            np.tile([[0.0, 1.0, 0.0]], (count, 1)),
            np.full((count, 2), 0.5),
            np.tile(color, (4, 4, 1)),
        )

    return reconstruct


def test_a_perfect_reconstruction_is_perfect_wherever_the_object_stands(props, tmp_path):
    report = evaluate_folder(props, tmp_path / "out", the_answer(props), SMALL, {})
    assert [row["name"] for row in report["objects"]] == ["crate", "plank"]
    assert report["failed"] == []
    mean = report["mean"]
    assert mean["psnr"] > 45  # the texture rounds the colour to a byte
    assert mean["iou"] > 0.999
    assert mean["chamfer"] < 1e-4
    assert mean["watertight"] == 1.0
    assert report["baseline_means"] == {} and report["paths"] == {}
    assert all(row["peak_memory_mib"] > 10 and row["seconds"] >= 0 for row in report["objects"])


def test_a_reconstruction_beside_its_place_scores_low(props, tmp_path):
    settings = dataclasses.replace(SMALL, limit=1)
    report = evaluate_folder(props, tmp_path / "out", the_answer(props, shift=0.2), settings, {})
    assert report["mean"]["iou"] < 0.85
    assert report["mean"]["psnr"] < 25


def test_what_is_written_is_a_report_a_table_and_pictures(props, tmp_path):
    out = tmp_path / "deep" / "out"
    settings = EvaluationSettings(num_views=4, image_size=48, limit=1)
    report = evaluate_folder(props, out, the_answer(props), settings)
    hull = report["baseline_means"]["hull"]
    assert 0.8 < hull["iou"] < report["mean"]["iou"]
    assert hull["psnr"] < report["mean"]["psnr"]
    assert json.loads((out / "report.json").read_text())["mean"] == pytest.approx(report["mean"])
    table = (out / "table.md").read_text()
    assert "4 views of 48 x 48, seed 0" in table
    assert "| crate |" in table
    assert "| hull, mean |" in table
    for name, size in (("sheet", (6 * 48, 48)), ("crate", (6 * 48, 3 * 48))):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.size == size
    assert read_drawable(out / "crate.glb").faces.shape == (12, 3)
    assert terminal_table(report).row_count == 3


def test_a_failure_is_scored_as_nothing_and_named(props, tmp_path):
    def give_up(views):
        raise EmptyReconstruction("The views gave no surface.")

    settings = dataclasses.replace(SMALL, limit=1)
    report = evaluate_folder(props, tmp_path / "out", give_up, settings, {})
    assert report["failed"] == ["crate"]
    row = report["objects"][0]
    assert row["error"].startswith("EMPTY_RECONSTRUCTION")
    assert row["iou"] == 0.0
    assert row["chamfer"] == 1.0
    assert "crate (failed)" in markdown_table(report)


def test_a_cancelled_evaluation_stops(props, tmp_path):
    def stop(views):
        raise Cancelled("The job was cancelled.")

    with pytest.raises(Cancelled):
        evaluate_folder(props, tmp_path / "out", stop, SMALL, {})


def test_depth_and_noise_are_handed_over_when_asked_for(props, tmp_path):
    seen = []
    answer = the_answer(props)

    def reconstruct(views):
        seen.append(views)
        return answer(views)

    settings = EvaluationSettings(num_views=8, image_size=32, limit=1, with_depth=True, with_noise=True)
    evaluate_folder(props, tmp_path / "out", reconstruct, settings, {})
    assert seen[0].num_views == 8
    assert seen[0].depth is not None
    inside = seen[0].alpha.expand_as(seen[0].rgb) == 1
    assert seen[0].rgb[inside].reshape(-1).std() > 0.005


def test_who_won_and_what_the_surfels_look_like_is_in_the_report(props, tmp_path):
    options = GenerateOptions(quality="draft", refine=False, reconstructor="hull", target_faces=500, texture_size=128)

    def reconstruct(views):
        return generate(GenerateRequest(views, options))

    settings = EvaluationSettings(num_views=4, image_size=64, limit=1, with_surfels=True)
    report = evaluate_folder(props, tmp_path / "out", reconstruct, settings, {})
    row = report["objects"][0]
    assert (row["reconstructor"], row["reconstructor_because"]) == ("hull", "asked for")
    assert report["paths"] == {"hull": 1}
    # a crate from four sides; its surfels show it where it stands
    assert row["surfels"]["iou"] > 0.75 and abs(row["surfels"]["iou"] - row["iou"]) < 0.1
    assert "| surfels, mean |" in (tmp_path / "out" / "table.md").read_text()


def test_protocols_have_their_rigs(props, tmp_path):
    assert all(abs(e) <= math.radians(10) + 1e-9 for _, e in scored_angles("gso16"))
    assert len(set(scored_angles("gso16"))) == 16
    assert protocol_angles("sparse4", 4, 0)[1] == (pytest.approx(math.pi / 2), pytest.approx(math.radians(20)))
    with pytest.raises(InvalidInput, match="sparse4 has 4 input views, got 8"):
        protocol_angles("sparse4", 8, 0)
    with pytest.raises(InvalidInput, match="'lgm'; it must be one of ours"):
        EvaluationSettings(protocol="lgm")
    settings = EvaluationSettings(num_views=4, image_size=32, limit=1, protocol="sparse4")
    report = evaluate_folder(props, tmp_path / "out", the_answer(props), settings, {})
    assert report["settings"]["protocol"] == "sparse4" and report["mean"]["iou"] > 0.99
    assert (tmp_path / "out" / "table.md").read_text().startswith("protocol sparse4: 4 views")


def test_any_number_of_views_begins_as_the_ring_does():
    assert input_angles(1, 0) == [(0.0, 0.0)]
    assert input_angles(3, 3) == input_angles(8, 3)[:3]
    assert len(input_angles(37, 0)) == 37


def test_an_index_chooses_the_files(props):
    (props / "index.jsonl").write_text('{"id": "plank", "file": "plank.glb"}\n')
    assert [p.name for p in objects_of(props)] == ["plank.glb"]
    (props / "index.jsonl").write_text('{"file": "gone.glb"}\n')
    with pytest.raises(InvalidInput, match="gone"):
        objects_of(props)
    (props / "index.jsonl").write_text("nonsense\n")
    with pytest.raises(InvalidInput, match="index"):
        objects_of(props)


def test_a_folder_without_objects_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidInput, match=r"no \.glb files"):
            objects_of(folder)


def test_an_output_folder_that_is_a_file_is_refused(props, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputFailed, match="taken"):
        evaluate_folder(props, tmp_path / "taken", the_answer(props), SMALL, {})


@pytest.mark.parametrize("changes", [{"num_views": 0}, {"num_views": 1000}, {"image_size": 4}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(InvalidInput, match="must lie between"):
        EvaluationSettings(**changes)
