"""Fewer faces, the same shape."""

import logging

import fast_simplification
import numpy as np

from mvgamba.meshing.cleaning import repair
from mvgamba.meshing.topology import compact, face_areas, face_components
from mvgamba.types import Mesh

log = logging.getLogger(__name__)

AGGRESSIVENESS = (4.0, 5.5, 7.0, 9.0, 12.0)
"""Tried in turn: the first that comes down to the target gives the best shape."""


def decimate(mesh: Mesh, target_faces: int) -> Mesh:
    """At most `target_faces` triangles, by quadric edge collapse (Garland and Heckbert 1997); closed stays closed.

    Where an edge collapse made the surface touch itself it is cut apart again, and the budget holds after that. Parts
    go, smallest first, only if the budget does not suffice for all of them.
    """
    if len(mesh.faces) <= target_faces:
        return mesh
    low = mesh.vertices.min(axis=0)
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    points = (mesh.vertices - low) / extent
    ask = target_faces
    best: Mesh | None = None
    for _ in range(12):
        best = _collapse(Mesh(points, mesh.faces), ask)
        excess = len(best.faces) - target_faces
        if excess <= 0:
            break
        ask -= max(excess, 2)
        if ask < 4:
            break
    assert best is not None
    best = _drop_smallest_parts(best, target_faces)
    return Mesh(best.vertices * extent + low, best.faces)


def _collapse(mesh: Mesh, target: int) -> Mesh:
    result = mesh
    for aggressiveness in AGGRESSIVENESS:
        vertices, faces = fast_simplification.simplify(
            mesh.vertices, mesh.faces.astype(np.int32), target_count=target, agg=aggressiveness
        )
        result = repair(Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64)))
        if len(result.faces) <= target * 1.02 + 8:
            break
    return result


def _drop_smallest_parts(mesh: Mesh, target: int) -> Mesh:
    while len(mesh.faces) > target:
        part = face_components(mesh.faces)
        if part.max() == 0:
            log.warning("a part of %d faces could not be brought down to %d", len(mesh.faces), target)
            break
        areas = np.bincount(part, face_areas(mesh))
        mesh = compact(Mesh(mesh.vertices, mesh.faces[part != np.argmin(areas)]))
    return mesh
