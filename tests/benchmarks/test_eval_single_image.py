"""Results of one image are placed by what it shows, and scored from elsewhere."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from mvgamba.cameras import turn_about_vertical
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.rig import cameras_around
from mvgamba.types import Cameras, GenerateOptions, Similarity
from tests.benchmarks.eval_single_image import evaluate, kept_angles, photograph_subject, scored, subjects_of
from tests.benchmarks.nearest_front import nearest_front
from tests.benchmarks.place_by_front import placed_by_front
from tests.benchmarks.prompt_judge.corpus import Item
from tests.benchmarks.simple_objects import copying, failing, write_box

SIZE = 64
QUICK = GenerateOptions(quality="draft", reconstructor="hull", refine=False, texture_size=128, target_faces=500)


def front_camera(thing: Drawable, elevation: float = 0.0) -> Cameras:
    return cameras_around(thing, Similarity.identity(), [(0.0, elevation)], 256)


def item(path: Path) -> Item:
    return Item(path.stem, path, "train", "container", "box", (), ())


@pytest.mark.parametrize("elevation", [0.0, 0.4])
def test_scale_and_place_are_found_again(tmp_path: Path, elevation: float) -> None:
    truth = read_drawable(write_box(tmp_path / "box.glb"))
    elsewhere = truth.placed(
        Similarity(0.13, torch.eye(3, dtype=torch.float64), torch.tensor([4.0, -3.0, 2.0]).double())
    )
    back = placed_by_front(elsewhere, truth, front_camera(truth, elevation))
    # the box is of vertices, so nothing but the rounds limits this
    assert abs(back.vertices - truth.vertices).max() < 1e-4


def test_a_result_is_neither_turned_nor_stretched(tmp_path: Path) -> None:
    truth = read_drawable(write_box(tmp_path / "box.glb"))
    turned = truth.placed(Similarity(2.0, turn_about_vertical(0.5), torch.zeros(3).double()))
    placed = placed_by_front(turned, truth, front_camera(truth))
    edges, before = placed.vertices - placed.center, turned.vertices - turned.center
    factor = placed.radius / turned.radius
    assert abs(edges - factor * before).max() < 1e-9


def test_what_cannot_be_seen_is_refused(tmp_path: Path) -> None:
    truth = read_drawable(write_box(tmp_path / "box.glb"))
    point = Drawable(0 * truth.vertices, truth.faces, truth.uvs, truth.colors, truth.face_materials, truth.materials)
    with pytest.raises(InvalidInput, match="single point"):
        placed_by_front(point, truth, front_camera(truth))


def test_no_camera_that_scores_is_near_the_input() -> None:
    level, high = kept_angles(0.0), kept_angles(math.radians(30))
    assert 12 <= len(level) < 16 and set(level) != set(high)
    for azimuth, elevation in level:
        assert math.cos(elevation) * math.cos(azimuth) < math.cos(math.radians(35))


def test_the_truth_at_another_size_scores_as_itself_and_a_smaller_lid_lower(tmp_path: Path) -> None:
    subject = photograph_subject(item(write_box(tmp_path / "box.glb")), 0.0, SIZE)
    moved = subject.drawable.placed(Similarity(5.0, torch.eye(3, dtype=torch.float64), torch.ones(3).double()))
    same, _, _ = scored(subject, moved)
    assert same["psnr"] > 45 and same["iou"] > 0.995 and same["input_psnr"] > 45
    deep, _, _ = scored(subject, read_drawable(write_box(tmp_path / "deep.glb", extents=(1.0, 0.7, 1.2))))
    none, _, _ = scored(subject, None)
    assert none["psnr"] < deep["psnr"] < same["psnr"] - 10
    assert none["iou"] == 0.0


def test_the_nearest_object_is_found_whichever_way_it_stands(tmp_path: Path) -> None:
    # seen from the front it is a quarter turn away from how it lies in its file
    subject = photograph_subject(item(write_box(tmp_path / "seen.glb", extents=(0.4, 0.7, 1.0))), 0.0, SIZE)
    known = [
        item(write_box(tmp_path / "long.glb", extents=(1.0, 0.7, 0.4))),
        item(write_box(tmp_path / "flat.glb", extents=(1.0, 0.2, 0.9))),
        item(write_box(tmp_path / "green.glb", extents=(1.0, 0.7, 0.4), colour=(30, 160, 30))),
    ]
    found = nearest_front(subject.front, 0.0, known, {})
    assert found.item.name == "long"
    scores, _, _ = scored(subject, found.drawable)
    assert scores["iou"] > 0.99 and scores["psnr"] > 35


def test_the_report_has_result_baselines_and_what_failed(tmp_path: Path) -> None:
    write_box(tmp_path / "objects" / "box.glb")
    known = write_box(tmp_path / "known.glb", colour=(30, 160, 30))
    items = subjects_of(tmp_path / "objects")
    training = [Item("known", known, "train", "", "", (), ())]
    settings = {"elevation": 0.0, "options": QUICK, "size": SIZE}
    report = evaluate(items, training, tmp_path / "out", command=copying(items[0].file), **settings)  # type: ignore[arg-type]
    with Image.open(tmp_path / "out" / "input" / "box.png") as picture:
        assert picture.mode == "RGBA" and picture.size == (SIZE, SIZE)
    assert set(report["mean"]) == {"result", "one-view", "nearest"}
    assert report["mean"]["result"]["psnr"] > 45 > report["mean"]["nearest"]["psnr"]
    # nothing but the outline is known, and that is met; how deep the box is nobody said
    assert report["mean"]["one-view"]["input_iou"] > 0.95 > report["mean"]["one-view"]["iou"]
    assert report["failed"] == [] and report["seconds_median"] > 0
    assert {"single_image.json", "sheet.png", "table.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    again = evaluate(items, [], tmp_path / "out", command=failing(), **settings)  # type: ignore[arg-type]
    assert again["mean"]["result"] == report["mean"]["result"]
    (tmp_path / "out" / "glb" / "box.glb").unlink()
    failed = evaluate(items, [], tmp_path / "out", command=failing(), **settings)  # type: ignore[arg-type]
    assert failed["failed"] == ["box"] and failed["mean"]["result"]["iou"] == 0.0
