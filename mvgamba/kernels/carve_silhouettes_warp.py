"""`carve_silhouettes` for CPUs: blocks of 8 cubed points, and only the views that can decide a block.

For each block and view, the silhouette at the block's centre and the size of the block's shadow bound the values that
the view can give. A block that some view carves away for certain is filled at once; in the others only those views are
evaluated whose least value is below the smallest of the greatest values.
"""

from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.grid_inputs import check_grid_inputs, finite_silhouettes
from mvgamba.kernels.warp_runtime import launch_chunks, warp

wp = warp()

BLOCK = 8
_BLOCK = wp.constant(BLOCK)
_NEAREST = wp.constant(NEAREST_DEPTH)
_SLOPE = wp.constant(1.5)
_BIG = wp.constant(1.0e30)


@no_type_check  # beartype cannot read Warp's array types
@wp.func
def _bilinear(images: wp.array(dtype=wp.float32, ndim=3), view: int, u: float, v: float):
    height = images.shape[1]
    width = images.shape[2]
    x = wp.clamp(u - 0.5, 0.0, float(width - 1))
    y = wp.clamp(v - 0.5, 0.0, float(height - 1))
    x0 = wp.min(int(x), wp.max(width - 2, 0))
    y0 = wp.min(int(y), wp.max(height - 2, 0))
    x1 = wp.min(x0 + 1, width - 1)
    y1 = wp.min(y0 + 1, height - 1)
    fx = x - float(x0)
    fy = y - float(y0)
    top = images[view, y0, x0] * (1.0 - fx) + images[view, y0, x1] * fx
    bottom = images[view, y1, x0] * (1.0 - fx) + images[view, y1, x1] * fx
    return top * (1.0 - fy) + bottom * fy


@no_type_check
@wp.func
def _bounds(
    images: wp.array(dtype=wp.float32, ndim=3),
    transforms: wp.array(dtype=wp.float32, ndim=2),
    view: int,
    centre: wp.vec3,
    radius: float,
    ignore_outside: int,
    floor: float,
):
    """Least and greatest value of a view in a ball."""
    lx = transforms[view, 0] * centre[0] + transforms[view, 1] * centre[1] + transforms[view, 2] * centre[2]
    ly = transforms[view, 4] * centre[0] + transforms[view, 5] * centre[1] + transforms[view, 6] * centre[2]
    lz = transforms[view, 8] * centre[0] + transforms[view, 9] * centre[1] + transforms[view, 10] * centre[2]
    lx += transforms[view, 3]
    ly += transforms[view, 7]
    depth = lz + transforms[view, 11]
    near = depth - radius
    if near <= _NEAREST:
        if depth + radius <= _NEAREST:  # wholly behind the camera
            if ignore_outside == 1:
                return wp.vec2(_BIG, _BIG)
            return wp.vec2(floor, floor)
        return wp.vec2(-_BIG, _BIG)
    fx = transforms[view, 12]
    fy = transforms[view, 13]
    u = fx * lx / depth + transforms[view, 14]
    v = fy * ly / depth + transforms[view, 15]
    tangent = (wp.sqrt(lx * lx + ly * ly) + radius) / near
    shadow = wp.max(fx, fy) * radius / near * wp.sqrt(1.0 + tangent * tangent)
    width = float(images.shape[2])
    height = float(images.shape[1])
    to_frame = wp.min(wp.min(u, width - u), wp.min(v, height - v))
    distance = _bilinear(images, view, u, v)
    if ignore_outside == 1:
        if to_frame < -shadow:
            return wp.vec2(_BIG, _BIG)
        if to_frame <= shadow:
            return wp.vec2(-_BIG, _BIG)
    else:
        distance = wp.min(distance, to_frame)
    low = distance - _SLOPE * shadow
    high = distance + _SLOPE * shadow
    scale = 1.0 / wp.sqrt(fx * fy)
    far = depth + radius
    return wp.vec2(wp.min(low * near, low * far) * scale, wp.max(high * near, high * far) * scale)


@no_type_check
@wp.kernel(enable_backward=False)
def _carve(
    begin: int,
    images: wp.array(dtype=wp.float32, ndim=3),
    transforms: wp.array(dtype=wp.float32, ndim=2),
    origin: wp.vec3,
    spacing: float,
    blocks: wp.vec3i,
    ignore_outside: int,
    floor: float,
    field: wp.array(dtype=wp.float32, ndim=3),
):
    index = begin + wp.tid()
    bz = index % blocks[2]
    by = (index / blocks[2]) % blocks[1]
    bx = index / (blocks[2] * blocks[1])
    x0 = bx * _BLOCK
    y0 = by * _BLOCK
    z0 = bz * _BLOCK
    x1 = wp.min(x0 + _BLOCK, field.shape[0])
    y1 = wp.min(y0 + _BLOCK, field.shape[1])
    z1 = wp.min(z0 + _BLOCK, field.shape[2])
    half = wp.vec3(float(x1 - 1 - x0), float(y1 - 1 - y0), float(z1 - 1 - z0)) * (0.5 * spacing)
    centre = origin + wp.vec3(float(x0), float(y0), float(z0)) * spacing + half
    radius = wp.length(half) * 1.0001
    width = float(images.shape[2])
    height = float(images.shape[1])

    ceiling = float(_BIG)
    for view in range(images.shape[0]):
        ceiling = wp.min(ceiling, _bounds(images, transforms, view, centre, radius, ignore_outside, floor)[1])
    start = float(wp.inf)
    if ceiling <= floor:
        start = floor
    for x in range(x0, x1):
        for y in range(y0, y1):
            for z in range(z0, z1):
                field[x, y, z] = start
    if ceiling <= floor:
        return

    for view in range(images.shape[0]):
        if _bounds(images, transforms, view, centre, radius, ignore_outside, floor)[0] > ceiling:
            continue
        fx = transforms[view, 12]
        fy = transforms[view, 13]
        cx = transforms[view, 14]
        cy = transforms[view, 15]
        scale = 1.0 / wp.sqrt(fx * fy)
        for x in range(x0, x1):
            px = origin[0] + spacing * float(x)
            for y in range(y0, y1):
                py = origin[1] + spacing * float(y)
                lx = transforms[view, 0] * px + transforms[view, 1] * py + transforms[view, 3]
                ly = transforms[view, 4] * px + transforms[view, 5] * py + transforms[view, 7]
                lz = transforms[view, 8] * px + transforms[view, 9] * py + transforms[view, 11]
                for z in range(z0, z1):
                    previous = field[x, y, z]
                    if previous <= floor:
                        continue
                    pz = origin[2] + spacing * float(z)
                    depth = lz + transforms[view, 10] * pz
                    value = float(wp.inf)
                    if depth > _NEAREST:
                        u = fx * (lx + transforms[view, 2] * pz) / depth + cx
                        v = fy * (ly + transforms[view, 6] * pz) / depth + cy
                        to_frame = wp.min(wp.min(u, width - u), wp.min(v, height - v))
                        if ignore_outside == 0:
                            value = wp.min(_bilinear(images, view, u, v), to_frame) * depth * scale
                        elif to_frame >= 0.0:
                            value = _bilinear(images, view, u, v) * depth * scale
                    elif ignore_outside == 0:
                        value = floor
                    field[x, y, z] = wp.max(wp.min(previous, value), floor)


def carve_silhouettes_warp(
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
    images = finite_silhouettes(silhouettes)
    field = torch.empty(shape, dtype=torch.float32)
    blocks = [-(-n // BLOCK) for n in shape]
    inputs: list[Any] = [
        wp.from_torch(images),
        wp.from_torch(pack_cameras(w2c, intrinsics)),
        wp.vec3(*origin.tolist()),
        float(spacing),
        wp.vec3i(*blocks),
        int(outside_frame == "ignore"),
        floor,
        wp.from_torch(field),
    ]
    launch_chunks(_carve, blocks[0] * blocks[1] * blocks[2], inputs, chunks_per_thread=16)
    return field


def pack_cameras(w2c: Float[Tensor, "V 4 4"], intrinsics: Float[Tensor, "V 3 3"]) -> Float[Tensor, "V 16"]:
    """Per view the twelve numbers of the rigid transform, then fx, fy, cx, cy."""
    k = intrinsics
    pinhole = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], dim=1)
    return torch.cat([w2c[:, :3].reshape(-1, 12), pinhole.to(w2c)], dim=1).detach().float().contiguous()
