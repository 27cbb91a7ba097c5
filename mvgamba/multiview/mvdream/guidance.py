"""Arithmetic of the sampler: noise and clean latents, guidance, and colours straight from latents."""

import torch
from jaxtyping import Float
from torch import Tensor

_LATENT_TO_RGB = torch.tensor(
    [[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]]
)
"""Least squares from latents to colours in [-1, 1], as published by K. Turner for the autoencoder of Stable Diffusion, which this is."""


def clean_from_noise(
    latents: Float[Tensor, "*b c h w"], noise: Float[Tensor, "*b c h w"], alpha_bar: float
) -> Float[Tensor, "*b c h w"]:
    """x0 of a step at which sqrt(alpha_bar) of it is left."""
    return (latents - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5


def noise_from_clean(
    latents: Float[Tensor, "*b c h w"], clean: Float[Tensor, "*b c h w"], alpha_bar: float
) -> Float[Tensor, "*b c h w"]:
    """The inverse of `clean_from_noise`."""
    return (latents - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5


def guide(
    latents: Float[Tensor, "V c h w"],
    without: Float[Tensor, "V c h w"],
    wanted: Float[Tensor, "V c h w"],
    *,
    scale: float,
    rescale: float,
    alpha_bar: float,
) -> Float[Tensor, "V c h w"]:
    """Classifier-free guidance (Ho and Salimans 2022): the noise away from `without`, through `wanted` and further.

    Args:
        rescale: How much of the clean latents' contrast, which guidance raises, is taken back to that of `wanted`: 0 none, 1 all.
            The contrast is the standard deviation over all views (Lin et al. 2023, on x0 as in the configurations of MVDream).
    """
    noise = without + scale * (wanted - without)
    if rescale == 0:
        return noise
    clean, plain = (clean_from_noise(latents, n, alpha_bar) for n in (noise, wanted))
    factor = plain.std() / clean.std().clamp_min(1e-8)
    return noise_from_clean(latents, (rescale * factor + 1 - rescale) * clean, alpha_bar)


def rough_rgb(latents: Float[Tensor, "V 4 h w"]) -> Float[Tensor, "V 3 h w"]:
    """Colours in [0, 1] of clean, scaled latents, one pixel each: an eighth of the size, and no autoencoder."""
    colors = torch.einsum("vchw,cd->vdhw", latents.float(), _LATENT_TO_RGB.to(latents.device))
    return (colors / 2 + 0.5).clamp(0, 1)
