"""The published MVGamba network as a task of the training loop: surfels that must look like the photographs."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.data.view_samples import read_view_shards
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.lpips import Perceptual
from mvgamba.reconstructor.checkpoint import load_checkpoint, save_checkpoint
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.rotations import RotNet
from mvgamba.reconstructor.tokens import network_input
from mvgamba.training.augment import disturbed, random_background
from mvgamba.training.config import TrainConfig
from mvgamba.training.surfel_loss import FAR, NEAR, SurfelLossWeights, surfel_losses
from mvgamba.training.task import Batch, MeanCount, SampleOrder, share_of
from mvgamba.types import Cameras, PosedViews

log = logging.getLogger(__name__)

WEIGHTS = "mvgamba.pt"


@dataclass(frozen=True, eq=False)
class SurfelBatch:
    """What a step learns from."""

    images: Float[Tensor, "b V 9 S S"]
    """As the network reads them, disturbed."""
    truth: PosedViews
    """The inputs and others, as they are, in the frame of the first camera of each sample."""
    background: Float[Tensor, "3"]

    def to(self, device: torch.device | str) -> "SurfelBatch":
        return SurfelBatch(self.images.to(device), self.truth.to(device), self.background.to(device))


class SurfelTask:
    """See `Task`.

    Args:
        perceptual: LPIPS or another distance of pictures. None leaves the term out, with a warning if it has weight.
    Raises:
        InvalidInput: The shards cannot be read, or have other views than the configuration asks for.
    """

    def __init__(self, config: TrainConfig, *, perceptual: Perceptual | None = None) -> None:
        assert isinstance(config.network, NetworkConfig) and isinstance(config.losses, SurfelLossWeights)
        self.config, self.network_config, self.weights = config, config.network, config.losses
        self.perceptual = perceptual
        self.samples = read_view_shards(Path(config.data))
        wanted = config.network.num_views, config.surfels.num_others
        for sample in self.samples:
            if sample.num_given != wanted[0] or sample.num_others < wanted[1]:
                raise InvalidInput(
                    f"{config.data} holds a sample of {sample.num_given} inputs and {sample.num_others} other views; the run "
                    f"asks for {wanted[0]} (network.num_views) and at least {wanted[1]} (surfels.num_others)."
                )
        if len({sample.rgb.shape[-1] for sample in self.samples}) > 1:
            raise InvalidInput(f"{config.data} holds samples of several sizes; prepare all with one.")
        if perceptual is None and self.weights.perceptual > 0:
            log.warning(
                "no perceptual distance is at hand: that term is left out. Name the weights of LPIPS (--lpips), or say so in the "
                "run (losses.perceptual = 0)"
            )
        fitting = min(config.batch_size, len(self.samples))
        self._order = SampleOrder(
            [1] * len(self.samples), [1] * len(self.samples), batch_size=fitting, seed=config.seed
        )

    @property
    def num_samples(self) -> int:
        return len(self.samples)

    def make_network(self) -> MVGambaNetwork:
        """Raises: InvalidInput, WeightsMissing, WeightsCorrupt."""
        wanted, init = self.network_config, self.config.init
        network = MVGambaNetwork(wanted) if init is None else load_checkpoint(Path(init))
        if network.config != wanted:
            raise InvalidInput(f"{init} holds a network of {network.config}; the run asks for {wanted}.")
        network.transformer.save_memory = self.config.checkpointing
        return network

    def batch(self, step: int, *, process: int, processes: int) -> SurfelBatch:
        """See `Task`."""
        seed, options = self.config.seed, self.config.surfels
        mine = share_of(self.config.batch_size, process=process, processes=processes)
        picked = self._order.at(step)
        pairs = [
            self._views(picked[k], np.random.default_rng([seed, 1, step, k])) for k in range(mine.start, mine.stop)
        ]
        given, truth = (_stack([pair[side] for pair in pairs]) for side in (0, 1))
        background = random_background(options.augmentation.pure_background, np.random.default_rng([seed, 2, step]))
        return SurfelBatch(network_input(given, self.network_config), truth, background)

    def _views(self, index: int, generator: np.random.Generator) -> tuple[PosedViews, PosedViews]:
        """What the network is given of a sample, and what it is compared with."""
        sample, options = self.samples[index], self.config.surfels
        others = generator.permutation(sample.num_others)[: options.num_others] + sample.num_given
        inputs = list(range(sample.num_given))
        given = sample.views(inputs)
        if self.config.disturb:
            given = disturbed(given, options.augmentation, generator)
        return given, sample.views(inputs + others.tolist())

    def losses(self, network: nn.Module, batch: Batch, *, step: int, mean_count: MeanCount) -> dict[str, Tensor]:
        """See `surfel_losses`."""
        assert isinstance(batch, SurfelBatch)
        for module in network.modules():
            if isinstance(module, RotNet):
                module.temperature = self.config.surfels.temperature_at(step, self.config.steps)
        if isinstance(self.perceptual, nn.Module):  # no part of the network, so the loop does not move it
            self.perceptual.to(batch.background.device)
        losses, _ = surfel_losses(
            network(batch.images), batch.truth, batch.background, weights=self.weights, step=step,
            perceptual=self.perceptual, mean_count=mean_count,
        )  # fmt: skip
        return losses

    def write_weights(self, network: nn.Module, folder: Path) -> Path:
        """As the reconstructor `mvgamba` loads them."""
        assert isinstance(network, MVGambaNetwork)
        path = folder / WEIGHTS
        save_checkpoint(network, path)
        return path

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: Batch, *, step: int) -> dict[str, Float[Tensor, "3 h w"]]:
        """Views side by side: those given first, then others. Depth from near (white) to far; the error of the colours, fivefold."""
        assert isinstance(batch, SurfelBatch)
        truth = _first(batch.truth)
        surfels = network(batch.images[:1])
        _, render = surfel_losses(surfels, truth, batch.background, weights=self.weights, step=step)
        wanted = truth.rgb * truth.alpha + batch.background[:, None, None] * (1 - truth.alpha)
        depth = torch.where(render.alpha > 0.5, (FAR - render.median_depth) / (FAR - NEAR), 0.0)
        columns = {
            "target": wanted,
            "render": render.rgb.clamp(0, 1),
            "error": (5 * (render.rgb - wanted).abs()).clamp(0, 1),
            "depth": depth.clamp(0, 1).expand_as(wanted),
            "normals": 0.5 + 0.5 * render.normals,
        }
        return {name: torch.cat(list(maps[0].unbind(0)), -1) for name, maps in columns.items()}


def _stack(samples: list[PosedViews]) -> PosedViews:
    rgb, alpha = torch.stack([s.rgb for s in samples]), torch.stack([s.alpha for s in samples])
    c2w, k = torch.stack([s.cameras.c2w for s in samples]), torch.stack([s.cameras.intrinsics for s in samples])
    return PosedViews(rgb, alpha, dataclasses.replace(samples[0].cameras, c2w=c2w, intrinsics=k))


def _first(views: PosedViews) -> PosedViews:
    c = views.cameras
    return PosedViews(views.rgb[:1], views.alpha[:1], Cameras(c.c2w[:1], c.intrinsics[:1], c.height, c.width))
