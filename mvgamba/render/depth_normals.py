"""Normals of a depth map, to be held against the normals of the surfels themselves."""

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.types import Cameras


def unproject_depth(depth: Float[Tensor, "*b V 1 H W"], cameras: Cameras) -> Float[Tensor, "*b V 3 H W"]:
    """World points of the pixel centres at these depths (along the view axis). Differentiable."""
    height, width = depth.shape[-2:]
    k = cameras.intrinsics.to(depth)
    x = torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5
    y = torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5
    right = (x - k[..., 0, 2, None]) / k[..., 0, 0, None]
    up = -(y - k[..., 1, 2, None]) / k[..., 1, 1, None]
    rays = torch.stack(
        torch.broadcast_tensors(right[..., None, :], up[..., :, None], -torch.ones_like(depth[..., 0, :, :])), -3
    )
    c2w = cameras.c2w.to(depth)
    points = torch.einsum("...ij,...jhw->...ihw", c2w[..., :3, :3], rays * depth)
    return points + c2w[..., :3, 3, None, None]


def depth_to_normals(depth: Float[Tensor, "*b V 1 H W"], cameras: Cameras) -> Float[Tensor, "*b V 3 H W"]:
    """Unit normals in world axes, towards the camera, from central differences of the points. Differentiable.

    0 at the border of the image and where the pixel or one of its four neighbours has no depth.
    """
    points = unproject_depth(depth, cameras)
    down = points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    right = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    normals = torch.linalg.cross(down, right, dim=-3)
    has = depth > 0
    valid = has[..., 1:-1, 1:-1] & has[..., 2:, 1:-1] & has[..., :-2, 1:-1] & has[..., 1:-1, 2:] & has[..., 1:-1, :-2]
    squared = (normals * normals).sum(-3, keepdim=True)
    valid = valid & (squared > 0)
    length = torch.where(valid, squared, 1).sqrt()
    return torch.nn.functional.pad(torch.where(valid, normals / length, 0), (1, 1, 1, 1))
