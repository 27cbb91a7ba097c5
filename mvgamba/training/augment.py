"""Disturbances that make a network forgive inconsistent views: warped pictures and cameras that are not quite where they say.

After LGM (Tang et al. 2024, section 3.4), which MVGamba follows. Only views after the first are disturbed, so a network learns to trust
the first; and only what it is given, never what it is compared with.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.types import Cameras, PosedViews

FEWEST_KNOTS, MOST_KNOTS = 8, 16


@dataclass(frozen=True)
class Augmentation:
    """Probabilities are those of a sample: all of its views but the first, or none."""

    grid_distortion: float = 0.3
    """Probability."""
    grid_strength: float = 0.5
    """Largest change of the distance of two knots, in that distance."""
    camera_jitter: float = 0.3
    """Probability."""
    jitter_angle: float = 0.1 * math.pi
    """Radians about the camera's own up, either way; half of it about its own right."""
    pure_background: float = 0.0
    """Probability that a batch is compared on red, green or blue; else on any colour."""

    def __post_init__(self) -> None:
        for name in ("grid_distortion", "grid_strength", "camera_jitter", "pure_background"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")


def disturbed(views: PosedViews, augmentation: Augmentation, generator: np.random.Generator) -> PosedViews:
    """Views of one object, in a frame with the object at the origin, as a careless generator would make them."""
    # drawn whether needed or not, so that one probability does not change what another does
    warp, shake = generator.uniform(size=2)
    warping, shaking = generator.spawn(2)
    if warp < augmentation.grid_distortion:
        views = grid_distorted(views, augmentation.grid_strength, warping)
    if shake < augmentation.camera_jitter:
        cameras = jittered(views.cameras, augmentation.jitter_angle, shaking)
        views = PosedViews(views.rgb, views.alpha, cameras, views.depth)
    return views


def grid_distorted(views: PosedViews, strength: float, generator: np.random.Generator) -> PosedViews:
    """Pictures of all views but the first stretched and squeezed along both axes, as by a sheet of rubber.

    8 to 16 knots an axis, each moved by up to `strength` / 2 of their distance; the border stays. Depth is dropped.
    """
    size = views.rgb.shape[-2:]
    premultiplied = torch.cat([views.rgb * views.alpha, views.alpha], 1)
    maps = [premultiplied[0]]
    for view in premultiplied[1:]:
        rows, columns = (_warp(length, strength, generator) for length in size)
        grid = torch.stack([columns[None, :].expand(size), rows[:, None].expand(size)], -1).to(view)
        sampled = F.grid_sample(view[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)
        maps.append(sampled[0])
    warped = torch.stack(maps)
    alpha = warped[:, 3:]
    rgb = torch.where(alpha > 0, warped[:, :3] / alpha.clamp_min(1e-6), 0.0).clamp(0, 1)
    # the first one is not even rounded
    return PosedViews(torch.cat([views.rgb[:1], rgb[1:]]), torch.cat([views.alpha[:1], alpha[1:]]), views.cameras, None)


def _warp(length: int, strength: float, generator: np.random.Generator) -> Float[Tensor, "n"]:
    """For each pixel of an axis the place that it shows, from -1 at one border to 1 at the other."""
    even = np.linspace(-1, 1, generator.integers(FEWEST_KNOTS, MOST_KNOTS + 1))
    moved = even + strength * generator.uniform(-0.5, 0.5, len(even)) * (even[1] - even[0])
    moved[[0, -1]] = -1, 1
    centres = (2 * np.arange(length) + 1) / length - 1
    return torch.from_numpy(np.interp(centres, moved, even))


def jittered(cameras: Cameras, angle: float, generator: np.random.Generator) -> Cameras:
    """All cameras but the first moved on their spheres around the origin, still looking where they looked.

    Turned about the origin by up to `angle` about their own up and then by up to half of it about their own right.
    """
    c2w = cameras.c2w.clone()
    turns = generator.uniform(-1, 1, (len(c2w), 2)) * (angle, angle / 2)
    for pose, (about_up, about_right) in zip(c2w[1:], turns[1:], strict=True):
        rotation = _rotation(pose[:3, 1], float(about_up)) @ _rotation(pose[:3, 0], float(about_right))
        pose[:3] = rotation @ pose[:3]
    return Cameras(c2w, cameras.intrinsics, cameras.height, cameras.width)


def _rotation(axis: Float[Tensor, "3"], angle: float) -> Float[Tensor, "3 3"]:
    """After Rodrigues; the axis has unit length."""
    x, y, z = axis
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    eye = torch.eye(3, dtype=axis.dtype)
    return eye + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


def random_background(pure: float, generator: np.random.Generator) -> Float[Tensor, "3"]:
    """Any colour; red, green or blue with probability `pure`."""
    color, chance, channel = generator.uniform(size=3), generator.uniform(), generator.integers(3)
    return torch.from_numpy(np.eye(3)[channel] if chance < pure else color).float()
