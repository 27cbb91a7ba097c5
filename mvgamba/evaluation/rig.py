"""Where an object stands while it is evaluated, which cameras photograph it and which score it."""

import math

import numpy as np
import torch

from mvgamba.cameras import fibonacci_cameras, intrinsics_from_fovy, orbit_c2w, turn_about_vertical
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable
from mvgamba.types import Cameras, Similarity

FOVY = math.radians(49.1)
DISTANCE = 2.53
"""Of all cameras from the object's centre, in radii of its bounding sphere: the sphere fills most of the picture."""
NUM_SCORED = 16
SCORED_STRIDE = 7
"""Coprime to the number of cameras, so that neighbours around the object look from very different heights."""
SCORED_LOWEST, SCORED_HIGHEST = math.radians(-20), math.radians(60)


PROTOCOLS = {
    "ours": "inputs as `mvgamba.evaluation.rig` has them, scored between elevations of -20 and 60 degrees",
    "gso16": "inputs as ours, scored from 16 views within 10 degrees of the horizon, as MVGamba's paper does for one image",
    "sparse4": "four inputs at an elevation of 20 degrees, as GS-LRM's paper has them, scored as ours",
}
"""Rigs by name. The objects, their number and their light are ours, so figures do not belong into the papers' tables."""


def random_placement(drawable: Drawable, seed: int) -> Similarity:
    """Longest extent 0.2 to 5 (log-uniform), any turn about the vertical, the middle up to 3 extents from the origin."""
    generator = np.random.default_rng(seed)
    low, high = drawable.bounds
    longest = float((high - low).max())
    extent = math.exp(generator.uniform(math.log(0.2), math.log(5.0)))
    turn = generator.uniform(0, 2 * math.pi)
    away = generator.normal(size=3)
    away *= extent * 3 * generator.uniform() ** (1 / 3) / np.linalg.norm(away)
    rotation = turn_about_vertical(turn)
    scale = extent / longest
    middle = torch.from_numpy((low + high) / 2)
    return Similarity(scale, rotation, torch.from_numpy(away) - scale * rotation @ middle)


def input_angles(num_views: int, seed: int) -> list[tuple[float, float]]:
    """Azimuth and elevation of the cameras that photograph: a level ring of four, four oblique, top, bottom, the farthest. Any number of them."""
    generator = np.random.default_rng([seed, 1])
    angles = [(k * math.pi / 2, 0.0) for k in range(4)]
    for k in range(4):
        tilt = math.radians(generator.uniform(35, 50))
        angles.append((math.pi / 4 + k * math.pi / 2, tilt if k % 2 == 0 else -tilt))
    angles += [(0.0, math.pi / 2), (0.0, -math.pi / 2)]
    candidates = _sphere_angles(2000)
    directions = np.array([_direction(*a) for a in candidates])
    while len(angles) < num_views:
        seen = np.array([_direction(*a) for a in angles])
        angles.append(candidates[int((directions @ seen.T).max(1).argmin())])
    return angles[:num_views]


def scored_angles(protocol: str = "ours") -> list[tuple[float, float]]:
    """Azimuths between those of the ring; elevations evenly from lowest to highest, dealt out in steps of seven."""
    low, high = (-math.radians(10), math.radians(10)) if protocol == "gso16" else (SCORED_LOWEST, SCORED_HIGHEST)
    step = (high - low) / (NUM_SCORED - 1)
    return [(math.radians(11.25 + 22.5 * k), low + step * (SCORED_STRIDE * k % NUM_SCORED)) for k in range(NUM_SCORED)]


def protocol_angles(protocol: str, num_views: int, seed: int) -> list[tuple[float, float]]:
    """Azimuth and elevation of the inputs of a protocol. Raises: InvalidInput for a number of views that it does not have."""
    if protocol != "sparse4":
        return input_angles(num_views, seed)
    if num_views != 4:
        raise InvalidInput(f"The protocol sparse4 has 4 input views, got {num_views}.")
    return [(k * math.pi / 2, math.radians(20)) for k in range(4)]


def cameras_around(drawable: Drawable, placement: Similarity, angles: list[tuple[float, float]], size: int) -> Cameras:
    """Cameras that look at the middle of a placed object; azimuth 0 is its own front.

    `drawable` is the object before it was placed.
    """
    center, distance = torch.from_numpy(drawable.center), DISTANCE * drawable.radius
    c2w = torch.stack([orbit_c2w(azimuth, elevation, distance) for azimuth, elevation in angles])
    c2w[:, :3, 3] = placement.apply(c2w[:, :3, 3] + center)
    c2w[:, :3, :3] = placement.rotation @ c2w[:, :3, :3]
    k = intrinsics_from_fovy(FOVY, size, size)
    return Cameras(c2w, k.expand(len(angles), 3, 3).contiguous(), size, size)


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    return (
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    )


def _sphere_angles(count: int) -> list[tuple[float, float]]:
    eyes = fibonacci_cameras(count, radius=1.0, fovy=1.0, height=2, width=2).c2w[:, :3, 3]
    return [(math.atan2(x, z), math.asin(max(-1.0, min(1.0, y)))) for x, y, z in eyes.tolist()]
