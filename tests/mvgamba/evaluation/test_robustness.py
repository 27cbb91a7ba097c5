"""What is done to one view, and what a report says about it."""

import json
import math

import pytest
import torch
import trimesh
from PIL import Image

from mvgamba.errors import EmptyReconstruction, InvalidInput
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around, input_angles, random_placement
from mvgamba.evaluation.robustness import RobustnessSettings, measure_robustness, spoil, spoiled_view
from mvgamba.evaluation.run import EvaluationSettings, photograph_subject
from mvgamba.pipeline import Result
from mvgamba.types import Similarity, Surfels, TexturedMesh


@pytest.fixture
def props(tmp_path):
    folder = tmp_path / "props"
    folder.mkdir()
    mesh = trimesh.creation.box((2, 0.5, 1))
    material = trimesh.visual.material.PBRMaterial(name="plank", baseColorFactor=[200, 30, 30, 255])
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    (folder / "plank.glb").write_bytes(trimesh.Scene(mesh).export(file_type="glb"))
    return folder


def test_one_view_is_spoiled_and_never_the_first(props):
    assert {spoiled_view(4, seed) for seed in range(40)} == {1, 2, 3}
    drawable = read_drawable(props / "plank.glb")
    subject = photograph_subject(drawable, EvaluationSettings(num_views=4, image_size=32, seed=5))
    for condition in ("clean", "noise-colours", "noise-picture", "shift"):
        inputs = spoil(drawable, subject, condition, view=2, seed=5)
        others = [0, 1, 3] if condition != "clean" else [0, 1, 2, 3]
        assert torch.equal(inputs.rgb[others], subject.inputs.rgb[others])
        assert torch.equal(inputs.alpha[others], subject.inputs.alpha[others])
        assert torch.equal(inputs.cameras.c2w, subject.inputs.cameras.c2w)  # what the cameras claim never changes
        same_alpha = torch.equal(inputs.alpha, subject.inputs.alpha)
        assert same_alpha == (condition in ("clean", "noise-colours"))
        if condition.startswith("noise"):
            assert inputs.rgb[2].std() == pytest.approx(math.sqrt(1 / 12), abs=0.01)
        if condition == "noise-picture":
            assert inputs.alpha[2].std() == pytest.approx(math.sqrt(1 / 12), abs=0.02)


def test_a_shifted_view_is_the_photograph_from_fifteen_degrees_on(props):
    drawable = read_drawable(props / "plank.glb")
    subject = photograph_subject(drawable, EvaluationSettings(num_views=4, image_size=32, seed=5))
    azimuth, elevation = input_angles(4, 5)[3]
    there = cameras_around(drawable, random_placement(drawable, 5), [(azimuth + math.pi / 12, elevation)], 32)
    inputs = spoil(drawable, subject, "shift", view=3, seed=5)
    assert torch.equal(inputs.alpha[3], photograph(subject.drawable, there).alpha[0])
    assert not torch.equal(inputs.alpha[3], subject.inputs.alpha[3])


def test_the_report_says_what_each_path_lost(props, tmp_path):
    """The learned path answers exactly unless a view is noise; the hull path always answers with a box half as wide."""
    drawable = read_drawable(props / "plank.glb")
    asked = []

    def reconstruct(views, path):
        noisy = bool(views.alpha[..., :2, :2].any())
        asked.append((path, noisy))
        if noisy and path != "hull":
            raise EmptyReconstruction("The views gave no surface.")
        mesh = drawable.placed(random_placement(drawable, report_seed))
        vertices = mesh.vertices - (0.5 * (mesh.vertices - mesh.center) if path == "hull" else 0)
        count = len(vertices)
        red = torch.tensor([227, 95, 95], dtype=torch.uint8).expand(4, 4, 3).numpy()
        normals = torch.tensor([[0.0, 1.0, 0.0]]).expand(count, 3).numpy()
        none = Surfels(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3))
        facts = {"reconstructor": "ray" if path == "auto" else path, "left_out": []}
        textured = TexturedMesh(vertices, mesh.faces, normals, torch.full((count, 2), 0.5).numpy(), red)
        return Result(textured, none, Similarity.identity(), {}, facts)

    from mvgamba.evaluation.run import object_seed

    report_seed = object_seed("plank", 0)
    settings = RobustnessSettings(image_size=48, conditions=("clean", "noise-picture"))
    report = measure_robustness(props, tmp_path / "out", reconstruct, settings)
    # what auto took is not run again, unless it failed
    assert asked == [("auto", False), ("hull", False), ("auto", True), ("ray", True), ("hull", True)]
    loss = report["loss"]["noise-picture"]
    assert loss["ray"]["iou"] == pytest.approx(report["mean"]["clean"]["ray"]["iou"])
    assert loss["hull"] == {"psnr": 0.0, "iou": 0.0, "squared_error": 0.0}
    assert loss["ray"]["squared_error"] > 0
    assert report["loses_less"]["noise-picture"] == {"psnr": "hull", "iou": "hull", "squared_error": "hull"}
    assert {f["path"] for f in report["failed"]} == {"ray", "auto"}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["loss"] == report["loss"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| noise-picture | hull + refinement |" in table
    assert "Failed: plank (noise-picture, ray)" in table
    for name in ("figure", "sheet"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert len(picture.getcolors(1 << 20)) > 3


@pytest.mark.parametrize(
    "changes", [{"num_views": 1}, {"conditions": ("fog",)}, {"learned": "hull"}, {"learned": "auto"}]
)
def test_settings_that_compare_nothing_are_refused(changes):
    with pytest.raises(InvalidInput, match=str(next(iter(changes.values()))).strip("(),'")):
        RobustnessSettings(**changes)
