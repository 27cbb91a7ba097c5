"""The floor for prompts: the training object whose caption has most words in common with the prompt, as it is.

    python tests/benchmarks/nearest_caption.py --objects PROPS "a red wooden barrel" -o OUT.glb

Shared words count by how rare they are among the captions, colours a tenth of that: a red mug is no red barrel. Of equal ones the shorter
caption is nearer. As a command of `eval_prompts.py`
it says what looking things up would give: the right kind of thing, and the right colour only where there was one.
"""

import argparse
import math
import re
import shutil
from pathlib import Path

from tests.benchmarks.prompt_judge.corpus import COLOURS, Item, read_items


def nearest_caption(prompt: str, items: list[Item]) -> Item:
    """The object to give for a prompt."""
    bags = [(set(_words(caption)), item) for item in items for caption in item.captions]
    wanted = set(_words(prompt))
    rarity = {word: math.log(1 + len(bags) / max(1, sum(word in bag for bag, _ in bags))) for word in wanted}
    rarity |= {word: 0.1 * rarity[word] for word in wanted if word in COLOURS}
    return max(bags, key=lambda entry: (sum(rarity[word] for word in wanted & entry[0]), -len(entry[0])))[1]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


def main() -> None:
    """Copy the object's file."""
    parser = argparse.ArgumentParser(description="Give the training object with the nearest caption.")
    parser.add_argument("prompt")
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    train = [item for item in read_items(args.objects) if item.split == "train"]
    shutil.copyfile(nearest_caption(args.prompt, train).file, args.out)


if __name__ == "__main__":
    main()
