"""Fewer faces, the same shape."""

import logging

import fast_simplification
import numpy as np

from mvgamba.meshing.cleaning import repair
from mvgamba.meshing.topology import compact, face_areas, face_components, mesh_report, split_touching, weld
from mvgamba.types import Mesh

log = logging.getLogger(__name__)

AGGRESSIVENESS = (4.0, 5.5, 7.0, 9.0, 12.0)
"""Tried in turn: the first that comes down to the target gives the best shape."""

SHARES = (1.0, 0.95, 0.85)
"""Of the budget, tried in turn: a repair adds a few faces, and thin parts break at some counts but not at others."""

HALFWAY = 4
"""Times the budget: where the tries after the first begin, if the mesh is far larger. A try then takes a fifth of the time."""

CRUMB = 0.003
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
    result = _merge_by_place(_drop_smallest_parts(_collapse(unit, target_faces), target_faces), target_faces)
    return Mesh(result.vertices * extent + low, result.faces)


def _collapse(mesh: Mesh, target: int) -> Mesh:
    """The first try within the budget that keeps all parts whole, or else the one that comes nearest to that."""
    expected, volume = _num_parts(mesh), mesh_report(mesh).volume
    best, best_rank = mesh, (True, np.inf)
    for share in SHARES:
        for aggressiveness in AGGRESSIVENESS:
            is_second = share == SHARES[0] and aggressiveness == AGGRESSIVENESS[1]
            if is_second and len(mesh.faces) > 1.5 * HALFWAY * target:
                mesh = _simplified(mesh, HALFWAY * target, AGGRESSIVENESS[0])
            collapsed = _simplified(mesh, max(int(share * target), 4), aggressiveness)
            if len(collapsed.faces) > 1.1 * target:
                continue  # got stuck
            whole = repair(collapsed, join_edges=True)
            result = _drop_crumbs(whole, expected)
            lost = 1.0 - face_areas(result).sum() / max(face_areas(whole).sum(), 1e-300)
            surplus = abs(_num_parts(result) - expected)
            is_over = len(result.faces) > target
            if not is_over and surplus == 0 and lost < 0.005:
                return result
            shrunk = abs(1.0 - mesh_report(result).volume / volume)
            rank = (is_over, float(lost + shrunk + 0.02 * surplus))
            if rank < best_rank:
                best, best_rank = result, rank
    return best


def _simplified(mesh: Mesh, count: int, aggressiveness: float) -> Mesh:
    vertices, faces = fast_simplification.simplify(
        mesh.vertices, mesh.faces.astype(np.int32), target_count=count, agg=aggressiveness
    )
    return Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))


def _num_parts(mesh: Mesh) -> int:
    return int(face_components(mesh.faces).max(initial=-1)) + 1


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
