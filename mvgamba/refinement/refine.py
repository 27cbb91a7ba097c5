"""Surfels on a mesh, fitted to the input views through the differentiable rasterizer.

Every triangle of the scaffold carries one surfel. What is optimised: the vertices (in smooth coordinates), and the colour
and the opacity of each surfel. Views pull on what they see; where no view looks, a small pull towards less area decides,
which turns the bulges that a visual hull grows between its silhouettes into the flat or round surface that they hide.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mvgamba.errors import InvalidInput
from mvgamba.refinement.colors import paint, spread_colors, with_guess
from mvgamba.refinement.schedule import Schedule, Stopped
from mvgamba.refinement.surfel_fit import LossWeights, SurfelFit
from mvgamba.refinement.targets import psnr_on_white, targets_of
from mvgamba.types import Mesh, PosedViews, Reconstruction, Surfels

log = logging.getLogger(__name__)


MOST_AREA_PER_VIEW = 0.0075
"""Times the views (at least four), the strongest pull: few views cannot hold open and round things against more."""
AREA_AT_END = 0.1
"""Of the pull at the start: bulges come down early, and what the pull has taken from thin parts the views then give back. So
from eight views on; four leave tops and undersides to the pull alone, which then stays."""
DEPTH_KNOWS = 0.2
"""With depth less is left to guess, and the pull towards less area does more harm than good."""


@dataclass(frozen=True)
class RefineOptions:
    """How long and how strongly to fit. Lengths are in the normalised frame (object radius 0.6).

    Raises:
        InvalidInput: A value is out of its range.
    """

    steps: int = 240
    """At most."""
    views_per_step: int = 4
    """Rasterized by one call; at most half of the views there are, a quarter where they have depth (see the README)."""
    image_size: int = 256
    """Longest side of the images that are compared; inputs are averaged down to it, never up."""
    coarse_steps: int = 60
    """The first steps, at half the size."""
    seconds: float | None = None
    """Budget of wall time for the steps; None takes what they take. Step sizes fall with the time that is spent, so that a
    short fit ends as gently as a long one."""
    least_gain: float = 0.02
    """The fit ends early when the mean by which the views are missed falls by less than this share of the one before; 0 never
    ends it."""
    smoothness: float = 12.0
    """Of the coordinates: about the square of the number of edges over which a pull spreads."""
    vertex_lr: float = 4e-3
    color_lr: float = 2e-2
    opacity_lr: float = 2e-2
    mask_weight: float = 8.0
    depth_weight: float = 2.0
    area_weight: float = 0.48
    """Shared by the views: the fewer there are, the more of the surface is left to it."""
    bend_weight: float = 0.002
    opacity_weight: float = 0.002

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("views_per_step", 1), ("image_size", 16), ("coarse_steps", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.coarse_steps > self.steps:
            raise InvalidInput(f"coarse_steps is {self.coarse_steps}; it must be at most steps, {self.steps}.")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InvalidInput(f"seconds is {self.seconds}; it must be a positive number, or None for no limit.")
        if not 0 <= self.least_gain < 1:
            raise InvalidInput(f"least_gain is {self.least_gain}; it must lie in [0, 1).")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_lr", "_weight", "smoothness")) and not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{field.name} is {value}; it must be a finite number of at least 0.")


@dataclass(frozen=True, eq=False)
class Refined:
    """The surfels, their mesh, and how well the inputs are matched."""

    surfels: Surfels
    scaffold: Mesh
    psnr: float
    """Of the input views on white, at the size of the last steps."""
    steps: int
    """Taken."""
    stopped: Stopped
    """Why there were no more: all steps taken, little gained by the last ones, or the seconds spent."""


def refine(
    start: Reconstruction,
    views: PosedViews,
    options: RefineOptions,
    *,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
) -> Refined:
    """Fit the surfels of a reconstruction to the views, on the device on which both of them are.

    Args:
        start: Needs a scaffold.
        views: In the same (normalised) frame.
        report: Called with the fraction done; may raise to stop.
    Raises:
        InvalidInput: Surfels and views are on different devices.
    """
    assert start.scaffold is not None, "refinement works on the triangles of a scaffold"
    if views.rgb.device != start.surfels.means.device:
        raise InvalidInput(
            f"views must be on the device of the surfels ({start.surfels.means.device}), got {views.rgb.device}."
        )
    coarse, fine = targets_of(views, options.image_size // 2), targets_of(views, options.image_size)
    guess = None if start.guess is None else targets_of(start.guess, options.image_size)
    fit = SurfelFit(
        start, coarse, smoothness=options.smoothness,
        vertex_lr=options.vertex_lr, color_lr=options.color_lr, opacity_lr=options.opacity_lr, guess=guess,
    )  # fmt: skip
    views_per_step = min(options.views_per_step, -(-views.num_views // (2 if views.depth is None else 4)))
    schedule = Schedule(
        options.steps,
        pass_steps=-(-views.num_views // views_per_step),
        least_gain=options.least_gain,
        watch_from=options.coarse_steps / options.steps,
        seconds=options.seconds,
    )
    # drawn on the CPU, so that every device gets the same numbers
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while schedule.running:
        progress = schedule.progress
        if report is not None:
            report(progress)
        while len(order) < views_per_step:
            order += torch.randperm(views.num_views, generator=generator).tolist()
        pick, order = torch.tensor(order[:views_per_step]), order[views_per_step:]
        # a background of any colour: what is transparent must be so on all of them
        background = torch.rand(views_per_step, 3, 1, 1, generator=generator)
        targets = coarse if progress < options.coarse_steps / options.steps - 1e-9 else fine
        weights = loss_weights(options, views, progress)
        miss, rest = fit.loss(targets[pick.to(views.rgb.device)], background.to(views.rgb), weights)
        fit.step(miss + rest, 0.5 * (1 + math.cos(math.pi * progress)) * 0.9 + 0.1)
        schedule.advance(miss)
    surfels = fit.surfels().detach()
    psnr = psnr_on_white(surfels, fine)
    # an optimiser with normalised steps leaves noise where hardly a pixel has a say
    _, weight = paint(surfels, fine)
    surfels = dataclasses.replace(
        surfels, colors=spread_colors(*with_guess(surfels, surfels.colors, weight, guess), fit.pairs)
    )
    log.info(
        "refined %d surfels in %d steps (ended by %s): input views at %.2f dB",
        len(surfels.means), schedule.step, schedule.stopped, psnr,
    )  # fmt: skip
    scaffold = Mesh(fit.vertices().detach().cpu().numpy(), start.scaffold.faces)
    return Refined(surfels, scaffold, psnr, schedule.step, schedule.stopped)


def loss_weights(options: RefineOptions, views: PosedViews, progress: float) -> LossWeights:
    """The pull towards less area depends on how much the views leave open, and eases off as the fit goes on."""
    eased = (1 - AREA_AT_END) * min(max(views.num_views / 4 - 1, 0.0), 1.0)
    pull = options.area_weight / views.num_views * (1 - eased * progress)
    area = min(pull, MOST_AREA_PER_VIEW * max(views.num_views, 4)) * (DEPTH_KNOWS if views.depth is not None else 1.0)
    return LossWeights(options.mask_weight, options.depth_weight, area, options.bend_weight, options.opacity_weight)
