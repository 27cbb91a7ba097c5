"""Prompts say what is true of the index that they were made from."""

import json
from pathlib import Path

from tests.benchmarks.make_prompts import make_prompts
from tests.benchmarks.prompt_judge.corpus import COLOURS, Item, colour_words, judged_categories, read_items

NAMES = {"furniture": ("chair", "table", "wooden bed"), "food": ("pear", "large green cake"), "animal": ("dog",)}


def index(folder: Path) -> list[Item]:
    """Six objects a category, but one animal; every other one is brown."""
    rows = []
    for category, names in NAMES.items():
        for number in range(1 if category == "animal" else 6):
            name, colour = names[number % len(names)], ("brown", "red")[number % 2]
            rows.append(
                {
                    "id": f"{category}{number}",
                    "file": f"train/{category}{number}.glb",
                    "split": "train",
                    "category": category,
                    "family": name,
                    "captions": [f"a {name}", f"a {colour} {name}"],
                    "colours": [
                        {"name": "grey", "fraction": 0.2, "rgb": [128, 128, 128]},
                        {"name": colour, "fraction": 0.8, "rgb": [1, 2, 3]},
                    ],
                }
            )
    (folder / "index.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return read_items(folder)


def test_the_main_colour_of_an_item_is_the_largest(tmp_path: Path) -> None:
    assert {item.colours[0][0] for item in index(tmp_path)} == {"brown", "red"}


def test_dark_brown_is_one_word() -> None:
    assert colour_words("a dark brown and red barrel") == {"dark brown", "red"}
    assert colour_words("a hundred barrels") == set()


def test_prompts_keep_to_categories_that_can_be_judged(tmp_path: Path) -> None:
    items = index(tmp_path)
    assert judged_categories(items) == ["food", "furniture"]
    prompts = make_prompts(items, count=8, seed=0)
    assert {prompt["category"] for prompt in prompts} == {"food", "furniture"}
    assert len({prompt["id"] for prompt in prompts}) == len(prompts) == 8


def test_an_unseen_colour_is_one_that_no_training_object_of_the_noun_has(tmp_path: Path) -> None:
    items = index(tmp_path)
    for prompt in make_prompts(items, count=8, seed=3):
        having = {item.colours[0][0] for item in items if item.captions[0].endswith(prompt["head"])}
        assert prompt["colour"] is None or (prompt["colour"] in having) == prompt["seen"]


def test_the_same_seed_gives_the_same_prompts(tmp_path: Path) -> None:
    items = index(tmp_path)
    assert make_prompts(items, count=8, seed=1) == make_prompts(items, count=8, seed=1)
    assert make_prompts(items, count=8, seed=1) != make_prompts(items, count=8, seed=2)


def test_the_committed_prompts_are_whole() -> None:
    prompts = json.loads((Path(__file__).parent / "prompts.json").read_text(encoding="utf-8"))["prompts"]
    assert len({prompt["text"] for prompt in prompts}) == 60
    for prompt in prompts:
        named = {prompt["colour"]} if prompt["colour"] else set()
        assert colour_words(prompt["text"]) == named <= set(COLOURS)
        assert prompt["text"].endswith(prompt["head"]) and prompt["noun"].endswith(prompt["head"])
    unseen = sum(not prompt["seen"] for prompt in prompts)
    assert 25 <= unseen <= 35
