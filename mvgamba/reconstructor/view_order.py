"""Which of the given views the published network gets, and in which order: four, about a quarter turn apart, any of them first."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import resize_cameras
from mvgamba.errors import InvalidCameras
from mvgamba.render import render_surfels
from mvgamba.types import PosedViews, Surfels

FARTHEST = math.radians(30)
"""Of a view from its place in the ring of quarter turns. Beyond that the network has seen nothing like it."""
SCORE_SIZE = 128


def ring_of(c2w: Float[Tensor, "n 4 4"], count: int) -> list[int]:
    """The views nearest to a ring of even steps around the origin of the normalised frame, in the order of the ring.

    Each view may begin the ring, on the height it stands on; the ring whose farthest view is nearest to its place is taken.

    Raises:
        InvalidCameras: Fewer views than places, or none of the rings has a view within 30 degrees of each place.
    """
    if len(c2w) < count:
        raise InvalidCameras(f"This network takes {count} views, got {len(c2w)}. Hand over {count}, even steps apart.")
    position = torch.nn.functional.normalize(c2w[:, :3, 3].double(), dim=-1)
    azimuth, elevation = torch.atan2(position[:, 0], position[:, 2]), torch.asin(position[:, 1].clamp(-1, 1))
    best, least = [0], math.inf
    for first in range(len(c2w)):
        picked, worst = [first], 0.0
        for place in range(1, count):
            a, e = azimuth[first] + 2 * math.pi * place / count, elevation[first]
            wanted = torch.stack([e.cos() * a.sin(), e.sin(), e.cos() * a.cos()])
            away = torch.acos((position @ wanted).clamp(-1, 1))
            away[picked] = math.inf
            picked.append(int(away.argmin()))
            worst = max(worst, float(away.min()))
        # the views as they were given are kept in their order where that is as good
        if worst < least - 1e-6:
            best, least = picked, worst
    if least > FARTHEST:
        raise InvalidCameras(
            f"This network takes {count} views in even steps around the object; in the best ring of those given a view is "
            f"{math.degrees(least):.0f} degrees from its place (at most {math.degrees(FARTHEST):.0f}). Use the reconstructor "
            "'ray' or 'hull', which take any cameras."
        )
    return best


def cyclic_orders(count: int) -> list[list[int]]:
    """Every view first once, the others after it as they stand in the ring."""
    return [[(first + k) % count for k in range(count)] for first in range(count)]


@torch.no_grad()
def match_of(surfels: Surfels, views: PosedViews) -> tuple[float, float]:
    """How well surfels show the views again: PSNR on white, and overlap of the coverages (intersection over union)."""
    cameras = resize_cameras(views.cameras, SCORE_SIZE, SCORE_SIZE)
    drawn = render_surfels(surfels, cameras)
    alpha = torch.nn.functional.interpolate(views.alpha, (SCORE_SIZE, SCORE_SIZE), mode="area")
    rgb = torch.nn.functional.interpolate(
        views.rgb * views.alpha + (1 - views.alpha), (SCORE_SIZE, SCORE_SIZE), mode="area"
    )
    error = float((drawn.rgb - rgb).square().mean())
    both, either = torch.minimum(drawn.alpha, alpha).sum(), torch.maximum(drawn.alpha, alpha).sum()
    return -10 * math.log10(max(error, 1e-10)), float(both / either.clamp_min(1e-6))
