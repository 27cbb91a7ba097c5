"""Tokens -> surfels: one shared MLP and a linear head for each attribute."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.rotations import ROTATION_WIDTHS, make_rotation_head
from mvgamba.types import Surfels

SCALE_UNIT = 0.1
OPACITY_AT_START = 0.1
SCALE_BIAS = -1.8
"""0.1 softplus(-1.8) = 0.0153, about half the distance of neighbouring patches on the object."""


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width), nn.SiLU())

    def forward(self, x: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        return self.layers(x)


class SurfelDecoder(nn.Module):
    """One surfel for each token. A position is the expectation over bins of each axis, so that it starts at the centre."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.coords: Tensor
        bins = torch.linspace(-config.position_range, config.position_range, config.num_bins)
        self.register_buffer("coords", bins.repeat(3, 1))
        self.mlp_net = _Mlp(config.width, config.mlp_width)
        widths = {
            "xyz": 3 * config.num_bins,
            "opacity": 1,
            "scale": config.scale_width,
            "rot": ROTATION_WIDTHS[config.rotation_head],
            "rgb": 3,
        }
        self.gs_layer = nn.ModuleDict({name: nn.Linear(config.width, width) for name, width in widths.items()})
        self.get_rot = make_rotation_head(config.rotation_head)
        self._initialise()

    def _initialise(self) -> None:
        for name, head in self.gs_layer.items():
            assert isinstance(head, nn.Linear)
            nn.init.xavier_uniform_(head.weight)
            nn.init.zeros_(head.bias)
            if name == "opacity":
                nn.init.constant_(head.bias, math.log(OPACITY_AT_START / (1 - OPACITY_AT_START)))
            elif name == "scale":
                nn.init.constant_(head.bias, SCALE_BIAS)
            elif name == "rgb":
                nn.init.zeros_(head.weight)

    def forward(self, tokens: Float[Tensor, "b N C"]) -> Surfels:
        x = self.mlp_net(tokens)
        # A position in bfloat16 would be off by a pixel, so the heads stay in float32 whatever the layers compute in.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.gs_layer["xyz"].weight)
            return self._surfels({name: head(x).float() for name, head in self.gs_layer.items()})

    def _surfels(self, heads: dict[str, Tensor]) -> Surfels:
        chances = heads["xyz"].unflatten(-1, (3, -1)).softmax(-1)
        return Surfels(
            means=(chances * self.coords).sum(-1),
            quats=self.get_rot(heads["rot"]),
            scales=self._two_scales(SCALE_UNIT * F.softplus(heads["scale"])),
            opacities=heads["opacity"][..., 0].sigmoid(),
            colors=heads["rgb"].sigmoid(),
        )

    def _two_scales(self, scales: Float[Tensor, "b N s"]) -> Float[Tensor, "b N 2"]:
        if scales.shape[-1] == 3 and self.config.scale_rows == "flat_alias":
            count = scales.shape[-2]
            return scales.flatten(-2)[..., : 2 * count].unflatten(-1, (count, 2))
        return scales[..., :2]
