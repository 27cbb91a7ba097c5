"""The main colours of views that nobody has described, so that they can be repainted like remembered objects."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvgamba.multiview.memory_files import RememberedObject

NUM_COLORS = 5
LEAST_SHARE = 0.05
SAME = 0.12
"""Colours nearer than this, in sRGB, are one in two lights."""


def described(views: Float[Tensor, "V 4 S S"], paints: Mapping[str, Float[Tensor, "n 3"]]) -> RememberedObject:
    """An object without a name, with the main colours of its views, the largest share first.

    Args:
        views: Straight colours and alpha.
        paints: Shades by colour word.
    """
    pixels = (255 * views.permute(0, 2, 3, 1)[views[:, 3] > 0.5][:, :3]).round().to(torch.uint8).numpy()
    names, colors, shares = [], [], []
    if len(pixels):
        reduced = Image.fromarray(pixels[None]).quantize(NUM_COLORS)
        centers = np.array(reduced.getpalette(), np.float64).reshape(-1, 3)[:NUM_COLORS] / 255
        count = np.array(reduced.histogram()[: len(centers)], np.float64) / len(pixels)
        order = np.argsort(-count, kind="stable")
        kept: list[int] = []
        for i in order:
            near = next((k for k in kept if np.linalg.norm(centers[k] - centers[i]) < SAME), None)
            if near is not None:
                count[near] += count[i]
            elif count[i] >= LEAST_SHARE:
                kept.append(int(i))
        words = [word for word, shades in paints.items() for _ in shades]
        known = torch.cat(list(paints.values())).double().numpy()
        for i in sorted(kept, key=lambda k: -count[k]):
            names.append(words[int(((known - centers[i]) ** 2).sum(1).argmin())])
            colors.append(centers[i])
            shares.append(count[i])
    return RememberedObject(
        "",
        ("a thing",),
        "",
        "",
        np.array(names, dtype=np.str_),
        np.array(colors, np.float32).reshape(-1, 3),
        np.array(shares, np.float32),
    )
