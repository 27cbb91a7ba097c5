"""The judge: colours by their words, and verdicts that depend on the thing alone."""

import json
from pathlib import Path

import numpy as np
import torch

from mvgamba.evaluation.drawable import read_drawable
from mvgamba.types import Similarity
from tests.benchmarks.eval_prompts import evaluate, rates
from tests.benchmarks.nearest_caption import nearest_caption
from tests.benchmarks.prompt_judge.colours import PLAIN, fit_colour_samples, read_colour_names, srgb_to_lab
from tests.benchmarks.prompt_judge.corpus import COLOURS, Item
from tests.benchmarks.prompt_judge.judge import WEIGHTS_FILE, Judge, read_judge, write_judge
from tests.benchmarks.prompt_judge.network import JudgeNetwork, shapes_of, varied
from tests.benchmarks.prompt_judge.pictures import JUDGED_ANGLES, planes_of, take_views
from tests.benchmarks.simple_objects import copying, write_box


def test_lab_has_the_values_of_the_standard() -> None:
    # white, and the primaries after Lindbloom's calculator (D65, sRGB)
    lab = srgb_to_lab(np.array([[1.0, 1, 1], [1, 0, 0], [0, 0, 1]]))
    assert np.allclose(lab, [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]], atol=0.1)


def test_plain_colours_have_their_names() -> None:
    names = read_colour_names()
    for word, samples in PLAIN.items():
        assert {COLOURS[i] for i in names.indices(np.array(samples) / 255)} == {word}


def test_samples_come_from_the_training_split_alone() -> None:
    def item(split: str, rgb: tuple[int, int, int]) -> Item:
        return Item("a", Path("a.glb"), split, "food", "a", (), (("teal", 1.0, rgb),))

    samples = fit_colour_samples([item("train", (1, 2, 3)), item("val", (4, 5, 6))])
    assert [1, 2, 3] in samples["teal"] and [4, 5, 6] not in samples["teal"]


def test_the_main_colour_is_that_of_the_largest_area(tmp_path: Path) -> None:
    views = take_views(read_drawable(write_box(tmp_path / "box.glb")), JUDGED_ANGLES)
    shares = read_colour_names().shares(views)
    assert list(shares)[:2] == ["red", "blue"]
    assert abs(sum(shares.values()) - 1) < 1e-6
    nothing = views.__class__(views.rgb, 0 * views.alpha, views.cameras)
    assert read_colour_names().shares(nothing) == {}


def test_the_network_sees_shapes_and_no_colours(tmp_path: Path) -> None:
    red = planes_of(take_views(read_drawable(write_box(tmp_path / "red.glb")), JUDGED_ANGLES[:2]))
    assert float(red[:, 4].max()) > 0.3  # the near side of the box
    # the same with channels exchanged: as light and as dark, in other hues
    other = torch.cat([red[:, [2, 0, 1]], red[:, 3:]], 1)
    assert torch.allclose(shapes_of(red), shapes_of(other), atol=1e-5)
    assert float((shapes_of(red)[:, 2]).abs().max()) > 0.1  # the lid is darker


def test_variation_keeps_what_is_empty_empty() -> None:
    shapes = torch.zeros(16, 3, 32, 32)
    shapes[:, :, 12:20, 12:20] = 0.8
    new = varied(shapes, torch.Generator().manual_seed(0))
    assert float(new[:, :, 0].abs().max()) == 0.0
    assert bool((new[:, 2].amin((1, 2)) < -0.05).any()) and bool((new[:, 2].amax((1, 2)) > 0.05).any())
    assert float(new[:, 0].sum((1, 2)).std()) > 1.0  # of different sizes


def test_a_verdict_does_not_depend_on_size_or_place(tmp_path: Path) -> None:
    judge = Judge.with_own_weights()
    thing = read_drawable(write_box(tmp_path / "box.glb"))
    moved = thing.placed(Similarity(7.0, torch.eye(3, dtype=torch.float64), torch.tensor([3.0, -9.0, 1.0]).double()))
    first, second = judge.judge(thing), judge.judge(moved)
    assert first.colour == second.colour == "red" and first.shows("red") and not first.shows("blue")
    assert (
        first.category == second.category
        and abs(first.categories[first.category] - second.categories[first.category]) < 0.02
    )
    assert abs(sum(first.categories.values()) - 1) < 1e-5
    assert judge.judge(thing) == first


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = JudgeNetwork(3, 4).eval()
    write_judge(network, ["a", "b", "c"], ["w", "x", "y", "z"], tmp_path / "judge.safetensors")
    again = read_judge(tmp_path / "judge.safetensors")
    shapes = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(again.network(shapes)[0], network(shapes)[0], atol=2e-3)  # half precision
    assert again.families == ["w", "x", "y", "z"]
    assert WEIGHTS_FILE.stat().st_size < 1.5e6


def test_rates_count_colours_only_where_one_was_asked_for(tmp_path: Path) -> None:
    source = write_box(tmp_path / "red.glb")
    asked = {"noun": "box", "head": "box", "category": "container", "families": ["box"]}
    prompts = [
        {"id": "p0", "text": "a red box", "colour": "red", "seen": True} | asked,
        {"id": "p1", "text": "a green box", "colour": "green", "seen": False} | asked,
        {"id": "p2", "text": "a box", "colour": None, "seen": True} | asked,
    ]
    report = evaluate(prompts, tmp_path / "out", command=copying(source), judge=Judge.with_own_weights())
    assert report["all"]["colour"] == 0.5 and report["seen"]["colour"] == 1.0 and report["unseen"]["colour"] == 0.0
    assert report["by_category"]["container"]["prompts"] == 3
    assert report["all"]["both"] <= report["all"]["category"]
    held = json.loads((tmp_path / "out" / "prompts.json").read_text())
    assert held["seconds_max"] > 0 and held["failed"] == []
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_what_is_no_glb_counts_as_missed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.glb"
    broken.write_bytes(b"not a mesh")
    prompt = {
        "id": "p0",
        "text": "a red box",
        "noun": "box",
        "head": "box",
        "category": "container",
        "families": ["box"],
    }
    prompt |= {"colour": "red", "seen": True}
    report = evaluate([prompt], tmp_path / "out", command=copying(broken), judge=Judge.with_own_weights())
    assert report["failed"] == ["p0"] and report["all"]["category"] == report["all"]["colour"] == 0.0
    assert rates([])["category"] is None


def test_the_nearest_caption_shares_the_rarest_words() -> None:
    def item(name: str, caption: str) -> Item:
        return Item(name, Path(name), "train", "food", name, (caption,), ())

    items = [item("barrel", "a wooden barrel"), item("table", "a wooden table"), item("cake", "a red cake")]
    assert nearest_caption("a blue wooden table", items).name == "table"
    assert nearest_caption("a red barrel", items).name == "barrel"
