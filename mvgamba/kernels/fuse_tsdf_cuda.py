"""Depth maps to a distance field on CUDA: a thread for each point of the grid, which passes over the views.

Sums stay in registers and a point is written once. Points that the hull leaves outside stop at once, and whole warps of
them, because neighbours along the last axis are neighbours in a warp.
"""

# ruff: noqa: UP018

from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_cuda import seen_from
from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.carve_silhouettes_warp import pack_cameras
from mvgamba.kernels.fuse_tsdf_reference import FREE_WEIGHT
from mvgamba.kernels.grid_inputs import check_grid_inputs, sanitised_depth
from mvgamba.kernels.warp_blocks import launch_blocks
from mvgamba.kernels.warp_runtime import warp

wp = warp()

THREADS = 256
_NEAREST = wp.constant(float(NEAREST_DEPTH))
_FREE_WEIGHT = wp.constant(float(FREE_WEIGHT))


@no_type_check
@wp.func
def _surface_at(
    depth: wp.array(dtype=wp.float32, ndim=3),
    weights: wp.array(dtype=wp.float32, ndim=3),
    view: int,
    u: float,
    v: float,
    nearest: float,
    jump: float,
) -> float:
    """Between four pixels of one surface the depth is interpolated; across a jump the nearest pixel counts alone."""
    rows = depth.shape[1]
    columns = depth.shape[2]
    x = wp.clamp(u - 0.5, 0.0, float(columns - 1))
    y = wp.clamp(v - 0.5, 0.0, float(rows - 1))
    x0 = wp.min(int(x), wp.max(columns - 2, 0))
    y0 = wp.min(int(y), wp.max(rows - 2, 0))
    x1 = wp.min(x0 + 1, columns - 1)
    y1 = wp.min(y0 + 1, rows - 1)
    a = depth[view, y0, x0]
    b = depth[view, y0, x1]
    c = depth[view, y1, x0]
    d = depth[view, y1, x1]
    low = wp.min(wp.min(a, b), wp.min(c, d))
    high = wp.max(wp.max(a, b), wp.max(c, d))
    lightest = wp.min(
        wp.min(weights[view, y0, x0], weights[view, y0, x1]), wp.min(weights[view, y1, x0], weights[view, y1, x1])
    )
    if low <= 0.0 or lightest <= 0.0 or high - low > jump:
        return nearest
    fx = x - float(x0)
    fy = y - float(y0)
    return (a * (1.0 - fx) + b * fx) * (1.0 - fy) + (c * (1.0 - fx) + d * fx) * fy


@no_type_check
@wp.kernel(enable_backward=False)
def _fuse_points(
    count: int,
    depth: wp.array(dtype=wp.float32, ndim=3),
    weights: wp.array(dtype=wp.float32, ndim=3),
    cameras: wp.array(dtype=wp.float32, ndim=2),
    origin: wp.vec3,
    spacing: float,
    truncation: float,
    behind: float,
    has_hull: int,
    hull: wp.array(dtype=wp.float32, ndim=3),
    field: wp.array(dtype=wp.float32, ndim=3),
):
    index = wp.tid()
    if index >= count:
        return
    k = index % field.shape[2]
    rest = index / field.shape[2]
    j = rest % field.shape[1]
    i = rest / field.shape[1]
    highest = truncation
    if has_hull == 1:
        highest = hull[i, j, k]
        if highest <= -truncation:
            field[i, j, k] = -truncation
            return
    p = origin + spacing * wp.vec3(float(i), float(j), float(k))
    columns = depth.shape[2]
    rows = depth.shape[1]
    is_framed = int(has_hull)
    total = float(0.0)
    sum_of_weights = float(0.0)
    for view in range(depth.shape[0]):
        local = seen_from(cameras, view, p)
        z = local[2]
        if z > _NEAREST:
            u = cameras[view, 12] * local[0] / z + cameras[view, 14]
            v = cameras[view, 13] * local[1] / z + cameras[view, 15]
            if u >= 0.0 and v >= 0.0 and u < float(columns) and v < float(rows):
                is_framed = 1
                column = wp.min(int(u), columns - 1)
                row = wp.min(int(v), rows - 1)
                weight = weights[view, row, column]
                if weight > 0.0:
                    nearest = depth[view, row, column]
                    if nearest <= 0.0:
                        total -= weight * _FREE_WEIGHT * truncation
                        sum_of_weights += weight * _FREE_WEIGHT
                    else:
                        distance = z - _surface_at(depth, weights, view, u, v, nearest, truncation)
                        fade = wp.clamp(2.0 + 2.0 * distance / truncation, _FREE_WEIGHT, 1.0)
                        if distance > 0.0:
                            fade = wp.clamp(1.0 - distance / behind, 0.0, 1.0)
                        total += weight * fade * wp.max(distance, -truncation)
                        sum_of_weights += weight * fade
    value = -truncation
    if is_framed == 1:
        value = truncation
    if sum_of_weights > 0.0:
        value = total / wp.max(sum_of_weights, 1.0e-12)
    if has_hull == 1:
        value = wp.min(value, highest)
    field[i, j, k] = wp.clamp(value, -truncation, truncation)


def cuda_kernels() -> list[Any]:
    """For compiling ahead of time."""
    return [_fuse_points]


def fuse_tsdf_cuda(
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
    """See `fuse_tsdf`; on the device of the depth."""
    check_grid_inputs({"depth": depth, "weights": weights}, w2c, intrinsics, spacing=spacing, shape=shape)
    depth, weights = sanitised_depth(depth, weights)
    device = depth.device
    field = torch.empty(shape, device=device)
    known = torch.empty((1, 1, 1), device=device) if hull is None else hull.detach().float().to(device).contiguous()
    inputs: list[Any] = [
        field.numel(),
        wp.from_torch(depth),
        wp.from_torch(weights),
        wp.from_torch(pack_cameras(w2c, intrinsics).to(device)),
        wp.vec3(*origin.tolist()),
        float(spacing),
        float(truncation),
        float(0.5 * truncation if behind is None else behind),
        int(hull is not None),
        wp.from_torch(known),
        wp.from_torch(field),
    ]
    launch_blocks(_fuse_points, -(-field.numel() // THREADS), THREADS, inputs, device=device)
    return field
