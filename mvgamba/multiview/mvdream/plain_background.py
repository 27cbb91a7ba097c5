"""Alpha for pictures of an object on a plain background, which is how these networks paint.

With `rembg` and one of its models there, that finds the object; else the colour that the border of the picture has is taken away. Other than in pictures of
people (`multiview.plain_background`) the background is one plane of colour, and what has its colour inside the object is paint, not a hole.
"""

import logging
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from skimage.color import rgb2lab
from torch import Tensor

from mvgamba.multiview.rembg_background import rembg_matte, why_no_rembg

log = logging.getLogger(__name__)

Method = Literal["auto", "rembg", "border"]
_NOTHING, _ALL = 5.0, 14.0
"""Differences of colour (CIE 1976) from the background, between which alpha rises from 0 to 1. Compression and noise stay below the first."""
_EDGE = 2
"""Pixels that an edge is wide."""
_SPECK = 0.002
"""Share of a picture below which a part that hangs on nothing is dropped."""


def cut_out(
    rgb: Float[Tensor, "V 3 H W"], *, method: Method = "auto"
) -> tuple[Float[Tensor, "V 3 H W"], Float[Tensor, "V 1 H W"]]:
    """Straight colours, without what the background shines through at edges, and alpha.

    Raises: Unavailable, if `rembg` is asked for by name and cannot be used.
    """
    if method == "auto":
        method = "rembg" if why_no_rembg() is None else "border"
        log.debug("the background is taken away by %s", method)
    pictures = rgb.permute(0, 2, 3, 1).double().cpu().numpy()
    grounds = [background_of(picture) for picture in pictures]
    alphas = _by_rembg(pictures) if method == "rembg" else [_by_border(p, g) for p, g in zip(pictures, grounds)]
    alpha, ground = (torch.from_numpy(np.stack(x)).to(rgb) for x in (alphas, grounds))
    alpha, ground = alpha[:, None], ground.permute(0, 3, 1, 2)
    straight = ((rgb - (1 - alpha) * ground) / alpha.clamp_min(0.05)).clamp(0, 1)
    return torch.where(alpha > 0.05, straight, rgb), alpha


def background_of(picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """The colour of the background at each pixel: a plane through the colours of the border that are near to their median."""
    height, width = picture.shape[:2]
    ring = max(1, min(height, width) // 50)
    border = np.ones((height, width), bool)
    border[ring:-ring, ring:-ring] = False
    y, x = np.mgrid[0:height, 0:width] / max(height, width) - 0.5
    terms = np.stack([np.ones_like(x), x, y], axis=-1)
    colors = picture[border]
    near = np.abs(colors - np.median(colors, axis=0)).max(axis=-1) < 0.1
    if near.sum() < 0.25 * len(colors):
        # a border of many colours: no plane is to be had
        return np.broadcast_to(np.median(colors, axis=0), picture.shape).copy()
    plane, *_ = np.linalg.lstsq(terms[border][near], colors[near], rcond=None)
    ground: np.ndarray = np.clip(terms @ plane, 0.0, 1.0)
    return ground


def _by_border(picture: Float[np.ndarray, "H W 3"], ground: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    difference = np.linalg.norm(rgb2lab(picture) - rgb2lab(ground), axis=-1)
    alpha = np.clip((difference - _NOTHING) / (_ALL - _NOTHING), 0.0, 1.0)
    # what has the background's colour but is enclosed by the object is a part of it, not a hole
    outside, _ = ndimage.label(alpha < 1.0)
    at_border = np.unique(np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]))
    alpha = np.where(np.isin(outside, at_border[at_border > 0]), alpha, 1.0)
    parts, count = ndimage.label(alpha > 0)
    if count > 1:
        sizes = ndimage.sum_labels(alpha, parts, index=np.arange(1, count + 1))
        small = 1 + np.flatnonzero((sizes < _SPECK * alpha.size) & (sizes < sizes.max()))
        alpha = np.where(np.isin(parts, small), 0.0, alpha)
    return _soft_edge(picture, ground, alpha)


def _soft_edge(
    picture: Float[np.ndarray, "H W 3"], ground: Float[np.ndarray, "H W 3"], alpha: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Alpha at the edge: how far a pixel's colour is on the way from the background's to that of the object just inside."""
    solid = ndimage.binary_erosion(alpha >= 1, iterations=_EDGE, border_value=1)
    if not solid.any():
        return alpha
    distance, (row, column) = ndimage.distance_transform_edt(~solid, return_indices=True)
    way = picture[row, column] - ground
    share = ((picture - ground) * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-6)
    # thin parts have no inside to compare with
    edge = (alpha > 0) & (distance > 0) & (distance <= _EDGE + 1.5)
    return np.where(edge, np.clip(share, 0.0, 1.0), alpha)


def _by_rembg(pictures: Float[np.ndarray, "V H W 3"]) -> list[Float[np.ndarray, "H W"]]:
    bytes_of = (np.clip(pictures, 0, 1) * 255 + 0.5).astype(np.uint8)
    return [rembg_matte(picture).alpha.astype(np.float64) for picture in bytes_of]
