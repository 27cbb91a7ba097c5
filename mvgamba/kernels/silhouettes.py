"""Coverage masks to signed distances, with the edge where the coverage says it is."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

FAINTEST_PEAK = 0.2
"""A part thinner than a pixel is kept when its coverage reaches half of this."""

_DIRECTIONS = (
    np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], bool),
    np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]], bool),
    np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], bool),
    np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], bool),
)


def signed_distance_2d(alpha: Float[Tensor, "V H W"]) -> Float[Tensor, "V H W"]:
    """Distance of each pixel centre to the outline in pixels, positive inside.

    Alpha is taken as the share of the pixel that is covered (box filter), so a straight edge is found to a few
    hundredths of a pixel. Parts thinner than a pixel, which never reach one half, are strengthened first so that they
    stay. A view without any edge is +(H + W) or -(H + W) everywhere. The slope stays below 1.5 per pixel.
    """
    maps = [_signed_distance(a) for a in alpha.detach().cpu().numpy().astype(np.float64)]
    stacked = np.stack(maps) if maps else np.zeros(tuple(alpha.shape))
    return torch.from_numpy(stacked.astype(np.float32)).to(alpha.device)


def _signed_distance(alpha: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    height, width = alpha.shape
    coverage = _strengthen_thin_parts(np.clip(alpha, 0.0, 1.0))
    inside = coverage >= 0.5
    sign = np.where(inside, 1.0, -1.0)
    edge = _edge_pixels(coverage, inside)
    if not edge.any():
        return sign * (height + width)

    rows, columns = np.nonzero(edge)
    normal_y, normal_x = _inward_normals(coverage, rows, columns)
    offset = _distance_from_coverage(coverage[rows, columns], normal_y, normal_x)
    number = np.zeros((height, width), np.int64)
    number[rows, columns] = np.arange(len(rows))

    nearest = ndimage.distance_transform_edt(~edge, return_distances=False, return_indices=True)
    k = number[nearest[0], nearest[1]]
    # The outline near an edge pixel is a short segment through the pixel's point on the edge, across its normal.
    y, x = np.mgrid[0:height, 0:width]
    dy = y - (rows[k] - offset[k] * normal_y[k])
    dx = x - (columns[k] - offset[k] * normal_x[k])
    across = dy * normal_y[k] + dx * normal_x[k]
    along = np.maximum(np.abs(dx * normal_y[k] - dy * normal_x[k]) - 0.5, 0.0)
    distance = sign * np.hypot(across, along)
    distance[rows, columns] = offset
    return distance


def _strengthen_thin_parts(alpha: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Divide thin parts by the largest coverage around them. Soft edges of thick parts stay as they are.

    Thin is what an opening by three pixels in a row removes, in at least one of four directions.
    """
    opened = np.min([ndimage.grey_opening(alpha, footprint=line, mode="nearest") for line in _DIRECTIONS], axis=0)
    thin = alpha - opened > 0.5 * alpha
    peak = ndimage.maximum_filter(alpha, 3, mode="nearest")
    return np.where(thin, alpha / np.maximum(peak, FAINTEST_PEAK), alpha)


def _edge_pixels(coverage: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Of each pair of neighbours on either side of one half, the one nearer to one half (both when equal)."""
    edge = np.zeros_like(inside)
    doubt = np.abs(coverage - 0.5)
    for a, b in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        crosses = inside[a] != inside[b]
        edge[a] |= crosses & (doubt[a] <= doubt[b] + 1e-9)
        edge[b] |= crosses & (doubt[b] <= doubt[a] + 1e-9)
    return edge


def _inward_normals(
    coverage: Float[np.ndarray, "H W"], rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit direction (y, x) in which coverage grows."""
    slope_y = ndimage.sobel(coverage, axis=0, mode="nearest")[rows, columns]
    slope_x = ndimage.sobel(coverage, axis=1, mode="nearest")[rows, columns]
    length = np.hypot(slope_y, slope_x)
    flat = length < 1e-6  # the ridge of a line one pixel wide: any direction is as good
    slope_y, slope_x = np.where(flat, 1.0, slope_y), np.where(flat, 0.0, slope_x)
    length = np.where(flat, 1.0, length)
    return slope_y / length, slope_x / length


def _distance_from_coverage(
    coverage: Float[np.ndarray, " e"], normal_y: Float[np.ndarray, " e"], normal_x: Float[np.ndarray, " e"]
) -> Float[np.ndarray, " e"]:
    """How far inside a straight edge with this normal the centre of a pixel of this coverage lies.

    The unit square cut by a half plane, inverted: a parabola while the edge cuts a corner, a line while it does not.
    """
    long = np.maximum(np.abs(normal_y), np.abs(normal_x))
    short = np.minimum(np.abs(normal_y), np.abs(normal_x))
    less = np.minimum(coverage, 1.0 - coverage)
    corner = less < 0.5 * short / long
    to_centre = np.where(corner, 0.5 * (long + short) - np.sqrt(2.0 * long * short * less), (0.5 - less) * long)
    return np.where(coverage >= 0.5, to_centre, -to_centre)
