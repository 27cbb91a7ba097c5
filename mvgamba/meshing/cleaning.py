"""A raw surface to one closed, manifold, outward surface per part that matters."""

import logging

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags

from mvgamba.errors import EmptyReconstruction
from mvgamba.meshing.topology import (
    compact,
    face_areas,
    face_components,
    fill_holes,
    signed_volumes,
    split_touching,
    weld,
)
from mvgamba.types import Mesh

log = logging.getLogger(__name__)

WELD = 1e-6
"""Of the longest extent: vertices nearer than this become one."""


def clean_mesh(mesh: Mesh, *, min_component_fraction: float = 0.01) -> Mesh:
    """Weld, close, cut apart where the surface only touches itself, and keep the parts that matter.

    A part goes when it has less than `min_component_fraction` of the area of the largest part, when it is the wall of a
    cavity, or when it lies inside another part: no camera can see it.

    Raises:
        EmptyReconstruction: Nothing is left.
    """
    mesh = repair(mesh)
    mesh = _keep_visible_parts(mesh, min_component_fraction)
    if len(mesh.faces) == 0:
        raise EmptyReconstruction(
            "Nothing is left of the surface after cleaning. The views may not agree with each other, or the object is "
            "smaller than a few cells of the grid."
        )
    return mesh


def repair(mesh: Mesh, *, join_edges: bool = False) -> Mesh:
    """The same surface, closed and manifold. A few faces are added at holes and at edges where it touches itself."""
    if len(mesh.faces) == 0:
        return mesh
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    mesh = weld(
        Mesh(mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)), tolerance=max(WELD * extent, 1e-300)
    )
    return split_touching(fill_holes(mesh), join_edges=join_edges)


def smooth_mesh(mesh: Mesh, *, steps: int = 3, shrink: float = 0.5, swell: float = -0.53) -> Mesh:
    """Smooth without shrinking, after Taubin 1995: `steps` pairs of a step inwards and a step outwards."""
    a, b = mesh.faces.reshape(-1), np.roll(mesh.faces, -1, axis=1).reshape(-1)
    size = len(mesh.vertices)
    links = coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(size, size)).tocsr()
    links.data[:] = 1.0  # each neighbour once
    mean = diags(1.0 / np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1.0)) @ links
    vertices = mesh.vertices.astype(np.float64)
    for _ in range(steps):
        for factor in (shrink, swell):
            vertices = vertices + factor * (mean @ vertices - vertices)
    return Mesh(vertices, mesh.faces)


def _keep_visible_parts(mesh: Mesh, min_fraction: float) -> Mesh:
    if len(mesh.faces) == 0:
        return mesh
    part = face_components(mesh.faces)
    areas = np.bincount(part, face_areas(mesh))
    volumes = np.bincount(part, signed_volumes(mesh))
    solid = volumes > 0
    if not solid.any():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    keep = solid & (areas >= min_fraction * areas[solid].max())
    low, high = _boxes(mesh, part)
    for candidate in np.flatnonzero(keep)[np.argsort(volumes[keep])]:
        may_hold = keep & (low < low[candidate]).all(axis=1) & (high > high[candidate]).all(axis=1)
        if may_hold.any():
            point = mesh.vertices[mesh.faces[np.argmax(part == candidate), 0]]
            keep[candidate] = _winding_number(point, mesh, may_hold[part]) < 0.5
    if not keep.all():
        log.debug("kept %d of %d parts", int(keep.sum()), len(keep))
    return compact(Mesh(mesh.vertices, mesh.faces[keep[part]]))


def _boxes(mesh: Mesh, part: Int[np.ndarray, " F"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """The least and greatest coordinates of each part."""
    low = np.full((int(part.max()) + 1, 3), np.inf)
    high = -low
    for k in range(3):
        np.minimum.at(low, part, mesh.vertices[mesh.faces[:, k]])
        np.maximum.at(high, part, mesh.vertices[mesh.faces[:, k]])
    return low, high


def _winding_number(point: Float[np.ndarray, "3"], mesh: Mesh, use: Bool[np.ndarray, " F"]) -> float:
    """How often the chosen faces wrap around a point: 1 inside, 0 outside (Jacobson et al. 2013)."""
    a, b, c = (mesh.vertices[mesh.faces[use, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    volume = np.einsum("ni,ni->n", a, np.cross(b, c))
    scale = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float(np.arctan2(volume, scale).sum() / (2 * np.pi))
