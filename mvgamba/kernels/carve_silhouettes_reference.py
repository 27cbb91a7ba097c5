"""`carve_silhouettes` in plain torch: the definition."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.grid_inputs import check_grid_inputs, finite_silhouettes

NEAREST_DEPTH = 1e-6
"""Points nearer than this to the camera's plane, in scene units, count as behind it."""


def carve_silhouettes_reference(
    silhouettes: Float[Tensor, "V H W"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    origin: Float[Tensor, "3"],
    spacing: float,
    shape: tuple[int, int, int],
    *,
    outside_frame: Literal["empty", "ignore"] = "empty",
    truncation: float | None = None,
) -> Float[Tensor, "nx ny nz"]:
    """See `carve_silhouettes`."""
    floor = -(8.0 * spacing if truncation is None else truncation)
    check_grid_inputs({"silhouettes": silhouettes}, w2c, intrinsics, spacing=spacing, shape=shape)
    silhouettes = finite_silhouettes(silhouettes)
    height, width = silhouettes.shape[1:]
    axes = [o + spacing * torch.arange(n, device=silhouettes.device) for o, n in zip(origin.tolist(), shape)]
    field = torch.full(shape, torch.inf, device=silhouettes.device)
    z_axis = axes[2].float()
    for i, x in enumerate(axes[0].tolist()):  # a slab at a time keeps memory small
        y, z = torch.meshgrid(axes[1].float(), z_axis, indexing="ij")
        points = torch.stack([torch.full_like(y, x), y, z], dim=-1)
        for view, transform, k in zip(silhouettes, w2c.float(), intrinsics.float()):
            local = points @ transform[:3, :3].T + transform[:3, 3]
            depth = local[..., 2]
            in_front = depth > NEAREST_DEPTH
            safe = torch.where(in_front, depth, 1.0)
            u = k[0, 0] * local[..., 0] / safe + k[0, 2]
            v = k[1, 1] * local[..., 1] / safe + k[1, 2]
            distance = sample_bilinear(view, u, v)
            to_frame = torch.minimum(torch.minimum(u, width - u), torch.minimum(v, height - v))
            if outside_frame == "empty":
                distance = torch.minimum(distance, to_frame)
            else:
                distance = torch.where(to_frame < 0, torch.inf, distance)
            value = distance * safe / torch.sqrt(k[0, 0] * k[1, 1])
            value = torch.where(in_front, value, floor if outside_frame == "empty" else torch.inf)
            field[i] = torch.minimum(field[i], value)
    return field.clamp(min=floor)


def sample_bilinear(image: Float[Tensor, "H W"], u: Float[Tensor, "*n"], v: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The image at pixel positions ((0.5, 0.5) is the first centre); beyond the outermost centres it goes on level."""
    height, width = image.shape
    x, y = (u - 0.5).clamp(0, width - 1), (v - 0.5).clamp(0, height - 1)
    x0, y0 = x.long().clamp(max=max(width - 2, 0)), y.long().clamp(max=max(height - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    fx, fy = x - x0, y - y0
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
