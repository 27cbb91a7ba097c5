"""The visual hull as a reconstructor: needs no weights, takes any cameras, and is where refinement starts."""

import math

import numpy as np
import torch
from skimage.measure import marching_cubes

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.errors import EmptyReconstruction
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.kernels.fuse_tsdf import fuse_tsdf
from mvgamba.reconstructor.normalise import EMPTY_ALPHA, NormalisedViews, outside_frame
from mvgamba.reconstructor.protocol import ReconstructorSettings
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.types import Mesh, Reconstruction

TRUNCATION = 5.0
"""Of the field, in cells."""


def hull_field(views: NormalisedViews, *, resolution: int, margin: int = 3) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Approximate signed distance to the largest solid that the views allow, positive inside, on a grid around it.

    That is the visual hull; where the views have depth, what lies in front of their surfaces is cut away as well.

    Returns:
        field (nx, ny, nz), origin (3,) and spacing, in the normalised frame.
    """
    extent = views.high - views.low
    spacing = float(extent.max()) / resolution
    origin = views.low - margin * spacing
    shape = tuple(int(math.ceil(float(e) / spacing)) + 1 + 2 * margin for e in extent)
    posed = views.views
    w2c, intrinsics = c2w_to_w2c_opencv(posed.cameras.c2w).float(), posed.cameras.intrinsics.float()
    field = carve_silhouettes(
        views.silhouettes, w2c, intrinsics, origin, spacing, shape, outside_frame=outside_frame(views.silhouettes)
    )
    # where no view has a say it is infinite, and between two such points nothing could be interpolated
    field = field.clamp(max=float(extent.max()))
    if posed.depth is not None:
        depth = posed.depth[:, 0]
        # a pixel of the outline without depth says nothing: it is neither background nor surface
        trusted = (depth > 0) | (posed.alpha[:, 0] <= EMPTY_ALPHA)
        field = fuse_tsdf(
            depth, trusted.float(), w2c, intrinsics, origin, spacing, shape, truncation=TRUNCATION * spacing, hull=field
        )
    return field, origin, spacing


class HullReconstructor:
    """Surfels on the visual hull, every one opaque and grey: colours come with refinement or from `paint`.

    Args:
        resolution: Cells along the longest side.
        faces: About how many surfels, should the grid give more.
    """

    name = "hull"

    def __init__(self, *, resolution: int = 96, faces: int = 20_000) -> None:
        self.resolution = resolution
        self.faces = faces

    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Raises: EmptyReconstruction."""
        field, origin, spacing = hull_field(views, resolution=self.resolution)
        mesh = mesh_of_field(field.numpy(), origin.numpy(), spacing)
        # even triangles make even surfels, so the budget is met by the grid and not by decimation
        finer = self.resolution * (self.faces / max(len(mesh.faces), 1)) ** 0.5
        resolution = int(min(max(finer, 24), 3 * self.resolution))
        if abs(resolution / self.resolution - 1) > 0.1:
            field, origin, spacing = hull_field(views, resolution=resolution)
            mesh = mesh_of_field(field.numpy(), origin.numpy(), spacing)
        vertices = even_out(mesh)
        triangles = torch.from_numpy(mesh.faces)
        count = len(triangles)
        surfels = surfels_on_faces(
            torch.from_numpy(vertices), triangles, torch.full((count,), 0.95), torch.full((count, 3), 0.5)
        )
        return Reconstruction(surfels, Mesh(vertices, mesh.faces))


def hull_from_settings(settings: ReconstructorSettings) -> HullReconstructor:
    """For the registry."""
    return HullReconstructor(resolution=settings.resolution, faces=settings.faces)


def even_out(mesh: Mesh, *, rounds: int = 3) -> np.ndarray:
    """Vertices moved within the surface towards the mean of their neighbours: marching cubes leaves slivers."""
    vertices, faces = mesh.vertices.astype(np.float64), mesh.faces
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    count = np.bincount(ends[:, 0], minlength=len(vertices))[:, None]
    for _ in range(rounds):
        mean = np.stack([np.bincount(ends[:, 0], vertices[ends[:, 1], c], len(vertices)) for c in range(3)], 1) / count
        normals = np.zeros_like(vertices)
        corners = vertices[faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        for c in range(3):
            normals[:, c] = np.bincount(faces.ravel(), np.repeat(across[:, c], 3), len(vertices))
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        step = mean - vertices
        vertices = vertices + 0.7 * (step - (step * normals).sum(1, keepdims=True) * normals)
    return vertices.astype(np.float32)


def mesh_of_field(field: np.ndarray, origin: np.ndarray, spacing: float) -> Mesh:
    """The zero level of a field that is positive inside, closed at the border. Raises: EmptyReconstruction."""
    padded = np.pad(field, 1, constant_values=min(-spacing, float(field.min())))
    if not (padded > 0).any():
        raise EmptyReconstruction("The silhouettes have no volume in common; check cameras and alpha.")
    # in skimage 0.26 "ascent" winds counter-clockwise seen from the lower side
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    return Mesh((vertices - 1) * spacing + origin, faces.astype(np.int64))
