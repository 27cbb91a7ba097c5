"""The captioned objects that the judge learns from and that prompts take their words from."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "brown",
    "dark brown",
    "tan",
    "cream",
    "white",
    "grey",
    "black",
)
"""The colour words of the index."""
LEAST_OBJECTS = 6
"""Training objects that a category needs to be judged at all: with fewer, nothing can be learned and nothing can be measured."""


@dataclass(frozen=True)
class Item:
    """One line of the index."""

    name: str
    file: Path
    split: str
    category: str
    family: str
    captions: tuple[str, ...]
    colours: tuple[tuple[str, float, tuple[int, int, int]], ...]
    """Name, share of the visible area, sRGB bytes; the largest share first."""


def read_items(objects: Path) -> list[Item]:
    """All objects that `index.jsonl` of a folder lists, in its order."""
    lines = (objects / "index.jsonl").read_text(encoding="utf-8").splitlines()
    return [_item(json.loads(line), objects) for line in lines if line.strip()]


def judged_categories(items: list[Item]) -> list[str]:
    """Categories with at least `LEAST_OBJECTS` training objects, by name."""
    train = [item.category for item in items if item.split == "train"]
    return sorted({category for category in train if train.count(category) >= LEAST_OBJECTS})


def colour_words(text: str) -> set[str]:
    """The colour words of a sentence; "dark brown" is one word and not brown."""
    found: set[str] = set()
    for word in sorted(COLOURS, key=len, reverse=True):
        text, count = re.subn(rf"\b{word}\b", " ", text)
        if count:
            found.add(word)
    return found


def _item(row: dict, objects: Path) -> Item:
    colours = tuple((c["name"], float(c["fraction"]), tuple(c["rgb"])) for c in row["colours"])
    return Item(
        row["id"],
        objects / row["file"],
        row["split"],
        row["category"],
        row["family"],
        tuple(row["captions"]),
        tuple(sorted(colours, key=lambda colour: -colour[1])),
    )
