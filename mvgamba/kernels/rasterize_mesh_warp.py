"""`rasterize_mesh` for CPUs: bounding boxes of all faces, then bands of rows that each walk through the faces in order.

A band looks at every box (four integers), which costs a millisecond for a million faces and needs no sorting; a face
is set up only where its box holds the centre of a pixel.
"""

# ruff: noqa: UP018  (in Warp, float(0.0) makes a variable and 0.0 a constant)

from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.kernels.rasterize_mesh import EDGE_TOLERANCE, FLAT, MeshPlanes, check_inputs, homogeneous_corners
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

wp = warp()

MOST_BOXES = 8_000_000
"""Views are drawn in groups, so that the boxes of all faces in all views need not be in memory at once (16 bytes each)."""

_FLAT = wp.constant(wp.float64(FLAT))
_TOLERANCE = wp.constant(wp.float64(EDGE_TOLERANCE))


@no_type_check  # beartype cannot read Warp's array types
@wp.kernel(enable_backward=False)
def _bound(
    begin: int,
    corners: wp.array(dtype=wp.vec3d, ndim=2),
    faces: wp.array(dtype=wp.int32, ndim=2),
    height: int,
    width: int,
    near: wp.float64,
    boxes: wp.array(dtype=wp.vec4i, ndim=2),
):
    index = begin + wp.tid()
    face = index % faces.shape[0]
    view = index / faces.shape[0]
    x0 = wp.float64(1.0e9)
    y0 = wp.float64(1.0e9)
    x1 = wp.float64(-1.0e9)
    y1 = wp.float64(-1.0e9)
    for i in range(3):
        j = (i + 1) % 3
        a = corners[view, faces[face, i]]
        b = corners[view, faces[face, j]]
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
    columns = wp.float64(width)
    rows = wp.float64(height)
    one = wp.float64(1.0)
    left = int(wp.clamp(wp.ceil(x0 - half - margin), zero, columns))
    top = int(wp.clamp(wp.ceil(y0 - half - margin), zero, rows))
    right = int(wp.clamp(wp.floor(x1 - half + margin), before, columns - one))
    bottom = int(wp.clamp(wp.floor(y1 - half + margin), before, rows - one))
    if left > right:
        bottom = -1
    boxes[view, face] = wp.vec4i(left, top, right, bottom)


@no_type_check
@wp.kernel(enable_backward=False)
def _draw(
    begin: int,
    corners: wp.array(dtype=wp.vec3d, ndim=2),
    faces: wp.array(dtype=wp.int32, ndim=2),
    boxes: wp.array(dtype=wp.vec4i, ndim=2),
    bands: int,
    near: wp.float64,
    face_ids: wp.array(dtype=wp.int32, ndim=3),
    depth: wp.array(dtype=wp.float32, ndim=3),
    barycentrics: wp.array(dtype=wp.vec3, ndim=3),
):
    index = begin + wp.tid()
    view = index / bands
    band = index % bands
    first = face_ids.shape[1] * band / bands
    last = face_ids.shape[1] * (band + 1) / bands - 1
    half = wp.float64(0.5)
    zero = wp.float64(0.0)
    for face in range(faces.shape[0]):
        box = boxes[view, face]
        top = wp.max(box[1], first)
        bottom = wp.min(box[3], last)
        if top > bottom:
            continue
        q0 = corners[view, faces[face, 0]]
        q1 = corners[view, faces[face, 1]]
        q2 = corners[view, faces[face, 2]]
        c0 = wp.cross(q1, q2)
        volume = wp.dot(q0, c0)
        size = wp.length(q0) * wp.length(q1) * wp.length(q2)
        if wp.abs(volume) <= _FLAT * size:
            continue
        # In units of the volume the values add up to 1 / depth, whichever way the face is turned.
        c0 = c0 / volume
        c1 = wp.cross(q2, q0) / volume
        c2 = wp.cross(q0, q1) / volume
        sx = c0[0] + c1[0] + c2[0]
        sy = c0[1] + c1[1] + c2[1]
        sz = c0[2] + c1[2] + c2[2]
        for y in range(top, bottom + 1):
            py = wp.float64(y) + half
            r0 = c0[1] * py + c0[2]
            r1 = c1[1] * py + c1[2]
            r2 = c2[1] * py + c2[2]
            rs = sy * py + sz
            for x in range(box[0], box[2] + 1):
                px = wp.float64(x) + half
                total = sx * px + rs
                if total <= zero:
                    continue
                least = -_TOLERANCE * total
                if c0[0] * px + r0 < least:
                    continue
                if c1[0] * px + r1 < least:
                    continue
                if c2[0] * px + r2 < least:
                    continue
                z = wp.float64(1.0) / total
                if z < near:
                    continue
                short = wp.float32(z)
                known = depth[view, y, x]
                if known == 0.0 or short < known:
                    depth[view, y, x] = short
                    face_ids[view, y, x] = face
    for y in range(first, last + 1):
        for x in range(face_ids.shape[2]):
            face = face_ids[view, y, x]
            if face >= 0:
                q0 = corners[view, faces[face, 0]]
                q1 = corners[view, faces[face, 1]]
                q2 = corners[view, faces[face, 2]]
                pixel = wp.vec3d(wp.float64(x) + half, wp.float64(y) + half, wp.float64(1.0))
                e0 = wp.dot(pixel, wp.cross(q1, q2))
                e1 = wp.dot(pixel, wp.cross(q2, q0))
                e2 = wp.dot(pixel, wp.cross(q0, q1))
                total = e0 + e1 + e2
                b0 = wp.max(e0 / total, zero)
                b1 = wp.max(e1 / total, zero)
                b2 = wp.max(e2 / total, zero)
                total = b0 + b1 + b2
                barycentrics[view, y, x] = wp.vec3(
                    wp.float32(b0 / total), wp.float32(b1 / total), wp.float32(b2 / total)
                )


def rasterize_mesh_warp(
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
    views, count = len(w2c), len(faces)
    face_ids = torch.full((views, height, width), -1, dtype=torch.int32)
    depth = torch.zeros((views, height, width))
    barycentrics = torch.zeros((views, height, width, 3))
    group = max(1, MOST_BOXES // max(count, 1))
    indices = faces.to(torch.int32).contiguous()
    for i in range(0, views if count else 0, group):
        now = slice(i, min(i + group, views))
        corners = homogeneous_corners(vertices, w2c[now], intrinsics[now])
        boxes = torch.empty((len(corners), count, 4), dtype=torch.int32)
        geometry: list[Any] = [wp.from_torch(corners, dtype=wp.vec3d), wp.from_torch(indices)]
        box_array = wp.from_torch(boxes, dtype=wp.vec4i)
        launch_chunks(_bound, len(corners) * count, [*geometry, height, width, near, box_array], smallest=4096)
        bands = min(height, max(1, 4 * num_threads() // len(corners)))
        targets = [
            wp.from_torch(face_ids[now]),
            wp.from_torch(depth[now]),
            wp.from_torch(barycentrics[now], dtype=wp.vec3),
        ]
        inputs = [*geometry, box_array, bands, near, *targets]
        launch_chunks(_draw, len(corners) * bands, inputs, chunks_per_thread=4)
    return MeshPlanes(face_ids, barycentrics, depth)
