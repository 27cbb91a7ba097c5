"""Surfaces for what has none: tubes along strands of hair, balls for the points of a cloud."""

import numpy as np

DEFAULT_RADIUS = 0.01
"""In scene units; what Blender draws where strands and points carry no radius."""
_FINE_LIMIT = 20_000
"""Points up to which each gets a round shape; above, a coarse one keeps the surface light."""


def tubes(positions: np.ndarray, radii: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed tube around each polyline.

    Args:
        positions: (P, 3), the points of all strands one after the other.
        radii: (P,).
        offsets: (S + 1,), where each strand begins; the last is P. Strands of fewer than two points are left out.
    Returns:
        Vertices (N, 3), faces (F, 4), and the point each vertex belongs to (N,).
    """
    sides = 6 if len(positions) <= _FINE_LIMIT else 4
    tangents = _tangents(positions, offsets)
    # Any direction across will do; the axis that is least along the tangent gives a steady one.
    axes = np.eye(3)[np.abs(tangents).argmin(axis=1)]
    across = np.cross(tangents, axes)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30)
    other = np.cross(tangents, across)
    angles = 2.0 * np.pi * np.arange(sides) / sides
    ring = across[:, None] * np.cos(angles)[None, :, None] + other[:, None] * np.sin(angles)[None, :, None]
    vertices = (positions[:, None] + radii[:, None, None] * ring).reshape(-1, 3)

    counts = np.diff(offsets)
    is_last = np.zeros(len(positions), dtype=bool)
    is_last[offsets[1:][counts > 0] - 1] = True
    starts = np.flatnonzero(~is_last)
    k = np.arange(sides)
    low, high = starts[:, None] * sides + k, starts[:, None] * sides + np.roll(k, -1)
    walls = np.stack([low, high, high + sides, low + sides], axis=-1).reshape(-1, 4)
    long = counts > 1
    heads, tails = offsets[:-1][long] * sides, (offsets[1:][long] - 1) * sides
    caps = [_fan(heads, sides, reverse=True), _fan(tails, sides, reverse=False)]
    return vertices, np.concatenate([walls, *caps]), np.repeat(np.arange(len(positions)), sides)


def balls(centers: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball around each point: vertices (N, 3), faces (F, 3), and the point each vertex belongs to (N,)."""
    unit, faces = _octahedron()
    if len(centers) <= _FINE_LIMIT:
        for _ in range(2):
            unit, faces = _subdivided(unit, faces)
    vertices = (centers[:, None] + radii[:, None, None] * unit[None]).reshape(-1, 3)
    shifts = len(unit) * np.arange(len(centers))
    return vertices, (faces[None] + shifts[:, None, None]).reshape(-1, 3), np.repeat(np.arange(len(centers)), len(unit))


def _tangents(positions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Unit (P, 3), along the strand; up where a strand stands still."""
    before, after = np.arange(len(positions)) - 1, np.arange(len(positions)) + 1
    filled = np.diff(offsets) > 0
    before[offsets[:-1][filled]] += 1
    after[offsets[1:][filled] - 1] -= 1
    tangents = positions[after] - positions[before]
    lengths = np.linalg.norm(tangents, axis=1, keepdims=True)
    return np.where(lengths > 0, tangents / np.maximum(lengths, 1e-30), np.array([0.0, 0.0, 1.0]))


def _fan(first: np.ndarray, sides: int, *, reverse: bool) -> np.ndarray:
    """Quads that close rings of an even number of sides, whose first vertices are given: a strip across the polygon."""
    quads = []
    low, high = 0, sides - 1
    while high - low >= 2:
        corners = [low, low + 1, high - 1, high]
        quads.append(first[:, None] + np.array(corners[::-1] if reverse else corners))
        low, high = low + 1, high - 1
    return np.concatenate(quads)


def _octahedron() -> tuple[np.ndarray, np.ndarray]:
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    return vertices, faces


def _subdivided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle into four, on the unit sphere."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    middles = vertices[unique].sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    ab, bc, ca = (len(vertices) + inverse.reshape(3, -1)).reshape(3, -1)
    a, b, c = faces.T
    new = np.concatenate([np.stack(corner, axis=1) for corner in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return np.concatenate([vertices, middles]), new
