"""Colours of surfels taken from images, and given to those that no image shows."""

import dataclasses

import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.refinement.smooth import adjacent_faces, factorised, laplacian
from mvgamba.refinement.targets import Targets, targets_of
from mvgamba.types import PosedViews, Reconstruction, Surfels

GUESS_WEIGHT = 0.02
"""Of a pixel of a guessed view, where a pixel of a given view counts 1."""


def paint(surfels: Surfels, targets: Targets) -> tuple[Float[Tensor, "F 3"], Float[Tensor, "F"]]:
    """For each surfel the mean colour of the pixels that it covers, weighted by how much of them it is, and that weight.

    The rasterizer is linear in the colours, so its adjoint applied to the images gives the weighted sums. The weight is the
    number of pixels that show the surfel, over all views.
    """
    ones = torch.ones_like(surfels.colors).requires_grad_(True)
    planes = targets.rasterize(dataclasses.replace(surfels, colors=ones))
    (total,) = torch.autograd.grad(planes.rgb, ones, targets.rgb, retain_graph=True)
    (weight,) = torch.autograd.grad(planes.rgb, ones, targets.alpha.expand_as(targets.rgb).contiguous())
    mean = targets.rgb.sum((0, 2, 3)) / targets.alpha.sum().clamp_min(1e-6)
    colors = torch.where(weight > 1e-3, total / weight.clamp_min(1e-6), mean).clamp(0, 1)
    return colors.detach().clone(), weight[:, 0].detach()


def with_guess(
    surfels: Surfels,
    colors: Float[Tensor, "F 3"],
    weight: Float[Tensor, "F"],
    guess: Targets | None,
) -> tuple[Float[Tensor, "F 3"], Float[Tensor, "F"]]:
    """Colours of seen surfels as they are, of others as guessed views have them; and the weights of both together."""
    if guess is None:
        return colors, weight
    guessed, pixels = paint(surfels, guess)
    pixels = GUESS_WEIGHT * pixels
    both = (weight + pixels).clamp_min(1e-6)[:, None]
    return (weight[:, None] * colors + pixels[:, None] * guessed) / both, weight + pixels


def painted(start: Reconstruction, views: PosedViews) -> Surfels:
    """The surfels of a reconstruction in the colours of the views, and of guessed views where those show nothing."""
    assert start.scaffold is not None
    size = max(views.cameras.height, views.cameras.width)
    guess = None if start.guess is None else targets_of(start.guess, size)
    colors, weight = with_guess(start.surfels, *paint(start.surfels, targets_of(views, size)), guess)
    pairs = torch.from_numpy(adjacent_faces(start.scaffold.faces))
    return dataclasses.replace(start.surfels, colors=spread_colors(colors, weight, pairs))


def spread_colors(
    colors: Float[Tensor, "F 3"], weight: Float[Tensor, "F"], pairs: Int[Tensor, "E 2"], *, reach: float = 2.0
) -> Float[Tensor, "F 3"]:
    """Colours in which a surfel that hardly any pixel shows takes after its neighbours.

    Solves (W + reach L) c = W colors on the graph of neighbouring triangles, so that what is well seen stays as it is. The
    weights span six orders of magnitude, which wants a direct solver: this is done on the CPU, wherever the colours are.
    """
    graph = laplacian(len(colors), pairs.cpu().numpy())
    seen = weight.double().cpu() + 1e-4
    solve = factorised((sp.diags(seen.numpy()) + reach * graph).tocsc())
    return solve(seen[:, None] * colors.double().cpu()).to(colors).clamp(0, 1)
