"""sRGB and linear light: a pixel is a mean of light, not of sRGB."""

import numpy as np
from jaxtyping import Float


def to_linear(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """IEC 61966-2-1, float32."""
    low = srgb <= 0.04045
    return np.where(low, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """IEC 61966-2-1, float32."""
    low = linear <= 0.0031308
    return np.where(low, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055).astype(np.float32)


def srgb_slope(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """How much sRGB changes with linear light there; as at 0.01 in the dark, where it would rise to 13."""
    return (1.055 / 2.4 * np.maximum(linear, 0.01) ** (1 / 2.4 - 1)).astype(np.float32)
