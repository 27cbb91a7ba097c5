"""Photographs from files as a `TrainingViews`: of one size, square, with hidden colours removed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64

from mvgamba.cameras import resize_cameras
from mvgamba.data.sources import TrainingViews
from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.types import Cameras, PosedViews


def posed_views(
    pixels: Sequence[Float32[np.ndarray, "H W 4"]],
    c2w: Sequence[Float64[np.ndarray, "4 4"]],
    intrinsics: Sequence[Float64[np.ndarray, "3 3"]],
    *,
    names: Sequence[str],
    depth: Sequence[Float32[np.ndarray, "H W"]] | None = None,
) -> PosedViews:
    """RGBA images with their cameras.

    Raises: InvalidImage if their sizes differ, naming the image.
    """
    height, width = pixels[0].shape[:2]
    for image, name in zip(pixels, names, strict=True):
        if image.shape[:2] != (height, width):
            raise InvalidImage(
                f"{name} is {image.shape[1]} x {image.shape[0]} pixels, {names[0]} is {width} x {height}; "
                "all views of one object must have one size."
            )
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    cameras = Cameras(torch.from_numpy(np.stack(c2w)), torch.from_numpy(np.stack(intrinsics)), height, width)
    return PosedViews(
        stacked[:, :3].contiguous(),
        stacked[:, 3:].contiguous(),
        cameras,
        None if depth is None else torch.from_numpy(np.stack(depth))[:, None],
    )


def training_views(views: PosedViews, *, num_inputs: int, size: int, names: Sequence[str]) -> TrainingViews:
    """The first views as inputs, the rest as others, all of `size` x `size` pixels.

    Args:
        names: Of the images, for messages.
    Raises:
        InvalidImage: One shows nothing, or is cut off by a border beyond which it would have to be continued.
        InvalidInput: The images are smaller than `size`.
    """
    for image, name in zip(views.alpha, names, strict=True):
        if not bool((image > 0).any()):
            raise InvalidImage(f"{name} shows nothing: its alpha is 0 everywhere. Leave the object out.")
    whole = resized(squared(views, names=names), size)
    inputs, others = whole[:num_inputs], whole[num_inputs:]
    return TrainingViews(inputs, others if others.num_views else None)


def squared(views: PosedViews, *, names: Sequence[str]) -> PosedViews:
    """The same views with empty margins beside or above and below, so that they are square.

    Raises: InvalidImage where the object reaches a border that gets a margin: what is beyond is not known to be empty.
    """
    height, width = views.cameras.height, views.cameras.width
    if height == width:
        return views
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    ends = views.alpha[:, 0, :, [0, -1]] if width < side else views.alpha[:, 0, [0, -1], :]
    cut = (ends.flatten(1) > 0.5).any(1).nonzero()[:, 0].tolist()
    if cut:
        raise InvalidImage(
            f"{names[cut[0]]} is not square and its object is cut off by a border that would have to be moved out. "
            "Crop the images to squares, or leave the object out."
        )
    margins = (left, side - width - left, top, side - height - top)
    intrinsics = views.cameras.intrinsics.clone()
    intrinsics[:, 0, 2] += left
    intrinsics[:, 1, 2] += top
    return PosedViews(
        F.pad(views.rgb, margins),
        F.pad(views.alpha, margins),
        dataclasses.replace(views.cameras, intrinsics=intrinsics, height=side, width=side),
        None if views.depth is None else F.pad(views.depth, margins),
    )


def resized(views: PosedViews, size: int) -> PosedViews:
    """Square views with fewer pixels: area means of alpha, and of colours weighted by it, as the pipeline takes its inputs.

    Depth is that of the pixel's centre. Colours are 0 where alpha is.

    Raises: InvalidInput if there would be more pixels.
    """
    if size > views.cameras.width:
        raise InvalidInput(
            f"A size of {size} pixels was asked for, but the images have {views.cameras.width}; ask for at most that."
        )
    alpha = F.interpolate(views.alpha, (size, size), mode="area")
    rgb = F.interpolate(views.rgb * views.alpha, (size, size), mode="area") / alpha.clamp_min(1e-6)
    depth = None if views.depth is None else F.interpolate(views.depth, (size, size), mode="nearest-exact")
    return PosedViews(rgb.clamp(0, 1), alpha, resize_cameras(views.cameras, size, size), depth)
