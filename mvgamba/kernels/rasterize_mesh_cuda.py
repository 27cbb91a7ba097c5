"""`rasterize_mesh` for CUDA: faces write depth and number as one integer, of which each pixel keeps the least.

Three kernels for all views. The first has a thread for each face and view: it sets the face up and, where the box has up to
`SMALL` pixels, draws it; larger faces go on a list. The second draws those: each is cut into `SLICES` bands of rows, each
band is drawn by a block. The third has a thread for each pixel and turns numbers into weights. The bits of a positive
float32 are in the order of its value, so the least (depth, face) is the nearest face, and of faces at the same depth the
first: the result does not depend on the order of threads. Nothing is sorted, and no count comes back to the host.
"""

# ruff: noqa: UP018  (in Warp, float(0.0) makes a variable and 0.0 a constant)

from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.kernels.rasterize_mesh import EDGE_TOLERANCE, FLAT, MeshPlanes, check_inputs, homogeneous_corners
from mvgamba.kernels.warp_blocks import launch_blocks
from mvgamba.kernels.warp_runtime import warp

wp = warp()

SMALL = 64
"""Pixels of a bounding box that one thread draws by itself."""
SLICES = 32
"""Bands that a larger face is cut into."""
BLOCK = 128
MOST_BLOCKS = 2048
"""Blocks that share the list of larger faces: enough to fill a device with 132 multiprocessors at its full occupancy."""
MOST_PAIRS = 1 << 26
"""Pairs of view and face, and pixels of all views, that are drawn in one go: indices stay within 31 bits."""
NOTHING = torch.iinfo(torch.int64).max

_FLAT = wp.constant(wp.float64(FLAT))
_TOLERANCE = wp.constant(wp.float64(EDGE_TOLERANCE))
_SMALL = wp.constant(SMALL)
_SLICES = wp.constant(SLICES)
_BLOCK = wp.constant(BLOCK)
_NOTHING = wp.constant(wp.int64(NOTHING))


@no_type_check  # beartype cannot read Warp's types
@wp.func
def _box(q0: wp.vec3d, q1: wp.vec3d, q2: wp.vec3d, height: int, width: int, near: wp.float64):
    """First and last pixel (left, top, right, bottom) whose centre may be covered; bottom is -1 if there is none."""
    x0 = wp.float64(1.0e9)
    y0 = wp.float64(1.0e9)
    x1 = wp.float64(-1.0e9)
    y1 = wp.float64(-1.0e9)
    for i in range(3):
        a = q0
        b = q1
        if i == 1:
            a = q1
            b = q2
        if i == 2:
            a = q2
            b = q0
        if a[2] >= near:
            x = a[0] / a[2]
            y = a[1] / a[2]
            x0 = wp.min(x0, x)
            x1 = wp.max(x1, x)
            y0 = wp.min(y0, y)
            y1 = wp.max(y1, y)
        if (a[2] >= near) != (b[2] >= near):
            t = (near - a[2]) / (b[2] - a[2])
            x = (a[0] + t * (b[0] - a[0])) / near
            y = (a[1] + t * (b[1] - a[1])) / near
            x0 = wp.min(x0, x)
            x1 = wp.max(x1, x)
            y0 = wp.min(y0, y)
            y1 = wp.max(y1, y)
    half = wp.float64(0.5)
    margin = wp.float64(1.0e-6)
    zero = wp.float64(0.0)
    before = wp.float64(-1.0)
    one = wp.float64(1.0)
    left = int(wp.clamp(wp.ceil(x0 - half - margin), zero, wp.float64(width)))
    top = int(wp.clamp(wp.ceil(y0 - half - margin), zero, wp.float64(height)))
    right = int(wp.clamp(wp.floor(x1 - half + margin), before, wp.float64(width) - one))
    bottom = int(wp.clamp(wp.floor(y1 - half + margin), before, wp.float64(height) - one))
    if left > right or top > bottom:
        bottom = -1
    return wp.vec4i(left, top, right, bottom)


@no_type_check
@wp.func
def _edges(q0: wp.vec3d, q1: wp.vec3d, q2: wp.vec3d):
    """Rows e_i / volume, so that they add up to 1 / depth whichever way the face is turned; 0 if it is seen edge-on."""
    c0 = wp.cross(q1, q2)
    volume = wp.dot(q0, c0)
    if not (wp.abs(volume) > _FLAT * wp.length(q0) * wp.length(q1) * wp.length(q2)):
        return wp.mat33d()
    c1 = wp.cross(q2, q0)
    c2 = wp.cross(q0, q1)
    return wp.matrix_from_rows(c0 / volume, c1 / volume, c2 / volume)


@no_type_check
@wp.func
def _key(edges: wp.mat33d, x: int, y: int, near: wp.float64, face: int):
    """What the face would write at a pixel; `_NOTHING` if it does not cover the pixel's centre."""
    half = wp.float64(0.5)
    pixel = wp.vec3d(wp.float64(x) + half, wp.float64(y) + half, wp.float64(1.0))
    e = edges * pixel
    total = e[0] + e[1] + e[2]
    least = -_TOLERANCE * total
    if total > wp.float64(0.0) and e[0] >= least and e[1] >= least and e[2] >= least:
        z = wp.float64(1.0) / total
        if z >= near and z < wp.float64(3.0e38):
            bits = wp.cast(wp.float32(z), wp.int32)
            return (wp.int64(bits) << wp.int64(32)) | wp.int64(face)
    return _NOTHING


@no_type_check
@wp.kernel(enable_backward=False)
def _draw_small(
    corners: wp.array(dtype=wp.vec3d, ndim=2),
    faces: wp.array(dtype=wp.int32, ndim=2),
    height: int,
    width: int,
    near: wp.float64,
    best: wp.array(dtype=wp.int64),
    large: wp.array(dtype=wp.vec2i),
    count: wp.array(dtype=wp.int32),
):
    index = wp.tid()
    view = index / faces.shape[0]
    face = index % faces.shape[0]
    if view < corners.shape[0]:
        q0 = corners[view, faces[face, 0]]
        q1 = corners[view, faces[face, 1]]
        q2 = corners[view, faces[face, 2]]
        box = _box(q0, q1, q2, height, width, near)
        if box[3] >= 0:
            if (box[2] - box[0] + 1) * (box[3] - box[1] + 1) <= _SMALL:
                edges = _edges(q0, q1, q2)
                for y in range(box[1], box[3] + 1):
                    for x in range(box[0], box[2] + 1):
                        key = _key(edges, x, y, near, face)
                        if key != _NOTHING:
                            wp.atomic_min(best, (view * height + y) * width + x, key)
            else:
                large[wp.atomic_add(count, 0, 1)] = wp.vec2i(view, face)


@no_type_check
@wp.kernel(enable_backward=False)
def _draw_large(
    corners: wp.array(dtype=wp.vec3d, ndim=2),
    faces: wp.array(dtype=wp.int32, ndim=2),
    height: int,
    width: int,
    near: wp.float64,
    best: wp.array(dtype=wp.int64),
    large: wp.array(dtype=wp.vec2i),
    count: wp.array(dtype=wp.int32),
    blocks: int,
):
    block = wp.tid() / _BLOCK
    thread = wp.tid() % _BLOCK
    item = int(block / _SLICES)
    part = block % _SLICES
    while item < count[0]:
        view = large[item][0]
        face = large[item][1]
        q0 = corners[view, faces[face, 0]]
        q1 = corners[view, faces[face, 1]]
        q2 = corners[view, faces[face, 2]]
        box = _box(q0, q1, q2, height, width, near)
        edges = _edges(q0, q1, q2)
        rows = box[3] - box[1] + 1
        columns = box[2] - box[0] + 1
        first = box[1] + rows * part / _SLICES
        last = box[1] + rows * (part + 1) / _SLICES
        pixel = int(thread)
        while pixel < (last - first) * columns:
            x = box[0] + pixel % columns
            y = first + pixel / columns
            key = _key(edges, x, y, near, face)
            if key != _NOTHING:
                place = (view * height + y) * width + x
                if key < best[place]:  # most of what is hidden needs no atomic
                    wp.atomic_min(best, place, key)
            pixel += _BLOCK
        item += blocks / _SLICES


@no_type_check
@wp.kernel(enable_backward=False)
def _resolve(
    corners: wp.array(dtype=wp.vec3d, ndim=2),
    faces: wp.array(dtype=wp.int32, ndim=2),
    height: int,
    width: int,
    best: wp.array(dtype=wp.int64),
    face_ids: wp.array(dtype=wp.int32),
    depth: wp.array(dtype=wp.float32),
    barycentrics: wp.array(dtype=wp.vec3),
):
    index = wp.tid()
    if index < best.shape[0]:
        key = best[index]
        face = int(-1)
        z = float(0.0)
        weights = wp.vec3(0.0, 0.0, 0.0)
        if key != _NOTHING:
            face = wp.int32(key & wp.int64(0x7FFFFFFF))
            z = wp.cast(wp.int32(key >> wp.int64(32)), wp.float32)
            view = index / (height * width)
            half = wp.float64(0.5)
            zero = wp.float64(0.0)
            x = wp.float64(index % width) + half
            y = wp.float64((index / width) % height) + half
            pixel = wp.vec3d(x, y, wp.float64(1.0))
            q0 = corners[view, faces[face, 0]]
            q1 = corners[view, faces[face, 1]]
            q2 = corners[view, faces[face, 2]]
            e = _edges(q0, q1, q2) * pixel
            b0 = wp.max(e[0], zero)
            b1 = wp.max(e[1], zero)
            b2 = wp.max(e[2], zero)
            total = b0 + b1 + b2
            weights = wp.vec3(wp.float32(b0 / total), wp.float32(b1 / total), wp.float32(b2 / total))
        face_ids[index] = face
        depth[index] = z
        barycentrics[index] = weights


def cuda_kernels() -> list[Any]:
    """What is compiled ahead of time in the tests."""
    return [_draw_small, _draw_large, _resolve]


def rasterize_mesh_cuda(
    vertices: Float[Tensor, "P 3"],
    faces: Int[Tensor, "F 3"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    *,
    height: int,
    width: int,
    near: float = 1e-3,
) -> MeshPlanes:
    """See `mvgamba.kernels.rasterize_mesh`."""
    check_inputs(vertices, faces, w2c, intrinsics, height=height, width=width, near=near)
    device, views, pixels = vertices.device, len(w2c), height * width
    face_ids = torch.empty((views, height, width), dtype=torch.int32, device=device)
    depth = torch.empty((views, height, width), device=device)
    barycentrics = torch.empty((views, height, width, 3), device=device)
    indices = faces.to(torch.int32).contiguous()
    group = max(1, min(views, MOST_PAIRS // max(len(faces), pixels)))
    for begin in range(0, views, group):
        now = slice(begin, min(begin + group, views))
        corners = homogeneous_corners(vertices, w2c[now], intrinsics[now])
        total = len(corners) * pixels
        best = torch.full((total,), NOTHING, dtype=torch.int64, device=device)
        if len(faces):
            pairs = len(corners) * len(faces)
            large = torch.empty((pairs, 2), dtype=torch.int32, device=device)
            count = torch.zeros(1, dtype=torch.int32, device=device)
            shared = [wp.from_torch(corners, dtype=wp.vec3d), wp.from_torch(indices), height, width]
            drawn = [near, wp.from_torch(best), wp.from_torch(large, dtype=wp.vec2i), wp.from_torch(count)]
            launch_blocks(_draw_small, -(-pairs // BLOCK), BLOCK, [*shared, *drawn], device=device)
            # On a CPU, where blocks run one after the other, the list is known already.
            blocks = MOST_BLOCKS if device.type == "cuda" else SLICES * max(1, min(int(count), 4))
            launch_blocks(_draw_large, blocks, BLOCK, [*shared, *drawn, blocks], device=device)
            planes = [
                wp.from_torch(face_ids[now].view(-1)),
                wp.from_torch(depth[now].view(-1)),
                wp.from_torch(barycentrics[now].view(-1, 3), dtype=wp.vec3),
            ]
            launch_blocks(_resolve, -(-total // BLOCK), BLOCK, [*shared, drawn[1], *planes], device=device)
        else:
            face_ids[now], depth[now], barycentrics[now] = -1, 0.0, 0.0
    return MeshPlanes(face_ids, barycentrics, depth)
