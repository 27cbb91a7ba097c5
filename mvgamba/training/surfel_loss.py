"""What the MVGamba network is taught: that its surfels, seen by every camera, look like the photographs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.lpips import Perceptual
from mvgamba.kernels.rasterize_surfels import DISTORTION_SLOPE
from mvgamba.render import depth_to_normals, render_surfels
from mvgamba.types import PosedViews, RenderOutput, Surfels

PERCEPTUAL_SIZE = 256
"""Pixels of the pictures that the perceptual distance is measured on."""
SURFACE_ALPHA = 0.5
"""From here on a pixel shows a surface, which has a normal and no depth of its own."""
NEAR, FAR = 0.5, 2.5
"""Distances that the distortion counts from 0 to 1: those of an object seen from 1.5."""
DISTORTION_UNIT = (NEAR * FAR / (FAR - NEAR) / DISTORTION_SLOPE) ** 2
"""What the rasterizer's distortion is multiplied with for that."""


@dataclass(frozen=True)
class SurfelLossWeights:
    """Those of the published training; a term counts from the step named after it."""

    rgb: float = 1.0
    mask: float = 1.0
    perceptual: float = 0.6
    perceptual_from: int = 0
    opacity: float = 0.001
    normal: float = 0.05
    normal_from: int = 0
    distortion: float = 0.0
    distortion_from: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InvalidInput(f"{name} is {value}; it must be at least 0.")


def surfel_losses(
    surfels: Surfels,
    truth: PosedViews,
    background: Float[Tensor, "3"],
    *,
    weights: SurfelLossWeights,
    step: int = 0,
    perceptual: Perceptual | None = None,
    mean_count: Callable[[Tensor], Tensor] = lambda count: count,
) -> tuple[dict[str, Tensor], RenderOutput]:
    """Losses by name, times their weights, and `total`; `psnr` on the background, in dB, for people. And the renders.

    Renders are not clamped: a pixel that is too bright is pulled back.

    Args:
        surfels: One set a sample, in the frame of `truth.cameras`.
        truth: With one batch axis.
        mean_count: The mean over all processes of a number of pixels, so that the mean of their losses is that of all pixels.
    """
    render = render_surfels(surfels, truth.cameras, background=background)
    wanted = truth.rgb * truth.alpha + background[:, None, None] * (1 - truth.alpha)
    squared = (render.rgb - wanted).square()
    losses = {
        "rgb": weights.rgb * squared.mean(),
        "mask": weights.mask * (render.alpha - truth.alpha).square().mean(),
        "opacity": weights.opacity * (1 - surfels.opacities).mean(),
    }
    surface = render.alpha.detach() > SURFACE_ALPHA
    if weights.normal > 0 and step >= weights.normal_from:
        losses["normal"] = weights.normal * normal_consistency(render, truth, mean_count=mean_count)
    if weights.distortion > 0 and step >= weights.distortion_from:
        spread = (DISTORTION_UNIT * render.distortion * surface).sum()
        losses["distortion"] = weights.distortion * spread / mean_count(surface.sum().float()).clamp_min(1)
    if perceptual is not None and weights.perceptual > 0 and step >= weights.perceptual_from:
        distance = perceptual(_for_perception(render.rgb), _for_perception(wanted))
        losses["perceptual"] = weights.perceptual * distance.mean()
    total = torch.stack(list(losses.values())).sum()
    psnr = -10 * squared.detach().mean((2, 3, 4)).clamp_min(1e-10).log10().mean()
    return losses | {"total": total, "psnr": psnr}, render


def normal_consistency(
    render: RenderOutput, truth: PosedViews, *, mean_count: Callable[[Tensor], Tensor] = lambda count: count
) -> Float[Tensor, ""]:
    """One less the cosine between the normals of the surfels and those of their depth (Huang et al. 2024, equation 14).

    A mean over pixels that show a surface and whose four neighbours do.
    """
    surface = render.alpha.detach() > SURFACE_ALPHA
    from_depth = depth_to_normals(torch.where(surface, render.median_depth, 0.0), truth.cameras)
    known = surface & (from_depth.detach() != 0).any(-3, keepdim=True)
    gap = 1 - (render.normals * from_depth).sum(-3, keepdim=True)
    return (gap * known).sum() / mean_count(known.sum().float()).clamp_min(1)


def _for_perception(rgb: Float[Tensor, "b V 3 H W"]) -> Float[Tensor, "n 3 h w"]:
    size = (PERCEPTUAL_SIZE, PERCEPTUAL_SIZE)
    return 2 * F.interpolate(rgb.flatten(0, 1), size, mode="bilinear", align_corners=False, antialias=True) - 1
