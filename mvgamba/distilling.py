"""Surfels pulled towards what a multi-view model expects of them: score distillation, for which no picture is needed.

Surfels come from views that a model made, which do not agree in all; the reconstruction is their compromise. The model is then shown the compromise
itself, from its own cameras, and asked what it takes it for. See `mvgamba.multiview.distillation` for the loss.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.errors import InvalidInput
from mvgamba.kernels.rasterize_surfels import SurfelPlanes, rasterize_surfels
from mvgamba.multiview.distillation import (
    FIRST_NOISE,
    GuidanceOptions,
    Prior,
    distillation_loss,
    drawn_time,
)
from mvgamba.progress import CancelToken
from mvgamba.reconstructor.rotations import multiply_quats, quats_from_matrices
from mvgamba.render import depth_to_normals
from mvgamba.types import Cameras, PosedViews, Similarity, Surfels

log = logging.getLogger(__name__)

SAMPLES = 2
"""Along each edge of a pixel, as the pictures that a model has learned from have soft edges too."""
REACH = 7
"""Samples over which depths are smoothed before discs are held against them."""
MOST_GROWTH = 1.0
"""Of the logarithm of a scale, either way."""
HELD_OUT = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Times at which a result is judged."""


@dataclass(frozen=True)
class DistilOptions:
    """How long and how strongly. Lengths are in the model's frame (the object in the unit ball).

    Raises:
        InvalidInput: A value is out of its range.
    """

    steps: int = 150
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    first_noise: float = FIRST_NOISE
    """Share of noise that the first views are seen through; less keeps more of the start."""
    mean_lr: float = 2e-3
    scale_lr: float = 5e-3
    normal_lr: float = 5e-3
    color_lr: float = 1e-2
    opacity_lr: float = 2e-2
    normal_weight: float = 1.0
    """Of the angle between discs and the surface that their depths make (1 - cosine, summed over the pixels of a view)."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidInput(f"steps is {self.steps}; it must be at least 1.")
        if not 0 < self.first_noise < 1:
            raise InvalidInput(f"first_noise is {self.first_noise}; it must lie between 0 and 1.")
        for name in ("mean_lr", "scale_lr", "normal_lr", "color_lr", "opacity_lr", "normal_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name} is {value}; it must be a finite number of at least 0.")


@dataclass(frozen=True, eq=False)
class Distilled:
    """What came of it."""

    surfels: Surfels
    losses: tuple[float, ...]
    """Of each step, as it was before it; with falling noise they fall by themselves. `expectation_gap` compares."""


def distil(
    start: Surfels,
    prior: Prior,
    options: DistilOptions,
    *,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> Distilled:
    """Move centres, discs, colours and opacities of surfels until a model takes them for what its prompt says.

    The same seed gives the same surfels on the same device. Surfels that no camera of the model sees stay as they are.

    Args:
        start: In the frame of the model (see `placed`), no batch axes.
        report: Called with the fraction done.
    Raises:
        InvalidInput: There are no surfels, or they are a batch.
        Cancelled
    """
    if start.means.ndim != 2 or start.num_surfels == 0:
        raise InvalidInput(
            f"start must hold the surfels of one scene, at least one; its means have the shape {tuple(start.means.shape)}."
        )
    # what is random is drawn on the host, so that a seed means the same on every device
    generator = torch.Generator().manual_seed(seed)
    start = start.detach()
    moving = _Moving(start, options)
    losses = []
    for step in range(options.steps):
        if cancel is not None:
            cancel.raise_if_cancelled()
        progress = step / options.steps
        if report is not None:
            report(progress)
        group = prior.group(generator)
        drawn = draw(moving.surfels(), group.cameras, prior.size)
        latents = prior.encode(drawn.rgb, drawn.alpha)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        time = drawn_time(progress, generator, first=options.first_noise)
        loss = distillation_loss(prior, latents, time, noise, group, options.guidance)
        losses.append(loss.detach())
        moving.step(loss + options.normal_weight * _unevenness(drawn), progress)
    if report is not None:
        report(1.0)
    values = torch.stack(losses).tolist()
    log.info("distilled %d surfels in %d steps", start.num_surfels, options.steps)
    return Distilled(moving.surfels().detach(), tuple(values))


class _Moving:
    """Surfels as parameters with their optimiser."""

    def __init__(self, start: Surfels, options: DistilOptions) -> None:
        self._start = start
        self._means = start.means.clone().requires_grad_(True)
        self._quats = start.quats.clone().requires_grad_(True)
        self._growth = torch.zeros_like(start.scales).requires_grad_(True)
        self._opacities = torch.logit(start.opacities.clamp(0.02, 0.98)).requires_grad_(True)
        self._colors = start.colors.clone().requires_grad_(True)
        rates = options.mean_lr, options.normal_lr, options.scale_lr, options.opacity_lr, options.color_lr
        parts = self._means, self._quats, self._growth, self._opacities, self._colors
        groups = [{"params": [part], "lr": rate, "first": rate} for part, rate in zip(parts, rates, strict=True)]
        self._adam = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12)

    def surfels(self) -> Surfels:
        return Surfels(
            self._means,
            F.normalize(self._quats, dim=-1),
            self._start.scales * self._growth.clamp(-MOST_GROWTH, MOST_GROWTH).exp(),
            torch.sigmoid(self._opacities),
            self._colors.clamp(0, 1),
        )

    def step(self, loss: Tensor, progress: float) -> None:
        loss.backward()
        for group in self._adam.param_groups:
            group["lr"] = group["first"] * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        self._adam.step()
        self._adam.zero_grad()


@dataclass(frozen=True, eq=False)
class Drawn:
    """Surfels in views of a model's size, and the samples that these are means of."""

    rgb: Float[Tensor, "V 3 H W"]
    """Colours times alpha."""
    alpha: Float[Tensor, "V 1 H W"]
    samples: SurfelPlanes
    cameras: Cameras
    """Of the samples."""


def draw(surfels: Surfels, cameras: Cameras, size: int) -> Drawn:
    """With several samples a pixel; differentiable."""
    fine = resize_cameras(cameras, SAMPLES * size, SAMPLES * size).to(surfels.means)
    samples = rasterize_surfels(
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors,
        c2w_to_w2c_opencv(fine.c2w), fine.intrinsics, height=fine.height, width=fine.width,
    )  # fmt: skip
    return Drawn(F.avg_pool2d(samples.rgb, SAMPLES), F.avg_pool2d(samples.alpha, SAMPLES), samples, fine)


def _unevenness(drawn: Drawn) -> Float[Tensor, ""]:
    """How far discs stand off the surface that they make together: sum over the pixels of a view, mean over views.

    That surface is taken from depths that are smoothed: within one disc they are those of its own plane, however it is tilted.
    """
    samples = drawn.samples
    smooth = lambda x: F.avg_pool2d(x.detach(), REACH, 1, REACH // 2)  # noqa: E731
    seen = (samples.alpha > 0.5).to(samples.alpha)
    depth = seen * smooth(samples.median_depth * seen) / smooth(seen).clamp_min(1e-3)
    surface = depth_to_normals(depth, drawn.cameras)
    cosine = (F.normalize(samples.normals, dim=1) * surface).sum(1, keepdim=True)
    known = (surface.square().sum(1, keepdim=True) > 0.5).float()
    return (known * (1 - cosine)).sum() / len(depth) / SAMPLES**2


@torch.no_grad()
def expectation_gap(
    surfels: Surfels, prior: Prior, guidance: GuidanceOptions, *, seed: int = 12_345, groups: int = 4
) -> float:
    """Mean squared difference of a number of the views from what the model takes them for, over `HELD_OUT` times and a few noises.

    The same seed asks the same questions, so two results can be compared; a fit with another seed has not seen them.
    """
    generator = torch.Generator().manual_seed(seed)
    gaps = []
    for _ in range(groups):
        group = prior.group(generator)
        drawn = draw(surfels, group.cameras, prior.size)
        latents = prior.encode(drawn.rgb, drawn.alpha)
        for time in HELD_OUT:
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            loss = distillation_loss(prior, latents, time, noise, group, guidance)
            gaps.append(2 * len(latents) * float(loss) / latents.numel())
    return sum(gaps) / len(gaps)


@torch.no_grad()
def views_of(surfels: Surfels, cameras: Cameras, *, size: int) -> PosedViews:
    """Straight colours and alpha of surfels as `draw` has them."""
    drawn = draw(surfels, cameras, size)
    rgb = (drawn.rgb / drawn.alpha.clamp_min(1e-4)).clamp(0, 1)
    return PosedViews(rgb, drawn.alpha, resize_cameras(cameras, size, size))


def placed(surfels: Surfels, similarity: Similarity) -> Surfels:
    """Surfels of the normalised frame where a similarity puts them; for the way back give its inverse."""
    turn = quats_from_matrices(similarity.rotation.to(surfels.means))
    return Surfels(
        similarity.apply(surfels.means),
        multiply_quats(turn.expand_as(surfels.quats), surfels.quats),
        similarity.scale * surfels.scales,
        surfels.opacities,
        surfels.colors,
    )
