"""The floor for one image: of the training objects of the same kind, the one that looks most like the picture, turned as it fits best."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import turn_about_vertical
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around
from mvgamba.types import PosedViews, Similarity
from tests.benchmarks.prompt_judge.corpus import Item

SIZE = 32
"""Pixels of the pictures that are compared, each the square around an outline."""
TURNS = 8


@dataclass(frozen=True, eq=False)
class Nearest:
    """What was found."""

    item: Item
    turn: float
    """Radians about the vertical."""
    drawable: Drawable
    """Turned, in its own place and size."""


def nearest_front(picture: PosedViews, elevation: float, items: list[Item], cache: dict[str, Tensor]) -> Nearest:
    """The nearest of some objects to one view: colours times coverage, and coverage, cut out around the outline.

    Args:
        elevation: Radians, of the camera that took the view; the objects are seen from as high.
        cache: Keeps the pictures of the objects by name, for one elevation.
    """
    wanted = _cut_out(picture)[0]
    best, least = (items[0], 0), math.inf
    for item in items:
        if item.name not in cache:
            cache[item.name] = _all_around(read_drawable(item.file), elevation)
        gaps = (cache[item.name] - wanted).square().mean((1, 2, 3))
        if float(gaps.min()) < least:
            least, best = float(gaps.min()), (item, int(gaps.argmin()))
    item, step = best
    # the camera at azimuth a sees what stands in front once the thing is turned back by a
    turn = -2 * math.pi * step / TURNS
    thing = read_drawable(item.file)
    return Nearest(
        item, turn, thing.placed(Similarity(1.0, turn_about_vertical(turn), torch.zeros(3, dtype=torch.float64)))
    )


def _all_around(thing: Drawable, elevation: float) -> Float[Tensor, "t 4 S S"]:
    angles = [(2 * math.pi * step / TURNS, elevation) for step in range(TURNS)]
    return _cut_out(photograph(thing, cameras_around(thing, Similarity.identity(), angles, 2 * SIZE), samples=2))


def _cut_out(views: PosedViews) -> Float[Tensor, "V 4 S S"]:
    """Squares around the outlines, all made one size."""
    cut = []
    for rgb, alpha in zip(views.rgb, views.alpha, strict=True):
        planes = torch.cat([rgb * alpha, alpha])
        rows, columns = (alpha[0] >= 0.5).nonzero().unbind(1)
        if len(rows):
            top, left = int(rows.min()), int(columns.min())
            height, width = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
            planes = planes[:, top : top + height, left : left + width]
            short = abs(height - width)
            pad = (short // 2, short - short // 2)
            planes = F.pad(planes, (*pad, 0, 0) if height > width else (0, 0, *pad))
        cut.append(F.interpolate(planes[None], (SIZE, SIZE), mode="area")[0])
    return torch.stack(cut)
