"""The judge's network: one picture to scores of categories and of families, and how its training pictures are varied."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tests.benchmarks.prompt_judge.pictures import GREY

WIDTHS = (24, 48, 96, 160)
SIDE = 32
"""Pixels of what the network sees; pictures are made so small first."""


class JudgeNetwork(nn.Module):
    """Four levels of two convolutions each, the mean over the picture, and two linear heads. It sees no colours: see `shapes_of`."""

    def __init__(self, num_categories: int, num_families: int) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            levels += [_Convolution(before, width, stride=2), _Convolution(width, width, stride=1)]
            before = width
        self.levels = nn.Sequential(*levels)
        self.drop = nn.Dropout(0.2)
        self.category = nn.Linear(before, num_categories)
        self.family = nn.Linear(before, num_families)

    def forward(self, shapes: Float[Tensor, "n 3 s s"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n f"]]:
        """Logits of categories and of families."""
        features = self.drop(self.levels(shapes).mean((2, 3)))
        return self.category(features), self.family(features)


def shapes_of(planes: Float[Tensor, "n 5 H W"]) -> Float[Tensor, "n 3 s s"]:
    """What is left without colours: coverage, depth, and where it is lighter or darker than its own middle, in its own contrast.

    The last shows windows, straps and wheels of things that are flat; it is the same for a red thing and a blue one as bright.
    """
    small = F.interpolate(planes, (SIDE, SIDE), mode="area")
    alpha = small[:, 3:4]
    grey = (small[:, :3].mean(1, keepdim=True) - GREY * (1 - alpha)) / alpha.clamp_min(0.05)
    mass = alpha.sum((2, 3), keepdim=True).clamp_min(1e-3)
    light = grey - (alpha * grey).sum((2, 3), keepdim=True) / mass
    contrast = ((alpha * light.square()).sum((2, 3), keepdim=True) / mass).sqrt()
    # a thing of one colour has no contrast worth enlarging
    return torch.cat([alpha, small[:, 4:], alpha * (light / (contrast + 0.05)).clamp(-3, 3) / 2], 1)


class _Convolution(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.skips = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.convolution(x)))
        return x + y if self.skips else y


def varied(shapes: Float[Tensor, "n 3 s s"], chance: torch.Generator) -> Float[Tensor, "n 3 s s"]:
    """Each picture moved, scaled, mirrored, with other contrasts and maybe blurred, by chance.

    Light and dark are weakened, and turned into each other in every third: recoloured things have both.
    """
    count = len(shapes)
    factor = _uniform(count, 0.2, 1.2, chance) * torch.where(_uniform(count, 0, 1, chance) < 0.33, -1.0, 1.0)
    shapes = torch.cat([shapes[:, :2], shapes[:, 2:] * factor[:, :, None, None]], 1)
    return _blurred(_moved(shapes, chance), chance)


def _uniform(count: int, low: float, high: float, chance: torch.Generator) -> Float[Tensor, "n 1"]:
    return low + (high - low) * torch.rand(count, 1, generator=chance)


def _moved(shapes: Tensor, chance: torch.Generator) -> Tensor:
    count = len(shapes)
    scale_x, scale_y = _uniform(count, 0.85, 1.25, chance), _uniform(count, 0.85, 1.25, chance)
    mirror = torch.where(_uniform(count, 0, 1, chance) < 0.5, -1.0, 1.0)
    tilt = _uniform(count, -0.1, 0.1, chance)
    zero = torch.zeros(count, 1)
    x = torch.cat([mirror * scale_x, tilt, _uniform(count, -0.12, 0.12, chance)], 1)
    y = torch.cat([zero - tilt, scale_y, _uniform(count, -0.12, 0.12, chance)], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), list(shapes.shape), align_corners=False)
    return F.grid_sample(shapes, grid, align_corners=False)


def _blurred(shapes: Tensor, chance: torch.Generator) -> Tensor:
    """A third of them, as results come out softer than what they were asked for."""
    soft = F.avg_pool2d(F.pad(shapes, (1, 1, 1, 1)), 3, stride=1)
    return torch.where((_uniform(len(shapes), 0, 1, chance) < 0.33)[:, :, None, None], soft, shapes)
