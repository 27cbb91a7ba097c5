"""The pictures that the judge looks at: unlit colours, coverage and depth of a thing, framed by its own bounding sphere."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.evaluation.drawable import Drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import DISTANCE, cameras_around
from mvgamba.types import PosedViews, Similarity

SIZE = 64
SAMPLES = 2
"""Along each edge of a pixel."""
JUDGED_ANGLES = [(math.radians(22.5 + 45 * k), math.radians((10, 35)[k % 2])) for k in range(8)]
"""Azimuth and elevation of the eight views; none stands exactly in front, where a generator's view may have stood."""
GREY = 0.5
"""Behind the thing: as near to white things as to black ones."""


def take_views(drawable: Drawable, angles: list[tuple[float, float]]) -> PosedViews:
    """Photographs with depth in radii of the bounding sphere, 1 towards the camera, 0 at its middle and where nothing is."""
    views = photograph(
        drawable, cameras_around(drawable, Similarity.identity(), angles, SIZE), with_depth=True, samples=SAMPLES
    )
    assert views.depth is not None
    relief = torch.where(views.depth > 0, DISTANCE - views.depth / drawable.radius, 0.0).clamp(-1, 1)
    return PosedViews(views.rgb, views.alpha, views.cameras, relief)


def planes_of(views: PosedViews) -> Float[Tensor, "V 5 H W"]:
    """Colour over grey, coverage and depth, in [0, 1], [0, 1] and [-1, 1]."""
    assert views.depth is not None
    return torch.cat([views.rgb * views.alpha + GREY * (1 - views.alpha), views.alpha, views.depth], 1)


def stretched(drawable: Drawable, factors: Float[np.ndarray, "3"]) -> Drawable:
    """The same thing longer or shorter along each axis."""
    return Drawable(
        drawable.vertices * factors,
        drawable.faces,
        drawable.uvs,
        drawable.colors,
        drawable.face_materials,
        drawable.materials,
    )
