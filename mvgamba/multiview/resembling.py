"""What remembered objects of a picture's outline have for sides, back and top: something to begin from.

Each object is compared from its front, its left and their mirror images, of which the memory has whole sets of views.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.multiview.memory import StarterMemory
from mvgamba.multiview.memory_files import ABOVE, BACK, FRONT, LEFT, OTHER_ABOVE, RIGHT, stored_views
from mvgamba.multiview.placing import boxes, centered, place_picture, sampled
from mvgamba.multiview.starter_network import from_signal, to_signal
from mvgamba.types import SourceImage

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
COLOR_WEIGHT = 0.05
"""Of a difference of colours, beside one of coverage: colours are changed easily."""
NUM_ASKED, CLOSE, POWER = 48, 0.02, 3
"""How many objects have a say, each by (distance + CLOSE) to the power of -POWER: one that is the picture's own decides alone. One picture says
little of a depth; many objects of that outline say what is usual (mean IoU of the four views that are not given, unseen props: 0.53 from
the nearest, 0.68 from 48)."""
LEAST_PIXELS = 24
"""Of a front of 64 x 64: one that shows less is an edge, and looks like anything when it is magnified."""
MOST_STRETCH = 1.6
ROW_SHARE = 0.7
"""Of the colours of right and left that are those of the picture in the same row."""


@dataclass(frozen=True, eq=False)
class Resemblance:
    """What an object of a picture's outline usually looks like from all sides."""

    name: str
    """Of the remembered object that is most like the picture."""
    signals: Float[Tensor, "5 4 S S"]
    distance: float
    """Of that object: the share of both outlines that only one has, roughly; 0 for the same picture."""


class Resembling:
    """See the module."""

    def __init__(self, memory: StarterMemory) -> None:
        self._memory = memory

    def __call__(self, image: SourceImage) -> Resemblance:
        """From the picture of an object alone. Raises: WeightsCorrupt."""
        size = self._memory.size
        picture = to_signal(image.rgb.float(), image.alpha.float())
        fronts, usable = self._fronts
        weights = torch.tensor([COLOR_WEIGHT] * 3 + [1.0])[:, None, None]
        wanted = centered(picture[None], size=SIZE)[0]
        away = ((fronts - wanted).square() * weights).sum((2, 3, 4))
        away = away / ((fronts[:, :, 3] + 1).sum((2, 3)) + (wanted[3] + 1).sum())
        least, which = torch.where(usable, away, torch.inf).min(1)
        best = least.argsort()[:NUM_ASKED]
        framed = centered(picture[None], size=size)[0]
        sets = torch.stack([adapted(self._views(i, int(which[i])), framed) for i in best.tolist()])
        share = (least[best] + CLOSE) ** -POWER
        usual = torch.einsum("n,nvchw->vchw", share / share.sum(), sets)
        first = int(best[0])
        return Resemblance(self._memory.objects[first].name, completed(usual, image), float(least[first]))

    def _views(self, index: int, which: int) -> Float[Tensor, "5 4 S S"]:
        order, turned_over = SETS[which]
        views = stored_views(self._memory.picture, index, self._memory.size)[order]
        views = views.flip(-1) if turned_over else views
        return to_signal(views[:, :3], views[:, 3:])

    @cached_property
    def _fronts(self) -> tuple[Float[Tensor, "N k 4 s s"], Bool[Tensor, "N k"]]:
        sets, usable = [], []
        for which in range(len(SETS)):
            fronts = torch.stack([self._views(i, which)[0] for i in range(len(self._memory.objects))])
            sets.append(centered(fronts, size=SIZE))
            usable.append((fronts[:, 3] > 0).sum((1, 2)) >= LEAST_PIXELS)
        return torch.stack(sets, 1), torch.stack(usable, 1)


def completed(usual: Float[Tensor, "5 4 S S"], image: SourceImage) -> Float[Tensor, "5 4 S S"]:
    """What a picture says for certain, put in: its front, the outline of the back, and roughly the colours of the sides."""
    size = usual.shape[-1]
    front = place_picture(image, usual[0], size=size)
    out = usual.clone()
    # from far away the back has the outline of the front; what it shows there nobody knows
    out[0], out[2] = front, front.flip(-1)
    rgb, alpha = from_signal(out)
    covered = alpha[0].sum(2)
    rows = ((rgb[0] * alpha[0]).sum(2) / covered.clamp_min(1e-3)).float()
    known = (covered[0] > 0.5).nonzero()[:, 0]
    if len(known):
        nearest = (torch.arange(size)[:, None] - known).abs().argmin(1)
        beside = rows[:, known[nearest], None]
        for side in (RIGHT, LEFT):
            rgb[side] = ROW_SHARE * beside + (1 - ROW_SHARE) * rgb[side]
    # a mean of outlines is soft; where more than half are covered, it is
    for side in (RIGHT, LEFT, ABOVE):
        alpha[side] = (4 * (alpha[side] - 0.5) + 0.5).clamp(0, 1)
    return to_signal(rgb, alpha)


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
