"""`fuse_tsdf` for CPUs: blocks of 8 cubed points, and only the views that have something to say about a block.

Each picture is summarised in tiles of 8 by 8 pixels: least and greatest depth, and whether there is background or a pixel
without weight. From the tiles under a block's shadow a view is known to see the block wholly hidden, wholly free, or
neither; a block that is neither for no view is filled at once.
"""

# ruff: noqa: UP018  (in Warp, float(0.0) makes a variable and 0.0 a constant)

from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.carve_silhouettes_warp import BLOCK, pack_cameras
from mvgamba.kernels.fuse_tsdf_reference import FREE_WEIGHT
from mvgamba.kernels.grid_inputs import check_grid_inputs, sanitised_depth
from mvgamba.kernels.warp_runtime import launch_chunks, warp

wp = warp()

TILE = 8
MOST_TILES = 100
"""A shadow over more tiles than this is not looked up: the view is evaluated."""

_BLOCK = wp.constant(BLOCK)
_TILE = wp.constant(TILE)
_MOST_TILES = wp.constant(MOST_TILES)
_NEAREST = wp.constant(NEAREST_DEPTH)
_FREE_WEIGHT = wp.constant(FREE_WEIGHT)
_UNSEEN = wp.constant(0)
_HIDDEN = wp.constant(1)
_FREE = wp.constant(2)
_MIXED = wp.constant(3)


@no_type_check  # beartype cannot read Warp's array types
@wp.kernel(enable_backward=False)
def _summarise(
    begin: int,
    depth: wp.array(dtype=wp.float32, ndim=3),
    weights: wp.array(dtype=wp.float32, ndim=3),
    tiles_x: int,
    tiles_y: int,
    tiles: wp.array(dtype=wp.vec4),
):
    index = begin + wp.tid()
    tx = index % tiles_x
    ty = (index / tiles_x) % tiles_y
    view = index / (tiles_x * tiles_y)
    nearest = float(wp.inf)
    farthest = float(0.0)
    background = float(0.0)
    silent = float(0.0)
    for y in range(ty * _TILE, wp.min(ty * _TILE + _TILE, depth.shape[1])):
        for x in range(tx * _TILE, wp.min(tx * _TILE + _TILE, depth.shape[2])):
            d = depth[view, y, x]
            if weights[view, y, x] <= 0.0:
                silent = 1.0
            elif d <= 0.0:
                background = 1.0
            else:
                nearest = wp.min(nearest, d)
                farthest = wp.max(farthest, d)
    tiles[index] = wp.vec4(nearest, farthest, background, silent)


@no_type_check
@wp.func
def _classify(
    transforms: wp.array(dtype=wp.float32, ndim=2),
    tiles: wp.array(dtype=wp.vec4),
    tiles_x: int,
    tiles_y: int,
    width: float,
    height: float,
    view: int,
    centre: wp.vec3,
    radius: float,
    truncation: float,
    behind: float,
):
    """What a view can say about a ball."""
    lx = transforms[view, 0] * centre[0] + transforms[view, 1] * centre[1] + transforms[view, 2] * centre[2]
    ly = transforms[view, 4] * centre[0] + transforms[view, 5] * centre[1] + transforms[view, 6] * centre[2]
    lz = transforms[view, 8] * centre[0] + transforms[view, 9] * centre[1] + transforms[view, 10] * centre[2]
    lx += transforms[view, 3]
    ly += transforms[view, 7]
    lz += transforms[view, 11]
    near = lz - radius
    far = lz + radius
    if far <= _NEAREST:
        return _UNSEEN
    if near <= _NEAREST:
        return _MIXED
    fx = transforms[view, 12]
    fy = transforms[view, 13]
    u = fx * lx / lz + transforms[view, 14]
    v = fy * ly / lz + transforms[view, 15]
    tangent = (wp.sqrt(lx * lx + ly * ly) + radius) / near
    shadow = wp.max(fx, fy) * radius / near * wp.sqrt(1.0 + tangent * tangent) + 0.01
    if u + shadow < 0.0 or v + shadow < 0.0 or u - shadow > width or v - shadow > height:
        return _UNSEEN
    if u - shadow < 0.0 or v - shadow < 0.0 or u + shadow > width or v + shadow > height:
        return _MIXED
    reach = shadow + 1.0  # interpolation looks at the neighbour
    tx0 = wp.clamp(int(u - reach) / _TILE, 0, tiles_x - 1)
    ty0 = wp.clamp(int(v - reach) / _TILE, 0, tiles_y - 1)
    tx1 = wp.clamp(int(u + reach) / _TILE, 0, tiles_x - 1)
    ty1 = wp.clamp(int(v + reach) / _TILE, 0, tiles_y - 1)
    if (tx1 - tx0 + 1) * (ty1 - ty0 + 1) > _MOST_TILES:
        return _MIXED
    nearest = float(wp.inf)
    farthest = float(0.0)
    background = float(0.0)
    silent = float(0.0)
    for ty in range(ty0, ty1 + 1):
        for tx in range(tx0, tx1 + 1):
            tile = tiles[(view * tiles_y + ty) * tiles_x + tx]
            nearest = wp.min(nearest, tile[0])
            farthest = wp.max(farthest, tile[1])
            background = wp.max(background, tile[2])
            silent = wp.max(silent, tile[3])
    if background == 0.0 and near > farthest + behind:
        return _HIDDEN
    if silent == 0.0 and far < nearest - truncation:
        return _FREE
    return _MIXED


@no_type_check
@wp.kernel(enable_backward=False)
def _fuse(
    begin: int,
    depth: wp.array(dtype=wp.float32, ndim=3),
    weights: wp.array(dtype=wp.float32, ndim=3),
    tiles: wp.array(dtype=wp.vec4),
    tiles_x: int,
    tiles_y: int,
    transforms: wp.array(dtype=wp.float32, ndim=2),
    origin: wp.vec3,
    spacing: float,
    blocks: wp.vec3i,
    truncation: float,
    behind: float,
    has_hull: int,
    hull: wp.array(dtype=wp.float32, ndim=3),
    field: wp.array(dtype=wp.float32, ndim=3),
):
    index = begin + wp.tid()
    x0 = (index / (blocks[2] * blocks[1])) * _BLOCK
    y0 = ((index / blocks[2]) % blocks[1]) * _BLOCK
    z0 = (index % blocks[2]) * _BLOCK
    x1 = wp.min(x0 + _BLOCK, field.shape[0])
    y1 = wp.min(y0 + _BLOCK, field.shape[1])
    z1 = wp.min(z0 + _BLOCK, field.shape[2])
    half = wp.vec3(float(x1 - 1 - x0), float(y1 - 1 - y0), float(z1 - 1 - z0)) * (0.5 * spacing)
    centre = origin + wp.vec3(float(x0), float(y0), float(z0)) * spacing + half
    radius = wp.length(half) * 1.0001
    num_views = depth.shape[0]
    columns = depth.shape[2]
    rows = depth.shape[1]
    width = float(columns)
    height = float(rows)

    # What is known of the whole block without looking at its points.
    highest = float(wp.inf)
    if has_hull == 1:
        highest = -truncation
        for x in range(x0, x1):
            for y in range(y0, y1):
                for z in range(z0, z1):
                    highest = wp.max(highest, hull[x, y, z])
    is_mixed = int(0)
    is_free = int(0)
    is_framed = int(has_hull)
    if highest > -truncation:
        for view in range(num_views):
            verdict = _classify(
                transforms, tiles, tiles_x, tiles_y, width, height, view, centre, radius, truncation, behind
            )
            if verdict == _MIXED:
                is_mixed = 1
                break
            if verdict == _FREE:
                is_free = 1
            if verdict != _UNSEEN:
                is_framed = 1
    if is_mixed == 0:
        value = truncation
        if is_free == 1 or is_framed == 0 or highest <= -truncation:
            value = -truncation
        for x in range(x0, x1):
            for y in range(y0, y1):
                for z in range(z0, z1):
                    if has_hull == 1:
                        field[x, y, z] = wp.max(wp.min(value, hull[x, y, z]), -truncation)
                    else:
                        field[x, y, z] = value
        return

    # Sums of the points of this block: weighted distances in the field itself, weights beside it.
    sums = wp.zeros(shape=(512,), dtype=wp.float32)
    framed = wp.zeros(shape=(512,), dtype=wp.int32)
    for x in range(x0, x1):
        for y in range(y0, y1):
            for z in range(z0, z1):
                field[x, y, z] = 0.0
    for view in range(num_views):
        verdict = _classify(
            transforms, tiles, tiles_x, tiles_y, width, height, view, centre, radius, truncation, behind
        )
        if verdict == _UNSEEN:
            continue
        if verdict == _HIDDEN:
            for i in range(512):
                framed[i] = 1
            continue
        fx = transforms[view, 12]
        fy = transforms[view, 13]
        cx = transforms[view, 14]
        cy = transforms[view, 15]
        for x in range(x0, x1):
            px = origin[0] + spacing * float(x)
            for y in range(y0, y1):
                py = origin[1] + spacing * float(y)
                lx = transforms[view, 0] * px + transforms[view, 1] * py + transforms[view, 3]
                ly = transforms[view, 4] * px + transforms[view, 5] * py + transforms[view, 7]
                lz = transforms[view, 8] * px + transforms[view, 9] * py + transforms[view, 11]
                for z in range(z0, z1):
                    if has_hull == 1 and hull[x, y, z] <= -truncation:
                        continue
                    pz = origin[2] + spacing * float(z)
                    d = lz + transforms[view, 10] * pz
                    if d <= _NEAREST:
                        continue
                    u = fx * (lx + transforms[view, 2] * pz) / d + cx
                    v = fy * (ly + transforms[view, 6] * pz) / d + cy
                    if u < 0.0 or v < 0.0 or u >= width or v >= height:
                        continue
                    i = ((x - x0) * _BLOCK + (y - y0)) * _BLOCK + (z - z0)
                    framed[i] = 1
                    column = wp.min(int(u), columns - 1)
                    row = wp.min(int(v), rows - 1)
                    weight = weights[view, row, column]
                    if weight <= 0.0:
                        continue
                    surface = depth[view, row, column]
                    if surface <= 0.0:
                        field[x, y, z] = field[x, y, z] - weight * _FREE_WEIGHT * truncation
                        sums[i] = sums[i] + weight * _FREE_WEIGHT
                        continue
                    ax = wp.clamp(u - 0.5, 0.0, width - 1.0)
                    ay = wp.clamp(v - 0.5, 0.0, height - 1.0)
                    c0 = wp.min(int(ax), wp.max(columns - 2, 0))
                    r0 = wp.min(int(ay), wp.max(rows - 2, 0))
                    c1 = wp.min(c0 + 1, columns - 1)
                    r1 = wp.min(r0 + 1, rows - 1)
                    d00 = depth[view, r0, c0]
                    d01 = depth[view, r0, c1]
                    d10 = depth[view, r1, c0]
                    d11 = depth[view, r1, c1]
                    least = wp.min(wp.min(d00, d01), wp.min(d10, d11))
                    greatest = wp.max(wp.max(d00, d01), wp.max(d10, d11))
                    least_weight = wp.min(
                        wp.min(weights[view, r0, c0], weights[view, r0, c1]),
                        wp.min(weights[view, r1, c0], weights[view, r1, c1]),
                    )
                    if least > 0.0 and least_weight > 0.0 and greatest - least <= truncation:
                        tx = ax - float(c0)
                        ty = ay - float(r0)
                        top = d00 * (1.0 - tx) + d01 * tx
                        bottom = d10 * (1.0 - tx) + d11 * tx
                        surface = top * (1.0 - ty) + bottom * ty
                    distance = d - surface
                    if distance > 0.0:
                        weight *= wp.clamp(1.0 - distance / behind, 0.0, 1.0)
                    else:
                        weight *= wp.clamp(2.0 + 2.0 * distance / truncation, _FREE_WEIGHT, 1.0)
                    field[x, y, z] = field[x, y, z] + weight * wp.max(distance, -truncation)
                    sums[i] = sums[i] + weight
    for x in range(x0, x1):
        for y in range(y0, y1):
            for z in range(z0, z1):
                i = ((x - x0) * _BLOCK + (y - y0)) * _BLOCK + (z - z0)
                value = truncation
                if sums[i] > 0.0:
                    value = field[x, y, z] / sums[i]
                elif framed[i] == 0 and has_hull == 0:
                    value = -truncation
                if has_hull == 1:
                    value = wp.min(value, hull[x, y, z])
                field[x, y, z] = wp.clamp(value, -truncation, truncation)


def fuse_tsdf_warp(
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
    check_grid_inputs({"depth": depth, "weights": weights}, w2c, intrinsics, spacing=spacing, shape=shape)
    depth, weights = sanitised_depth(depth, weights)
    field = torch.empty(shape, dtype=torch.float32)
    known = torch.empty((1, 1, 1)) if hull is None else hull.detach().float().contiguous()
    blocks = [-(-n // BLOCK) for n in shape]
    tiles_y, tiles_x = (-(-n // TILE) for n in depth.shape[1:])
    tiles = torch.empty((depth.shape[0] * tiles_y * tiles_x, 4))
    pictures = [wp.from_torch(depth), wp.from_torch(weights)]
    tile_array = wp.from_torch(tiles, dtype=wp.vec4)
    launch_chunks(_summarise, len(tiles), [*pictures, tiles_x, tiles_y, tile_array])
    inputs: list[Any] = [
        *pictures,
        tile_array,
        tiles_x,
        tiles_y,
        wp.from_torch(pack_cameras(w2c, intrinsics)),
        wp.vec3(*origin.tolist()),
        float(spacing),
        wp.vec3i(*blocks),
        float(truncation),
        float(0.5 * truncation if behind is None else behind),
        int(hull is not None),
        wp.from_torch(known),
        wp.from_torch(field),
    ]
    launch_chunks(_fuse, blocks[0] * blocks[1] * blocks[2], inputs, chunks_per_thread=16)
    return field
