"""What the starter generator learned from, shipped beside it: small views of every training object, with their captions.

It says how near a sample comes to something that was in training (`nearest`), and gives the objects that fit a prompt to begin from
(`recall`), in the colours that the prompt asks for (`repaint`). Two files: an atlas of pictures, read when the first picture is needed, and
a table.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvgamba.errors import InvalidInput, WeightsMissing
from mvgamba.multiview.captions import CaptionIndex, Phrase, phrase_of
from mvgamba.multiview.memory_files import (
    MIRRORED,
    NUM_VIEWS,
    SMALL,
    MemoryContent,
    RememberedObject,
    distances_to,
    read_memory,
    small_signals,
    stored_views,
)
from mvgamba.multiview.repainting import paints, recolored
from mvgamba.multiview.starter_network import to_signal
from mvgamba.multiview.vocabulary import Vocabulary, read_lexicon
from mvgamba.weights import default, verified


@dataclass(frozen=True, eq=False)
class Recollection:
    """A training object that fits a prompt."""

    views: Float[Tensor, "5 4 S S"]
    """Front, right, back, left, above; straight colours and alpha in [0, 1]."""
    object: RememberedObject
    score: float
    """How well its captions fit: 1 for the same words, 0 for none."""
    mirrored: bool = False

    @property
    def caption(self) -> str:
        return self.object.captions[0]

    @property
    def signals(self) -> Float[Tensor, "5 4 S S"]:
        """As the network takes them, see `to_signal`."""
        return to_signal(self.views[:, :3], self.views[:, 3:])


@dataclass(frozen=True)
class Nearest:
    """The training object that views come nearest to."""

    name: str
    caption: str
    distance: float
    """Mean squared difference of the signals of five views of 16 x 16 pixels, to the object or its mirror image, whichever is less."""
    relative: float
    """In usual distances from one training object to the nearest other one (their median): 0 is a copy, 1 as new as they are."""


GOOD_SCORE = 0.45
"""Of a recollection: below it the thing itself is not what was asked for, only something about it is."""
ROUGH_WORTH = 0.6
"""Of the score, where a word was taken for one that only comes near."""
_GREEN = frozenset({"cactus", "tree", "bush", "plant", "palm"})
"""What is meant by the colour of these is that of their leaves."""


class StarterMemory:
    """See the module."""

    def __init__(self, content: MemoryContent) -> None:
        self.objects, self.size = content.objects, content.size
        self._content = content

    @cached_property
    def index(self) -> CaptionIndex:
        """Of the captions."""
        return CaptionIndex([o.captions for o in self.objects])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Of the captions, with the lexicon of the package."""
        return Vocabulary([o.captions for o in self.objects], read_lexicon())

    @cached_property
    def paints(self) -> dict[str, Float[Tensor, "n 3"]]:
        """Shades by colour word, as the objects have them."""
        return paints(self.objects)

    @cached_property
    def picture(self) -> Image.Image:
        """All stored views, see `memory_files`. Raises: WeightsCorrupt."""
        return self._content.picture()

    @cached_property
    def _small(self) -> Float[Tensor, "N 6 4 s s"]:
        return small_signals(self.picture, len(self.objects), self.size)

    def views(self, index: int, *, mirrored: bool = False) -> Float[Tensor, "5 4 S S"]:
        """Of one object, as `Recollection` has them. Raises: WeightsCorrupt."""
        stored = stored_views(self.picture, index, self.size)
        return stored[MIRRORED].flip(-1) if mirrored else stored[:NUM_VIEWS]

    def nearest(self, signals: Float[Tensor, "5 4 H W"], *, shape_only: bool = False) -> Nearest:
        """The training object that is most like some views, by the same signals that the network makes.

        Args:
            shape_only: Compare silhouettes, so that a repainted copy counts as a copy.
        Raises: WeightsCorrupt, InvalidInput for views smaller than 16 x 16.
        """
        if min(signals.shape[-2:]) < SMALL:
            raise InvalidInput(f"views are {tuple(signals.shape[-2:])} pixels; at least {SMALL} x {SMALL} are needed.")
        first = 3 if shape_only else 0
        mine = F.adaptive_avg_pool2d(signals.float().cpu(), SMALL)[:, first:]
        known = self._small[:, :, first:]
        distances = distances_to(mine, known)
        best = int(distances.argmin())
        found, distance = self.objects[best], float(distances[best])
        return Nearest(found.name, found.captions[0], distance, distance / self._content.usual[1 if shape_only else 0])

    def recall(self, prompt: str, n: int = 1, generator: torch.Generator | None = None) -> list[Recollection]:
        """The objects whose captions fit a prompt best, the best first; fewer than n where fewer fit at all.

        Words that no caption has are taken for others first, see `Vocabulary.translate`. Colours count only between objects that fit equally well: what already has the colour needs no paint.

        Args:
            generator: Chooses between what fits equally well, and whether the mirror image is taken; None for the order of the corpus.
        Raises: WeightsCorrupt; InvalidInput for n below 1.
        """
        if n < 1:
            raise InvalidInput(f"n is {n}; at least 1 recollection must be asked for.")
        known = self.vocabulary.translate(prompt)
        asked = phrase_of(known.prompt)
        worth = ROUGH_WORTH if any(s.is_rough for s in known.substitutions) else 1.0
        scores = [worth * score for score in self.index.scores(known.prompt)]
        order = list(range(len(scores)))
        if generator is not None:
            order = torch.randperm(len(scores), generator=generator).tolist()
        fitting = [i for i in order if scores[i] > 0]
        fitting.sort(key=lambda i: (-round(scores[i], 6), -self._colors_fit(i, asked)))
        mirrored = [False] * n
        if generator is not None:
            mirrored = (torch.rand(n, generator=generator) < 0.5).tolist()
        return [
            Recollection(self.views(i, mirrored=flip), self.objects[i], scores[i], flip)
            for i, flip in zip(fitting[:n], mirrored, strict=False)
        ]

    def _colors_fit(self, index: int, asked: Phrase) -> int:
        """How well the colours of an object are those that are asked for: what its caption says counts twice what it shows."""
        thing = self.objects[index]
        plain = phrase_of(thing.captions[0])
        if not asked.colors and not asked.tail_colors:
            return int(not plain.colors)  # "a pumpkin" is one that nobody called yellow
        said = len(set(asked.tail_colors) & set(plain.tail_colors)) + len(set(asked.colors) & set(plain.colors))
        shown = set(asked.colors) & set(thing.color_names[: len(asked.colors)].tolist())
        return 2 * said + len(shown)

    def repaint(
        self, recollection: Recollection, prompt: str, generator: torch.Generator | None = None
    ) -> Float[Tensor, "5 4 S S"]:
        """The views of a recollection in the colours that the prompt asks for; as they are where it asks for none.

        "a red barrel" repaints what most of the barrel has, "a red and white one" its two main colours, "a house with a red roof" the
        colour that the recalled roof is said to have.

        Args:
            generator: Chooses among the shades that objects have of a colour; None for the one in the middle.
        """
        wanted = changes(recollection.object, phrase_of(self.vocabulary.translate(prompt).prompt))
        new = {which: _shade(self.paints[name], generator) for which, name in wanted if name in self.paints}
        return recolored(recollection.views, recollection.object, new)


def changes(thing: RememberedObject, asked: Phrase) -> list[tuple[int, str]]:
    """Which of an object's colours become which, by number and name."""
    has = thing.color_names.tolist()
    found: dict[int, str] = {}
    said = dict(phrase_of(thing.captions[0]).tail_colors)
    for noun, color in asked.tail_colors:
        old = said.get(noun)
        if old in has and old != color:
            found[has.index(old)] = color
    free = [i for i in range(len(has)) if has[i] not in said.values()] or list(range(len(has)))
    if free and "green" in has and _GREEN & set(asked.heads):
        free.sort(key=lambda i: has[i] != "green")  # a blue cactus in a pot: not the pot
    elif free and thing.category == "food" and has[free[0]] == "green":
        body = [i for i in free if thing.color_shares[i] > 0.25 and has[i] not in ("green", "white", "cream")]
        free = body[:1] + [i for i in free if i not in body[:1]]  # a yellow beet: not its leaves
    wanted = list(dict.fromkeys(asked.colors))[: len(free)]
    slots = free[: len(wanted)]
    # what has one of the colours already keeps it, so that the fewest change
    for color in list(wanted):
        kept = next((i for i in slots if has[i] == color), None)
        if kept is not None:
            slots.remove(kept)
            wanted.remove(color)
    return list((found | dict(zip(slots, wanted, strict=True))).items())


def load_memory(user_folder: Path | None = None) -> StarterMemory:
    """The one that comes with the package, unless the user's is preferred. Raises: WeightsMissing, WeightsCorrupt."""
    found = default("memory", "starter", user_folder)
    if found is None:
        raise WeightsMissing("The memory of the starter generator is not here. Install the package again.")
    return StarterMemory(read_memory(verified(found)))


def _shade(shades: Float[Tensor, "n 3"], generator: torch.Generator | None) -> Float[Tensor, "3"]:
    if generator is not None:
        return shades[int(torch.randint(len(shades), (), generator=generator))]
    return shades[int(torch.cdist(shades, shades).sum(1).argmin())]
