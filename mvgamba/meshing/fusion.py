"""Renders of surfels from many cameras, and masks, to a field."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.kernels.fuse_tsdf import fuse_tsdf
from mvgamba.kernels.silhouettes import signed_distance_2d
from mvgamba.meshing.grid import Grid, empty_grid
from mvgamba.types import Cameras, RenderOutput

log = logging.getLogger(__name__)

TRUNCATION = 5.0
"""In spacings of the grid."""


def visual_hull(
    alpha: Float[Tensor, "V 1 H W"],
    cameras: Cameras,
    *,
    low: Float[Tensor, "3"],
    high: Float[Tensor, "3"],
    resolution: int,
    outside_frame: str = "empty",
) -> Grid:
    """The field of the intersection of all silhouettes. `outside_frame` as in `carve_silhouettes`."""
    grid = empty_grid(low, high, resolution=resolution)
    field = _carve(alpha, cameras, grid, outside_frame)
    return Grid(field, grid.origin, grid.spacing)


def fuse(
    render: RenderOutput,
    cameras: Cameras,
    *,
    low: Float[Tensor, "3"],
    high: Float[Tensor, "3"],
    resolution: int,
    hull: Grid | None = None,
    carve: bool = True,
    outside_frame: str = "ignore",
) -> Grid:
    """Fuse what the surfels look like from many cameras (no batch axes) into one field.

    Depth counts where alpha is above one half, with alpha times the cosine between ray and normal as weight. The field
    is cut with the silhouettes of the renders themselves, and with `hull`, so that nothing sticks out of either.

    Args:
        low, high: The box to look at, in the frame of the cameras.
        resolution: Points along the longest side of the box.
        hull: A field of what may be inside, from `visual_hull` on the input masks; any grid.
        carve: Cut with the silhouettes of the renders, by the outline at one half of alpha.
    """
    grid = empty_grid(low, high, resolution=resolution)
    known = None if hull is None else hull.resample(grid).field
    if carve:
        outline = _carve(render.alpha, cameras, grid, outside_frame)
        known = outline if known is None else torch.minimum(outline, known.to(outline))
    depth, weights = _trusted_depth(render, cameras, jump=2.0 * grid.spacing)
    field = fuse_tsdf(
        depth,
        weights,
        c2w_to_w2c_opencv(cameras.c2w),
        cameras.intrinsics,
        grid.origin,
        grid.spacing,
        tuple(grid.field.shape),
        truncation=TRUNCATION * grid.spacing,
        hull=known,
    )
    log.debug("fused %d views into a grid of %s", cameras.num_views, tuple(field.shape))
    return Grid(field, grid.origin, grid.spacing)


def _carve(alpha: Float[Tensor, "V 1 H W"], cameras: Cameras, grid: Grid, outside_frame: str) -> Tensor:
    field = carve_silhouettes(
        signed_distance_2d(alpha[:, 0]),
        c2w_to_w2c_opencv(cameras.c2w),
        cameras.intrinsics,
        grid.origin,
        grid.spacing,
        tuple(grid.field.shape),
        outside_frame=outside_frame,
        truncation=TRUNCATION * grid.spacing,
    )
    return torch.where(torch.isinf(field), -TRUNCATION * grid.spacing, field)  # in no picture at all: outside


def _trusted_depth(
    render: RenderOutput, cameras: Cameras, *, jump: float
) -> tuple[Float[Tensor, "V H W"], Float[Tensor, "V H W"]]:
    """Depth maps and their weights for `fuse_tsdf`.

    The expected depth is smooth, but lies between two surfaces where a pixel shows both; there it differs from the
    median depth by more than `jump`, and the median counts, at half the weight. Clear background counts as free.
    """
    alpha, expected, median = render.alpha[:, 0], render.depth[:, 0], render.median_depth[:, 0]
    is_mixed = (expected - median).abs() > jump
    depth = torch.where(is_mixed, median, expected)

    k = cameras.intrinsics.to(alpha)
    rows = torch.arange(cameras.height, device=alpha.device) + 0.5
    columns = torch.arange(cameras.width, device=alpha.device) + 0.5
    x = (columns[None, None] - k[:, 0, 2, None, None]) / k[:, 0, 0, None, None]
    y = (rows[None, :, None] - k[:, 1, 2, None, None]) / k[:, 1, 1, None, None]
    x, y = torch.broadcast_tensors(x, y)
    rays = torch.stack([x, -y, -torch.ones_like(x)], dim=1)  # the camera looks along -Z
    rays = torch.einsum("vij,vjhw->vihw", cameras.c2w[:, :3, :3].to(alpha), rays)
    rays = rays / rays.norm(dim=1, keepdim=True)
    cosine = -(rays * render.normals).sum(dim=1)
    has_normal = render.normals.abs().sum(dim=1) > 0
    cosine = torch.where(has_normal, cosine.clamp(0.05, 1.0), 1.0)

    is_surface = (alpha > 0.5) & (depth > 0)
    weights = torch.where(is_surface, alpha * cosine * torch.where(is_mixed, 0.5, 1.0), 0.0)
    is_background = alpha < 0.05
    return torch.where(is_surface, depth, 0.0), torch.where(is_background, 1.0, weights)
