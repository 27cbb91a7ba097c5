"""A surface cut into charts: connected faces that look the same way, so that a flat projection keeps their shape."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

STEEPEST = 0.3
"""Least cosine between a face and the direction its chart is projected along: texels are stretched by its inverse."""
SMOOTHING = 0.35
"""What an edge between two labels costs, beside the 1 - cosine of a face that looks another way than its label."""
ROUNDS = 12
SMALL = 0.004
"""Charts with less than this share of the surface try to join a neighbour."""


def face_geometry(
    vertices: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, "F"]]:
    """Unit normals and areas; the normal of a face without area is 0."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-300)[:, None], 0.5 * length


def face_pairs(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "E 2"]:
    """Faces that share an edge."""
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64), axis=1)
    key = sides[:, 0] * (int(faces.max(initial=0)) + 1) + sides[:, 1]
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    pairs = np.stack([order[:-1][same] // 3, order[1:][same] // 3], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def components(count: int, pairs: Int[np.ndarray, "E 2"]) -> Int[np.ndarray, "count"]:
    """The number of the part that each face belongs to, when only `pairs` hang together."""
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def cut_into_charts(
    normals: Float[np.ndarray, "F 3"],
    areas: Float[np.ndarray, "F"],
    pairs: Int[np.ndarray, "E 2"],
) -> Int[np.ndarray, "F"]:
    """A chart number for each face, 0 ... n - 1; charts are connected.

    Each face takes one of the 6 directions of the axes; neighbours are made to agree by iterated conditional modes (Besag
    1986) where that costs little, and what is left of small charts joins the neighbour with the longest common border.
    """
    directions = np.concatenate([np.eye(3), -np.eye(3)])
    smooth = _smooth_normals(normals, areas, pairs)
    mismatch = 1.0 - smooth @ directions.T
    mismatch[normals @ directions.T < STEEPEST] = 1e3
    rows = np.concatenate([pairs[:, 0], pairs[:, 1]])
    others = np.concatenate([pairs[:, 1], pairs[:, 0]])
    labels = mismatch.argmin(axis=1)
    half = np.arange(len(normals)) * 2654435761 % 4294967296 // 65536 % 2  # all at once would oscillate
    for turn in range(ROUNDS):
        votes = np.bincount(rows * 6 + labels[others], minlength=6 * len(normals)).reshape(-1, 6)
        better = (mismatch - SMOOTHING * votes).argmin(axis=1)
        labels = np.where(half == turn % 2, better, labels)
    for _ in range(4):
        charts = components(len(normals), pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]])
        changed = _join_small(labels, charts, areas, pairs, normals @ directions.T)
        if (changed == labels).all():
            break
        labels = changed
    return components(len(normals), pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]])


def _smooth_normals(normals: np.ndarray, areas: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Noise in a reconstructed surface must not scatter the labels; edges between large flat sides stay."""
    result = normals
    weight = areas[:, None] + 1e-12 * areas.mean()
    for _ in range(3):
        alike = np.clip((result[pairs[:, 0]] * result[pairs[:, 1]]).sum(1), 0, 1) ** 4
        total = result * weight
        for a, b in ((0, 1), (1, 0)):
            part = result[pairs[:, b]] * (weight[pairs[:, b], 0] * alike)[:, None]
            total = total + np.stack(
                [np.bincount(pairs[:, a], part[:, k], minlength=len(normals)) for k in range(3)], axis=1
            )
        result = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)
    return result


def _join_small(
    labels: np.ndarray, charts: np.ndarray, areas: np.ndarray, pairs: np.ndarray, cosines: np.ndarray
) -> np.ndarray:
    """Give each small chart the label of a neighbour, if all its faces can be projected that way."""
    count = int(charts.max()) + 1
    area = np.bincount(charts, areas, minlength=count)
    steepest = np.full((count, cosines.shape[1]), np.inf)
    np.minimum.at(steepest, charts, cosines)
    sides = np.concatenate([pairs, pairs[:, ::-1]])
    here, there = charts[sides[:, 0]], charts[sides[:, 1]]
    ask = (here != there) & (area[here] < SMALL * area.sum()) & (area[here] <= area[there])
    ask &= steepest[here, labels[sides[:, 1]]] >= STEEPEST
    votes = np.bincount(
        here[ask] * cosines.shape[1] + labels[sides[ask, 1]], minlength=count * cosines.shape[1]
    ).reshape(count, -1)
    wanted = votes.argmax(axis=1)
    return np.where(votes.max(axis=1)[charts] > 0, wanted[charts], labels)
