"""The colours of posed views, laid onto an unwrapped mesh."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.texturing.fill import fill_between_charts, fill_unseen
from mvgamba.texturing.gains import exposure_gains
from mvgamba.texturing.sharpening import sharpen
from mvgamba.texturing.texels import Sight, Texels, look, sight_of, texels_of
from mvgamba.texturing.unwrap import TEXTURE_SIZES, UnwrappedMesh
from mvgamba.types import PosedViews, TexturedMesh

log = logging.getLogger(__name__)

MOST_TEXELS = 1 << 18
"""Texels looked at in one go."""
CACHED_TEXELS = 1 << 13
"""Texels blended in one go: the colours of a few views for so many stay in a core's cache."""
GAIN_TEXELS = 20_000
"""Texels that views are compared at to find their exposure."""


@dataclass(frozen=True)
class BakeOptions:
    """How views are blended; the defaults won the comparison in the README."""

    power: float = 4.0
    """Of the cosine between surface and view: high prefers the best view and blurs less where views disagree."""
    agreement: float = 0.1
    """Colours this far from what views agree on lose weight (in sRGB, root of the sum of squares)."""
    rounds: int = 3
    """Of finding what views agree on."""
    sharpen_rounds: int = 4
    """Of making the rendered texture look like the views; 0 leaves it as it was blended."""
    sharpen_power: float = 1.0
    """As `power`, for the pixels that count in it."""
    enough: float = 0.02
    """Texels with less weight than this from inputs take colours from `fill_views` too."""


def bake_texture(
    unwrapped: UnwrappedMesh,
    views: PosedViews,
    *,
    texture_size: int,
    fill_views: PosedViews | None = None,
    report: Callable[[float], None] | None = None,
    options: BakeOptions | None = None,
) -> TexturedMesh:
    """Paint a mesh with what views show of it.

    A texel takes the colour of the views that see it, mostly of those that see it best and agree with the others. What none
    of them sees is taken from `fill_views`, which are believed less (renders of a reconstruction), and what is left takes
    the colour of its surroundings on the surface.

    Args:
        views: No batch axes, in the frame of the mesh.
        report: Called with the fraction that is done.
    Raises:
        InvalidInput: The size is out of range or the views have batch axes.
    """
    options = options or BakeOptions()
    tell = report or (lambda fraction: None)
    if not TEXTURE_SIZES[0] <= texture_size <= TEXTURE_SIZES[1]:
        raise InvalidInput(
            f"texture_size is {texture_size}; it must lie between {TEXTURE_SIZES[0]} and {TEXTURE_SIZES[1]} pixels."
        )
    for name, given in (("views", views), ("fill_views", fill_views)):
        if given is not None and given.rgb.ndim != 4:
            raise InvalidInput(
                f"{name} must have no batch axes: rgb of shape (V, 3, H, W), got {tuple(given.rgb.shape)}."
            )
    views = views.to("cpu")
    texels = texels_of(unwrapped, texture_size)
    sight = _compensated(sight_of(unwrapped, views), texels)
    tell(0.1)
    color = torch.zeros((len(texels), 3))
    weight = torch.zeros(len(texels))
    for i in range(0, len(texels), MOST_TEXELS):
        now = slice(i, i + MOST_TEXELS)
        color[now], weight[now] = blend(*look(sight, texels[now], power=options.power), options)
        tell(0.1 + 0.5 * min(1.0, (i + MOST_TEXELS) / len(texels)))
    if fill_views is not None:
        _add_fill(color, weight, texels, sight_of(unwrapped, fill_views.to("cpu")), options)
    tell(0.75)
    seen = (weight > 0).numpy()
    if not seen.any():
        log.warning("No view sees any of the surface: the texture is grey.")
    filled = fill_unseen(color.numpy(), seen, texels.points.numpy(), texels.normals.numpy())
    tell(0.9)
    texture = np.zeros((texture_size * texture_size, 3), np.float32)
    covered = np.zeros(texture_size * texture_size, bool)
    texture[texels.index.numpy()] = filled
    covered[texels.index.numpy()] = True
    square = (texture_size, texture_size)
    texture = fill_between_charts(
        texture.reshape(*square, 3), covered.reshape(square), reach=max(8, texture_size // 64)
    )
    if options.sharpen_rounds:
        texture = sharpen(texture, unwrapped, sight, rounds=options.sharpen_rounds, power=options.sharpen_power)
    tell(1.0)
    return TexturedMesh(
        unwrapped.vertices,
        unwrapped.faces,
        unwrapped.normals,
        unwrapped.uvs,
        (texture * 255.0 + 0.5).clip(0, 255).astype(np.uint8),
    )


def _compensated(sight: Sight, texels: Texels) -> Sight:
    """The same with views of equal exposure."""
    every = max(1, len(texels) // GAIN_TEXELS)
    gains = exposure_gains(*look(sight, texels[slice(None, None, every)], power=1.0))
    if bool((gains == 1).all()):
        return sight
    rgb = (sight.views.rgb * gains[:, None, None, None]).clamp(0, 1)
    return dataclasses.replace(sight, views=dataclasses.replace(sight.views, rgb=rgb))


def blend(
    colors: Float[Tensor, "V M 3"], weights: Float[Tensor, "V M"], options: BakeOptions
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M"]]:
    """One colour per texel from those of the views, by a mean that leaves out who disagrees, and the sum of weights."""
    if weights.shape[1] > CACHED_TEXELS:
        parts = [
            blend(c, w, options)
            for c, w in zip(colors.split(CACHED_TEXELS, 1), weights.split(CACHED_TEXELS, 1), strict=True)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    total = weights.sum(0)
    weights = weights / weights.amax(0).clamp_min(1e-30)  # seen at a grazing angle only, all are tiny
    robust = weights
    for turn in range(options.rounds + 1):
        mean = (robust[..., None] * colors).sum(0) / robust.sum(0).clamp_min(1e-6)[:, None]
        if turn < options.rounds:
            off = (colors - mean).square().sum(-1)
            # Wide at first: a mean of views that disagree is near none of them.
            robust = weights / (1 + off / (options.agreement * 2 ** (options.rounds - 1 - turn)) ** 2) ** 2
    return mean, total


def _add_fill(color: Tensor, weight: Tensor, texels: Texels, sight: Sight, options: BakeOptions) -> None:
    """Mix in what the fill views show, where the inputs show little or nothing (in place)."""
    poor = torch.nonzero(weight < options.enough)[:, 0]
    for part in poor.split(MOST_TEXELS):
        extra, extra_weight = blend(*look(sight, texels[part], power=options.power), options)
        share = (1 - weight[part] / options.enough)[:, None]
        known = extra_weight > 0
        share = torch.where(weight[part, None] > 0, share, torch.ones_like(share)) * known[:, None]
        color[part] = color[part] * (1 - share) + extra * share
        weight[part] = torch.where(known, weight[part].clamp_min(1e-9), weight[part])
