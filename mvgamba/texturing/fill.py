"""Colours for texels that no view saw, and for the space between charts."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

NORMAL_LENGTH = 0.25
"""Turning by a radian is as far as this share of the object's extent: a wall's two sides are not neighbours."""
MOST_SOURCES = 20_000
"""Far from all that was seen the search looks at nearly all of them: with 150,000 it took 24 s for half a texture."""
SLACK = 0.5
"""A source may be this much farther away than the nearest one, as a share."""
NEIGHBOURS = 6


def fill_unseen(
    colors: Float[np.ndarray, "M 3"],
    seen: Bool[np.ndarray, "M"],
    points: Float[np.ndarray, "M 3"],
    normals: Float[np.ndarray, "M 3"],
) -> Float[np.ndarray, "M 3"]:
    """Give texels that were not seen the colour of those that were and are nearest on the surface, in place and direction.

    Works in the scene and not in the atlas, where a neighbour may be from another part of the object. If nothing was seen
    all is grey.
    """
    if seen.all():
        return colors
    result = colors.copy()
    if not seen.any():
        result[:] = 0.5
        return result
    extent = max(float(np.ptp(points, axis=0).max()), 1e-12)
    space = np.concatenate([points / extent, NORMAL_LENGTH * normals], axis=1)
    sources = np.flatnonzero(seen)
    sources = sources[:: max(1, len(sources) // MOST_SOURCES)]
    near = min(NEIGHBOURS, len(sources))
    distance, found = cKDTree(space[sources]).query(space[~seen], k=near, eps=SLACK, workers=-1)
    distance, found = distance.reshape(-1, near), found.reshape(-1, near)
    weight = 1.0 / (distance**2 + 1e-8)
    weight /= weight.sum(axis=1, keepdims=True)
    result[~seen] = (weight[..., None] * colors[sources[found]]).sum(axis=1)
    return result


def fill_between_charts(
    texture: Float[np.ndarray, "Ht Wt 3"], covered: Bool[np.ndarray, "Ht Wt"], *, reach: int
) -> Float[np.ndarray, "Ht Wt 3"]:
    """Carry the nearest colour `reach` texels past each chart, so that filters and mip-maps see no other; mean elsewhere."""
    if covered.all() or not covered.any():
        return texture
    distance, (rows, columns) = distance_transform_edt(~covered, return_indices=True)
    result = texture[rows, columns]
    result[distance > reach] = texture[covered].mean(axis=0)
    return result
