"""The MVGamba network as a reconstructor of the pipeline. It needs trained weights; without them it refuses to be made."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Literal

import torch

from mvgamba.errors import WeightsMissing
from mvgamba.reconstructor.checkpoint import load_checkpoint
from mvgamba.reconstructor.network import RIG_RADIUS
from mvgamba.reconstructor.normalise import NormalisedViews
from mvgamba.reconstructor.protocol import ReconstructorSettings
from mvgamba.reconstructor.view_order import cyclic_orders, match_of, ring_of
from mvgamba.types import Cameras, PosedViews, Reconstruction, Surfels, ViewRig
from mvgamba.weights import default, verified

log = logging.getLogger(__name__)


class MVGambaReconstructor:
    """One forward pass from four views to surfels.

    Args:
        weights: A checkpoint file, see `load_checkpoint`.
        view_order: `given`: the first view is the reference. `auto`: each of the four is in turn, in one batch on a GPU, and the
            result that shows the views best is kept; the network trusts its first view most (paper, figure 8).
    Raises:
        WeightsMissing: None is given or there is no such file.
        WeightsCorrupt: The file does not hold the weights of this network.
    """

    name = "mvgamba"

    def __init__(
        self, weights: Path | None = None, *, device: str = "cpu", view_order: Literal["auto", "given"] = "auto"
    ) -> None:
        if weights is None:
            raise WeightsMissing(
                "The reconstructor 'mvgamba' needs trained weights and none are installed. Take in a checkpoint with "
                "`mvgamba weights import FILE`, or use the reconstructor 'hull', which needs none."
            )
        self.network = load_checkpoint(weights).to(device)
        self.view_order = view_order
        config = self.network.config
        turns = tuple(2 * math.pi * i / config.num_views for i in range(config.num_views))
        self.rig = ViewRig(turns, (0.0,) * config.num_views, RIG_RADIUS, image_size=config.image_size)

    @torch.no_grad()
    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Surfels in the normalised frame, without a mesh under them. Of more views than four, those nearest to a ring are taken.

        Raises: InvalidCameras if the views do not hold a ring as the network knows it; InvalidImage.
        """
        device, count = next(self.network.parameters()).device, self.network.config.num_views
        ring = views.views if views.views.num_views == count else views.views[ring_of(views.views.cameras.c2w, count)]
        orders = cyclic_orders(count) if self.view_order == "auto" else [list(range(count))]
        together = len(orders) if device.type == "cuda" else 1
        results: list[Surfels] = []
        for begin in range(0, len(orders), together):
            batch = _stacked([ring[order] for order in orders[begin : begin + together]]).to(device)
            made = self.network.surfels_of(batch)
            fields = [getattr(made, field.name) for field in dataclasses.fields(Surfels)]
            results += [Surfels(*(value[i] for value in fields)) for i in range(len(batch.rgb))]
        if len(results) == 1:
            return Reconstruction(results[0].to(views.views.rgb.device))
        matches = [match_of(surfels, ring.to(device)) for surfels in results]
        best = max(range(len(matches)), key=lambda i: matches[i])
        log.info("view %d first shows the views best: %.2f dB, overlap %.3f", best, *matches[best])
        return Reconstruction(results[best].to(views.views.rgb.device))


def _stacked(views: list[PosedViews]) -> PosedViews:
    first = views[0].cameras
    cameras = Cameras(
        torch.stack([v.cameras.c2w for v in views]),
        torch.stack([v.cameras.intrinsics for v in views]),
        first.height,
        first.width,
    )
    return PosedViews(torch.stack([v.rgb for v in views]), torch.stack([v.alpha for v in views]), cameras)


def mvgamba_from_settings(settings: ReconstructorSettings) -> MVGambaReconstructor:
    """For the registry: the given weights, else those that were imported. Raises: WeightsMissing, WeightsCorrupt."""
    path = settings.weights
    if path is None and (found := default("reconstructor", "mvgamba", settings.weights_folder)) is not None:
        path = verified(found)
    return MVGambaReconstructor(path, device=settings.device)
