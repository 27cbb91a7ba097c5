"""Other colours for what was photographed, and other words for it: the main colour becomes another, with its shades."""

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


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


def repainted(
    rgb: Float[Tensor, "V 3 S S"], sample: Colored, paint: Float[Tensor, "3"], *, which: int = 0
) -> Float[Tensor, "V 3 S S"]:
    """One of the main colours replaced, its shades kept; what is nearer to another of the object's colours stays.

    Args:
        which: Of the object's colours.
    """
    palette = torch.from_numpy(sample.color_rgb)
    pixels = rgb.permute(0, 2, 3, 1)
    away = (pixels[..., None, :] - palette).square().sum(-1)
    mine = torch.softmax(-away / 0.01, -1)[..., which : which + 1]
    main = palette[which]
    gain = (paint.mean() / main.mean().clamp_min(0.05)).clamp(0.5, 1.5)
    new = (paint + gain * (pixels - main)).clamp(0, 1)
    return (pixels + mine * (new - pixels)).permute(0, 3, 1, 2)


def recolored_caption(plain: str, old: str, new: str) -> str:
    """A plain name in another colour: `a wooden barrel`, brown to red -> `a red wooden barrel`."""
    if re.search(rf"\b{old}\b", plain):
        named = re.sub(rf"\b{old}\b", new, plain)
    else:
        article, _, noun = plain.partition(" ")
        named = f"a {new} {noun}" if article in ("a", "an") else f"{new} {plain}"
    return re.sub(r"\b(a|an) (?=(\w))", lambda m: "an " if m[2] in "aeiou" else "a ", named)
