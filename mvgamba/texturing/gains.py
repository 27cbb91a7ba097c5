"""Exposure that differs from view to view, found where views see the same places of the surface."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

log = logging.getLogger(__name__)

LEAST_COMMON = 40
"""Two views are compared only over so many texels that both see well."""
CLEAR = 0.006
"""Gains that differ by less than this are left alone (root mean square of their logarithms)."""
MOST = 0.15
"""A view that would have to be changed by more than this (logarithm) shows something else, not another exposure."""
STIFFNESS = 0.02
"""Pull of each gain towards 1, as a share of the weight of all comparisons."""


def exposure_gains(colors: Float[Tensor, "V M 3"], weights: Float[Tensor, "V M"]) -> Float[Tensor, "V"]:
    """The factor for the colours of each view that makes views agree; all 1 unless it is clear that they do not.

    For each pair of views the median of the logarithms of brightness ratios, which single wrong texels cannot move; then
    least squares over the pairs. The mean of the logarithms stays 0: nobody knows whose exposure is right.
    """
    count = colors.shape[0]
    brightness = colors.mean(-1)
    usable = (weights > 0.1) & (brightness > 0.08) & (colors.amax(-1) < 0.98)
    logarithm = brightness.clamp_min(1e-3).log()
    normal = torch.zeros((count, count), dtype=torch.float64)
    right = torch.zeros(count, dtype=torch.float64)
    compared = []
    for i in range(count):
        for j in range(i + 1, count):
            both = usable[i] & usable[j]
            common = int(both.sum())
            if common < LEAST_COMMON:
                continue
            difference = logarithm[i, both] - logarithm[j, both]
            middle = float(difference.median())
            spread = float((difference - middle).abs().median())
            weight = common**0.5 / (0.01 + spread) ** 2
            compared.append((i, j, middle, weight))
            normal[i, i] += weight
            normal[j, j] += weight
            normal[i, j] -= weight
            normal[j, i] -= weight
            right[i] -= weight * middle
            right[j] += weight * middle
    ones = torch.ones(count)
    if not compared:
        return ones
    total = sum(w for *_, w in compared)
    normal += torch.eye(count, dtype=torch.float64) * (STIFFNESS * total / count)
    gains = torch.linalg.solve(normal, right)
    gains -= gains.mean()

    def disagreement(g: Tensor) -> float:
        return float(sum(w * (m + g[i] - g[j]) ** 2 for i, j, m, w in compared) / total) ** 0.5

    before, after = disagreement(torch.zeros_like(gains)), disagreement(gains)
    if float(gains.square().mean().sqrt()) < CLEAR or after > 0.6 * before or float(gains.abs().max()) > MOST:
        return ones
    log.info("views differ in exposure by up to %.1f %%; compensated", 100 * float(gains.abs().max().expm1()))
    return gains.exp().float()
