"""What the ray network is taught: depth, its uncertainty, and what the queried views would show. No rasterizer is needed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.reconstructor.ray_network import Packed, RayOutput, patches_of, pick_patches

JUMP = 0.1
"""Between neighbouring pixels, in radii of the object: beyond that they lie on different surfaces."""


@dataclass(frozen=True)
class RayLossWeights:
    """Each loss is a mean over the pixels that it speaks of."""

    depth: float = 10.0
    slope: float = 10.0
    error: float = 0.1
    solid: float = 1.0
    rgb: float = 2.0


def ray_losses(
    output: RayOutput,
    packed: Packed,
    targets: Float[Tensor, "b V 5 S S"],
    *,
    num_given: int,
    weights: RayLossWeights,
    mean_count: Callable[[Tensor], Tensor] = lambda count: count,
) -> dict[str, Tensor]:
    """Losses by name, times their weights, and `total`; `depth_error` in radii, without weight, for people.

    Args:
        mean_count: The mean over all processes of a number of pixels, so that the mean of their losses is that of all pixels.
    """

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum() / mean_count(where.sum().float()).clamp_min(1)

    patch = round(packed.pixels.shape[2] ** 0.5)
    grid = targets.shape[-1] // patch
    truth = pick_patches(patches_of(targets, patch), packed.index)
    hit = (packed.pixels[..., 6] > 0) & packed.valid[..., None]
    solid = (truth[..., 1] > 0.5) & hit
    is_query = (packed.index // (grid * grid) >= num_given)[..., None] & hit

    gap = output.depth - truth[..., 0]
    size_of_gap = gap.abs()
    squares = gap.unflatten(-1, (patch, patch)), solid.unflatten(-1, (patch, patch))
    wanted = truth[..., 0].unflatten(-1, (patch, patch))
    bent = [mean(value.abs(), known) for value, known in (_difference(*squares, wanted, dim) for dim in (-1, -2))]
    expected = size_of_gap.detach() * torch.exp(-output.log_error.clamp(-6, 2)) + output.log_error
    met = F.binary_cross_entropy_with_logits(output.solid, solid.float(), reduction="none")
    losses = {
        "depth": weights.depth * mean(F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.02, reduction="none"), solid),
        "slope": weights.slope * 0.5 * (bent[0] + bent[1]),
        "error": weights.error * mean(expected, solid),
        "solid": weights.solid * mean(met, is_query),
        "rgb": weights.rgb * mean((output.rgb - truth[..., 2:]).abs().mean(-1), is_query & solid),
    }
    total = torch.stack(list(losses.values())).sum()
    return losses | {"total": total, "depth_error": mean(size_of_gap.detach(), solid)}


def _difference(
    gap: Float[Tensor, "b L p q"], known: Bool[Tensor, "b L p q"], wanted: Float[Tensor, "b L p q"], dim: int
) -> tuple[Tensor, Tensor]:
    """Of the errors of neighbours on one surface: what bends it."""
    length = gap.shape[dim] - 1

    def ends(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.narrow(dim, 0, length), x.narrow(dim, 1, length)

    (a, b), (known_a, known_b), (wanted_a, wanted_b) = ends(gap), ends(known), ends(wanted)
    return a - b, known_a & known_b & ((wanted_a - wanted_b).abs() < JUMP)
