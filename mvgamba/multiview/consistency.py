"""How well views of one object agree: what is left of each silhouette when all have been carved together.

Views of one solid carve a hull that fills every silhouette again. A view that shows something else, or shows it elsewhere, carves away
what the others cover, and the hull comes back smaller than they are. So the share that comes back ranks sets of made-up views without
knowing what they ought to show.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.errors import InvalidInput
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.kernels.silhouettes import signed_distance_2d
from mvgamba.types import Cameras, PosedViews

SIZE = 64
"""Pixels along the longer edge of the silhouettes that are compared; larger ones are made smaller first."""
COARSE_GRID, FINE_GRID = 40, 64
"""Points along the longest edge of the box that is searched for the hull, and of the box around what was found."""
TOLERANCE = 0.5
"""Of the distance between points of the fine grid: a ray that passes the hull by less meets it, so that thin parts do not fall through."""


def hull_agreement(views: PosedViews, *, extent: float = 1.0) -> Float[Tensor, "V"]:
    """IoU of each silhouette with the visual hull of all silhouettes, seen from its camera: 1 where all agree.

    The hull never reaches beyond a silhouette, so this is the share of the silhouette that a ray through the hull can reach. Parts that
    the border of a picture cuts off are judged by the other views alone. A view that shows nothing contradicts all others: every view gets 0.

    Args:
        views: No batch axes, cameras in the frame of `extent`. Alpha of one half is the outline.
        extent: The object lies within this distance of the origin along each axis; 1 for the unit ball of generated views.
    Raises: InvalidInput: fewer than two views, which cannot disagree, or an extent that is no length.
    """
    if views.num_views < 2:
        raise InvalidInput(f"Agreement is between views; got {views.num_views}, at least 2 are needed.")
    if not (math.isfinite(extent) and extent > 0):
        raise InvalidInput(
            f"extent must be positive and finite, got {extent}: half the edge of the box that holds the object."
        )
    cameras, alpha = _reduced(views)
    silhouettes = signed_distance_2d(alpha)
    low = torch.full((3,), -extent, dtype=torch.float64)
    field, spacing = _carve(cameras, silhouettes, low, -low, COARSE_GRID)
    # 0.87 cells is half the diagonal of one: nothing lies farther from the nearest point of the grid
    kept = (field > -0.87 * spacing).nonzero().cpu().double()
    share = silhouettes.new_zeros(views.num_views)
    if len(kept) == 0:
        return share
    low, high = low + (kept.amin(0) - 1) * spacing, low + (kept.amax(0) + 1) * spacing
    field, spacing = _carve(cameras, silhouettes, low, high, FINE_GRID)
    for view in range(views.num_views):
        inside = silhouettes[view] > 0
        if bool(inside.any()):
            share[view] = _met(field, low, spacing, cameras[[view]], inside).float().mean()
    return share


def _reduced(views: PosedViews) -> tuple[Cameras, Float[Tensor, "V h w"]]:
    factor = min(1.0, SIZE / max(views.cameras.height, views.cameras.width))
    height, width = max(1, round(views.cameras.height * factor)), max(1, round(views.cameras.width * factor))
    alpha = F.interpolate(views.alpha.detach().float(), (height, width), mode="area")[:, 0]
    return resize_cameras(views.cameras, height, width), alpha


def _carve(
    cameras: Cameras,
    silhouettes: Float[Tensor, "V h w"],
    low: Float[Tensor, "3"],
    high: Float[Tensor, "3"],
    points: int,
) -> tuple[Float[Tensor, "nx ny nz"], float]:
    """The hull as a field on a grid between two corners, positive inside, and the distance of its points."""
    spacing = float((high - low).max()) / (points - 1)
    x, y, z = (int(math.ceil(float(e) / spacing - 1e-6)) + 1 for e in high - low)
    border = torch.cat([silhouettes[:, [0, -1]].flatten(), silhouettes[:, :, [0, -1]].flatten()])
    field = carve_silhouettes(  # +inf where no view has a say, which no average may meet
        silhouettes,
        c2w_to_w2c_opencv(cameras.c2w).float(),
        cameras.intrinsics.float(),
        low.float().to(silhouettes.device),
        spacing,
        (x, y, z),
        outside_frame="ignore" if bool((border > 0).any()) else "empty",
    )
    return field.clamp_(max=8 * spacing), spacing


def _met(
    field: Float[Tensor, "nx ny nz"],
    low: Float[Tensor, "3"],
    spacing: float,
    camera: Cameras,
    inside: Bool[Tensor, "h w"],
) -> Bool[Tensor, "n"]:
    """Whether the ray through the centre of each chosen pixel meets the hull."""
    rows, columns = inside.nonzero().unbind(1)
    k, c2w = camera.intrinsics[0].to(field), camera.c2w[0].to(field)
    x, y = (columns + 0.5 - k[0, 2]) / k[0, 0], (rows + 0.5 - k[1, 2]) / k[1, 1]
    rays = F.normalize(torch.stack([x, -y, -torch.ones_like(x)], 1), dim=1) @ c2w[:3, :3].T
    met = torch.zeros(len(rays), dtype=torch.bool, device=rays.device)
    # most rays meet something thick: a few looks along each find that, and only the rest are looked at once a cell
    for stride in (4.0, 1.0):
        left = (~met).nonzero()[:, 0]
        if len(left):
            greatest = _greatest_along(field, low, spacing, c2w[:3, 3], rays[left], stride=stride * spacing)
            met[left] = greatest > -TOLERANCE * spacing
    return met


def _greatest_along(
    field: Float[Tensor, "nx ny nz"],
    low: Float[Tensor, "3"],
    spacing: float,
    eye: Float[Tensor, "3"],
    rays: Float[Tensor, "n 3"],
    *,
    stride: float,
) -> Float[Tensor, "n"]:
    """Greatest value of the field along unit rays, looked at once a stride at least."""
    size = spacing * (torch.tensor(field.shape).to(field) - 1)
    first = low.to(field)
    # where each ray enters and leaves the box of the grid (slabs)
    safe = torch.where(rays.abs() < 1e-6, 1e-6, rays)
    one, other = (first - eye) / safe, (first + size - eye) / safe
    enter = torch.minimum(one, other).amax(1).clamp_min(0)
    length = (torch.maximum(one, other).amin(1) - enter).clamp_min(0)
    steps = max(2, math.ceil(float(length.max()) / stride) + 1)
    at = enter + length * torch.linspace(0, 1, steps, dtype=field.dtype, device=field.device)[:, None]
    # grid_sample takes the last axis first; beyond the grid it says 0, so the field is lifted until 0 means nothing
    grid = (2 * (eye + at[..., None] * rays - first) / size - 1).flip(-1)
    floor = float(field.min())
    values = F.grid_sample((field - floor)[None, None], grid[None, :, None], align_corners=True, padding_mode="zeros")
    return values[0, 0, :, 0].amax(0) + floor
