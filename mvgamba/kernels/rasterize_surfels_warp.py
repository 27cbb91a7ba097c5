"""The surfel rasterizer for CPUs: the snippets as Warp kernels, run on all threads, with their gradient.

Per group of views: `project` (surfel records), `sort` and `fill` (front to back lists per tile), `blend`; backward, `blend_backward`
(a gradient row per entry of a tile) and `unproject` (rows to parameters). Every row has one writer and sums run in a fixed
order, so results do not depend on the number of threads.
"""

from dataclasses import dataclass, fields
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvgamba.errors import InvalidInput
from mvgamba.kernels import rasterize_surfels_blend_snippets as blend_snippets
from mvgamba.kernels import rasterize_surfels_snippets as snippets
from mvgamba.kernels.rasterize_surfels import FAR, NEAR, SurfelPlanes, check_inputs, rho_threshold
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

wp = warp()

VIEWS_PER_GROUP = 4
"""Bounds the gradient rows: 80 bytes per entry of a tile, of which a view of 256 x 256 with 16,384 surfels has about 76,000."""
PLANES = ("rgb", "alpha_plane", "depth_plane", "normals", "median_depth", "distortion_plane")
CHANNELS = (3, 1, 1, 3, 1, 1)
PARAMETERS = ("means", "quats", "scales", "opacities", "colors")


class _JobFields:
    """All that the kernels of one group of views read and write; what a pass does not need stays empty."""

    num_surfels: wp.int32
    num_views: wp.int32
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


@dataclass(frozen=True)
class _Frame:
    """What is the same for all views of a call."""

    height: int
    width: int
    near: float
    far: float

    @property
    def tiles(self) -> tuple[int, int]:
        return -(-self.width // snippets.TILE_SIZE), -(-self.height // snippets.TILE_SIZE)


def _job(frame: _Frame, num_surfels: int, num_views: int, arrays: dict[str, Tensor]) -> Any:
    job = _Job()
    job.num_surfels, job.num_views = num_surfels, num_views
    job.height, job.width, job.near, job.far = frame.height, frame.width, frame.near, frame.far
    job.tiles_x, job.tiles_y = frame.tiles
    for name, tensor in arrays.items():
        setattr(job, name, wp.from_torch(tensor.detach().reshape(-1)))
    return job


def _forward_group(
    surfels: dict[str, Tensor], views: Tensor, frame: _Frame, planes: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Fills the planes of some views; gives what the backward pass needs of them."""
    n, v = surfels["means"].shape[0], views.shape[0]
    tiles_x, tiles_y = frame.tiles
    kept = {
        "views": views,
        "records": torch.empty(v, n, snippets.RECORD),
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
    job = _job(frame, n, v, {**surfels, **kept, **passing, **planes})
    launch_chunks(_project_kernel, v * -(-n // 16), [job])
    launch_chunks(_sort_kernel, v, [job])
    counts = kept["tile_begin"][:, -1].long()
    ends = counts.cumsum(0)
    total = int(ends[-1])
    kept["view_begin"] = ends - counts
    kept["entries"] = torch.empty(total + 1, 2, dtype=torch.int32)
    kept["masks"] = torch.empty(total + 1, dtype=torch.int16)
    for name in ("view_begin", "entries", "masks"):
        setattr(job, name, wp.from_torch(kept[name].reshape(-1)))
    launch_chunks(_fill_kernel, v, [job])
    launch_chunks(_blend_kernel, num_threads(), [job])
    return kept


def _backward_group(
    surfels: dict[str, Tensor],
    kept: dict[str, Tensor],
    frame: _Frame,
    planes: dict[str, Tensor],
    incoming: dict[str, Tensor],
    outgoing: dict[str, Tensor],
) -> None:
    n, v = surfels["means"].shape[0], kept["views"].shape[0]
    rows = torch.empty(kept["entries"].shape[0], snippets.RECORD)
    passing = {"rows": rows, "next_tile": torch.zeros(1, dtype=torch.int32)}
    job = _job(frame, n, v, {**surfels, **kept, **planes, **incoming, **outgoing, **passing})
    has_geometry = bool(incoming.keys() - {"g_rgb", "g_alpha"})
    launch_chunks(_blend_backward_kernel if has_geometry else _blend_backward_color_kernel, num_threads(), [job])
    launch_chunks(_unproject_kernel, -(-n // 16), [job])


class _RasterizeSurfels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frame: _Frame, views: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        surfels = dict(zip(PARAMETERS, parameters, strict=True))
        # The colours do not take part in the projection, which finds everything else that is not finite.
        has_color = surfels["colors"].isfinite().all(-1)
        surfels["thresholds"] = torch.where(has_color, rho_threshold(surfels["opacities"]), -1)
        v, n = views.shape[0], parameters[0].shape[0]
        make = torch.zeros if n == 0 else torch.empty
        planes = tuple(make(v, c, frame.height, frame.width) for c in CHANNELS)
        ctx.set_materialize_grads(False)
        ctx.frame, ctx.groups = frame, []
        if n > 0:
            for begin in range(0, v, VIEWS_PER_GROUP):
                part = slice(begin, begin + VIEWS_PER_GROUP)
                kept = _forward_group(
                    surfels, views[part], frame, {k: p[part] for k, p in zip(PLANES, planes, strict=True)}
                )
                if any(ctx.needs_input_grad):
                    ctx.groups.append(kept)
        ctx.save_for_backward(*surfels.values(), *planes)
        return planes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        surfels = dict(zip((*PARAMETERS, "thresholds"), saved[:6], strict=True))
        outgoing = {f"d_{name}": torch.zeros_like(surfels[name]) for name in PARAMETERS}
        names = ("g_rgb", "g_alpha", "g_depth", "g_normals", "g_median", "g_distortion")
        incoming = {k: g.contiguous() for k, g in zip(names, gradients, strict=True) if g is not None}
        for i, kept in enumerate(ctx.groups):
            part = slice(i * VIEWS_PER_GROUP, (i + 1) * VIEWS_PER_GROUP)
            planes = {k: p[part] for k, p in zip(PLANES, saved[6:], strict=True)}
            _backward_group(surfels, kept, ctx.frame, planes, {k: g[part] for k, g in incoming.items()}, outgoing)
        return (None, None, *outgoing.values())


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
    check_inputs(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    if means.dtype != torch.float32:
        raise InvalidInput(f"The variant warp-cpu takes float32, got {means.dtype}; use the variant 'reference'.")
    k = intrinsics.detach()
    lens = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], -1)
    w2c = w2c.detach()
    views = torch.cat([w2c[:, :3, :3].reshape(-1, 9), w2c[:, :3, 3], lens], -1)
    frame = _Frame(int(height), int(width), float(near), float(far))
    parameters = (t.contiguous() for t in (means, quats, scales, opacities, colors))
    return SurfelPlanes(*_RasterizeSurfels.apply(frame, views, *parameters))


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
    check_inputs(*inputs, height=height, width=width, near=near, far=far)
    planes = rasterize_surfels_warp(*(t.cpu() for t in inputs), height=height, width=width, near=near, far=far)
    return SurfelPlanes(*(getattr(planes, f.name).to(means.device) for f in fields(planes)))
