"""The starter generator as a task of the training loop: rectified flow on sets of views."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.data.prompted_samples import PromptedSample, read_prompted_shards
from mvgamba.errors import InvalidInput
from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig, load_starter, save_starter
from mvgamba.multiview.starter_network import StarterConfig, from_signal
from mvgamba.multiview.words import WordConfig, words_of
from mvgamba.training.config import TrainConfig
from mvgamba.training.flow_options import FlowOptions
from mvgamba.training.prompted_batches import PromptedBatch, PromptedRowMaker, PromptedRows
from mvgamba.training.task import Batch, MeanCount, share_of

WEIGHTS = "starter.safetensors"


class GeneratorTask:
    """See `Task`.

    Raises:
        InvalidInput: The shards cannot be read.
    """

    def __init__(self, config: TrainConfig) -> None:
        assert isinstance(config.network, StarterConfig) and isinstance(config.losses, FlowOptions)
        self.config, self.flow = config, config.losses
        # unpacked once: a set of pictures is small, and a step takes many
        self.samples: list[PromptedSample] = list(
            read_prompted_shards(*(Path(folder) for folder in config.data.split(os.pathsep)))
        )
        size = self.samples[0].rgba.shape[1]
        if size != config.network.image_size:
            raise InvalidInput(
                f"the samples have {size} pixels; the network's image_size is {config.network.image_size}."
            )
        if config.batch_size % 2:
            raise InvalidInput(f"batch_size is {config.batch_size}; half of it has pictures, so it must be even.")
        self.num_samples = len(self.samples)
        self._rows = PromptedRowMaker(
            self.samples, patches=config.network.image_size // config.network.patch_size, disturb=config.disturb
        )
        words = {word for s in self.samples for caption in s.captions for word in words_of(str(caption))}
        words |= {str(name) for s in self.samples for color in s.color_names for name in words_of(str(color))}
        self.model_config = StarterModelConfig(config.network, WordConfig(tuple(sorted(words))))

    def make_network(self) -> StarterModel:
        """Raises: InvalidInput, WeightsMissing, WeightsCorrupt."""
        if self.config.init is None:
            return StarterModel(self.model_config)
        model = load_starter(Path(self.config.init)).requires_grad_(True)
        if model.config.network != self.model_config.network:
            raise InvalidInput(
                f"{self.config.init} holds {model.config.network}; the run asks for {self.model_config.network}."
            )
        return model

    def batch(self, step: int, *, process: int, processes: int) -> PromptedBatch:
        """See `Task`."""
        half = self.config.batch_size // 2
        mine = share_of(half, process=process, processes=processes)
        made = []
        for kind, known in enumerate((range(len(self.samples)), self._rows.spoken)):
            order = np.random.default_rng([self.config.seed, 4, kind, step])
            picked = [known[int(i)] for i in order.integers(len(known), size=half)]
            generator = np.random.default_rng([self.config.seed, 5, kind, step, process])
            made.append(self._rows.rows(picked[mine], generator, pictured=kind == 0))
        return PromptedBatch(made[0], made[1])

    def losses(self, network: nn.Module, batch: Batch, *, step: int, mean_count: MeanCount) -> dict[str, Tensor]:
        """Squared error of the velocity, for each half."""
        assert isinstance(batch, PromptedBatch)
        pictured = self._loss(network, batch.pictured, joint=True)
        spoken = self._loss(network, batch.spoken, joint=bool(torch.rand(()) >= self.flow.alone))
        return {"total": 0.5 * (pictured + spoken), "pictured": pictured, "spoken": spoken}

    def _loss(self, network: nn.Module, rows: PromptedRows, *, joint: bool) -> Tensor:
        flow, count = self.flow, len(rows.views)
        time = torch.sigmoid(flow.time_mean + flow.time_spread * torch.randn(count, device=rows.views.device))
        noisy, left = noised(rows.views, time), (1 - time).clamp_min(flow.least_noise)
        clean = network(noisy, time, rows.cameras, rows.rays, rows.sentences, rows.picture, joint=joint)
        error = (clean - rows.views) / left[:, None, None, None, None]
        return error.square().mean()

    def write_weights(self, network: nn.Module, folder: Path) -> Path:
        """As the starter generator loads them."""
        assert isinstance(network, StarterModel)
        path = folder / WEIGHTS
        save_starter(network, path)
        return path

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: Batch, *, step: int) -> dict[str, Float[Tensor, "3 h w"]]:
        """The first rows of both halves: the truth, and what is made of it where half is noise."""
        assert isinstance(batch, PromptedBatch)
        shown = {}
        for name, rows in (("pictured", batch.pictured), ("spoken", batch.spoken)):
            time = torch.full((len(rows.views),), 0.4, device=rows.views.device)
            clean = network(noised(rows.views, time), time, rows.cameras, rows.rays, rows.sentences, rows.picture)
            for kind, signal in (("truth", rows.views), ("made", clean)):
                rgb, alpha = from_signal(signal[:4])
                shown[f"{name}_{kind}"] = (
                    (rgb * alpha + 0.5 * (1 - alpha)).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)
                )
        return shown


def noised(clean: Float[Tensor, "B V 4 S S"], time: Float[Tensor, "B"]) -> Float[Tensor, "B V 4 S S"]:
    """On the straight line from noise (time 0) to the picture (time 1)."""
    at = time[:, None, None, None, None]
    return at * clean + (1 - at) * torch.randn_like(clean)
