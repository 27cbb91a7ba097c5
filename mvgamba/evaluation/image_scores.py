"""How alike two sets of photographs are."""

import numpy as np
import torch
from jaxtyping import Float
from skimage.metrics import structural_similarity
from torch import Tensor

from mvgamba.types import PosedViews

EQUAL_DB = 50.0
"""PSNR of equal pictures: high, but not so high that one white object on white rules a mean."""


def on_white(views: PosedViews) -> Float[Tensor, "V 3 H W"]:
    return views.rgb * views.alpha + (1 - views.alpha)


def psnr(squared_error: float) -> float:
    """In decibels for values in [0, 1], at most `EQUAL_DB`."""
    return EQUAL_DB if squared_error <= 10 ** (-EQUAL_DB / 10) else float(-10 * np.log10(squared_error))


def image_scores(truth: PosedViews, result: PosedViews) -> dict[str, float]:
    """PSNR and SSIM on white, PSNR over the union of both silhouettes, IoU of the silhouettes: means and worst views."""
    a, b = on_white(truth).double(), on_white(result).double()
    inside_a, inside_b = truth.alpha[:, 0] >= 0.5, result.alpha[:, 0] >= 0.5
    squared = (a - b).square().mean(1)
    rows: dict[str, list[float]] = {"psnr": [], "psnr_foreground": [], "ssim": [], "iou": []}
    for view in range(len(a)):
        union = inside_a[view] | inside_b[view]
        rows["psnr"].append(psnr(float(squared[view].mean())))
        rows["psnr_foreground"].append(psnr(float(squared[view][union].mean())) if union.any() else EQUAL_DB)
        rows["ssim"].append(_ssim(a[view], b[view]))
        both = inside_a[view] & inside_b[view]
        rows["iou"].append(float(both.sum()) / float(union.sum()) if union.any() else 1.0)
    means = {name: float(np.mean(values)) for name, values in rows.items()}
    return means | {f"worst_{name}": float(np.min(values)) for name, values in rows.items()}


def _ssim(a: Tensor, b: Tensor) -> float:
    """With the Gaussian window of Wang et al. 2004."""
    return float(
        structural_similarity(
            torch.movedim(a, 0, -1).numpy(),
            torch.movedim(b, 0, -1).numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1,
            data_range=1.0,
        )
    )
