"""How close two surfaces are, counting only what can be seen from outside."""

from typing import Any, no_type_check

import numpy as np
import warp as wp
from jaxtyping import Bool, Float, Int

from mvgamba.cameras import fibonacci_cameras
from mvgamba.evaluation.drawable import Drawable
from mvgamba.kernels.warp_runtime import launch_chunks, warp

NUM_POINTS = 30_000
NUM_DIRECTIONS = 64
OFFSET = 1e-4
"""A ray starts this far from its face, towards where it goes; the object is 2 long."""
THRESHOLDS = (0.02, 0.05)


@no_type_check
@wp.kernel(enable_backward=False)
def _nearest(
    begin: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    distances: wp.array(dtype=float),
    faces: wp.array(dtype=int),
):
    i = begin + wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], 1.0e6)
    if query.result:
        nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
        distances[i] = wp.length(points[i] - nearest)
        faces[i] = query.face


@no_type_check
@wp.kernel(enable_backward=False)
def _reached(
    begin: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    num_directions: int,
    offset: float,
    free: wp.array(dtype=int),
):
    i = begin + wp.tid()
    for k in range(num_directions):
        query = wp.mesh_query_ray(mesh, points[i] + offset * directions[k], directions[k], 1.0e6)
        if not query.result:
            free[i] = 1
            break


class SurfacePoints:
    """Triangles with an index for queries, and points drawn evenly from them."""

    def __init__(self, vertices: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"], *, seed: int) -> None:
        warp()
        corners = vertices[faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        double_area = np.linalg.norm(cross, axis=1)
        kept = double_area > 0
        corners, cross, double_area = corners[kept], cross[kept], double_area[kept]
        self.is_empty = len(corners) == 0
        if self.is_empty:
            return
        self.face_normals = cross / double_area[:, None]
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(corners), NUM_POINTS, p=double_area / double_area.sum())
        u, v = generator.random((2, NUM_POINTS, 1))
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        a, b, c = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
        points = (a + u * (b - a) + v * (c - a)).astype(np.float32)
        self._mesh = wp.Mesh(
            points=wp.array(corners.reshape(-1, 3).astype(np.float32), dtype=wp.vec3, device="cpu"),
            indices=wp.array(np.arange(3 * len(corners), dtype=np.int32), dtype=wp.int32, device="cpu"),
        )
        visible = self._visible(points)
        self.hidden_share = 1.0 - float(visible.mean())
        self.points, self.normals = points[visible], self.face_normals[chosen[visible]]

    def _visible(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Whether a ray from far away reaches a point, on either side of its face."""
        directions = fibonacci_cameras(NUM_DIRECTIONS, radius=1.0, fovy=1.0, height=2, width=2).c2w[:, :3, 3]
        free = wp.zeros(len(points), dtype=wp.int32, device="cpu")
        inputs: list[Any] = [
            self._mesh.id,
            wp.array(points, dtype=wp.vec3, device="cpu"),
            wp.array(directions.numpy().astype(np.float32), dtype=wp.vec3, device="cpu"),
            NUM_DIRECTIONS,
            OFFSET,
            free,
        ]
        launch_chunks(_reached, len(points), inputs)
        return free.numpy().astype(bool)

    def nearest(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
        """Distance to the surface and the unit normal of the face that is nearest, for each point."""
        distances = wp.zeros(len(points), dtype=wp.float32, device="cpu")
        faces = wp.zeros(len(points), dtype=wp.int32, device="cpu")
        inputs: list[Any] = [self._mesh.id, wp.array(points, dtype=wp.vec3, device="cpu"), distances, faces]
        launch_chunks(_nearest, len(points), inputs)
        return distances.numpy(), self.face_normals[faces.numpy()]


def surface_scores(truth: Drawable, result: Drawable | None, *, seed: int = 0) -> dict[str, float]:
    """Chamfer distance (mean of both ways), F-scores, and the mean absolute cosine between nearest normals.

    In units where the longest extent of the truth is 2. An empty result is at distance 1.
    """
    low, high = truth.bounds
    scale = 2.0 / float((high - low).max())
    center = truth.center
    worst = {"chamfer": 1.0, "normal_consistency": 0.0} | {f"f_score_{t}": 0.0 for t in THRESHOLDS}
    if result is None or len(result.faces) == 0:
        return worst
    of_truth = SurfacePoints((truth.vertices - center) * scale, truth.faces, seed=seed)
    of_result = SurfacePoints((result.vertices - center) * scale, result.faces, seed=seed + 1)
    if of_result.is_empty or len(of_result.points) == 0:
        return worst
    to_truth, normals_there = of_truth.nearest(of_result.points)
    to_result, normals_here = of_result.nearest(of_truth.points)
    scores = {
        "chamfer": float(to_truth.mean() + to_result.mean()) / 2,
        "normal_consistency": (
            _mean_cosine(of_result.normals, normals_there) + _mean_cosine(of_truth.normals, normals_here)
        )
        / 2,
        "hidden_share_truth": of_truth.hidden_share,
        "hidden_share_result": of_result.hidden_share,
    }
    for threshold in THRESHOLDS:
        precision, recall = float((to_truth < threshold).mean()), float((to_result < threshold).mean())
        total = precision + recall
        scores[f"f_score_{threshold}"] = 2 * precision * recall / total if total > 0 else 0.0
    return scores


def _mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs((a * b).sum(1)).mean())


def mesh_facts(vertices: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"]) -> dict[str, float | int | bool]:
    """Topology after vertices at equal positions are joined, since seams of a texture split vertices and not surfaces."""
    _, joined = np.unique(vertices, axis=0, return_inverse=True)
    triangles = joined.reshape(-1)[faces]
    proper = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
    proper &= triangles[:, 2] != triangles[:, 0]
    triangles = triangles[proper]
    facts: dict[str, float | int | bool] = {"faces": len(faces), "degenerate_faces": int((~proper).sum())}
    if len(triangles) == 0:
        return facts | {"components": 0, "boundary_edges": 0, "watertight": False, "consistent_winding": False}
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, uses = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    _, one_way = np.unique(directed, axis=0, return_counts=True)
    return facts | {
        "components": _num_components(triangles),
        "boundary_edges": int((uses == 1).sum()),
        "watertight": bool((uses == 2).all()),
        "consistent_winding": bool((one_way == 1).all()),
    }


def _num_components(triangles: np.ndarray) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, index = np.unique(triangles, return_inverse=True)
    index = index.reshape(-1, 3)
    rows, columns = index[:, [0, 1]].reshape(-1), index[:, [1, 2]].reshape(-1)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(names)))
    return int(connected_components(graph, directed=False)[0])
