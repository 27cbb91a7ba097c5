"""The MVGamba network as a reconstructor of the pipeline. It needs trained weights; without them it refuses to be made."""

import math
from pathlib import Path

import torch

from mvgamba.errors import WeightsMissing
from mvgamba.reconstructor.checkpoint import load_checkpoint
from mvgamba.reconstructor.network import RIG_RADIUS
from mvgamba.reconstructor.normalise import NormalisedViews
from mvgamba.reconstructor.protocol import ReconstructorSettings
from mvgamba.types import Reconstruction, ViewRig


class MVGambaReconstructor:
    """One forward pass from four views to surfels.

    Args:
        weights: A checkpoint file, see `load_checkpoint`.
    Raises:
        WeightsMissing: None is given or there is no such file.
        WeightsCorrupt: The file does not hold the weights of this network.
    """

    name = "mvgamba"

    def __init__(self, weights: Path | None = None, *, device: str = "cpu") -> None:
        if weights is None:
            raise WeightsMissing(
                "The reconstructor 'mvgamba' needs trained weights and none are installed. "
                "Give a checkpoint file, or use the reconstructor 'hull', which needs none."
            )
        self.network = load_checkpoint(weights).to(device)
        config = self.network.config
        turns = tuple(2 * math.pi * i / config.num_views for i in range(config.num_views))
        self.rig = ViewRig(turns, (0.0,) * config.num_views, RIG_RADIUS, image_size=config.image_size)

    @torch.no_grad()
    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Surfels in the normalised frame, without a mesh under them.

        Raises: InvalidCameras if there are not as many views as the network has positions for; InvalidImage.
        """
        posed = views.views.to(next(self.network.parameters()).device)
        return Reconstruction(self.network.surfels_of(posed).to(views.views.rgb.device))


def mvgamba_from_settings(settings: ReconstructorSettings) -> MVGambaReconstructor:
    """For the registry. Raises: WeightsMissing, WeightsCorrupt."""
    return MVGambaReconstructor(settings.weights, device=settings.device)
