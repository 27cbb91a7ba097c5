"""`rasterize_mesh` by nvdiffrast (Laine et al. 2020), where that is installed. Not yet run on a GPU.

The pinhole camera becomes a clip space: x and y in [-1, 1] over the picture, w the depth, z / w = 1 - 2 near / depth, which
is -1 at `near` and 1 at infinity. nvdiffrast puts row 0 at y = -1, so with y downwards as in pixels the rows need not be turned
over. Its (u, v) are the weights of corners 0 and 1, its face numbers begin at 1. It snaps corners to 1/16 of a pixel at
least, so pixels on edges may go to the other face; of faces at the same depth the one it drew first wins.
"""

import functools
import importlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.kernels.rasterize_mesh import MeshPlanes, check_inputs, homogeneous_corners

MOST_PIXELS = 2048
"""Edge of the greatest picture that its CUDA rasterizer draws."""
MOST_DRAWN_FACES = 1 << 24
"""It returns face numbers as float32."""
ALIGNMENT = 8


def clip_corners(
    vertices: Float[Tensor, "P 3"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    *,
    height: int,
    width: int,
    near: float,
) -> Float[Tensor, "V P 4"]:
    """Vertices in clip space, float32."""
    q = homogeneous_corners(vertices, w2c, intrinsics)
    x = 2 * q[..., 0] / width - q[..., 2]
    y = 2 * q[..., 1] / height - q[..., 2]
    return torch.stack([x, y, q[..., 2] - 2 * near, q[..., 2]], dim=-1).float().contiguous()


def planes_of(
    raster: Float[Tensor, "V H W 4"], faces: Int[Tensor, "F 3"], corners: Float[Tensor, "V P 3"]
) -> tuple[Int[Tensor, "V H W"], Float[Tensor, "V H W 3"], Float[Tensor, "V H W"]]:
    """Face numbers, weights and depth from what nvdiffrast returns: (u, v, z / w, number + 1) for each pixel."""
    ids = raster[..., 3].round().int() - 1
    hit = ids >= 0
    u, v = raster[..., 0], raster[..., 1]
    weights = torch.stack([u, v, 1 - u - v], dim=-1).clamp_min(0)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)
    barycentrics = torch.where(hit[..., None], weights, torch.zeros_like(weights))
    depth = torch.zeros_like(u)
    view = torch.nonzero(hit)[:, 0]
    depths = corners[view[:, None], faces.long()[ids[hit].long()], 2]
    depth[hit] = (depths.float() * barycentrics[hit]).sum(-1)
    return ids, barycentrics, depth


@functools.cache
def _context(device: torch.device) -> Any:
    return importlib.import_module("nvdiffrast.torch").RasterizeCudaContext(device=device)


def rasterize_mesh_nvdiffrast(
    vertices: Float[Tensor, "P 3"],
    faces: Int[Tensor, "F 3"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    *,
    height: int,
    width: int,
    near: float = 1e-3,
) -> MeshPlanes:
    """See `mvgamba.kernels.rasterize_mesh`.

    Raises:
        InvalidInput: The picture or the mesh is larger than nvdiffrast can draw.
    """
    check_inputs(vertices, faces, w2c, intrinsics, height=height, width=width, near=near)
    if max(height, width) > MOST_PIXELS or len(faces) >= MOST_DRAWN_FACES:
        raise InvalidInput(
            f"nvdiffrast draws up to {MOST_PIXELS} x {MOST_PIXELS} pixels and {MOST_DRAWN_FACES - 1} faces, got {height} x "
            f"{width} and {len(faces)}. Use the variant warp-cuda."
        )
    views, device = len(w2c), vertices.device
    if len(faces) == 0:
        empty = torch.zeros((views, height, width), device=device)
        return MeshPlanes(torch.full_like(empty, -1, dtype=torch.int32), empty[..., None].repeat(1, 1, 1, 3), empty)
    # Pictures are a multiple of eight pixels there; what is added at the right and below is cut off again.
    tall, wide = (-(-n // ALIGNMENT) * ALIGNMENT for n in (height, width))
    clip = clip_corners(vertices, w2c, intrinsics, height=tall, width=wide, near=near)
    rasterize = importlib.import_module("nvdiffrast.torch").rasterize
    raster, _ = rasterize(_context(device), clip, faces.int().contiguous(), (tall, wide), grad_db=False)
    corners = homogeneous_corners(vertices, w2c, intrinsics)
    return MeshPlanes(*planes_of(raster[:, :height, :width].contiguous(), faces, corners))
