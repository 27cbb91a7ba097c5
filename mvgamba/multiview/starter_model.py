"""The starter generator's network and words as one module, and its files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.starter_network import StarterConfig, StarterNetwork
from mvgamba.multiview.words import WordConfig, WordEncoder
from mvgamba.weights.header import read_header


@dataclass(frozen=True)
class StarterModelConfig:
    """Both parts."""

    network: StarterConfig = field(default_factory=StarterConfig)
    words: WordConfig = field(default_factory=WordConfig)


class StarterModel(nn.Module):
    """Sentences and signals in, clean signals out."""

    def __init__(self, config: StarterModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WordEncoder(config.words)
        self.network = StarterNetwork(config.network)

    def forward(
        self,
        noisy: Float[Tensor, "B V 4 H W"],
        time: Float[Tensor, "B"],
        cameras: Float[Tensor, "B V 16"],
        rays: Float[Tensor, "B V n 6"],
        sentences: Sequence[str],
        picture: Float[Tensor, "B 4 H W"] | None = None,
        has_picture: Bool[Tensor, "B"] | None = None,
        *,
        joint: bool = True,
    ) -> Float[Tensor, "B V 4 H W"]:
        """See `StarterNetwork.forward`."""
        words = self.encoder(sentences)
        clean: Tensor = self.network(noisy, time, cameras, rays, words, picture, has_picture, joint=joint)
        return clean


def save_starter(model: StarterModel, path: Path) -> None:
    """Half precision, with the configuration in the header."""
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(tensors, path, {"kind": "starter", "config": json.dumps(asdict(model.config))})


def load_starter(path: Path) -> StarterModel:
    """In float32, for use. Raises: WeightsMissing, WeightsCorrupt."""
    if not path.exists():
        raise WeightsMissing(f"{path} does not exist; name a file of weights of the starter generator.")
    header = read_header(path)
    if header.get("kind") != "starter":
        raise WeightsCorrupt(f"{path} holds no starter generator: its header says {header.get('kind')!r}.")
    try:
        tensors = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
        words = header["config"]["words"] | {"vocabulary": tuple(header["config"]["words"]["vocabulary"])}
        config = StarterModelConfig(StarterConfig(**header["config"]["network"]), WordConfig(**words))
        model = StarterModel(config)
        model.load_state_dict(tensors)
    except (safetensors.SafetensorError, InvalidInput, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsCorrupt(f"{path} is damaged or of another layout: {str(error)[:300]}") from error
    return model.eval().requires_grad_(False)
