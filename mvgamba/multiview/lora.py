"""Small changes to a big network, in a small file: low-rank additions to chosen linear layers (Hu et al. 2021, "LoRA").

A layer W x becomes W x + s B A x with A of `rank` rows, B of `rank` columns and s = scale. B begins as zero, so a network is the same before
the first step. Nothing here knows which network it is: layers are chosen by patterns of their names.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.weights.header import read_header

STARTER_LAYERS = tuple(f"network.layers.*.{name}" for name in ("qkv", "out", "q_words", "kv_words", "out_words"))
"""Queries, keys, values and outputs of both attentions of the starter network."""
DIFFUSERS_LAYERS = ("*.to_q", "*.to_k", "*.to_v", "*.to_out.0")
"""The same of attention as `diffusers` names it."""
MOST_RANK = 128


@dataclass(frozen=True)
class LoraConfig:
    """Which layers change, and by how much they can.

    Raises:
        InvalidInput: The rank or the scale is out of its range, or there is no pattern.
    """

    rank: int = 8
    scale: float = 1.0
    """Of what is added."""
    layers: tuple[str, ...] = STARTER_LAYERS
    """Patterns of names of linear layers; `*` stands for anything, dots too."""

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST_RANK:
            raise InvalidInput(f"rank is {self.rank}; it must lie between 1 and {MOST_RANK}, 4 to 16 are usual.")
        if not (math.isfinite(self.scale) and self.scale != 0):
            raise InvalidInput(f"scale is {self.scale}; it must be a finite number other than 0.")
        if not self.layers:
            raise InvalidInput("layers is empty; name patterns of linear layers, such as '*.to_q'.")


class LoraLinear(nn.Module):
    """A linear layer that stays as it is, and what is learned beside it."""

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), config.scale
        self.down = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        added = F.linear(F.linear(x, self.down), self.up)
        out: Tensor = self.base(x) + self.scale * added
        return out

    def delta(self) -> Float[Tensor, "o i"]:
        """What is added to the weights of the layer."""
        return self.scale * self.up @ self.down


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file holds."""

    config: LoraConfig
    pairs: dict[str, tuple[Float[Tensor, "r i"], Float[Tensor, "o r"]]]
    """By the name of the layer: A and B."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What it was made for: `words` that it gives a meaning, `base` (see `fingerprint`) of the network that it belongs to."""


def inject(network: nn.Module, config: LoraConfig) -> dict[str, LoraLinear]:
    """Put additions beside the chosen layers, in place; all other weights stop learning. Gives them by the names of the layers.

    Raises:
        InvalidInput: No layer is chosen, or the network has additions already.
    """
    if lora_layers(network):
        raise InvalidInput("The network has additions already; merge them first.")
    network.requires_grad_(False)
    chosen = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(fnmatchcase(name, pattern) for pattern in config.layers)
    ]
    if not chosen:
        some = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][:3]
        raise InvalidInput(
            f"No linear layer is called {' or '.join(config.layers)}; the network has, for instance, {', '.join(some) or 'none'}."
        )
    for name in chosen:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _put(network, name, LoraLinear(layer, config))
    return lora_layers(network)


def lora_layers(network: nn.Module) -> dict[str, LoraLinear]:
    """The additions in a network, by the names of their layers."""
    return {name: module for name, module in network.named_modules() if isinstance(module, LoraLinear)}


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Make the additions part of the layers, in place: the same outputs, no more cost, and no way back."""
    for name, layer in lora_layers(network).items():
        layer.base.weight += layer.delta()
        _put(network, name, layer.base)


def save_adapter(network: nn.Module, config: LoraConfig, path: Path, facts: dict[str, Any]) -> None:
    """The additions alone, in half precision, with what they are in the header."""
    tensors = {}
    for name, layer in lora_layers(network).items():
        tensors[f"{name}.down"] = layer.down.detach().half().cpu().contiguous()
        tensors[f"{name}.up"] = layer.up.detach().half().cpu().contiguous()
    header = {"kind": "adapter", "config": json.dumps(asdict(config)), "facts": json.dumps(facts)}
    safetensors.torch.save_file(tensors, path, header)


def load_adapter(path: Path) -> Adapter:
    """In float32. Raises: WeightsMissing, WeightsCorrupt."""
    if not path.exists():
        raise WeightsMissing(f"{path} does not exist; name a file that `mvgamba train personalise` wrote.")
    header = read_header(path)
    try:
        if header.get("kind") != "adapter":
            raise WeightsCorrupt(
                f"{path} holds no adapter (its header says {header.get('kind')!r}); a whole network is named by --weights."
            )
        tensors = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
        values = header["config"] | {"layers": tuple(header["config"]["layers"])}
        names = [name.removesuffix(".down") for name in tensors if name.endswith(".down")]
        pairs = {name: (tensors[f"{name}.down"], tensors[f"{name}.up"]) for name in names}
        return Adapter(LoraConfig(**values), pairs, json.loads(header["facts"]))
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        raise WeightsCorrupt(f"{path} is damaged or of another layout: {str(error)[:300]}") from error


@torch.no_grad()
def add_adapter(network: nn.Module, adapter: Adapter, *, name: str = "the adapter", strength: float = 1.0) -> None:
    """Add what an adapter holds to the layers of a network, in place. Several may be added, one after the other.

    Args:
        name: Of the adapter, for messages.
        strength: 0 adds nothing, 1 what was learned.
    Raises:
        InvalidInput: It is for a network with other layers; nothing has been changed then.
    """
    modules = dict(network.named_modules())
    for layer, (down, up) in adapter.pairs.items():
        module = modules.get(layer)
        if not isinstance(module, nn.Linear):
            raise InvalidInput(f"{name} is for another network: it changes {layer}, which is not here.")
        theirs, ours = (up.shape[0], down.shape[1]), tuple(module.weight.shape)
        if theirs != ours or down.shape[0] != up.shape[1]:
            raise InvalidInput(
                f"{name} is for another network: its {layer} is {theirs[0]} x {theirs[1]}, that of these weights "
                f"{ours[0]} x {ours[1]}. Use it with the weights that it was trained on."
            )
    for layer, (down, up) in adapter.pairs.items():
        weight = modules[layer].weight
        assert isinstance(weight, Tensor)
        weight += strength * adapter.config.scale * (up @ down).to(weight)


def fingerprint(network: nn.Module) -> str:
    """Eight bytes of hash of all weights in half precision: what an adapter remembers of the network that it belongs to."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def known_words(adapters: Sequence[Adapter]) -> list[str]:
    """Words that adapters give a meaning."""
    return [str(word) for adapter in adapters for word in adapter.facts.get("words", [])]


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
