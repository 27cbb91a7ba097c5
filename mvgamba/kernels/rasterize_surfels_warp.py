"""The surfel rasterizer for CPUs: the snippets as Warp kernels, run on all threads, with their gradient.

Per group of images: `project` (surfel records), `sort` and `fill` (front to back lists per tile), `blend`; backward, `blend_backward`
(a gradient row per entry of a tile) and `unproject` (rows to parameters). Every row has one writer and sums run in a fixed
order, so results do not depend on the number of threads.
"""

from dataclasses import fields
from typing import Any, no_type_check

import torch
from torch import Tensor

from mvgamba.kernels import rasterize_surfels_algebra as algebra
from mvgamba.kernels import rasterize_surfels_blend_snippets as blend_snippets
from mvgamba.kernels import rasterize_surfels_snippets as snippets
from mvgamba.kernels.rasterize_surfels import FAR, NEAR, SurfelPlanes, prepare
from mvgamba.kernels.rasterize_surfels_autograd import Body, Frame, Tensors, images, rasterize, surfels_of
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

wp = warp()

MAX_ENTRIES = 100_000_000
"""Of a group: so that its gradient rows have less than 2^31 elements, which is what a Warp array may have; 8 GB."""


class _JobFields:
    """All that the kernels of one group of views read and write; what a pass does not need stays empty."""

    num_surfels: wp.int32
    num_views: wp.int32
    first_view: wp.int32
    views_per_scene: wp.int32
    height: wp.int32
    width: wp.int32
    tiles_x: wp.int32
    tiles_y: wp.int32
    near: wp.float32
    far: wp.float32
    means: wp.array(dtype=wp.float32)
    quats: wp.array(dtype=wp.float32)
    scales: wp.array(dtype=wp.float32)
    opacities: wp.array(dtype=wp.float32)
    colors: wp.array(dtype=wp.float32)
    thresholds: wp.array(dtype=wp.float32)
    views: wp.array(dtype=wp.float32)
    records: wp.array(dtype=wp.float32)
    boxes: wp.array(dtype=wp.int16)
    num_tiles: wp.array(dtype=wp.int32)
    row_begin: wp.array(dtype=wp.int32)
    order: wp.array(dtype=wp.int32)
    scratch: wp.array(dtype=wp.int32)
    num_seen: wp.array(dtype=wp.int32)
    tile_begin: wp.array(dtype=wp.int32)
    cursor: wp.array(dtype=wp.int32)
    view_begin: wp.array(dtype=wp.int64)
    entries: wp.array(dtype=wp.int32)
    masks: wp.array(dtype=wp.int16)
    next_tile: wp.array(dtype=wp.int32)
    rgb: wp.array(dtype=wp.float32)
    alpha_plane: wp.array(dtype=wp.float32)
    depth_plane: wp.array(dtype=wp.float32)
    normals: wp.array(dtype=wp.float32)
    median_depth: wp.array(dtype=wp.float32)
    distortion_plane: wp.array(dtype=wp.float32)
    moments: wp.array(dtype=wp.float32)
    median_entries: wp.array(dtype=wp.int32)
    rows: wp.array(dtype=wp.float32)
    g_rgb: wp.array(dtype=wp.float32)
    g_alpha: wp.array(dtype=wp.float32)
    g_depth: wp.array(dtype=wp.float32)
    g_normals: wp.array(dtype=wp.float32)
    g_median: wp.array(dtype=wp.float32)
    g_distortion: wp.array(dtype=wp.float32)
    d_means: wp.array(dtype=wp.float32)
    d_quats: wp.array(dtype=wp.float32)
    d_scales: wp.array(dtype=wp.float32)
    d_opacities: wp.array(dtype=wp.float32)
    d_colors: wp.array(dtype=wp.float32)


_Job = wp.struct(_JobFields)  # not as a decorator, which jaxtyping's checks of the tests would wrap


@no_type_check  # beartype cannot read Warp's types
@wp.func_native(snippets.PROJECT)
def _project(item: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.SORT)
def _sort(view: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.FILL)
def _fill(view: int, job: _Job): ...


@no_type_check
@wp.func_native(blend_snippets.BLEND)
def _blend(job: _Job): ...


@no_type_check
@wp.func_native(blend_snippets.blend_backward(geometry=True))
def _blend_backward(job: _Job): ...


@no_type_check
@wp.func_native(blend_snippets.blend_backward(geometry=False))
def _blend_backward_color(job: _Job): ...


@no_type_check
@wp.func_native(snippets.UNPROJECT)
def _unproject(group: int, job: _Job): ...


@no_type_check
@wp.kernel(enable_backward=False)
def _project_kernel(begin: int, job: _Job):
    _project(begin + wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _sort_kernel(begin: int, job: _Job):
    _sort(begin + wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _fill_kernel(begin: int, job: _Job):
    _fill(begin + wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_kernel(begin: int, job: _Job):
    _blend(job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_backward_kernel(begin: int, job: _Job):
    _blend_backward(job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_backward_color_kernel(begin: int, job: _Job):
    _blend_backward_color(job)


@no_type_check
@wp.kernel(enable_backward=False)
def _unproject_kernel(begin: int, job: _Job):
    _unproject(begin + wp.tid(), job)


def _job(frame: Frame, first: int, num_views: int, arrays: Tensors) -> Any:
    job = _Job()
    job.num_surfels, job.num_views = frame.num_surfels, num_views
    job.first_view, job.views_per_scene = first, frame.views_per_scene
    job.height, job.width, job.near, job.far = frame.height, frame.width, frame.near, frame.far
    job.tiles_x, job.tiles_y = frame.tiles
    for name, tensor in arrays.items():
        setattr(job, name, wp.from_torch(tensor.detach().reshape(-1)))
    return job


def _images_per_group(frame: Frame) -> int:
    """Four keep all threads busy; more of them where they are small, for a call of launches costs as much as some pictures."""
    return max(4, min(32, (1 << 18) // (frame.num_surfels + frame.height * frame.width // 4)))


def _forward(frame: Frame, first: int, surfels: Tensors, views: Tensor, planes: Tensors) -> Tensors | int:
    n, v = frame.num_surfels, views.shape[0]
    tiles_x, tiles_y = frame.tiles
    kept = {
        "views": views,
        "records": torch.empty(v, n, algebra.RECORD),
        "num_tiles": torch.empty(v, n, dtype=torch.int32),
        "row_begin": torch.empty(v, n, dtype=torch.int32),
        "tile_begin": torch.empty(v, tiles_x * tiles_y + 1, dtype=torch.int32),
        "moments": torch.empty(v, 2, frame.height, frame.width),
        "median_entries": torch.empty(v, frame.height, frame.width, dtype=torch.int32),
    }
    boxes = torch.empty(v, n, 4, dtype=torch.int16)
    passing = {
        "boxes": boxes,
        "order": torch.empty(v, n, dtype=torch.int32),
        "scratch": torch.empty(v, n, dtype=torch.int32),
        "num_seen": torch.empty(v, dtype=torch.int32),
        "cursor": torch.empty(v, tiles_x * tiles_y, dtype=torch.int32),
        "next_tile": torch.zeros(1, dtype=torch.int32),
    }
    job = _job(frame, first, v, {**surfels, **kept, **passing, **planes})
    launch_chunks(_project_kernel, v * -(-n // 16), [job])
    counts = kept["num_tiles"].sum(1, dtype=torch.int64)
    ends = counts.cumsum(0)
    total = int(ends[-1])
    if total > _BODY.max_entries:
        return total
    launch_chunks(_sort_kernel, v, [job])
    kept["view_begin"] = ends - counts
    kept["entries"] = torch.empty(total + 1, 2, dtype=torch.int32)
    kept["masks"] = torch.empty(total + 1, dtype=torch.int16)
    for name in ("view_begin", "entries", "masks"):
        setattr(job, name, wp.from_torch(kept[name].reshape(-1)))
    launch_chunks(_fill_kernel, v, [job])
    launch_chunks(_blend_kernel, num_threads(), [job])
    return kept


def _backward(
    frame: Frame, first: int, surfels: Tensors, kept: Tensors, planes: Tensors, incoming: Tensors, outgoing: Tensors
) -> None:
    v = kept["views"].shape[0]
    rows = torch.empty(kept["entries"].shape[0], algebra.RECORD)
    passing = {"rows": rows, "next_tile": torch.zeros(1, dtype=torch.int32)}
    job = _job(frame, first, v, {**surfels, **kept, **planes, **incoming, **outgoing, **passing})
    has_geometry = bool(incoming.keys() - {"g_rgb", "g_alpha"})
    launch_chunks(_blend_backward_kernel if has_geometry else _blend_backward_color_kernel, num_threads(), [job])
    _, scenes = frame.scenes(first, v)
    launch_chunks(_unproject_kernel, scenes * -(-frame.num_surfels // 16), [job])


_BODY = Body("warp-cpu", _images_per_group, MAX_ENTRIES, _forward, _backward)


def rasterize_surfels_warp(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    height: int,
    width: int,
    near: float = NEAR,
    far: float = FAR,
) -> SurfelPlanes:
    """Rasterize as `mvgamba.kernels.rasterize_surfels` describes, float32 on a CPU. Second derivatives are not available."""
    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    return rasterize(_BODY, scenes, height=height, width=width, near=near, far=far)


@torch.no_grad()
def count_entries(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    height: int,
    width: int,
    near: float = NEAR,
    far: float = FAR,
) -> int:
    """Pairs of surfel and tile over all images, from the projection alone: what time and memory of a call grow with.

    While a gradient is taken an entry costs 90 bytes, a surfel in a view 92, a pixel 52; but of one group of images at a time,
    but for 10, 80 and 12 of them, which are kept.
    """
    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    frame, views = images(scenes, height=height, width=width, near=near, far=far)
    surfels = surfels_of(scenes.surfels)
    size, total = _images_per_group(frame), 0
    for first in range(0, len(views) if frame.num_surfels else 0, size):
        part = views[first : first + size]
        v, n = len(part), frame.num_surfels
        arrays = {
            "views": part,
            "records": torch.empty(v, n, algebra.RECORD),
            "boxes": torch.empty(v, n, 4, dtype=torch.int16),
            "num_tiles": torch.empty(v, n, dtype=torch.int32),
        }
        launch_chunks(_project_kernel, v * -(-n // 16), [_job(frame, first, v, {**surfels, **arrays})])
        total += int(arrays["num_tiles"].sum(dtype=torch.int64))
    return total


def rasterize_surfels_copied(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    height: int,
    width: int,
    near: float = NEAR,
    far: float = FAR,
) -> SurfelPlanes:
    """The same for tensors of another device: they go to the CPU, planes and gradients come back."""
    inputs = (means, quats, scales, opacities, colors, w2c, intrinsics)
    prepare(*inputs, height=height, width=width, near=near, far=far)
    planes = rasterize_surfels_warp(*(t.cpu() for t in inputs), height=height, width=width, near=near, far=far)
    return SurfelPlanes(*(getattr(planes, f.name).to(means.device) for f in fields(planes)))
