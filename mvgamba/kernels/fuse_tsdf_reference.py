"""`fuse_tsdf` in plain torch: the definition."""

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.grid_inputs import check_grid_inputs, sanitised_depth

FREE_WEIGHT = 0.1
"""Weight of a vote at the full truncation or of background, which tells that a point is free but not where the surface is."""


def fuse_tsdf_reference(
    depth: Float[Tensor, "V H W"],
    weights: Float[Tensor, "V H W"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    origin: Float[Tensor, "3"],
    spacing: float,
    shape: tuple[int, int, int],
    *,
    truncation: float,
    behind: float | None = None,
    hull: Float[Tensor, "nx ny nz"] | None = None,
) -> Float[Tensor, "nx ny nz"]:
    """See `fuse_tsdf`."""
    behind = 0.5 * truncation if behind is None else behind
    device = depth.device
    check_grid_inputs({"depth": depth, "weights": weights}, w2c, intrinsics, spacing=spacing, shape=shape)
    depth, weights = sanitised_depth(depth, weights)
    axes = [(o + spacing * torch.arange(n, device=device)).float() for o, n in zip(origin.tolist(), shape)]
    field = torch.empty(shape, device=device)
    for i, x in enumerate(axes[0]):  # a slab at a time keeps memory small
        y, z = torch.meshgrid(axes[1], axes[2], indexing="ij")
        points = torch.stack([x.expand_as(y), y, z], dim=-1)
        total = torch.zeros_like(y)
        sum_of_weights = torch.zeros_like(y)
        is_framed = torch.zeros_like(y, dtype=torch.bool)
        for view in range(depth.shape[0]):
            framed, value, weight = _vote(
                points, depth[view], weights[view], w2c[view].float(), intrinsics[view].float(), truncation, behind
            )
            is_framed |= framed
            total += weight * value
            sum_of_weights += weight
        unseen = torch.where(is_framed | (hull is not None), truncation, -truncation)
        field[i] = torch.where(sum_of_weights > 0, total / sum_of_weights.clamp(min=1e-12), unseen)
    if hull is not None:
        field = torch.minimum(field, hull.to(field))
    return field.clamp(-truncation, truncation)


def _vote(
    points: Float[Tensor, "*n 3"],
    depth: Float[Tensor, "H W"],
    weights: Float[Tensor, "H W"],
    w2c: Float[Tensor, "4 4"],
    k: Float[Tensor, "3 3"],
    truncation: float,
    behind: float,
) -> tuple[Tensor, Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """For each point whether the view frames it, the signed distance it gives and the weight of that."""
    height, width = depth.shape
    local = points @ w2c[:3, :3].T + w2c[:3, 3]
    z = local[..., 2]
    in_front = z > NEAREST_DEPTH
    safe = torch.where(in_front, z, 1.0)
    u = k[0, 0] * local[..., 0] / safe + k[0, 2]
    v = k[1, 1] * local[..., 1] / safe + k[1, 2]
    framed = in_front & (u >= 0) & (u < width) & (v >= 0) & (v < height)

    column, row = u.floor().clamp(0, width - 1).long(), v.floor().clamp(0, height - 1).long()
    surface, weight = depth[row, column], weights[row, column]
    is_background = surface <= 0

    # Between four pixels of one surface the depth is interpolated; across a jump the nearest pixel counts alone.
    x, y = (u - 0.5).clamp(0, width - 1), (v - 0.5).clamp(0, height - 1)
    x0, y0 = x.long().clamp(max=max(width - 2, 0)), y.long().clamp(max=max(height - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    corners = torch.stack([depth[y0, x0], depth[y0, x1], depth[y1, x0], depth[y1, x1]])
    corner_weights = torch.stack([weights[y0, x0], weights[y0, x1], weights[y1, x0], weights[y1, x1]])
    is_smooth = (corners.amax(0) - corners.amin(0) <= truncation) & ((corners > 0) & (corner_weights > 0)).all(0)
    fx, fy = x - x0, y - y0
    blend = (corners[0] * (1 - fx) + corners[1] * fx) * (1 - fy) + (corners[2] * (1 - fx) + corners[3] * fx) * fy
    surface = torch.where(is_smooth, blend, surface)

    distance = z - surface
    fade = torch.where(
        distance > 0, (1 - distance / behind).clamp(0, 1), (2 + 2 * distance / truncation).clamp(FREE_WEIGHT, 1)
    )
    fade = torch.where(is_background, FREE_WEIGHT, fade)
    value = torch.where(is_background, -truncation, distance.clamp(min=-truncation))
    weight = torch.where(framed, weight * fade, 0.0)
    return framed, value, weight
