"""A mesh laid flat: texture coordinates in which no two faces share a texel."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from mvgamba.errors import InvalidInput
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.texturing.charts import components, cut_into_charts, face_geometry, face_pairs
from mvgamba.texturing.packing import pack
from mvgamba.types import Mesh

log = logging.getLogger(__name__)

TEXTURE_SIZES = (16, 8192)
MOST_SPLITS = 6
"""Rounds of looking for faces that fall onto others of their chart."""
CREASE = 0.75
"""Cosine: corners share a normal across edges that bend less than 41 degrees."""


@dataclass(frozen=True, eq=False)
class UnwrappedMesh:
    """A mesh with its vertices split along the seams of an atlas, not painted yet."""

    vertices: Float[np.ndarray, "P 3"]
    faces: Int[np.ndarray, "F 3"]
    """In the order of the mesh it came from."""
    normals: Float[np.ndarray, "P 3"]
    """Unit, at the vertices; smooth across shallow edges."""
    uvs: Float[np.ndarray, "P 2"]
    """Inside (0, 1); (0, 0) is the upper left corner of the texture."""
    source_vertices: Int[np.ndarray, "P"]
    """Which vertex of the mesh each one is."""
    charts: Int[np.ndarray, "F"]
    texture_size: int
    """The size that the free space between charts was made for."""


def unwrap(mesh: Mesh, *, texture_size: int, padding: int | None = None) -> UnwrappedMesh:
    """Cut a mesh into charts, project each one onto a plane and pack them.

    Every chart has the same scale. Faces that would fall onto others of their chart become charts of their own, so that
    no texel belongs to two faces.

    Args:
        texture_size: Edge of the texture in pixels.
        padding: Texels to stay free around each chart; by default about 1/256 of the texture, less if there are many.
    Raises:
        InvalidInput: The mesh is empty or broken, or has more charts than the texture has room for.
    """
    vertices, faces = _checked(mesh, texture_size)
    _, first, welded = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    corners = welded.reshape(-1)[faces]
    normals, areas = face_geometry(vertices, faces)
    pairs = face_pairs(corners)
    charts = cut_into_charts(normals, areas, pairs)
    for turn in range(MOST_SPLITS + 1):
        split, source, chart_of = _split(corners, first, charts)
        flat, height = _project(vertices[source], chart_of, charts, normals, areas)
        uvs = _lay_out(flat, chart_of, texture_size, padding)
        folded = _folded_faces(uvs, height, split, texture_size)
        if not folded.any() or turn == MOST_SPLITS:
            break
        apart = charts * 2 + folded
        charts = components(len(faces), pairs[apart[pairs[:, 0]] == apart[pairs[:, 1]]])
    if folded.any():
        log.warning("%d faces still share texels with others of their chart.", int(folded.sum()))
    log.debug("unwrapped %d faces into %d charts", len(faces), int(charts.max()) + 1)
    return UnwrappedMesh(
        vertices[source],
        split,
        _vertex_normals(corners, split, len(source), normals, areas),
        uvs,
        source,
        charts,
        texture_size,
    )


def _checked(mesh: Mesh, texture_size: int) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    if not TEXTURE_SIZES[0] <= texture_size <= TEXTURE_SIZES[1]:
        raise InvalidInput(
            f"texture_size is {texture_size}; it must lie between {TEXTURE_SIZES[0]} and {TEXTURE_SIZES[1]} pixels."
        )
    if len(faces) == 0:
        raise InvalidInput("The mesh has no faces, so there is nothing to unwrap.")
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise InvalidInput(f"{bad} of {len(vertices)} vertices are not finite numbers. Clean the mesh first.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InvalidInput(
            f"faces name vertices {faces.min()} to {faces.max()}, but there are {len(vertices)} vertices."
        )
    return vertices, faces


def _split(corners: np.ndarray, first: np.ndarray, charts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex for each pair of chart and place -> faces, source vertices, chart of each vertex."""
    key = charts[:, None] * len(first) + corners
    unique, inverse = np.unique(key, return_inverse=True)
    return inverse.reshape(-1, 3), first[unique % len(first)], unique // len(first)


def _project(
    points: np.ndarray, chart_of: np.ndarray, charts: np.ndarray, normals: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each chart seen along its mean normal, turned so that its bounding box is small -> positions, heights.

    Seen from outside: a chart is not mirrored when +v runs downwards, as in a texture.
    """
    count = int(charts.max()) + 1
    mean = np.stack([np.bincount(charts, areas * normals[:, k], minlength=count) for k in range(3)], axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    mean = np.where(length > 1e-30, mean / np.maximum(length, 1e-30), [0.0, 0.0, 1.0])
    other = np.where(np.abs(mean[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[0.0, 0.0, -1.0]])
    right = np.cross(other, mean)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = -np.cross(mean, right)
    flat = np.stack([(points * right[chart_of]).sum(1), (points * down[chart_of]).sum(1)], axis=1)
    height = (points * mean[chart_of]).sum(1)

    start = np.flatnonzero(np.diff(chart_of, prepend=-1))  # vertices come in the order of their charts
    best_area = np.full(count, np.inf)
    best_turn = np.zeros(count)
    for turn in np.linspace(0, np.pi / 2, 16, endpoint=False):
        x = flat @ [np.cos(turn), -np.sin(turn)]
        y = flat @ [np.sin(turn), np.cos(turn)]
        wide = np.maximum.reduceat(x, start) - np.minimum.reduceat(x, start)
        tall = np.maximum.reduceat(y, start) - np.minimum.reduceat(y, start)
        # A quarter turn more when it stands: boxes lie on their long side.
        better = wide * tall < best_area * 0.999
        best_area = np.where(better, wide * tall, best_area)
        best_turn = np.where(better, turn + np.where(tall > wide, np.pi / 2, 0.0), best_turn)
    c, s = np.cos(best_turn)[chart_of], np.sin(best_turn)[chart_of]
    return np.stack([c * flat[:, 0] - s * flat[:, 1], s * flat[:, 0] + c * flat[:, 1]], axis=1), height


def _lay_out(flat: np.ndarray, chart_of: np.ndarray, texture_size: int, padding: int | None) -> np.ndarray:
    start = np.flatnonzero(np.diff(chart_of, prepend=-1))
    low = np.minimum.reduceat(flat, start)
    sizes = np.maximum.reduceat(flat, start) - low
    if padding is None:
        # Free space around charts may take a third of the texture at most.
        room = int(0.5 * (np.sqrt(texture_size**2 / 3 / len(sizes))))
        padding = max(1, min(max(2, round(texture_size / 256)), room))
    packed = pack(sizes, texture_size, padding=padding)
    if packed is None:
        raise InvalidInput(
            f"The mesh falls into {len(sizes)} charts, too many for a texture of {texture_size} pixels with {padding} "
            "pixels around each. Use a larger texture or fewer faces."
        )
    scale, corners = packed
    slack = np.floor(sizes * scale) + 1 - sizes * scale
    return (corners[chart_of] + 0.5 * slack[chart_of] + (flat - low[chart_of]) * scale) / texture_size


def rasterize_uvs(uvs: np.ndarray, faces: np.ndarray, texture_size: int, height: np.ndarray | None = None):
    """The face that covers the centre of each texel; the least `height` wins (planes as `rasterize_mesh`, one view)."""
    z = np.ones(len(uvs)) if height is None else height
    points = np.concatenate([uvs * texture_size * z[:, None], z[:, None]], axis=1)
    return rasterize_mesh(
        torch.from_numpy(points).float(),
        torch.from_numpy(faces),
        torch.eye(4)[None],
        torch.eye(3)[None],
        height=texture_size,
        width=texture_size,
    )


def _folded_faces(uvs: np.ndarray, height: np.ndarray, faces: np.ndarray, texture_size: int) -> np.ndarray:
    """Faces that lie below another one somewhere: those seen from below where another one is seen from above."""
    size = min(texture_size, 2048)
    level = 1.0 + (height - height.min()) / max(float(np.ptp(height)), 1e-30)
    top = rasterize_uvs(uvs, faces, size, 3.0 - level)
    bottom = rasterize_uvs(uvs, faces, size, level)
    above, below = top.face_ids[0], bottom.face_ids[0]
    # A texel centre on a common edge may go to either face: only what is inside both counts.
    inner = (top.barycentrics[0].amin(-1) > 1e-3) & (bottom.barycentrics[0].amin(-1) > 1e-3)
    folded = np.zeros(len(faces), bool)
    folded[below[(above != below) & inner].numpy()] = True
    # Faces turned over by the projection would show their back and mirror the texture.
    a, b, c = (uvs[faces[:, i]] for i in range(3))
    turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) > 0
    return folded | turned


def _vertex_normals(
    corners: np.ndarray, split: np.ndarray, count: int, normals: np.ndarray, areas: np.ndarray
) -> np.ndarray:
    """The mean of the faces around a place, without those beyond a crease from the vertex's own chart."""
    own = np.zeros((count, 3))
    for i in range(3):
        for k in range(3):
            own[:, k] += np.bincount(split[:, i], areas * normals[:, k], minlength=count)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-300)
    place = np.empty(count, np.int64)
    place[split.reshape(-1)] = corners.reshape(-1)
    # Every vertex against every face around its place.
    order = np.argsort(corners.reshape(-1), kind="stable")
    begin = np.searchsorted(corners.reshape(-1)[order], np.arange(place.max() + 2))
    around = begin[place + 1] - begin[place]
    vertex = np.repeat(np.arange(count), around)
    offset = np.arange(len(vertex)) - np.repeat(np.cumsum(around) - around, around)
    face = order[begin[place[vertex]] + offset] // 3
    weight = areas[face] * ((own[vertex] * normals[face]).sum(1) > CREASE)
    total = np.stack([np.bincount(vertex, weight * normals[face, k], minlength=count) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    own[np.linalg.norm(own, axis=1) < 0.5] = (0.0, 1.0, 0.0)
    return np.where(length > 1e-30, total / np.maximum(length, 1e-30), own)
