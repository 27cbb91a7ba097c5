"""LPIPS with the VGG16 backbone, where its weights are at hand: how different two pictures look.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", version 0.1. Our own forward pass; the names of the
parameters are those of torchvision's `vgg16().features` and of the published linear layers (`vgg.pth` of richzhang/PerceptualSimilarity), so one
file that holds both state dicts is all it takes:

    torch.save({**{f"features.{k}": v for k, v in vgg16(weights="IMAGENET1K_V1").features.state_dict().items()}, **torch.load("vgg.pth")}, "lpips_vgg.pth")
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mvgamba.errors import WeightsCorrupt, WeightsMissing

LAYERS: tuple[int | str, ...] = (
    64,
    64,
    "pool",
    128,
    128,
    "pool",
    256,
    256,
    256,
    "pool",
    512,
    512,
    512,
    "pool",
    512,
    512,
    512,
)
"""Widths of the convolutions of VGG16 up to conv5_3; each is followed by a rectifier."""
TAPS = (3, 8, 15, 22, 29)
"""Indices in `features` of the rectifiers whose output is compared."""
WIDTHS = (64, 128, 256, 512, 512)
LEAST_SIZE = 16
"""Pixels of an edge: four times halved, one is left."""


class Lpips(nn.Module):
    """Distance of pairs of pictures."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for layer in LAYERS:
            if isinstance(layer, int):
                layers += [nn.Conv2d(width, layer, 3, padding=1), nn.ReLU()]
                width = layer
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        for index, count in enumerate(WIDTHS):
            # the layer before it in the published file is dropout, which has no parameters
            linear = nn.Module()
            linear.model = nn.Sequential(nn.Identity(), nn.Conv2d(count, 1, 1, bias=False))
            setattr(self, f"lin{index}", linear)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
        """Of pictures with values in [0, 1]; 0 for equal ones."""
        # one picture at a time: the first maps of VGG are 64 times as large as a picture
        return torch.stack([self._distance(x[None], y[None]) for x, y in zip(a, b, strict=True)])

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(())
        x, y = ((2 * picture - 1 - self.shift) / self.scale for picture in (a, b))
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in TAPS:
                linear = getattr(self, f"lin{TAPS.index(index)}").model[1]
                total = total + linear((_unit(x) - _unit(y)).square()).mean()
        return total


def load_lpips(path: Path) -> Lpips:
    """From a `.pth` or `.safetensors` file that holds the state dicts of backbone and linear layers; other entries are not looked at.

    Raises: WeightsMissing, WeightsCorrupt.
    """
    if not path.is_file():
        raise WeightsMissing(f"There is no file {path}. Give --lpips the VGG weights of LPIPS, or leave it out.")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsCorrupt(
            f"{path.name} cannot be read as a .pth or .safetensors file of plain tensors: {error}"
        ) from error
    if not isinstance(state, dict):
        raise WeightsCorrupt(f"{path.name} holds a {type(state).__name__}; a state dict is wanted.")
    network = Lpips()
    chosen: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        found = state.get(name)
        if found is None:
            raise WeightsCorrupt(
                f"{path.name} lacks {name}. It must hold the state dict of torchvision's vgg16().features under `features.` and that of "
                "the published vgg.pth (`lin0.model.1.weight` to `lin4.model.1.weight`)."
            )
        if not isinstance(found, Tensor) or found.shape != wanted.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise WeightsCorrupt(f"{name} of {path.name} has shape {shape}; it must be {tuple(wanted.shape)}.")
        chosen[name] = found.float()
    network.load_state_dict(chosen)
    return network.eval()


def _unit(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
