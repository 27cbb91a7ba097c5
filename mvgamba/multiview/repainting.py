"""Other colours for what was photographed, and other words for it: the main colour becomes another, with its shades."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LIGHT = torch.tensor([0.2126, 0.7152, 0.0722])
RUNNING_OVER = 0.1
"""Share of the pixels of two colours that lie between them where one runs over into the other; edges alone make half of that."""
_LEAST_CHROMA, _MOST_TURN, _LIGHT_FROM = 0.15, math.radians(50), 0.75


@runtime_checkable
class Colored(Protocol):
    """Something whose main colours are known, the largest share of its surface first."""

    @property
    def color_names(self) -> np.ndarray:
        """Text."""
        ...

    @property
    def color_rgb(self) -> np.ndarray:
        """float32 (c, 3) in [0, 1]."""
        ...

    @property
    def color_shares(self) -> np.ndarray:
        """float32 (c,), of what is visible."""
        ...


def paints(samples: Sequence[Colored]) -> dict[str, Float[Tensor, "n 3"]]:
    """Colours by name, as the main colours of the corpus have them."""
    found: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        for name, rgb, share in zip(sample.color_names, sample.color_rgb, sample.color_shares, strict=True):
            if share > 0.15:
                found.setdefault(str(name), []).append(rgb)
    return {name: torch.from_numpy(np.unique(np.stack(rows), axis=0)) for name, rows in found.items()}


def repainted(rgb: Float[Tensor, "V 3 S S"], sample: Colored, paint: Float[Tensor, "3"]) -> Float[Tensor, "V 3 S S"]:
    """The main colour replaced, its shades kept; what is nearer to another of the object's colours stays."""
    palette = torch.from_numpy(sample.color_rgb)
    pixels = rgb.permute(0, 2, 3, 1)
    away = (pixels[..., None, :] - palette).square().sum(-1)
    mine = torch.softmax(-away / 0.01, -1)[..., :1]
    main = palette[0]
    gain = (paint.mean() / main.mean().clamp_min(0.05)).clamp(0.5, 1.5)
    new = (paint + gain * (pixels - main)).clamp(0, 1)
    return (pixels + mine * (new - pixels)).permute(0, 3, 1, 2)


def recolored(
    views: Float[Tensor, "V 4 S S"], thing: Colored, new: Mapping[int, Float[Tensor, "3"]]
) -> Float[Tensor, "V 4 S S"]:
    """Straight views with some of an object's colours replaced, by number, each with its shades and with what it runs over into.

    Other than `repainted`, which training uses, it takes only how light a shade is: shades of brown that lean to red would lean to red in
    blue as well. A body that runs from orange to brown is one thing, though it has two of the main colours.
    """
    if not new:
        return views
    palette = torch.from_numpy(thing.color_rgb)
    pixels = views[:, :3].permute(0, 2, 3, 1)
    away = (pixels[..., None, :] - palette).square().sum(-1)
    belongs = torch.softmax(-away / 0.01, -1)
    light = pixels @ _LIGHT
    result = pixels
    opaque = views[:, 3] > 0.9
    taken = set(new)
    for which, paint in new.items():
        along = [k for k in range(len(palette)) if k not in taken and _runs_over(pixels[opaque], palette, which, k)]
        taken |= set(along)
        mine = belongs[..., [which, *along]].sum(-1, keepdim=True)
        main = palette[which] @ _LIGHT
        gain = (paint @ _LIGHT / main.clamp_min(0.05)).clamp(0.5, 1.5)
        result = result + mine * ((paint + gain * (light - main)[..., None]).clamp(0, 1) - pixels)
    return torch.cat([result.clamp(0, 1).permute(0, 3, 1, 2), views[:, 3:]], 1)


def _runs_over(pixels: Float[Tensor, "n 3"], palette: Float[Tensor, "c 3"], one: int, other: int) -> bool:
    """Whether one colour of a thing runs over into another: they are of a kind, and many of its pixels lie between the two."""
    if not _of_a_kind(palette[one], palette[other]):
        return False
    way = palette[other] - palette[one]
    at = (pixels - palette[one]) @ way / way.square().sum().clamp_min(1e-6)
    on_the_way = (pixels - palette[one] - at[:, None] * way).norm(dim=1) < 0.1
    nearest = torch.cdist(pixels, palette).argmin(1)
    theirs = on_the_way & ((nearest == one) | (nearest == other))
    between = theirs & (at > 0.3) & (at < 0.7)
    return bool(between.sum() > RUNNING_OVER * theirs.sum())


def _of_a_kind(one: Float[Tensor, "3"], other: Float[Tensor, "3"]) -> bool:
    """Of like hues, both without one, or both so light that it hardly shows (cream and white)."""
    hues = [c - c.mean() for c in (one, other)]
    grey = [float(c.amax() - c.amin()) < _LEAST_CHROMA for c in (one, other)]
    if any(grey):
        return all(grey) or min(float(one.mean()), float(other.mean())) > _LIGHT_FROM
    return float(F.cosine_similarity(hues[0], hues[1], dim=0)) > math.cos(_MOST_TURN)


def recolored_caption(plain: str, old: str, new: str) -> str:
    """A plain name in another colour: `a wooden barrel`, brown to red -> `a red wooden barrel`."""
    if re.search(rf"\b{old}\b", plain):
        named = re.sub(rf"\b{old}\b", new, plain)
    else:
        article, _, noun = plain.partition(" ")
        named = f"a {new} {noun}" if article in ("a", "an") else f"{new} {plain}"
    return re.sub(r"\b(a|an) (?=(\w))", lambda m: "an " if m[2] in "aeiou" else "a ", named)
