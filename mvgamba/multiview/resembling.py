"""Remembered objects that look like a picture: something to begin from that has sides, a back and a top.

Each object is compared from its front, its left and their mirror images, of which the memory has whole sets of views.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.multiview.memory import StarterMemory
from mvgamba.multiview.memory_files import ABOVE, BACK, FRONT, LEFT, OTHER_ABOVE, RIGHT, stored_views
from mvgamba.multiview.placing import boxes, centered, sampled
from mvgamba.multiview.starter_network import from_signal, to_signal

SETS = (
    ([FRONT, RIGHT, BACK, LEFT, ABOVE], False),
    ([LEFT, FRONT, RIGHT, BACK, OTHER_ABOVE], False),
    ([FRONT, LEFT, BACK, RIGHT, OTHER_ABOVE], True),
    ([RIGHT, FRONT, LEFT, BACK, ABOVE], True),
)
"""Which of the stored views are front, right, back, left and above, and whether they are turned over: the object as it stands, turned so that
its left is in front, and the mirror images of it as it stands and with its right in front."""
SIZE = 24
"""Pixels of the pictures that are compared."""
COLOR_WEIGHT = 0.25
"""Of a difference of colours, beside one of coverage: colours are changed easily."""
MOST_STRETCH = 1.6


@dataclass(frozen=True, eq=False)
class Resemblance:
    """A remembered object, turned so that its front is like the picture, of its proportions and colours."""

    name: str
    signals: Float[Tensor, "5 4 S S"]
    distance: float
    """Mean squared difference of the pictures; 0 for the same."""


class Resembling:
    """See the module."""

    def __init__(self, memory: StarterMemory) -> None:
        self._memory = memory

    def __call__(self, picture: Float[Tensor, "4 H W"], n: int) -> list[Resemblance]:
        """The n objects that are most like a picture, each once, the best first. Raises: WeightsCorrupt."""
        weights = torch.tensor([COLOR_WEIGHT] * 3 + [1.0])[:, None, None]
        wanted = centered(picture[None].float(), size=SIZE)[0]
        away = ((self._fronts - wanted).square() * weights).mean((2, 3, 4))
        least, which = away.min(1)
        best = least.argsort()[:n].tolist()
        return [
            Resemblance(self._memory.objects[i].name, adapted(self._views(i, int(which[i])), picture), float(least[i]))
            for i in best
        ]

    def _views(self, index: int, which: int) -> Float[Tensor, "5 4 S S"]:
        order, turned_over = SETS[which]
        views = stored_views(self._memory.picture, index, self._memory.size)[order]
        views = views.flip(-1) if turned_over else views
        return to_signal(views[:, :3], views[:, 3:])

    @cached_property
    def _fronts(self) -> Float[Tensor, "N 4 4 s s"]:
        sets = []
        for which in range(len(SETS)):
            fronts = torch.stack([self._views(i, which)[0] for i in range(len(self._memory.objects))])
            sets.append(centered(fronts, size=SIZE))
        return torch.stack(sets, 1)


def adapted(signals: Float[Tensor, "5 4 S S"], picture: Float[Tensor, "4 H W"]) -> Float[Tensor, "5 4 S S"]:
    """Views as wide for their height as the picture is, within the same sphere, with the mean and the spread of its colours."""
    low, high = boxes(signals[:, 3] > 0)
    extent = high - low
    picture_low, picture_high = boxes(picture[None, 3] > 0)
    wanted = float((picture_high - picture_low)[0, 0] / (picture_high - picture_low)[0, 1])
    width, height, depth = float(extent[0, 0]), float(extent[0, 1]), float(extent[1, 0])
    stretch = min(max(wanted * height / width, 1 / MOST_STRETCH), MOST_STRETCH)
    # what grows in width leaves the sphere, so all of it gets smaller
    shrink = ((width**2 + height**2 + depth**2) / ((stretch * width) ** 2 + height**2 + depth**2)) ** 0.5
    across = torch.tensor([stretch, 1.0, stretch, 1.0, stretch**0.5]) * shrink
    size = signals.shape[-1]
    side = size / torch.stack([across, torch.full((5,), shrink)], 1)
    moved = sampled(signals, torch.full((5, 2), size / 2), side, size=size)
    rgb, alpha = from_signal(moved)
    their_rgb, their_alpha = from_signal(picture.float())
    mine, theirs = _colors(rgb[0], alpha[0]), _colors(their_rgb, their_alpha)
    gain = ((theirs[1] + 0.02) / (mine[1] + 0.02)).clamp(0.3, 2.0)
    colored = (theirs[0] + gain * (rgb - mine[0])).clamp(0, 1)
    return to_signal(colored, alpha)


def _colors(rgb: Float[Tensor, "3 H W"], alpha: Float[Tensor, "1 H W"]) -> tuple[Tensor, Tensor]:
    total = alpha.sum().clamp_min(1e-6)
    mean = (rgb * alpha).sum((1, 2), keepdim=True) / total
    return mean, ((rgb - mean).square() * alpha).sum((1, 2), keepdim=True).div(total).sqrt()
