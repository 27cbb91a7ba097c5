"""How well silhouettes fit one solid: what candidates of one request are ranked by."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import project, resize_cameras
from mvgamba.types import Cameras, PosedViews

SIZE = 32
"""Pixels along an edge at which silhouettes are compared."""
POINTS = 56
"""Of the grid through the unit ball, along an edge: closer than the pixels."""


def silhouette_agreement(views: PosedViews) -> float:
    """The least share, over the views, of a silhouette that the visual hull of all of them covers: 1 if they are of one solid.

    0 if a view shows nothing or no point is within all of them.
    """
    alpha = F.interpolate(views.alpha.float().cpu(), (SIZE, SIZE), mode="area")[:, 0]
    cameras = resize_cameras(views.cameras.to("cpu"), SIZE, SIZE)
    axis = torch.linspace(-1.0, 1.0, POINTS, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis, axis)
    points = points[points.norm(dim=-1) <= 1]
    cells = [_cells(points, cameras[[i]], alpha[i]) for i in range(len(alpha))]
    inside = torch.stack([a.reshape(-1)[cell] > 0.25 for a, cell in zip(alpha, cells)]).all(0)
    shares = []
    for view, cell in zip(alpha, cells):
        drawn = torch.zeros(SIZE * SIZE)
        drawn[cell[inside]] = 1.0
        shares.append(float((view * drawn.view(SIZE, SIZE)).sum() / view.sum()) if float(view.sum()) > 0 else 0.0)
    return min(shares)


def _cells(points: Float[Tensor, "n 3"], camera: Cameras, alpha: Float[Tensor, "h w"]) -> Tensor:
    """The pixel that each point falls into; one at the edge if it falls outside."""
    pixels, _ = project(points, camera)
    column, row = pixels[0].floor().long().clamp(0, alpha.shape[-1] - 1).unbind(-1)
    return row * alpha.shape[-1] + column
