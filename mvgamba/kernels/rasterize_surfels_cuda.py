"""The surfel rasterizer for CUDA: a tile of pixels per block of threads, all images of a call in one chain of launches.

Compiled ahead of time and checked block by block on a CPU; not yet run on a GPU.

Forward: `project`, a running sum of tile counts, `fill`, one sort by tile and depth, `blend`. Backward: `blend_backward`, a gradient
row per entry; `sum_rows`; `unproject`. Every value has one writer and sums run in a fixed order: no atomics, the same gradients every time.
The device is waited for once, for the number of entries.
"""

from typing import Any, no_type_check

import torch
from torch import Tensor

from mvgamba.kernels import rasterize_surfels_cuda_snippets as snippets
from mvgamba.kernels.rasterize_surfels import FAR, NEAR, SurfelPlanes, prepare
from mvgamba.kernels.rasterize_surfels_algebra import RECORD
from mvgamba.kernels.rasterize_surfels_autograd import Body, Frame, Tensors, rasterize
from mvgamba.kernels.warp_blocks import launch_blocks
from mvgamba.kernels.warp_runtime import warp

wp = warp()

BLOCK = 256
MAX_ENTRIES = 50_000_000
"""Of a group: 4 GB of gradient rows, 1.2 GB of keys, places and owners while they are sorted."""


class _JobFields:
    """All that the kernels of one group of images read and write; what a pass does not need stays empty."""

    num_surfels: wp.int32
    num_views: wp.int32
    num_scenes: wp.int32
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
    num_tiles: wp.array(dtype=wp.int32)
    offsets: wp.array(dtype=wp.int64)
    keys: wp.array(dtype=wp.int64)
    owners: wp.array(dtype=wp.int32)
    order: wp.array(dtype=wp.int64)
    entries: wp.array(dtype=wp.int32)
    tile_begin: wp.array(dtype=wp.int32)
    rgb: wp.array(dtype=wp.float32)
    alpha_plane: wp.array(dtype=wp.float32)
    depth_plane: wp.array(dtype=wp.float32)
    normals: wp.array(dtype=wp.float32)
    median_depth: wp.array(dtype=wp.float32)
    distortion_plane: wp.array(dtype=wp.float32)
    moments: wp.array(dtype=wp.float32)
    median_entries: wp.array(dtype=wp.int32)
    last_entries: wp.array(dtype=wp.int32)
    rows: wp.array(dtype=wp.float32)
    sums: wp.array(dtype=wp.float32)
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
@wp.func_native(snippets.FILL)
def _fill(item: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.BLEND)
def _blend(block: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.blend_backward(geometry=True))
def _blend_backward(block: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.blend_backward(geometry=False))
def _blend_backward_color(block: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.SUM_ROWS)
def _sum_rows(item: int, job: _Job): ...


@no_type_check
@wp.func_native(snippets.UNPROJECT)
def _unproject(item: int, job: _Job): ...


@no_type_check
@wp.kernel(enable_backward=False)
def _project_kernel(job: _Job):
    _project(wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _fill_kernel(job: _Job):
    _fill(wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_kernel(job: _Job):
    _blend(wp.tid() / 256, job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_backward_kernel(job: _Job):
    _blend_backward(wp.tid() / 256, job)


@no_type_check
@wp.kernel(enable_backward=False)
def _blend_backward_color_kernel(job: _Job):
    _blend_backward_color(wp.tid() / 256, job)


@no_type_check
@wp.kernel(enable_backward=False)
def _sum_rows_kernel(job: _Job):
    _sum_rows(wp.tid(), job)


@no_type_check
@wp.kernel(enable_backward=False)
def _unproject_kernel(job: _Job):
    _unproject(wp.tid(), job)


def cuda_kernels() -> list[Any]:
    """All kernels of this module, to compile them without a device."""
    return [
        _project_kernel, _fill_kernel, _blend_kernel, _blend_backward_kernel, _blend_backward_color_kernel,
        _sum_rows_kernel, _unproject_kernel,
    ]  # fmt: skip


def _job(frame: Frame, first: int, num_views: int, arrays: Tensors) -> Any:
    job = _Job()
    job.num_surfels, job.num_views, job.num_scenes = frame.num_surfels, num_views, frame.scenes(first, num_views)[1]
    job.first_view, job.views_per_scene = first, frame.views_per_scene
    job.height, job.width, job.near, job.far = frame.height, frame.width, frame.near, frame.far
    job.tiles_x, job.tiles_y = frame.tiles
    _set(job, arrays)
    return job


def _set(job: Any, arrays: Tensors) -> None:
    for name, tensor in arrays.items():
        setattr(job, name, wp.from_torch(tensor.detach().reshape(-1)))


def _images_per_group(frame: Frame) -> int:
    """All images of most calls at once: up to 1.3 GB of records and 0.8 GB of planes."""
    tiles = frame.tiles[0] * frame.tiles[1]
    return max(1, min((1 << 24) // max(frame.num_surfels, 1), (1 << 16) // tiles))


def _forward(frame: Frame, first: int, surfels: Tensors, views: Tensor, planes: Tensors) -> Tensors | int:
    n, v, device = frame.num_surfels, views.shape[0], views.device
    tiles = frame.tiles[0] * frame.tiles[1]
    integers: dict[str, Any] = {"dtype": torch.int32, "device": device}
    kept = {
        "views": views,
        "records": torch.empty(v, n, RECORD, device=device),
        "num_tiles": torch.empty(v * n, **integers),
        "moments": torch.empty(v, 2, frame.height, frame.width, device=device),
        "median_entries": torch.empty(v, frame.height, frame.width, **integers),
        "last_entries": torch.empty(v, frame.height, frame.width, **integers),
    }
    job = _job(frame, first, v, {**surfels, **kept, **planes})
    items = -(-v * n // BLOCK)
    launch_blocks(_project_kernel, items, BLOCK, [job], device=device)
    kept["offsets"] = kept["num_tiles"].cumsum(0, dtype=torch.int64)
    total = int(kept["offsets"][-1])
    if total > _BODY.max_entries:
        return total
    keys, owners = torch.empty(total, dtype=torch.int64, device=device), torch.empty(total, **integers)
    _set(job, {"offsets": kept["offsets"], "keys": keys, "owners": owners})
    launch_blocks(_fill_kernel, items, BLOCK, [job], device=device)
    # Stable, so that surfels of one depth stay in their order.
    keys, kept["order"] = keys.sort(stable=True)
    kept["entries"] = owners.index_select(0, kept["order"])
    edges = torch.arange(v * tiles + 1, device=device) << 32
    kept["tile_begin"] = torch.searchsorted(keys, edges, out_int32=True)
    _set(job, {name: kept[name] for name in ("order", "entries", "tile_begin")})
    launch_blocks(_blend_kernel, v * tiles, BLOCK, [job], device=device)
    return kept


def _backward(
    frame: Frame, first: int, surfels: Tensors, kept: Tensors, planes: Tensors, incoming: Tensors, outgoing: Tensors
) -> None:
    v, device = kept["views"].shape[0], kept["views"].device
    passing = {
        "rows": torch.zeros(kept["entries"].shape[0], RECORD, device=device),
        "sums": torch.empty(v, frame.num_surfels, RECORD, device=device),
    }
    job = _job(frame, first, v, {**surfels, **kept, **planes, **incoming, **outgoing, **passing})
    has_geometry = bool(incoming.keys() - {"g_rgb", "g_alpha"})
    blend_backward = _blend_backward_kernel if has_geometry else _blend_backward_color_kernel
    launch_blocks(blend_backward, v * frame.tiles[0] * frame.tiles[1], BLOCK, [job], device=device)
    launch_blocks(_sum_rows_kernel, -(-5 * v * frame.num_surfels // BLOCK), BLOCK, [job], device=device)
    count = frame.scenes(first, v)[1] * frame.num_surfels
    launch_blocks(_unproject_kernel, -(-count // BLOCK), BLOCK, [job], device=device)


_BODY = Body("warp-cuda", _images_per_group, MAX_ENTRIES, _forward, _backward)


def rasterize_surfels_cuda(
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
    """Rasterize as `mvgamba.kernels.rasterize_surfels` describes, float32 on a CUDA device. Second derivatives are not available.

    Tensors of a CPU are taken too, thread by thread: slow, for tests without a device.
    """
    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    return rasterize(_BODY, scenes, height=height, width=width, near=near, far=far)
