"""Fewer faces, the same shape."""

import logging

import fast_simplification
import numpy as np

from mvgamba.meshing.cleaning import repair
from mvgamba.meshing.topology import compact, face_areas, face_components, split_touching, weld
from mvgamba.types import Mesh

log = logging.getLogger(__name__)

AGGRESSIVENESS = (4.0, 5.5, 7.0, 9.0, 12.0)
"""Tried in turn: the first that comes down to the target gives the best shape."""

CRUMB = 0.01
"""Of the area of the largest part."""


def decimate(mesh: Mesh, target_faces: int) -> Mesh:
    """At most `target_faces` triangles, by quadric edge collapse (Garland and Heckbert 1997); closed stays closed.

    Where an edge collapse made a thin part touch itself a sliver keeps it together, and crumbs that broke off go; the
    budget holds after that. Should collapsing edges not suffice, the smallest parts go, then vertices are merged by place.
    """
    if len(mesh.faces) <= target_faces:
        return mesh
    low = mesh.vertices.min(axis=0)
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    unit = Mesh((mesh.vertices - low) / extent, mesh.faces)
    result, ask = unit, target_faces
    for _ in range(4):  # a repair may add a few faces, so ask for fewer next time
        result = _collapse(unit, ask)
        excess = len(result.faces) - target_faces
        if excess <= 0:
            break
        ask = max(ask - 2 * excess, 4)
    result = _merge_by_place(_drop_smallest_parts(result, target_faces), target_faces)
    return Mesh(result.vertices * extent + low, result.faces)


def _collapse(mesh: Mesh, target: int) -> Mesh:
    result = mesh
    for aggressiveness in AGGRESSIVENESS:
        vertices, faces = fast_simplification.simplify(
            mesh.vertices, mesh.faces.astype(np.int32), target_count=target, agg=aggressiveness
        )
        if len(faces) <= target or aggressiveness == AGGRESSIVENESS[-1]:
            result = repair(Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64)), join_edges=True)
            break
    return _drop_crumbs(result, int(face_components(mesh.faces).max()) + 1)


def _drop_crumbs(mesh: Mesh, expected: int) -> Mesh:
    """Without the parts beyond the expected number that are small beside the largest."""
    part = face_components(mesh.faces)
    areas = np.bincount(part, face_areas(mesh))
    keep = areas >= CRUMB * areas.max(initial=0.0)
    keep[np.argsort(-areas)[:expected]] = True
    return compact(Mesh(mesh.vertices, mesh.faces[keep[part]]))


def _drop_smallest_parts(mesh: Mesh, target: int) -> Mesh:
    while len(mesh.faces) > target:
        part = face_components(mesh.faces)
        if part.max() == 0:
            break
        areas = np.bincount(part, face_areas(mesh))
        mesh = compact(Mesh(mesh.vertices, mesh.faces[part != np.argmin(areas)]))
    return mesh


def _merge_by_place(mesh: Mesh, target: int) -> Mesh:
    """For a surface with so many holes and handles that no edge can go: merge the vertices of ever larger cells."""
    cell = 0.01
    while len(mesh.faces) > target:
        log.debug("merging vertices in cells of %.3f: %d faces, %d wanted", cell, len(mesh.faces), target)
        mesh = split_touching(weld(mesh, tolerance=cell))
        cell *= 1.25
    return mesh
