"""What kernels that fill a grid from pictures may be given; the same for every variant."""

import math

import torch
from torch import Tensor

from mvgamba.errors import InvalidCameras, InvalidInput

MOST_POINTS = 2**31 - 1
"""Points of a grid are counted in 32 bits."""


def check_grid_inputs(
    pictures: dict[str, Tensor],
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    spacing: float,
    shape: tuple[int, int, int],
) -> None:
    """Pictures (V, H, W) of one shape and device, as many cameras, and a grid that can be filled.

    Raises:
        InvalidInput: A picture or the grid cannot be used.
        InvalidCameras: There is no camera, or there are not as many as pictures.
    """
    first = next(iter(pictures.values()))
    for name, picture in pictures.items():
        if picture.ndim != 3 or picture.shape != first.shape:
            raise InvalidInput(
                f"{name} must have shape (V, H, W), all of one size, got {tuple(picture.shape)} beside {tuple(first.shape)}."
            )
        if picture.device != first.device:
            raise InvalidInput(f"{name} is on {picture.device}, the other pictures are on {first.device}.")
        if not picture.is_floating_point():
            raise InvalidInput(f"{name} must be floating point, got {picture.dtype}.")
    views, height, width = first.shape
    if views == 0:
        raise InvalidCameras("At least one view is needed, got none.")
    if height == 0 or width == 0:
        raise InvalidInput(f"Pictures must have pixels, got {height} x {width}.")
    for name, matrix, size in (("w2c", w2c, 4), ("intrinsics", intrinsics, 3)):
        if matrix.shape != (views, size, size):
            raise InvalidCameras(f"{name} must have shape ({views}, {size}, {size}), got {tuple(matrix.shape)}.")
        if not bool(torch.isfinite(matrix).all()):
            raise InvalidCameras(f"{name} holds a number that is not finite.")
    if not (math.isfinite(spacing) and spacing > 0):
        raise InvalidInput(f"spacing must be a positive number, got {spacing}.")
    if len(shape) != 3 or min(shape) < 0 or math.prod(shape) > MOST_POINTS:
        raise InvalidInput(f"A grid has three sides and at most {MOST_POINTS} points, got {tuple(shape)}.")


def sanitised_depth(depth: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """float32; a pixel whose depth or weight is not finite, or whose weight is negative, says nothing."""
    depth, weights = depth.detach().float(), weights.detach().float()
    is_good = torch.isfinite(depth) & torch.isfinite(weights) & (weights > 0)
    if bool(is_good.all()):
        return depth.contiguous(), weights.contiguous()
    return torch.where(is_good, depth, 0.0).contiguous(), torch.where(is_good, weights, 0.0).contiguous()


def finite_silhouettes(silhouettes: Tensor) -> Tensor:
    """float32. Raises: InvalidInput where a distance is not finite."""
    if not bool(torch.isfinite(silhouettes).all()):
        raise InvalidInput("silhouettes hold a distance that is not finite; an empty picture has negative distances.")
    return silhouettes.detach().float().contiguous()
