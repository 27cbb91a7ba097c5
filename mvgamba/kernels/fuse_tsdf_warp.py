"""`fuse_tsdf` for CPUs: blocks of 8 cubed points, and only the views that have something to say about a block.

Each picture is summarised in tiles of 8 by 8 pixels: least and greatest depth and weight, and whether there is background.
From the tiles under a block's shadow a view is known to see the block wholly hidden, wholly free, or at least nowhere near a
surface. A block that no view has a surface in is mostly decided at once: one view that sees all of it free is enough. In
the others a view that sees it free, under one weight, adds two numbers. What is left is computed sixteen points at a time, two
rows of a block.
"""

import functools
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.carve_silhouettes_reference import NEAREST_DEPTH
from mvgamba.kernels.carve_silhouettes_warp import BLOCK, pack_cameras
from mvgamba.kernels.cpu_vectors import VECTORS, addresses
from mvgamba.kernels.fuse_tsdf_reference import FREE_WEIGHT
from mvgamba.kernels.grid_inputs import check_grid_inputs, sanitised_depth
from mvgamba.kernels.warp_runtime import launch_chunks, warp

TILE = 8
MOST_TILES = 100
"""A shadow over more tiles than this is not looked up: the view is evaluated."""

_SUMMARISE = """
    const int tx = index % tiles_x, ty = (index / tiles_x) % tiles_y;
    const long long view = index / (tiles_x * tiles_y);
    float nearest = 1e30f, farthest = 0.0f, background = 0.0f, lightest = 1e30f, heaviest = 0.0f;
    for (int y = ty * TILE; y < ty * TILE + TILE && y < rows; ++y) {
        for (int x = tx * TILE; x < tx * TILE + TILE && x < columns; ++x) {
            const long long at = (view * rows + y) * columns + x;
            const float d = depth.data[at], w = weights.data[at];
            lightest = w < lightest ? w : lightest;
            heaviest = w > heaviest ? w : heaviest;
            if (w > 0.0f && d <= 0.0f) background = 1.0f;
            if (d > 0.0f) {
                nearest = d < nearest ? d : nearest;
                farthest = d > farthest ? d : farthest;
            }
        }
    }
    float* tile = tiles.data + 5LL * index;
    tile[0] = nearest; tile[1] = farthest; tile[2] = background; tile[3] = lightest; tile[4] = heaviest;
""".replace("TILE", str(TILE))

_FUSE = (
    VECTORS
    + """
    (void)load; (void)store; (void)exp2v; (void)sigmoid; (void)softplus; (void)LOG2E;
    typedef float half_vec __attribute__((vector_size(32), aligned(4)));
    const int UNSEEN = 0, HIDDEN = 1, FREE = 2, FREE_OR_NOTHING = 3, MIXED = 4;
    const int x0 = index / (blocks_y * blocks_z) * 8, y0 = index / blocks_z % blocks_y * 8, z0 = index % blocks_z * 8;
    const int nx = wp::min(8, size_x - x0), ny = wp::min(8, size_y - y0), nz = wp::min(8, size_z - z0);
    const float width = (float)columns, height = (float)rows;
    const vec zero = (vec){};

    float weight_of_free = 0.0f;
    // What a view can say about the ball around the block.
    const float hx = 0.5f * spacing * (nx - 1), hy = 0.5f * spacing * (ny - 1), hz = 0.5f * spacing * (nz - 1);
    const float bx = origin_x + spacing * x0 + hx, by = origin_y + spacing * y0 + hy, bz = origin_z + spacing * z0 + hz;
    const float radius = wp::sqrt(hx * hx + hy * hy + hz * hz) * 1.0001f;
    auto classify = [&](int view) -> int {
        const float* m = cameras.data + 16LL * view;
        const float lx = m[0] * bx + m[1] * by + m[2] * bz + m[3], ly = m[4] * bx + m[5] * by + m[6] * bz + m[7];
        const float lz = m[8] * bx + m[9] * by + m[10] * bz + m[11];
        const float near = lz - radius, far = lz + radius;
        if (far <= NEAREST) return UNSEEN;
        if (near <= NEAREST) return MIXED;
        const float u = m[12] * lx / lz + m[14], v = m[13] * ly / lz + m[15];
        const float tangent = (wp::sqrt(lx * lx + ly * ly) + radius) / near;
        const float shadow = wp::max(m[12], m[13]) * radius / near * wp::sqrt(1.0f + tangent * tangent) + 0.01f;
        if (u + shadow < 0.0f || v + shadow < 0.0f || u - shadow > width || v - shadow > height) return UNSEEN;
        const bool is_whole = u - shadow >= 0.0f && v - shadow >= 0.0f && u + shadow <= width && v + shadow <= height;
        const float reach = shadow + 1.0f;  // interpolation looks at the neighbour
        const int tx0 = wp::max((int)(u - reach) / TILE, 0), ty0 = wp::max((int)(v - reach) / TILE, 0);
        const int tx1 = wp::min((int)(u + reach) / TILE, tiles_x - 1), ty1 = wp::min((int)(v + reach) / TILE, tiles_y - 1);
        if ((tx1 - tx0 + 1) * (ty1 - ty0 + 1) > MOST_TILES) return MIXED;
        float nearest = 1e30f, farthest = 0.0f, background = 0.0f, lightest = 1e30f, heaviest = 0.0f;
        for (int ty = ty0; ty <= ty1; ++ty) {
            const float* tile = tiles.data + 5LL * (((long long)view * tiles_y + ty) * tiles_x + tx0);
            for (int tx = tx0; tx <= tx1; ++tx, tile += 5) {
                nearest = tile[0] < nearest ? tile[0] : nearest;
                farthest = tile[1] > farthest ? tile[1] : farthest;
                background = tile[2] > background ? tile[2] : background;
                lightest = tile[3] < lightest ? tile[3] : lightest;
                heaviest = tile[4] > heaviest ? tile[4] : heaviest;
            }
        }
        weight_of_free = lightest == heaviest ? lightest : 0.0f;
        const bool is_before = far < nearest - truncation, is_behind = near > farthest + behind;
        if (is_before) return is_whole && lightest > 0.0f ? FREE : FREE_OR_NOTHING;
        if (is_behind) return is_whole && background == 0.0f ? HIDDEN : FREE_OR_NOTHING;
        return MIXED;
    };

    auto hull_at = [&](int x, int y, int z) { return hull.data + (((long long)(x0 + x)) * size_y + y0 + y) * size_z + z0 + z; };
    auto field_at = [&](int x, int y, int z) { return field.data + (((long long)(x0 + x)) * size_y + y0 + y) * size_z + z0 + z; };

    // What is known of the whole block without looking at its points.
    float highest = 1e30f;
    if (has_hull) {
        highest = -truncation;
        for (int x = 0; x < nx; ++x)
            for (int y = 0; y < ny; ++y)
                for (int z = 0; z < nz; ++z) highest = wp::max(highest, *hull_at(x, y, z));
    }
    bool is_mixed = false, is_free = false, is_perhaps_free = false, is_framed = has_hull;
    for (int view = 0; view < num_views && highest > -truncation && !is_mixed; ++view) {
        const int verdict = classify(view);
        is_mixed = verdict == MIXED;
        is_free |= verdict == FREE;
        is_perhaps_free |= verdict == FREE_OR_NOTHING;
        is_framed |= verdict == HIDDEN;
    }
    if (!is_mixed && (is_free || !is_perhaps_free)) {
        const float value = is_free || !is_framed || highest <= -truncation ? -truncation : truncation;
        for (int x = 0; x < nx; ++x)
            for (int y = 0; y < ny; ++y)
                for (int z = 0; z < nz; ++z)
                    *field_at(x, y, z) = has_hull ? wp::max(wp::min(value, *hull_at(x, y, z)), -truncation) : value;
        return;
    }

    // Lane: y % 2, z. A vector: x, y / 2. Votes for free space that count alike at all points are two numbers.
    vec sums[32], votes[32];
    ivec framed[32];
    for (int i = 0; i < 32; ++i) { sums[i] = zero; votes[i] = zero; framed[i] = (ivec){} - has_hull; }
    float free_votes = 0.0f;
    vec lane_y = zero, lane_z = zero;
    for (int i = 0; i < 16; ++i) { lane_y[i] = (float)(i / 8); lane_z[i] = (float)(i % 8); }
    const vec pz = origin_z + spacing * (lane_z + (float)z0);
    for (int view = 0; view < num_views; ++view) {
        const int verdict = classify(view);
        if (verdict == UNSEEN) continue;
        if (verdict == HIDDEN || (verdict == FREE && weight_of_free > 0.0f)) {
            for (int i = 0; i < 32; ++i) framed[i] = (ivec){} - 1;
            if (verdict == FREE) free_votes += weight_of_free * FREE_WEIGHT;
            continue;
        }
        const float* m = cameras.data + 16LL * view;
        const float* picture = depth.data + (long long)view * rows * columns;
        const float* picture_weights = weights.data + (long long)view * rows * columns;
        const vec along_x = m[2] * pz + m[3], along_y = m[6] * pz + m[7], along_z = m[10] * pz + m[11];
        for (int i = 0; i < 32; ++i) {
            const int x = i / 4, y = i % 4 * 2;
            if (x >= nx || y >= ny) continue;
            const float px = origin_x + spacing * (x0 + x);
            const vec py = origin_y + spacing * (lane_y + (float)(y0 + y));
            const vec d = along_z + m[8] * px + m[9] * py;
            const vec inverse = 1.0f / d;
            const vec u = m[12] * (along_x + m[0] * px + m[1] * py) * inverse + m[14];
            const vec v = m[13] * (along_y + m[4] * px + m[5] * py) * inverse + m[15];
            const ivec in_frame = (d > NEAREST) & (u >= 0.0f) & (v >= 0.0f) & (u < width) & (v < height);
            if (!__builtin_reduce_or(in_frame)) continue;
            framed[i] |= in_frame;
            // The nearest pixel is one of the four around a point.
            vec ax = u - 0.5f, ay = v - 0.5f;
            ax = ax > 0.0f ? ax : zero; ay = ay > 0.0f ? ay : zero;
            ax = ax < width - 1.0f ? ax : zero + (width - 1.0f); ay = ay < height - 1.0f ? ay : zero + (height - 1.0f);
            ax = in_frame ? ax : zero; ay = in_frame ? ay : zero;
            ivec c0 = __builtin_convertvector(ax, ivec), r0 = __builtin_convertvector(ay, ivec);
            const int last_column = columns > 1 ? columns - 2 : 0, last_row = rows > 1 ? rows - 2 : 0;
            c0 = c0 < last_column ? c0 : (ivec){} + last_column;
            r0 = r0 < last_row ? r0 : (ivec){} + last_row;
            const vec tx = ax - __builtin_convertvector(c0, vec), ty = ay - __builtin_convertvector(r0, vec);
            const ivec right = tx >= 0.5f, below = ty >= 0.5f;
            const ivec at = r0 * columns + c0;
            vec d00, d01, d10, d11, weight;
            const int step_x = columns > 1, step_y = rows > 1 ? columns : 0;
            const ivec at_nearest = at + (right & step_x) + (below & step_y);
            for (int lane = 0; lane < 16; ++lane) {
                const float* p = picture + at[lane];
                d00[lane] = p[0];
                d01[lane] = p[step_x];
                d10[lane] = p[step_y];
                d11[lane] = p[step_y + step_x];
                weight[lane] = picture_weights[at_nearest[lane]];
            }
            const vec top_least = d00 < d01 ? d00 : d01, bottom_least = d10 < d11 ? d10 : d11;
            const vec top_most = d00 > d01 ? d00 : d01, bottom_most = d10 > d11 ? d10 : d11;
            const vec least = top_least < bottom_least ? top_least : bottom_least;
            const vec most = top_most > bottom_most ? top_most : bottom_most;
            const vec top = d00 * (1.0f - tx) + d01 * tx, bottom = d10 * (1.0f - tx) + d11 * tx;
            const vec blend = top * (1.0f - ty) + bottom * ty;
            const vec nearest = below ? (right ? d11 : d10) : (right ? d01 : d00);
            const vec surface = ((least > 0.0f) & (most - least <= truncation)) ? blend : nearest;
            const vec distance = d - surface;
            vec fade_behind = 1.0f - distance * (1.0f / behind), fade_before = 2.0f + 2.0f / truncation * distance;
            fade_behind = fade_behind > 0.0f ? fade_behind : zero;
            fade_before = fade_before > FREE_WEIGHT ? fade_before : zero + FREE_WEIGHT;
            fade_before = fade_before < 1.0f ? fade_before : zero + 1.0f;
            const ivec is_background = surface <= 0.0f;
            vec fade = distance > 0.0f ? fade_behind : fade_before;
            fade = is_background ? zero + FREE_WEIGHT : fade;
            vec value = distance > -truncation ? distance : zero - truncation;
            value = is_background ? zero - truncation : value;
            weight = in_frame ? weight * fade : zero;
            sums[i] += weight * value;
            votes[i] += weight;
        }
    }
    for (int i = 0; i < 32; ++i) {
        const int x = i / 4, y = i % 4 * 2;
        if (x >= nx || y >= ny) continue;
        const vec all = votes[i] + free_votes;
        vec value = (sums[i] - free_votes * truncation) / all;
        value = all > 0.0f ? value : (framed[i] ? zero + truncation : zero - truncation);
        value = value < truncation ? value : zero + truncation;
        value = value > -truncation ? value : zero - truncation;
        if (!has_hull && y + 1 < ny && nz == 8) {
            *(half_vec*)field_at(x, y, 0) = __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7);
            *(half_vec*)field_at(x, y + 1, 0) = __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15);
            continue;
        }
        for (int lane = 0; lane < 16; ++lane) {
            const int row = y + lane / 8, z = lane % 8;
            if (row >= ny || z >= nz) continue;
            float result = value[lane];
            if (has_hull) result = wp::min(result, *hull_at(x, row, z));
            *field_at(x, row, z) = wp::max(result, -truncation);
        }
    }
"""
)

_FUSE = (
    _FUSE.replace("MOST_TILES", str(MOST_TILES))
    .replace("TILE", str(TILE))
    .replace("FREE_WEIGHT", f"{FREE_WEIGHT}f")
    .replace("NEAREST", f"{NEAREST_DEPTH}f")
)
assert BLOCK == 8, "a vector is two rows of a block"


@functools.cache
def _kernels() -> tuple[Any, Any]:
    wp = warp()
    array = wp.array(dtype=wp.float32)

    @wp.func_native(_SUMMARISE)
    @no_type_check  # beartype cannot read Warp's array types
    def summarise_tile(
        index: int, rows: int, columns: int, tiles_y: int, tiles_x: int, depth: array, weights: array, tiles: array
    ): ...

    @wp.func_native(_FUSE)
    @no_type_check
    def fuse_block(
        index: int, num_views: int, rows: int, columns: int, tiles_y: int, tiles_x: int, size_x: int, size_y: int, size_z: int,
        blocks_y: int, blocks_z: int, has_hull: int, origin_x: float, origin_y: float, origin_z: float, spacing: float,
        truncation: float, behind: float, depth: array, weights: array, tiles: array, cameras: array, hull: array, field: array,
    ): ...  # fmt: skip

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def summarise(
        begin: int, rows: int, columns: int, tiles_y: int, tiles_x: int, depth: array, weights: array, tiles: array
    ):
        summarise_tile(begin + wp.tid(), rows, columns, tiles_y, tiles_x, depth, weights, tiles)

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def fuse(
        begin: int, num_views: int, rows: int, columns: int, tiles_y: int, tiles_x: int, size_x: int, size_y: int, size_z: int,
        blocks_y: int, blocks_z: int, has_hull: int, origin_x: float, origin_y: float, origin_z: float, spacing: float,
        truncation: float, behind: float, depth: array, weights: array, tiles: array, cameras: array, hull: array, field: array,
    ):  # fmt: skip
        fuse_block(
            begin + wp.tid(), num_views, rows, columns, tiles_y, tiles_x, size_x, size_y, size_z,
            blocks_y, blocks_z, has_hull, origin_x, origin_y, origin_z, spacing,
            truncation, behind, depth, weights, tiles, cameras, hull, field,
        )  # fmt: skip

    return summarise, fuse


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
    views, rows, columns = depth.shape
    tiles_y, tiles_x = -(-rows // TILE), -(-columns // TILE)
    tiles = torch.empty((views * tiles_y * tiles_x, 5))
    cameras = pack_cameras(w2c, intrinsics)
    summarise, fuse = _kernels()
    launch_chunks(summarise, len(tiles), [rows, columns, tiles_y, tiles_x, *addresses([depth, weights, tiles])])
    numbers = [*map(float, origin.tolist()), float(spacing), float(truncation)]
    numbers.append(float(0.5 * truncation if behind is None else behind))
    sizes = [views, rows, columns, tiles_y, tiles_x, *shape, *blocks[1:], int(hull is not None)]
    inputs = [*sizes, *numbers, *addresses([depth, weights, tiles, cameras, known, field])]
    launch_chunks(fuse, blocks[0] * blocks[1] * blocks[2], inputs, chunks_per_thread=16)
    return field
