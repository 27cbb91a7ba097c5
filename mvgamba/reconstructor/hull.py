"""The visual hull as a reconstructor: needs no weights, takes any cameras, and is where refinement starts."""

import math

import fast_simplification
import numpy as np
import torch
from skimage.measure import marching_cubes

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.errors import EmptyReconstruction
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.reconstructor.normalise import NormalisedViews, outside_frame
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.types import Mesh, Reconstruction


def hull_field(views: NormalisedViews, *, resolution: int, margin: int = 3) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Approximate signed distance to the visual hull, positive inside, on a grid around it.

    Returns:
        field (nx, ny, nz), origin (3,) and spacing, in the normalised frame.
    """
    extent = views.high - views.low
    spacing = float(extent.max()) / resolution
    origin = views.low - margin * spacing
    shape = tuple(int(math.ceil(float(e) / spacing)) + 1 + 2 * margin for e in extent)
    field = carve_silhouettes(
        views.silhouettes,
        c2w_to_w2c_opencv(views.views.cameras.c2w).float(),
        views.views.cameras.intrinsics.float(),
        origin,
        spacing,
        shape,
        outside_frame=outside_frame(views.silhouettes),
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
        vertices, faces = mesh.vertices, mesh.faces
        if len(faces) > self.faces:
            vertices, faces = fast_simplification.simplify(
                vertices.astype(np.float32), faces.astype(np.int32), target_count=self.faces, agg=2
            )
        vertices = torch.from_numpy(np.ascontiguousarray(vertices, np.float32))
        triangles = torch.from_numpy(np.ascontiguousarray(faces, np.int64))
        count = len(triangles)
        surfels = surfels_on_faces(vertices, triangles, torch.full((count,), 0.95), torch.full((count, 3), 0.5))
        return Reconstruction(surfels, Mesh(vertices.numpy(), triangles.numpy()))


def mesh_of_field(field: np.ndarray, origin: np.ndarray, spacing: float) -> Mesh:
    """The zero level of a field that is positive inside, closed at the border. Raises: EmptyReconstruction."""
    padded = np.pad(field, 1, constant_values=min(-spacing, float(field.min())))
    if not (padded > 0).any():
        raise EmptyReconstruction("The silhouettes have no volume in common; check cameras and alpha.")
    # in skimage 0.26 "ascent" winds counter-clockwise seen from the lower side
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    return Mesh((vertices - 1) * spacing + origin, faces.astype(np.int64))
