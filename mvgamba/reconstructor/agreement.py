"""Whether silhouettes can be those of one object, and which view has to go if they cannot.

What a view shows as covered has to lie within the visual hull of all views, seen from there. A picture that broke on its way (noise, another
object, a camera that looks elsewhere) covers places that the others call empty, or calls empty what all others cover. Either way the hull
that every reconstructor starts from is carved to pieces, so one such view costs far more than it tells.
"""

import logging
import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.cameras import project, resize_cameras
from mvgamba.errors import InvalidCameras
from mvgamba.reconstructor.normalise import EMPTY_ALPHA, guess_region
from mvgamba.types import Cameras, PosedViews

log = logging.getLogger(__name__)

SIZE = 64
"""Pixels along the longer edge of the silhouettes that are compared."""
GRIDS = (32, 32, 64)
"""Points along the edge of the box that is searched for the hull; each box is drawn around what the one before found."""
CONTRADICTION = 0.15
"""Share of a silhouette outside the hull from which on a view is doubted."""
AGREEMENT = 0.05
"""The most that any of the other views may have once the doubted one is left out."""


def contradicting_view(views: PosedViews) -> int | None:
    """The one view without which all the others agree, if they do not agree with it; for views on the CPU.

    None where the views agree, where no single view is to blame, and where it could be one view as well as another: two views never
    say which of them is wrong.
    """
    covered = views.alpha[:, 0] > EMPTY_ALPHA
    everyone = list(range(len(covered)))
    if len(everyone) < 3 or not bool(covered.flatten(1).any(1).all()):
        return None
    if share_outside(views, everyone) <= CONTRADICTION:
        return None
    blamed = [i for i in everyone if share_outside(views, [k for k in everyone if k != i]) <= AGREEMENT]
    if len(blamed) != 1:
        log.warning("The silhouettes contradict each other, and no single view is to blame. Check cameras and alpha.")
        return None
    return blamed[0]


def share_outside(views: PosedViews, chosen: list[int]) -> float:
    """The largest share of a silhouette, over the chosen views, that lies outside the visual hull of these views.

    The hull is a generous one: a point belongs to it if every view has any coverage within the reach of the grid, or does not see
    it although its object is cut off by the frame. So parts too thin for the grid stay, and equal silhouettes give 0.
    """
    factor = min(1.0, SIZE / max(views.cameras.height, views.cameras.width))
    height, width = max(8, round(views.cameras.height * factor)), max(8, round(views.cameras.width * factor))
    full = views.cameras[chosen]
    cameras = resize_cameras(full, height, width)
    alpha = F.interpolate(views.alpha[chosen].float(), (height, width), mode="area")
    try:
        center, half = guess_region(full, views.alpha[chosen, 0] > EMPTY_ALPHA)
    except InvalidCameras:
        return 1.0
    border = views.alpha[chosen, 0] >= 0.5
    cut_off = border[:, [0, -1]].flatten(1).any(1) | border[:, :, [0, -1]].flatten(1).any(1)
    _, depth = project(center[None], full)
    pixels_per_unit = float((cameras.intrinsics[:, 1, 1] / depth[:, 0]).max())
    low, high = center - 2 * half, center + 2 * half
    reach, points = 1, center[None]
    for grid in GRIDS:
        spacing = float((high - low).max()) / (grid - 1)
        # no part may fall between the points, however thin it is
        reach = max(1, math.ceil(0.87 * spacing * pixels_per_unit))
        points = _hull_points(cameras, _grown(alpha > EMPTY_ALPHA, reach), cut_off, low, high, spacing)
        if len(points) == 0:
            return 1.0
        low, high = points.amin(0) - spacing, points.amax(0) + spacing
    drawn = torch.zeros_like(alpha)
    for view in range(len(chosen)):
        at, inside = _pixels(points, cameras[[view]])
        drawn[view, 0].view(-1)[at[inside]] = 1.0
    outside = alpha * (1 - _grown(drawn, reach))
    return float((outside.sum((1, 2, 3)) / alpha.sum((1, 2, 3)).clamp_min(1e-6)).max())


def _grown(mask: Float[Tensor, "V 1 H W"] | Bool[Tensor, "V 1 H W"], reach: int) -> Float[Tensor, "V 1 H W"]:
    """By some pixels to all sides."""
    return F.max_pool2d(mask.float(), 2 * reach + 1, stride=1, padding=reach)


def _hull_points(
    cameras: Cameras,
    near: Float[Tensor, "V 1 H W"],
    cut_off: Bool[Tensor, "V"],
    low: Tensor,
    high: Tensor,
    spacing: float,
) -> Float[Tensor, "n 3"]:
    """Points of a regular grid between two corners that no view forbids."""
    axes = [torch.arange(float(a), float(b) + 0.5 * spacing, spacing, dtype=torch.float64) for a, b in zip(low, high)]
    points = torch.cartesian_prod(*axes)
    for view in range(cameras.num_views):
        at, inside = _pixels(points, cameras[[view]])
        seen = near[view, 0] > 0
        points = points[torch.where(inside, seen.reshape(-1)[at], cut_off[view])]
    return points


def _pixels(points: Float[Tensor, "n 3"], camera: Cameras) -> tuple[Tensor, Tensor]:
    """Index of the pixel that each point falls into, and whether it falls into the frame."""
    pixels, depth = project(points, camera)
    column, row = pixels[0].nan_to_num(-1.0).clamp(-1, 1e6).floor().long().unbind(-1)
    inside = (depth[0] > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    return torch.where(inside, row * camera.width + column, 0), inside
