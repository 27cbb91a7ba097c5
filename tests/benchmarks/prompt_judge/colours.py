"""Which colour a thing has, in the words of the captions: measured on pictures, nothing learned by a network.

Every covered pixel gets the word of the nearest sample colour in CIELab (D65). Samples are what the index of the objects calls by that
word (a few centres of its training colours), and hand-written ones where the objects have few: there are three purple ones and one teal
one among 719. The share of a word is its share of the covered pixels over all views; the main colour is the word with the largest.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from mvgamba.evaluation.drawable import srgb_to_linear
from mvgamba.types import PosedViews
from tests.benchmarks.prompt_judge.corpus import COLOURS, Item

SAMPLES_FILE = Path(__file__).parent / "colour_samples.json"
CENTRES = 12
"""Of the training colours of a word."""
PLAIN: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (200, 20, 20), (150, 20, 25), (110, 15, 20)),
    "orange": ((255, 140, 0), (255, 110, 20), (225, 110, 25)),
    "yellow": ((255, 255, 0), (250, 220, 40), (220, 200, 50), (255, 240, 120)),
    "green": ((0, 255, 0), (0, 128, 0), (20, 80, 35), (110, 200, 110), (160, 220, 140), (100, 120, 40)),
    "teal": ((0, 128, 128), (0, 150, 140), (60, 170, 170), (20, 95, 95), (90, 200, 200)),
    "blue": ((0, 0, 255), (30, 60, 160), (20, 30, 90), (70, 130, 220), (140, 190, 240)),
    "purple": ((128, 0, 128), (100, 40, 150), (70, 30, 110), (150, 90, 200), (180, 130, 220), (85, 50, 90)),
    "pink": ((255, 105, 180), (255, 160, 200), (230, 80, 150), (255, 190, 205), (220, 120, 160)),
    "white": ((255, 255, 255), (238, 238, 238)),
    "grey": ((128, 128, 128), (170, 170, 170), (90, 90, 90)),
    "black": ((0, 0, 0), (30, 30, 30), (45, 45, 50)),
}
"""sRGB bytes that anybody calls so. Brown, tan and cream have plenty of their own."""


class ColourNames:
    """Names colours by the nearest sample."""

    def __init__(self, samples: dict[str, list[list[int]]]) -> None:
        self._words = np.concatenate([np.full(len(samples[word]), COLOURS.index(word)) for word in samples])
        self._tree = cKDTree(srgb_to_lab(np.concatenate([np.asarray(samples[word]) for word in samples]) / 255))

    def indices(self, srgb: Float[np.ndarray, "n 3"]) -> np.ndarray:
        """Numbers in `COLOURS` of colours in [0, 1]."""
        return self._words[self._tree.query(srgb_to_lab(srgb))[1]]

    def shares(self, views: PosedViews) -> dict[str, float]:
        """Of each word among the covered pixels of all views, the largest first; empty where nothing is covered."""
        covered = (views.alpha[:, 0] >= 0.5).numpy()
        pixels = views.rgb.permute(0, 2, 3, 1).numpy()[covered]
        if not len(pixels):
            return {}
        count = np.bincount(self.indices(pixels.astype(np.float64)), minlength=len(COLOURS)) / len(pixels)
        order = np.argsort(-count, kind="stable")
        return {COLOURS[i]: float(count[i]) for i in order if count[i] > 0}


def read_colour_names(path: Path = SAMPLES_FILE) -> ColourNames:
    """Those that come with the judge."""
    return ColourNames(json.loads(path.read_text(encoding="utf-8"))["samples"])


def fit_colour_samples(items: list[Item]) -> dict[str, list[list[int]]]:
    """Centres of the training colours of each word, and the plain ones."""
    samples: dict[str, list[list[int]]] = {}
    for word in COLOURS:
        pairs = colour_pairs([item for item in items if item.split == "train"])
        known = np.unique(np.array([rgb for name, rgb in pairs if name == word], np.float64).reshape(-1, 3), axis=0)
        if len(known) > CENTRES:
            lab = srgb_to_lab(known / 255)
            centres, of = kmeans2(lab, CENTRES, minit="++", seed=np.random.default_rng(0))
            # the known colour in the middle of each group, so that samples stay colours that somebody named
            chosen = [
                np.flatnonzero(of == c)[((lab[of == c] - centres[c]) ** 2).sum(1).argmin()] for c in sorted(set(of))
            ]
            known = known[sorted(chosen)]
        samples[word] = [*known.astype(int).tolist(), *(list(rgb) for rgb in PLAIN.get(word, ()))]
    return samples


def colour_pairs(items: list[Item]) -> list[tuple[str, tuple[int, int, int]]]:
    """All (word, sRGB) of an index."""
    return [(name, rgb) for item in items for name, _, rgb in item.colours]


def naming_agreement(names: ColourNames, items: list[Item]) -> dict[str, Any]:
    """How often the colours of an index get their own word, and the most common other readings."""
    pairs = colour_pairs(items)
    got = names.indices(np.array([rgb for _, rgb in pairs]) / 255)
    wrong = [f"{word} as {COLOURS[i]}" for (word, _), i in zip(pairs, got, strict=True) if COLOURS[i] != word]
    common = sorted(set(wrong), key=lambda reading: (-wrong.count(reading), reading))[:5]
    return {
        "pairs": len(pairs),
        "agreement": 1 - len(wrong) / len(pairs),
        "confusions": {reading: wrong.count(reading) for reading in common},
    }


def srgb_to_lab(srgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """CIELab with the white point D65, from sRGB in [0, 1]."""
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = srgb_to_linear(np.asarray(srgb, np.float64)) @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
