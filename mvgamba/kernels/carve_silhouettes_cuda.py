"""The visual hull on CUDA: a thread for each point of the grid, which passes over the views.

Neighbouring threads are neighbours along the last axis: they read the same few pixels of a picture, which stay in the first
cache, and write side by side. Thirty-two views of a grid of 192^3 are 2.3e8 look-ups, so nothing is gained by deciding blocks
at once as the CPU does.
"""

# ruff: noqa: UP018

from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.carve_silhouettes_warp import pack_cameras
from mvgamba.kernels.grid_inputs import check_grid_inputs, finite_silhouettes
from mvgamba.kernels.warp_blocks import launch_blocks
from mvgamba.kernels.warp_runtime import warp

wp = warp()

THREADS = 256
_NEAREST = wp.constant(float(NEAREST_DEPTH))


@no_type_check
@wp.func
def bilinear(image: wp.array(dtype=wp.float32, ndim=3), view: int, u: float, v: float) -> float:
    """A picture at a pixel position; beyond the outermost centres it goes on level."""
    rows = image.shape[1]
    columns = image.shape[2]
    x = wp.clamp(u - 0.5, 0.0, float(columns - 1))
    y = wp.clamp(v - 0.5, 0.0, float(rows - 1))
    x0 = wp.min(int(x), wp.max(columns - 2, 0))
    y0 = wp.min(int(y), wp.max(rows - 2, 0))
    x1 = wp.min(x0 + 1, columns - 1)
    y1 = wp.min(y0 + 1, rows - 1)
    fx = x - float(x0)
    fy = y - float(y0)
    top = image[view, y0, x0] * (1.0 - fx) + image[view, y0, x1] * fx
    bottom = image[view, y1, x0] * (1.0 - fx) + image[view, y1, x1] * fx
    return top * (1.0 - fy) + bottom * fy


@no_type_check
@wp.func
def seen_from(cameras: wp.array(dtype=wp.float32, ndim=2), view: int, p: wp.vec3) -> wp.vec3:
    """A point in the frame of a camera."""
    return wp.vec3(
        cameras[view, 0] * p[0] + cameras[view, 1] * p[1] + cameras[view, 2] * p[2] + cameras[view, 3],
        cameras[view, 4] * p[0] + cameras[view, 5] * p[1] + cameras[view, 6] * p[2] + cameras[view, 7],
        cameras[view, 8] * p[0] + cameras[view, 9] * p[1] + cameras[view, 10] * p[2] + cameras[view, 11],
    )


@no_type_check
@wp.kernel(enable_backward=False)
def _carve_points(
    count: int,
    silhouettes: wp.array(dtype=wp.float32, ndim=3),
    cameras: wp.array(dtype=wp.float32, ndim=2),
    origin: wp.vec3,
    spacing: float,
    ignore_outside: int,
    floor: float,
    field: wp.array(dtype=wp.float32, ndim=3),
):
    index = wp.tid()
    if index >= count:
        return
    k = index % field.shape[2]
    rest = index / field.shape[2]
    j = rest % field.shape[1]
    i = rest / field.shape[1]
    p = origin + spacing * wp.vec3(float(i), float(j), float(k))
    width = float(silhouettes.shape[2])
    height = float(silhouettes.shape[1])
    least = float(wp.inf)
    for view in range(silhouettes.shape[0]):
        local = seen_from(cameras, view, p)
        value = float(wp.inf)
        if local[2] > _NEAREST:
            fx = cameras[view, 12]
            fy = cameras[view, 13]
            u = fx * local[0] / local[2] + cameras[view, 14]
            v = fy * local[1] / local[2] + cameras[view, 15]
            to_frame = wp.min(wp.min(u, width - u), wp.min(v, height - v))
            if ignore_outside == 0 or to_frame >= 0.0:
                distance = bilinear(silhouettes, view, u, v)
                if ignore_outside == 0:
                    distance = wp.min(distance, to_frame)
                value = distance * local[2] / wp.sqrt(fx * fy)
        elif ignore_outside == 0:
            value = floor
        least = wp.min(least, value)
    field[i, j, k] = wp.max(least, floor)


def cuda_kernels() -> list[Any]:
    """For compiling ahead of time."""
    return [_carve_points]


def carve_silhouettes_cuda(
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
    """See `carve_silhouettes`; on the device of the silhouettes."""
    check_grid_inputs({"silhouettes": silhouettes}, w2c, intrinsics, spacing=spacing, shape=shape)
    images = finite_silhouettes(silhouettes)
    field = torch.empty(shape, device=images.device)
    inputs: list[Any] = [
        field.numel(),
        wp.from_torch(images),
        wp.from_torch(pack_cameras(w2c, intrinsics).to(images.device)),
        wp.vec3(*origin.tolist()),
        float(spacing),
        int(outside_frame == "ignore"),
        float(-(8.0 * spacing) if truncation is None else -truncation),
        wp.from_torch(field),
    ]
    launch_blocks(_carve_points, -(-field.numel() // THREADS), THREADS, inputs, device=images.device)
    return field
