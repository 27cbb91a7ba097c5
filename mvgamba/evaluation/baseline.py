"""The floor to beat: the visual hull with a colour at each vertex."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, project
from mvgamba.evaluation.drawable import Drawable, Material, srgb_to_linear
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.reconstructor.hull import hull_field, mesh_of_field
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.types import PosedViews

RESOLUTION = 128
DEPTH_TOLERANCE = 0.02
"""Of the hull's radius: a vertex this much behind what a view sees first is hidden from it."""


def coloured_hull(views: PosedViews) -> Drawable:
    """The visual hull in the world of the cameras; a vertex takes its colour from the views that see it, most from those
    that look at it straight.

    Raises: InvalidImage, InvalidCameras, EmptyReconstruction.
    """
    normalised = normalise_views(views)
    field, origin, spacing = hull_field(normalised, resolution=RESOLUTION)
    mesh = mesh_of_field(field.numpy(), origin.numpy(), spacing)
    vertices = torch.from_numpy(np.ascontiguousarray(mesh.vertices)).double()
    faces = torch.from_numpy(np.ascontiguousarray(mesh.faces))
    colors = _colors(vertices, faces, normalised.views)
    world = normalised.to_world.apply(vertices).numpy()
    return Drawable(
        world,
        mesh.faces,
        np.zeros((len(world), 2)),
        srgb_to_linear(colors.numpy().astype(np.float64)),
        np.zeros(len(mesh.faces), np.int64),
        [Material(np.ones(3))],
    )


def _colors(vertices: Float[Tensor, "P 3"], faces: Tensor, views: PosedViews) -> Float[Tensor, "P 3"]:
    cameras = views.cameras
    seen = rasterize_mesh(
        vertices,
        faces,
        c2w_to_w2c_opencv(cameras.c2w),
        cameras.intrinsics,
        height=cameras.height,
        width=cameras.width,
    ).depth.float()
    pixels, depth = project(vertices, cameras)
    size = pixels.new_tensor([cameras.width, cameras.height])
    grid = (2 * pixels / size - 1).float()[:, None]

    def look(image: Tensor, mode: str) -> Tensor:
        values = torch.nn.functional.grid_sample(
            image.float(), grid, mode=mode, align_corners=False, padding_mode="border"
        )
        return values[:, :, 0].transpose(1, 2)

    first = look(seen[:, None], "nearest")[..., 0]
    tolerance = DEPTH_TOLERANCE * float(vertices.norm(dim=1).max())
    normals = _vertex_normals(vertices, faces)
    towards = torch.nn.functional.normalize(cameras.c2w[:, None, :3, 3] - vertices, dim=-1)
    facing = (towards * normals).sum(-1).clamp_min(0).float()
    alpha = look(views.alpha, "bilinear")[..., 0]
    weight = facing.pow(4) * (depth.float() < first + tolerance) * alpha + 1e-8 * alpha + 1e-12
    color = look(views.rgb, "bilinear")
    return ((weight[..., None] * color).sum(0) / weight.sum(0)[:, None]).clamp(0, 1)


def _vertex_normals(vertices: Float[Tensor, "P 3"], faces: Tensor) -> Float[Tensor, "P 3"]:
    a, b, c = vertices[faces].unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(0, faces[:, corner], cross)
    return torch.nn.functional.normalize(normals, dim=-1)
