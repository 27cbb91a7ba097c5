"""The ray network as a task of the training loop: ray losses, no rasterizer."""

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.data.shards import read_shards
from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork, unpack
from mvgamba.reconstructor.ray_reconstructor import load_ray_network, save_ray_network
from mvgamba.training.config import TrainConfig
from mvgamba.training.ray_batches import RayBatch, make_batch, patches_met
from mvgamba.training.ray_loss import RayLossWeights, ray_losses
from mvgamba.training.task import Batch, MeanCount, SampleOrder, share_of

WEIGHTS = "ray.safetensors"


class RayTask:
    """See `Task`.

    Raises:
        InvalidInput: The shards cannot be read.
    """

    def __init__(self, config: TrainConfig) -> None:
        assert isinstance(config.network, RayConfig) and isinstance(config.losses, RayLossWeights)
        self.config, self.network_config, self.weights = config, config.network, config.losses
        self.samples = read_shards(*(Path(folder) for folder in config.data.split(os.pathsep)))
        every = range(len(self.samples))
        sizes = [patches_met(self.samples.field(i, "hit"), config.network.patch_size) for i in every]
        kinds = [int(self.samples.field(i, "num_given")) for i in every]
        self.num_samples = max(kinds.count(kind) for kind in set(kinds))
        # more than there are makes no batch; the loop refuses it
        fitting = min(config.batch_size, self.num_samples)
        self._order = SampleOrder(sizes, kinds, batch_size=fitting, seed=config.seed)

    def make_network(self) -> RayNetwork:
        """Raises: InvalidInput, WeightsMissing, WeightsCorrupt."""
        wanted, init = self.network_config, self.config.init
        network = RayNetwork(wanted) if init is None else load_ray_network(Path(init))
        if network.config != wanted:
            raise InvalidInput(f"{init} holds a network of {network.config}; the run asks for {wanted}.")
        return network

    def batch(self, step: int, *, process: int, processes: int) -> RayBatch:
        """See `Task`."""
        picked = [self.samples[i] for i in self._order.at(step)]
        generator = np.random.default_rng([self.config.seed, 1, step]) if self.config.disturb else None
        whole = make_batch(picked, generator=generator)
        mine = share_of(self.config.batch_size, process=process, processes=processes)
        return RayBatch(whole.planes[mine], whole.targets[mine], whole.num_given)

    def losses(self, network: nn.Module, batch: Batch, *, step: int, mean_count: MeanCount) -> dict[str, Tensor]:
        """See `ray_losses`."""
        assert isinstance(batch, RayBatch)
        output, packed = network(batch.planes)
        return ray_losses(
            output, packed, batch.targets, num_given=batch.num_given, weights=self.weights,
            mean_count=mean_count,
        )  # fmt: skip

    def write_weights(self, network: nn.Module, folder: Path) -> Path:
        """As the reconstructor `ray` loads them."""
        assert isinstance(network, RayNetwork)
        path = folder / WEIGHTS
        save_ray_network(network, path)
        return path

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: Batch, *, step: int) -> dict[str, Float[Tensor, "3 h w"]]:
        """Views side by side; depth from near (white) to far within the object, its error up to a tenth of the radius."""
        assert isinstance(batch, RayBatch)
        output, packed = network(batch.planes[:1])
        views, size = batch.planes.shape[1], batch.planes.shape[-1]
        depth, truth = unpack(output.depth, packed, views=views, size=size)[0], batch.targets[0, :, 0]
        rgb = torch.stack([unpack(output.rgb[..., c], packed, views=views, size=size)[0] for c in range(3)], 1)
        solid = batch.targets[0, :, 1] > 0.5
        met = solid & (batch.planes[0, :, 6] > 0)

        def shade(value: Tensor, where: Tensor) -> Tensor:
            return (torch.where(where, (1 - value) / 2, 0.0)).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)

        error = torch.where(met, 10 * (depth - truth).abs(), 0.0).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)
        columns = {
            "inputs": batch.planes[0, :, :3],
            "target": batch.targets[0, :, 2:],
            "predicted": rgb.clamp(0, 1),
            "target_depth": shade(truth, solid),
            "predicted_depth": shade(depth, met),
            "error": error,
        }
        return {name: torch.cat(list(maps.unbind(0)), -1) for name, maps in columns.items()}
