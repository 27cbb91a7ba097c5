"""Where the capture cameras stand: an orbit around the subject's bounding sphere, in Blender's world."""

import math
from dataclasses import dataclass

import numpy as np

FOVY = math.radians(49.1)
"""Vertical field of view that the reconstructors were trained for, in radians."""
VIEW_COUNTS = (4, 8, 12, 16)

_RING = tuple((90.0 * k, 0.0) for k in range(4))
_DIAGONALS = tuple((45.0 + 90.0 * k, 40.0 if k % 2 == 0 else -40.0) for k in range(4))
# Steep views see into bowls and under rims; the two at 65 degrees keep parallax that the pole alone has not.
_STEEP = ((0.0, 90.0), (0.0, -90.0), (90.0, 65.0), (270.0, 65.0))
_OPPOSITE_DIAGONALS = tuple((azimuth, -elevation) for azimuth, elevation in _DIAGONALS)
_ORDER = _RING + _DIAGONALS + _STEEP + _OPPOSITE_DIAGONALS


@dataclass(frozen=True)
class CaptureCamera:
    """A square pinhole camera in Blender's world."""

    azimuth: float
    """Radians; 0 looks from the front (-Y), a quarter turn from the right (+X)."""
    elevation: float
    """Radians; positive is above."""
    c2w: np.ndarray
    """(4, 4) float64; +X right, +Y up, looks along -Z."""
    fovy: float
    distance: float
    """From the centre of the sphere, in scene units."""


def orbit_angles(num_views: int) -> tuple[tuple[float, float], ...]:
    """(azimuth, elevation) in degrees of each view; a longer rig begins with the shorter one."""
    if num_views not in VIEW_COUNTS:
        raise ValueError(f"num_views must be one of {VIEW_COUNTS}, got {num_views}")
    return _ORDER[:num_views]


def orbit_distance(radius: float, *, margin: float = 0.05, fovy: float = FOVY) -> float:
    """How far a camera stands so that a sphere of `radius` touches the frame, plus `margin`."""
    return radius / math.sin(0.5 * fovy) * (1.0 + margin)


def orbit_c2w(center: np.ndarray, *, azimuth: float, elevation: float, distance: float) -> np.ndarray:
    """Camera to world, looking at `center`. Seen from the top, up in the image is +Y."""
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    back = np.array([ce * sa, -ce * ca, se])
    right = np.array([ca, sa, 0.0])
    c2w = np.eye(4)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2] = right, np.cross(back, right), back
    c2w[:3, 3] = np.asarray(center, dtype=np.float64) + distance * back
    return c2w


def orbit_rig(
    center: np.ndarray, radius: float, *, num_views: int = 4, azimuth: float = 0.0, margin: float = 0.05
) -> tuple[CaptureCamera, ...]:
    """The cameras that capture a bounding sphere; `azimuth` (radians) turns the whole rig around +Z."""
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"radius must be a positive length, got {radius}")
    distance = orbit_distance(radius, margin=margin)
    cameras = []
    for azimuth_deg, elevation_deg in orbit_angles(num_views):
        a, e = azimuth + math.radians(azimuth_deg), math.radians(elevation_deg)
        c2w = orbit_c2w(center, azimuth=a, elevation=e, distance=distance)
        cameras.append(CaptureCamera(a, e, c2w, FOVY, distance))
    return tuple(cameras)
