"""One object in one variant as a multi-view generator learns from it: pictures from a fixed set of places, and the words for it.

The words come from `index.jsonl` in the folder of the GLBs or above it (fields `file`, `captions`, `category`, `family`, `colours`); without one,
the name of the file is the caption.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from mvgamba.data.samples import Stored
from mvgamba.data.shards import ShardReport, ShardSamples, read_samples, write_shards
from mvgamba.data.sources import GlbFolder, Rig, TrainingViews, photograph_training, read_solid
from mvgamba.data.variation import STRETCH, put_together, stretched
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.rig import DISTANCE, FOVY
from mvgamba.multiview.starter_generator import ELEVATIONS, KNOWN_ELEVATIONS

PROMPTED = "prompted"
"""The kind of shards that hold `PromptedSample`."""
NUM_TURNS = 12
"""Azimuths that an object is photographed from, from its front on."""
FRONT_ELEVATIONS = KNOWN_ELEVATIONS
"""Of the cameras at each of them."""
TOP_ELEVATION, TOP_TURN = ELEVATIONS[-1], math.pi / 4
"""Of one more camera at each of them: from above, half a quarter further round."""


def places() -> list[tuple[float, float]]:
    """Azimuth and elevation of each picture: rings by elevation, then the views from above."""
    turns = [2 * math.pi * k / NUM_TURNS for k in range(NUM_TURNS)]
    rings = [(turn, elevation) for elevation in FRONT_ELEVATIONS for turn in turns]
    return rings + [(turn + TOP_TURN, TOP_ELEVATION) for turn in turns]


def rig_places(turn: int, elevation: int) -> list[int]:
    """Which pictures are one set, as `multiview.starter_generator.rig_cameras` has it: the front at an elevation of its own, the others level."""
    quarter = NUM_TURNS // 4
    ring = [(turn + quarter * k) % NUM_TURNS for k in range(4)]
    return [elevation * NUM_TURNS + turn, *ring[1:], len(FRONT_ELEVATIONS) * NUM_TURNS + turn]


@dataclass(frozen=True, eq=False)
class PromptedSample(Stored):
    """Pictures in the order of `places`; `num_given` is their number."""

    rgba: UInt8[np.ndarray, "V S S 4"]
    """Straight."""
    captions: np.ndarray
    """Text, the plain name first; none where no words fit what was made of the object."""
    category: np.ndarray
    """Text, one element, as `family`."""
    family: np.ndarray
    color_names: np.ndarray
    """Text: the main colours, largest share first."""
    color_rgb: Float32[np.ndarray, "c 3"]
    color_shares: Float32[np.ndarray, "c"]


@dataclass(frozen=True)
class CaptionedGlbs:
    """GLB files with words. Variants by number modulo four: as it stands, stretched, stretched, stretched beside or under another object.

    Args:
        samples: Along each edge of a pixel.
    """

    folder: Path
    samples: int = 2

    @property
    def names(self) -> list[str]:
        return GlbFolder(self.folder).names

    def row(self, index: int) -> dict[str, object]:
        """What is known of an object."""
        name = self.names[index]
        found = _index_of(self.folder).get(Path(name).name)
        return found if found is not None else {"captions": [Path(name).stem.replace("_", " ").replace("-", " ")]}

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput where the object, or the one that is put beside it, cannot be read."""
        names = self.names
        generator = np.random.default_rng([index, variant, 2])
        drawable = read_solid(self.folder / names[index])
        if variant % 4:
            drawable = stretched(drawable, np.exp(generator.uniform(-1, 1, 3) * math.log(STRETCH)))
        if variant % 4 == 3:
            other = names[int(generator.integers(len(names)))]
            drawable = put_together(drawable, read_solid(self.folder / other), generator)
        rig = Rig(places(), FOVY, DISTANCE)
        return photograph_training(drawable, rig.cameras(drawable, size=size), samples=self.samples)


def make_prompted_sample(source: CaptionedGlbs, index: int, variant: int, *, size: int) -> PromptedSample:
    """Raises: InvalidInput for an object that cannot be used."""
    taken = source.views(index, variant, size=size).inputs
    rgba = torch.cat([taken.rgb, taken.alpha], 1).permute(0, 2, 3, 1)
    row = source.row(index)
    colors = row.get("colours") or []
    assert isinstance(colors, list)
    captions = row["captions"] if variant % 4 != 3 else []
    return PromptedSample(
        num_given=len(rgba),
        rgba=(255 * rgba).round().to(torch.uint8).numpy(),
        captions=np.array(captions, dtype=np.str_),
        category=np.array([row.get("category", "")], dtype=np.str_),
        family=np.array([row.get("family", "")], dtype=np.str_),
        color_names=np.array([c["name"] for c in colors], dtype=np.str_),
        color_rgb=np.array([c["rgb"] for c in colors], np.float32).reshape(-1, 3) / 255,
        color_shares=np.array([c["fraction"] for c in colors], np.float32),
    )


def write_prompted_shards(source: CaptionedGlbs, folder: Path, **more: object) -> ShardReport:
    """As `write_shards`."""
    return write_shards(source, folder, make=make_prompted_sample, kind=PROMPTED, **more)  # type: ignore[arg-type]


def read_prompted_shards(*folders: Path) -> ShardSamples[PromptedSample]:
    """As `read_shards`. Raises: InvalidInput."""
    return read_samples(*folders, from_arrays=PromptedSample.from_arrays, kind=PROMPTED)


_INDICES: dict[Path, dict[str, dict[str, object]]] = {}


def _index_of(folder: Path) -> dict[str, dict[str, object]]:
    if folder not in _INDICES:
        rows: dict[str, dict[str, object]] = {}
        for place in (folder, folder.parent):
            path = place / "index.jsonl"
            if path.exists():
                try:
                    parsed = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
                    rows = {Path(row["file"]).name: row for row in parsed if row["captions"]}
                except (ValueError, KeyError, TypeError) as error:
                    raise InvalidInput(f"{path} is not an index of objects: {error!r}.") from error
                break
        _INDICES[folder] = rows
    return _INDICES[folder]
