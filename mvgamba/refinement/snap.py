"""The outline of a mesh, laid on the outlines of the input views.

Splats are soft and grids are coarse: a mesh made from them is off by a pixel or so, the same way all around. The outline
tells how much. A vertex on the contour of the mesh (between faces that look towards a camera and faces that look away)
should project onto the outline of the mask; the distance that it misses, turned into a length along its normal, is what it
should move. Vertices that no camera sees in outline follow their neighbours.
"""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, project
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.kernels.silhouettes import signed_distance_2d
from mvgamba.refinement.smooth import edge_list, factorised, laplacian
from mvgamba.types import Cameras, Mesh


def snap_to_silhouettes(
    mesh: Mesh,
    silhouettes: Float[Tensor, "V H W"],
    cameras: Cameras,
    *,
    rounds: int = 4,
    reach: float = 4.0,
    stiffness: float = 2.0,
) -> Mesh:
    """Move vertices along their normals until the outlines match.

    Args:
        silhouettes: Signed distance to the outlines of the masks in pixels, positive inside.
        reach: In pixels: an outline that is farther away belongs to something else.
        stiffness: How strongly a vertex moves with its neighbours.
    """
    faces = mesh.faces
    vertices = np.asarray(mesh.vertices, np.float64)
    smooth = stiffness * laplacian(len(vertices), edge_list(faces)) + 0.02 * sp.identity(len(vertices), format="csc")
    for _ in range(rounds):
        normals = vertex_normals(vertices, faces)
        total, weight = _misses(vertices, normals, faces, silhouettes, cameras, reach)
        system = (smooth + sp.diags(weight)).tocsc()
        move = factorised(system)(torch.from_numpy(total)).numpy()
        vertices = vertices + move[:, None] * normals
    return Mesh(vertices.astype(mesh.vertices.dtype), faces)


def _misses(
    vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, silhouettes: Tensor, cameras: Cameras, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """For every vertex the summed lengths by which it misses an outline, and in how many views it lies on one."""
    points = torch.from_numpy(vertices)
    pixels, depth = project(points, cameras)
    planes = rasterize_mesh(
        points.float(),
        torch.from_numpy(faces),
        c2w_to_w2c_opencv(cameras.c2w).float(),
        cameras.intrinsics.float(),
        height=cameras.height,
        width=cameras.width,
    )
    own = signed_distance_2d((planes.face_ids >= 0).float())
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total, weight = np.zeros(len(vertices)), np.zeros(len(vertices))
    size = torch.tensor([cameras.width, cameras.height], dtype=torch.float64)
    for view in range(cameras.num_views):
        eye = cameras.c2w[view, :3, 3].numpy()
        towards = np.einsum("fi,fi->f", across, eye - corners[:, 0]) > 0
        some_towards, some_away = np.zeros(len(vertices), bool), np.zeros(len(vertices), bool)
        some_towards[faces[towards]] = True
        some_away[faces[~towards]] = True
        grid = (2 * pixels[view] / size - 1).float()[None, None]
        both = torch.stack([silhouettes[view], own[view]])[None]
        missed, on_own = F.grid_sample(both, grid, padding_mode="border", align_corners=False)[0, :, 0].double().numpy()
        inside = ((pixels[view] > 1) & (pixels[view] < size - 1)).all(1).numpy()
        on_outline = some_towards & some_away & (np.abs(on_own) < 1.2) & (np.abs(missed) < reach) & inside
        focal = float(cameras.intrinsics[view, 0, 0])
        length = (missed - on_own) * depth[view].numpy() / focal
        total += np.where(on_outline, length, 0.0)
        weight += on_outline
    return total, weight


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals, the mean of the adjacent faces weighted by area."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([np.bincount(faces.ravel(), np.repeat(across[:, c], 3), len(vertices)) for c in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
