"""How the triangles of a mesh hang together: report, repair, parts.

All works on half-edges: side k of face f runs from corner 3 f + k to the next corner of that face. A surface is closed and
consistently wound when each half-edge has as many partners that run the other way; and pairing them up, corner by
corner, tells where the surface only touches itself. Such places are cut apart, which never opens a closed surface.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mvgamba.types import Mesh


@dataclass(frozen=True)
class MeshReport:
    """Facts about a mesh. Vertices count as one only if they share an index."""

    num_faces: int
    num_vertices: int
    num_components: int
    boundary_edges: int
    nonmanifold_edges: int
    nonmanifold_vertices: int
    degenerate_faces: int
    is_consistently_wound: bool
    volume: float
    """Signed; positive when the faces look outwards."""
    area: float

    @property
    def is_watertight(self) -> bool:
        return self.num_faces > 0 and self.boundary_edges == 0 and self.nonmanifold_edges == 0

    @property
    def is_sound(self) -> bool:
        """One closed, manifold, outward surface per part."""
        return (
            self.is_watertight
            and self.nonmanifold_vertices == 0
            and self.degenerate_faces == 0
            and self.is_consistently_wound
            and self.volume > 0
        )


def mesh_report(mesh: Mesh) -> MeshReport:
    """Count what is wrong with a mesh, if anything."""
    faces = mesh.faces
    areas = face_areas(mesh)
    start, end = _half_edges(faces)
    _, of, counts = np.unique(_edge_keys(start, end), return_inverse=True, return_counts=True)
    forward = np.bincount(of, start < end, minlength=len(counts))
    first, second = _paired_half_edges(mesh)
    _, fans = _corner_fans(len(faces), first, second)
    return MeshReport(
        num_faces=len(faces),
        num_vertices=len(mesh.vertices),
        num_components=int(face_components(faces).max(initial=-1)) + 1,
        boundary_edges=int((counts == 1).sum()),
        nonmanifold_edges=int((counts > 2).sum()),
        nonmanifold_vertices=int((np.bincount(_vertex_of_fan(faces, fans), minlength=1) > 1).sum()),
        degenerate_faces=int((areas <= 0).sum()),
        is_consistently_wound=bool(np.all((counts != 2) | (forward == 1))),
        volume=float(signed_volumes(mesh).sum()),
        area=float(areas.sum()),
    )


def face_normals(mesh: Mesh) -> Float[np.ndarray, "F 3"]:
    """Not normalised: twice the area long."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def face_areas(mesh: Mesh) -> Float[np.ndarray, " F"]:
    return 0.5 * np.linalg.norm(face_normals(mesh), axis=1)


def signed_volumes(mesh: Mesh) -> Float[np.ndarray, " F"]:
    """Of the tetrahedra between each face and the middle of the mesh; their sum is the volume of a closed surface."""
    if len(mesh.faces) == 0:
        return np.zeros(0)
    corners = mesh.vertices[mesh.faces] - mesh.vertices.mean(axis=0)
    return np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0


def face_components(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, " F"]:
    """The number of the part that each face belongs to; parts share no vertex."""
    if len(faces) == 0:
        return np.zeros(0, np.int64)
    size = int(faces.max()) + 1
    a, b = np.concatenate([faces[:, 0], faces[:, 1]]), np.concatenate([faces[:, 1], faces[:, 2]])
    _, of_vertex = connected_components(coo_matrix((np.ones(len(a), bool), (a, b)), shape=(size, size)), directed=False)
    _, label = np.unique(of_vertex[faces[:, 0]], return_inverse=True)
    return label.astype(np.int64)


def compact(mesh: Mesh) -> Mesh:
    """Without vertices that no face uses."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int64))


def drop_small_parts(mesh: Mesh, *, min_fraction: float) -> Mesh:
    """Without the parts that have less than this share of the whole area."""
    part = face_components(mesh.faces)
    share = np.bincount(part, face_areas(mesh)) / max(float(face_areas(mesh).sum()), 1e-300)
    keep = share[part] >= min_fraction
    return mesh if keep.all() or not keep.any() else compact(Mesh(mesh.vertices, mesh.faces[keep]))


def weld(mesh: Mesh, *, tolerance: float) -> Mesh:
    """Vertices in the same cell of a grid become one; faces that lose a side go, and so do opposite faces in one place."""
    if len(mesh.faces) == 0:
        return mesh
    cells = np.round((mesh.vertices - mesh.vertices.min(axis=0)) / tolerance).astype(np.int64)
    _, first, of = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = of.reshape(-1)[mesh.faces]
    return compact(Mesh(mesh.vertices[first], cancel_opposites(drop_collapsed(faces))))


def drop_collapsed(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "G 3"]:
    """Without faces that use a vertex twice."""
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def cancel_opposites(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "G 3"]:
    """Without pairs of faces that have the same corners and look in opposite directions. What was closed stays closed."""
    if len(faces) == 0:
        return faces
    lead = np.argmin(faces, axis=1)
    turned = np.take_along_axis(faces, (lead[:, None] + np.arange(3)) % 3, axis=1)
    side = np.where(turned[:, 1] < turned[:, 2], 1, -1)
    _, of = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    of = of.reshape(-1)
    surplus = np.bincount(of, side).astype(np.int64)
    # Of each set keep as many faces as one side has more than the other.
    order = np.lexsort((np.arange(len(faces)), side, of))
    group = np.stack([of[order], side[order]], axis=1)
    starts = np.r_[True, (group[1:] != group[:-1]).any(axis=1)]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    keep = np.zeros(len(faces), bool)
    keep[order] = rank < np.maximum(surplus[of[order]] * side[order], 0)
    return faces[keep]


def fill_holes(mesh: Mesh) -> Mesh:
    """Close every loop of open edges with a fan around its middle."""
    start, end = _half_edges(mesh.faces)
    keys = _edge_keys(start, end)
    unique, of = np.unique(keys, return_inverse=True)
    balance = np.bincount(of, np.where(start < end, 1, -1), minlength=len(unique)).astype(np.int64)
    is_open = balance[of] * np.where(start < end, 1, -1) > 0
    is_open &= _rank_within(of, np.where(is_open, 0, 1)) < np.abs(balance[of])
    follow: dict[int, list[int]] = {}
    for a, b in zip(start[is_open].tolist(), end[is_open].tolist()):
        follow.setdefault(b, []).append(a)  # the new faces run the other way
    vertices, faces = [mesh.vertices], [mesh.faces]
    count = len(mesh.vertices)
    while follow:
        first = next(iter(follow))
        loop = [first]
        while True:
            options = follow.get(loop[-1])
            if not options:
                break
            loop.append(options.pop())
            if not options:
                del follow[loop[-2]]
            if loop[-1] == first:
                break
        if loop[-1] != first:
            continue  # an unbalanced chain: nothing can close it without tearing something else
        ring = np.array(loop[:-1])
        vertices.append(mesh.vertices[ring].mean(axis=0, keepdims=True))
        faces.append(np.stack([ring, np.roll(ring, -1), np.full(len(ring), count)], axis=1))
        count += 1
    return Mesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int64))


def split_touching(mesh: Mesh, *, join_edges: bool = False) -> Mesh:
    """Make the surface manifold where it meets itself in a single edge or vertex.

    Each fan of faces around a vertex gets a vertex of its own, a little inside the fan, so that even a reader who welds
    by position finds a manifold. An edge that one fan uses twice is divided first. Solids that meet in an edge are cut
    apart, or with `join_edges` joined by a sliver around it; solids that meet in a vertex are always cut apart.
    """
    for _ in range(16):
        first, second = _paired_half_edges(mesh, join_edges)
        num_fans, fans = _corner_fans(len(mesh.faces), first, second)
        faces = fans.reshape(-1, 3)
        mesh = Mesh(_positions_of_fans(mesh, fans, num_fans), faces)
        start, end = _half_edges(faces)
        _, of, counts = np.unique(_edge_keys(start, end), return_inverse=True, return_counts=True)
        crowded = counts[of] > 2
        if not crowded.any():
            break
        mesh = _divide(mesh, *_paired_half_edges(mesh, join_edges), crowded)
    return compact(mesh)


def _half_edges(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " h"]]:
    return faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)


def _edge_keys(start: Int[np.ndarray, " h"], end: Int[np.ndarray, " h"]) -> Int[np.ndarray, " h"]:
    size = int(max(start.max(initial=0), end.max(initial=0))) + 1
    return np.minimum(start, end).astype(np.int64) * size + np.maximum(start, end)


def _rank_within(group: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The place of each element among those of its group, sorted by `order`."""
    sequence = np.lexsort((order, group))
    sorted_group = group[sequence]
    starts = np.r_[True, sorted_group[1:] != sorted_group[:-1]]
    rank = np.empty(len(group), np.int64)
    rank[sequence] = np.arange(len(group)) - np.maximum.accumulate(np.where(starts, np.arange(len(group)), 0))
    return rank


def _paired_half_edges(mesh: Mesh, join: bool = False) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Half-edges that belong together, each with its partner that runs the other way. Open ones have none."""
    start, end = _half_edges(mesh.faces)
    keys = _edge_keys(start, end)
    order = np.lexsort((start > end, keys))
    sorted_keys = keys[order]
    begins = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[begins, len(keys)])
    two = begins[counts == 2]
    a, b = order[two], order[two + 1]
    opposite = start[a] == end[b]
    first, second = [a[opposite]], [b[opposite]]
    for begin, count in zip(begins[counts > 2].tolist(), counts[counts > 2].tolist()):
        pairs = _pair_around_edge(mesh, order[begin : begin + count], start, end, join)
        first.append(np.array([p[0] for p in pairs], np.int64))
        second.append(np.array([p[1] for p in pairs], np.int64))
    return np.concatenate(first), np.concatenate(second)


def _pair_around_edge(
    mesh: Mesh, members: Int[np.ndarray, " n"], start: Int[np.ndarray, " h"], end: Int[np.ndarray, " h"], join: bool
) -> list[tuple[int, int]]:
    """Pair faces that bound the same wedge of solid: going around the edge, a backward face and the next forward one.

    With `join`, those that bound the same wedge of nothing.
    """
    low, high = min(start[members[0]], end[members[0]]), max(start[members[0]], end[members[0]])
    origin = mesh.vertices[low]
    axis = mesh.vertices[high] - origin
    axis = axis / max(float(np.linalg.norm(axis)), 1e-300)
    x = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    x /= np.linalg.norm(x)
    y = np.cross(axis, x)
    opposite = mesh.faces[members // 3, (members % 3 + 2) % 3]
    arms = mesh.vertices[opposite] - origin
    angle = np.arctan2(arms @ y, arms @ x)
    is_forward = start[members] == low
    ring = [(int(members[i]), bool(is_forward[i])) for i in np.lexsort((is_forward, angle))]
    pairs = []
    progress = True
    while progress and len(ring) > 1:
        progress = False
        for i in range(len(ring)):
            here, following = ring[i], ring[(i + 1) % len(ring)]
            if here[1] == join and following[1] != join:
                pairs.append((here[0], following[0]))
                ring = [entry for entry in ring if entry not in (here, following)]
                progress = True
                break
    return pairs


def _corner_fans(
    num_faces: int, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> tuple[int, Int[np.ndarray, " c"]]:
    """Corners that hang together around one vertex through paired half-edges: their number, and the fan of each corner."""
    after_first = first // 3 * 3 + (first % 3 + 1) % 3
    after_second = second // 3 * 3 + (second % 3 + 1) % 3
    a, b = np.concatenate([first, after_first]), np.concatenate([after_second, second])
    size = 3 * num_faces
    return connected_components(coo_matrix((np.ones(len(a), bool), (a, b)), shape=(size, size)), directed=False)


def _vertex_of_fan(faces: Int[np.ndarray, "F 3"], fans: Int[np.ndarray, " c"]) -> Int[np.ndarray, " n"]:
    _, corner = np.unique(fans, return_index=True)
    return faces.reshape(-1)[corner]


def _positions_of_fans(mesh: Mesh, fans: Int[np.ndarray, " c"], num_fans: int) -> Float[np.ndarray, "n 3"]:
    """Where each fan's vertex goes: its old place, or a little towards its own faces if it shares that place."""
    owner = _vertex_of_fan(mesh.faces, fans)
    positions = mesh.vertices[owner].astype(np.float64)
    shares = np.bincount(owner, minlength=len(mesh.vertices))[owner] > 1
    if shares.any():
        corners = np.flatnonzero(shares[fans])
        centres = mesh.vertices[mesh.faces[corners // 3]].mean(axis=1)
        total = np.zeros((num_fans, 3))
        np.add.at(total, fans[corners], centres)
        count = np.bincount(fans[corners], minlength=num_fans)
        target = total[shares] / count[shares, None]
        positions[shares] += 0.1 * (target - positions[shares])
    return positions


def _divide(mesh: Mesh, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"], crowded: np.ndarray) -> Mesh:
    """Put a vertex into the middle of every crowded edge, one for each pair of faces, one side of a face at a time."""
    vertices, faces = [mesh.vertices], mesh.faces.copy()
    extra = []
    touched = np.zeros(len(faces), bool)
    count = len(mesh.vertices)
    for a, b in zip(first[crowded[first]].tolist(), second[crowded[first]].tolist()):
        if touched[a // 3] or touched[b // 3] or a // 3 == b // 3:
            continue
        touched[[a // 3, b // 3]] = True
        middle = 0.0
        for half in (a, b):
            f, k = half // 3, half % 3
            p, q, r = mesh.faces[f, k], mesh.faces[f, (k + 1) % 3], mesh.faces[f, (k + 2) % 3]
            faces[f] = (p, count, r)
            extra.append((count, q, r))
            middle = middle + mesh.vertices[[p, q]].sum(axis=0) * 0.225 + mesh.vertices[r] * 0.05
        vertices.append(np.asarray(middle)[None])
        count += 1
    return Mesh(np.concatenate(vertices), np.concatenate([faces, np.array(extra, np.int64).reshape(-1, 3)]))
