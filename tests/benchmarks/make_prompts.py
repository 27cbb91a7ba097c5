"""Writes the prompts that `eval_prompts.py` asks for, from the words of the captions.

    python tests/benchmarks/make_prompts.py --objects PROPS [-o tests/benchmarks/prompts.json] [--count 60] [--seed 0]

A noun is the plain name of a training object without colour words: three words at most, no "of" or "with". Its last word is the head. Prompts
are dealt to the categories that the judge knows by their share of the training objects, one to eight each. Within a category the three
kinds alternate: a colour that no training object of this head has (`seen` false), a colour that one has (`seen` true), and no colour.
A training object has the colours that its captions say, and the one that covers most of it.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.prompt_judge.corpus import COLOURS, Item, colour_words, judged_categories, read_items

MOST_EACH = 8
NEW_COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white", "grey", "black")
"""What a thing may be asked to be that none is: the clear words. Tan, cream and dark brown lie too near to others."""
BEFORE_COLOUR = (
    "small",
    "large",
    "big",
    "tall",
    "short",
    "long",
    "wide",
    "flat",
    "round",
    "tiny",
    "low",
    "high",
    "modern",
    "simple",
)
"""Words of size, shape and style stand before the colour."""
NOT_IN_A_NOUN = ("of", "with", "on", "in", "and", "for", "from", "piece", "half", "without", "gold", "golden", "silver")
KINDS = ("unseen", "seen", "unseen", "seen", "unseen", "none")
"""Dealt in this order over all prompts."""


def make_prompts(items: list[Item], *, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` prompts; the same for the same index and seed."""
    chance = random.Random(seed)
    train = [item for item in items if item.split == "train"]
    nouns = _nouns(train, set(judged_categories(items)))
    kinds = _kinds()
    prompts: list[dict[str, Any]] = []
    for category, number in _dealt(nouns, train, count).items():
        # every head once before any comes again
        left = _shuffled(nouns[category], chance)
        for _ in range(number):
            if not left:
                left = _shuffled(nouns[category], chance)
            noun = left.pop()
            head = noun.split()[-1]
            known = _colours_of(head, train)
            kind = next(kinds)
            colour, is_seen = None, True
            if kind == "unseen":
                colour, is_seen = chance.choice([c for c in NEW_COLOURS if c not in known]), False
            elif kind == "seen":
                colour = _main_colour(noun, train, chance)
            prompts.append(
                {
                    "id": f"p{len(prompts):02d}",
                    "text": _sentence(noun, colour),
                    "noun": noun,
                    "head": head,
                    "category": category,
                    "families": _families_of(head, category, train),
                    "colour": colour,
                    "seen": is_seen,
                }
            )
    return prompts


def _nouns(train: list[Item], categories: set[str]) -> dict[str, list[str]]:
    """Nouns by category; only those whose head always stands for things of one category."""
    heads: dict[str, set[str]] = {}
    nouns: dict[str, set[str]] = {category: set() for category in sorted(categories)}
    for item in train:
        heads.setdefault(_plain(item)[-1], set()).add(item.category)
    for item in train:
        article, *words = _plain(item)
        fits = article in ("a", "an") and 1 <= len(words) <= 3 and not set(words) & set(NOT_IN_A_NOUN)
        if fits and item.category in categories and len(heads[words[-1]]) == 1:
            nouns[item.category].add(" ".join(words))
    return {category: sorted(found) for category, found in nouns.items() if found}


def _plain(item: Item) -> list[str]:
    """The words of its name, article and all, without those of colour."""
    return [word for word in item.captions[0].split() if word not in COLOURS]


def _dealt(nouns: dict[str, list[str]], train: list[Item], count: int) -> dict[str, int]:
    """How many prompts each category gets: by share, at least one, at most `MOST_EACH` and twice its nouns."""
    size = {category: sum(item.category == category for item in train) for category in nouns}
    most = {category: min(MOST_EACH, 2 * len(found)) for category, found in nouns.items()}
    dealt = dict.fromkeys(nouns, 1)
    while sum(dealt.values()) < min(count, sum(most.values())):
        open_ones = [category for category in nouns if dealt[category] < most[category]]
        # whose next prompt would stand for the most objects (D'Hondt)
        dealt[max(open_ones, key=lambda category: size[category] / (dealt[category] + 1))] += 1
    return dealt


def _shuffled(nouns: list[str], chance: random.Random) -> list[str]:
    """In any order, but nouns of a head that came already come last; taken from the end."""
    order = chance.sample(nouns, len(nouns))
    seen: set[str] = set()
    first: list[str] = []
    again: list[str] = []
    for noun in order:
        (again if noun.split()[-1] in seen else first).append(noun)
        seen.add(noun.split()[-1])
    return (first + again)[::-1]


def _kinds() -> Iterator[str]:
    while True:
        yield from KINDS


def _colours_of(head: str, train: list[Item]) -> set[str]:
    """Of all training objects with this word in a caption."""
    found: set[str] = set()
    for item in train:
        if any(head in caption.split() for caption in item.captions):
            found |= {item.colours[0][0], *(word for caption in item.captions for word in colour_words(caption))}
    return found


def _families_of(head: str, category: str, train: list[Item]) -> list[str]:
    """Of the training objects whose name ends in this word."""
    return sorted({item.family for item in train if item.category == category and _plain(item)[-1] == head})


def _main_colour(noun: str, train: list[Item], chance: random.Random) -> str:
    """That covers most of one of the objects of this name."""
    named = [item.colours[0][0] for item in train if _plain(item)[1:] == noun.split()]
    return chance.choice(named)


def _sentence(noun: str, colour: str | None) -> str:
    words = noun.split()
    at = 1 if len(words) > 1 and words[0] in BEFORE_COLOUR else 0
    words = words[:at] + ([colour] if colour else []) + words[at:]
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def main() -> None:
    """Write the file and print its prompts."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Write prompts.json.")
    parser.add_argument("--objects", type=Path, required=True, help="folder with index.jsonl")
    parser.add_argument("-o", "--out", type=Path, default=here / "prompts.json")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prompts = make_prompts(read_items(args.objects), count=args.count, seed=args.seed)
    rows = ",\n  ".join(json.dumps(prompt) for prompt in prompts)
    args.out.write_text(f'{{"seed": {args.seed}, "prompts": [\n  {rows}\n]}}\n', encoding="utf-8")
    for prompt in prompts:
        print(f"{prompt['category']:12} {'seen' if prompt['seen'] else 'new ':4} {prompt['text']}")


if __name__ == "__main__":
    main()
