"""Rectangles into a square, each with one of its sides on the skyline of those below it."""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter1d


def pack(
    sizes: Float[np.ndarray, "n 2"], edge: int, *, padding: int, steps: int = 7
) -> tuple[float, Int[np.ndarray, "n 2"]] | None:
    """The greatest scale at which boxes of `sizes` times that scale fit into a square of `edge` texels, and their corners.

    Around each box `padding` texels stay free. Corners are whole texels, inside the padding. None if not even single
    texels fit.
    """
    order = np.lexsort((-sizes[:, 0], -sizes[:, 1]))
    area = float((sizes[:, 0] * sizes[:, 1]).sum())
    longest = max(float(sizes.max()), 1e-30)
    high = min((edge - 2 * padding - 1) / longest, edge / np.sqrt(max(area, 1e-60)))
    if edge <= 2 * padding + 1:
        return None
    low, best = 0.0, None
    guess = 0.88 * high
    for _ in range(steps):
        corners = _place(_texels(sizes, guess)[order] + 2 * padding, edge)
        if corners is None:
            high = guess
        else:
            low, best = guess, corners
        guess = 0.5 * (low + high) if best is not None else 0.85 * guess
    while best is None and guess * longest > 0.5:
        guess *= 0.7
        low, best = guess, _place(_texels(sizes, guess)[order] + 2 * padding, edge)
    if best is None:
        return None
    corners = np.empty_like(best)
    corners[order] = best + padding
    return low, corners


def _texels(sizes: np.ndarray, scale: float) -> np.ndarray:
    """One more than the size, so that rounding to whole texels never cuts."""
    return np.floor(sizes * scale).astype(np.int64) + 1


def _place(boxes: np.ndarray, edge: int) -> np.ndarray | None:
    """Lower left corners of whole boxes, or None if they do not fit."""
    if (boxes.max(axis=0) > edge).any() or int((boxes[:, 0] * boxes[:, 1]).sum()) > edge * edge:
        return None
    skyline = np.zeros(edge, np.int64)
    corners = np.empty_like(boxes)
    for i, (width, height) in enumerate(boxes.tolist()):
        tops = maximum_filter1d(skyline, width, origin=-(width // 2))  # over [x, x + width) for every x
        x = int(tops[: edge - width + 1].argmin())
        y = int(tops[x])
        if y + height > edge:
            return None
        corners[i] = x, y
        skyline[x : x + width] = y + height
    return corners
