"""Other objects and other rigs than a corpus has: props stretched and put together, photographed from two to eight places.

A small corpus is learned by heart within an hour. What a variant shows follows from its number alone.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from mvgamba.cameras import turn_about_vertical
from mvgamba.data.sources import GlbFolder, Rig, TrainingViews, photograph_training, read_solid
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable
from mvgamba.evaluation.rig import DISTANCE, FOVY

STRETCH = 1.35
"""Greatest factor along an axis; its inverse is the least."""
STRETCHED, COMPOSED, MISPLACED = 0.5, 0.2, 0.08
"""Shares of the variants."""
MISPLACED_BY = math.radians(15)
"""At most, along the orbit."""


def random_rig(generator: np.random.Generator) -> Rig:
    """What people capture: level rings of four most often, tilted rings, eight views of two heights, careless ones, two or three."""
    turn = generator.uniform(0, 2 * math.pi) if generator.uniform() < 0.5 else math.pi / 2 * generator.integers(4)
    kind = generator.choice(
        ["level", "tilted", "careless", "two heights", "ring", "few"], p=[0.35, 0.15, 0.18, 0.12, 0.1, 0.1]
    )

    def ring(count: int, elevation: float = 0.0) -> list[tuple[float, float]]:
        return [(turn + 2 * math.pi * k / count, elevation) for k in range(count)]

    if kind == "level":
        angles = ring(4)
    elif kind == "tilted":
        angles = ring(4, math.radians(generator.uniform(-10, 40)))
    elif kind == "careless":
        places = ring(int(generator.integers(3, 7)))
        angles = [
            (a + math.radians(generator.uniform(-25, 25)), math.radians(generator.uniform(-20, 60))) for a, _ in places
        ]
    elif kind == "two heights":
        tilts = [math.radians(generator.uniform(35, 50)) * (1 - 2 * (k % 2)) for k in range(4)]
        angles = ring(4) + [(a + math.pi / 4, tilt) for (a, _), tilt in zip(ring(4), tilts, strict=True)]
    elif kind == "ring":
        angles = ring(int(generator.choice([6, 8])), math.radians(generator.uniform(0, 35)))
    else:
        angles = ring(4, math.radians(generator.uniform(0, 25)))[: int(generator.integers(2, 4))]
    if generator.uniform() < 0.5:
        return Rig(angles, FOVY, DISTANCE)
    fovy = math.radians(generator.uniform(25, 55))
    return Rig(angles, fovy, generator.uniform(1.04, 1.3) / math.sin(0.5 * fovy))


@dataclass(frozen=True)
class VariedGlbs:
    """The objects of a folder of GLBs in endless variants, see the module.

    Args:
        first: Number of the first variant, so that several runs make different ones.
    """

    folder: GlbFolder
    first: int = 0

    @property
    def names(self) -> list[str]:
        return self.folder.names

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput where the object, or the one that is put beside it, cannot be read."""
        names = self.names
        generator = np.random.default_rng([index, self.first + variant, 1])
        drawable = read_solid(self.folder.folder / names[index])
        if generator.uniform() < STRETCHED:
            drawable = stretched(drawable, np.exp(generator.uniform(-1, 1, 3) * math.log(STRETCH)))
        if generator.uniform() < COMPOSED:
            other = names[int(generator.integers(len(names)))]
            try:
                companion = read_solid(self.folder.folder / other)
            except InvalidInput as error:
                raise InvalidInput(f"the companion of {names[index]}: {error}") from error
            drawable = put_together(drawable, companion, generator)
        rig = random_rig(generator)
        taken = photograph_training(drawable, rig.cameras(drawable, size=size), samples=self.folder.samples)
        if generator.uniform() < MISPLACED:
            taken = self._misplaced(taken, drawable, rig, generator)
        return taken

    def _misplaced(
        self, taken: TrainingViews, drawable: Drawable, rig: Rig, generator: np.random.Generator
    ) -> TrainingViews:
        """One view, not the first, was taken from further round than its camera says; the truth is that of the camera."""
        view = int(generator.integers(1, len(rig.angles)))
        azimuth, elevation = rig.angles[view]
        angles = list(rig.angles)
        angles[view] = (azimuth + generator.uniform(-1, 1) * MISPLACED_BY, elevation)
        cameras = dataclasses.replace(rig, angles=angles).cameras(drawable, size=taken.inputs.cameras.height)
        assert taken.draw is not None
        seen = taken.draw(cameras[[view]])
        rgb, alpha = taken.inputs.rgb.clone(), taken.inputs.alpha.clone()
        rgb[view], alpha[view] = seen.rgb[0], seen.alpha[0]
        return dataclasses.replace(taken, inputs=dataclasses.replace(taken.inputs, rgb=rgb, alpha=alpha))


def stretched(drawable: Drawable, factors: np.ndarray) -> Drawable:
    """Each axis times a factor, about the middle."""
    return dataclasses.replace(drawable, vertices=(drawable.vertices - drawable.center) * factors + drawable.center)


def put_together(first: Drawable, second: Drawable, generator: np.random.Generator) -> Drawable:
    """Two things as one: the second, of a size of its own and turned, stands on top of the first or beside it."""
    size, angle = generator.uniform(0.45, 1.0) * first.radius / second.radius, generator.uniform(0, 2 * math.pi)
    vertices = size * (second.vertices - second.center) @ turn_about_vertical(angle).numpy().T
    second = dataclasses.replace(second, vertices=vertices)
    (low, high), low2 = first.bounds, second.bounds[0]
    place = first.center
    if generator.uniform() < 0.4:
        # in by a little, so that the two touch
        place[1] = high[1] - low2[1] - 0.02 * first.radius
    else:
        axis = int(generator.choice([0, 2]))
        place[axis] = high[axis] - low2[axis] - 0.02 * first.radius
        place[1] = low[1] - low2[1]
    moved = dataclasses.replace(second, vertices=vertices + place)
    count, kinds = len(first.vertices), len(first.materials)
    return Drawable(
        np.concatenate([first.vertices, moved.vertices]),
        np.concatenate([first.faces, moved.faces + count]),
        np.concatenate([first.uvs, moved.uvs]),
        np.concatenate([first.colors, moved.colors]),
        np.concatenate([first.face_materials, moved.face_materials + kinds]),
        [*first.materials, *moved.materials],
    )
