"""Where photographs for training come from: one protocol, whatever the corpus."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mvgamba.cameras import intrinsics_from_fovy, orbit_c2w
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import DISTANCE, FOVY
from mvgamba.types import Cameras, PosedViews


@dataclass(frozen=True, eq=False)
class TrainingViews:
    """An object as a reconstructor will meet it, and the truth behind."""

    inputs: PosedViews
    """What is given. With depth, which is only a target."""
    others: PosedViews | None = None
    """Further photographs of the same object in the same world, to be compared with: all there are, where a source cannot draw."""
    draw: Callable[[Cameras], PosedViews] | None = None
    """Photographs of the same object, with depth, from any other cameras of the same world."""


@runtime_checkable
class Source(Protocol):
    """A corpus: numbered objects, each of which can be photographed in numbered variants, the same each time."""

    @property
    def names(self) -> list[str]: ...

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput where the object cannot be read, naming it."""
        ...


@dataclass(frozen=True)
class Rig:
    """Where photographs are taken from, about the vertical axis of an object."""

    angles: list[tuple[float, float]]
    """Azimuth and elevation, radians."""
    fovy: float
    distance: float
    """From the middle, in radii of the object's bounding sphere."""

    def cameras(self, drawable: Drawable, *, size: int) -> Cameras:
        """Looking at the middle of the object."""
        c2w = torch.stack([orbit_c2w(a, e, self.distance * drawable.radius) for a, e in self.angles])
        c2w[:, :3, 3] += torch.from_numpy(drawable.center)
        k = intrinsics_from_fovy(self.fovy, size, size)
        return Cameras(c2w, k.expand(len(self.angles), 3, 3).contiguous(), size, size)


def ring_cameras(drawable: Drawable, turn: float, *, size: int, tilts: tuple[float, ...] = (0.0,) * 4) -> Cameras:
    """A ring around an object's bounding sphere: level, or with an elevation for each view. The first stands at azimuth `turn`.

    Args:
        turn, tilts: In radians.
    """
    angles = [(turn + 2 * math.pi * k / len(tilts), tilt) for k, tilt in enumerate(tilts)]
    return Rig(angles, FOVY, DISTANCE).cameras(drawable, size=size)


@dataclass(frozen=True)
class GlbFolder:
    """GLB files in a folder and below, photographed on the fly. Variant 0 stands as the file has it, others are turned.

    Args:
        folder: Searched for `*.glb`; sorted by name.
        samples: Along each edge of a pixel.
    """

    folder: Path
    samples: int = 2

    @property
    def names(self) -> list[str]:
        found = sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*.glb"))
        if not found:
            raise InvalidInput(f"{self.folder} holds no .glb files; name a folder with objects to learn from.")
        return found

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        drawable = read_solid(self.folder / self.names[index])
        generator = np.random.default_rng([index, variant])
        # half of the variants look along the axes of the file, as most captures do
        turn = generator.uniform(0, 2 * math.pi) if variant % 2 else math.pi / 2 * (variant // 2)
        return photograph_training(drawable, ring_cameras(drawable, turn, size=size), samples=self.samples)


def read_solid(path: Path) -> Drawable:
    """A GLB that can be learned from. Raises: InvalidInput, naming it."""
    drawable = read_drawable(path)
    if not np.isfinite(drawable.vertices).all() or drawable.radius <= 0:
        raise InvalidInput(f"{path.name} has no extent, or vertices that are not finite.")
    return drawable


def photograph_training(drawable: Drawable, cameras: Cameras, *, samples: int) -> TrainingViews:
    """A drawable thing as a source gives it.

    Args:
        samples: Along each edge of a pixel.
    """

    def draw(wanted: Cameras) -> PosedViews:
        views = photograph(drawable, wanted, with_depth=True, samples=samples)
        return dataclasses.replace(views, rgb=views.rgb * (views.alpha > 0))

    return TrainingViews(draw(cameras), draw=draw)
