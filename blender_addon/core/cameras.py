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
    shift: tuple[float, float] = (0.0, 0.0)
    """How far the picture is moved off the axis, to the right and up, as a fraction of its edge (lens shift)."""
    name: str = ""
    """Of the camera object, for one that is the user's own."""


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


def clip_range(camera: CaptureCamera, center: np.ndarray, radius: float) -> tuple[float, float]:
    """Clip distances between which a whole sphere lies, as far as it is in front of the camera.

    Raises: ValueError, when all of it is behind.
    """
    depth = float(np.dot(camera.c2w[:3, 3] - np.asarray(center, dtype=np.float64), camera.c2w[:3, 2]))
    reach = 1.1 * radius
    if depth + reach <= 0.0:
        raise ValueError(f"the camera {camera.name} looks away from the subject")
    return max(depth - reach, 1e-3 * radius), depth + reach


def own_camera(c2w: np.ndarray, projection: np.ndarray, center: np.ndarray, *, name: str = "") -> CaptureCamera:
    """The square picture that just holds the picture of another pinhole camera: same place, same rays, more border.

    All views of a capture have one size, so a wide picture becomes a square of its longer side.

    Args:
        c2w: (4, 4), rigid.
        projection: (4, 4) of OpenGL's form, as `Object.calc_matrix_camera` gives it. Lens shift and pixel aspect are in it.
        center: Of the subject; for the angles that the record of a capture tells.
    """
    half_x, half_y = 1.0 / projection[0, 0], 1.0 / projection[1, 1]
    half = max(half_x, half_y)  # of the picture, one unit in front of the camera
    shift = (0.5 * projection[0, 2] * half_x / half, 0.5 * projection[1, 2] * half_y / half)
    return seen_from(c2w, 2.0 * math.atan(half), center, shift=(float(shift[0]), float(shift[1])), name=name)


def seen_from(
    c2w: np.ndarray, fovy: float, center: np.ndarray, *, shift: tuple[float, float] = (0.0, 0.0), name: str = ""
) -> CaptureCamera:
    """A camera that stands anywhere, with the angles and the distance at which it sees `center`."""
    offset = c2w[:3, 3] - np.asarray(center, dtype=np.float64)
    distance = float(np.linalg.norm(offset))
    return CaptureCamera(
        azimuth=math.atan2(offset[0], -offset[1]),
        elevation=math.asin(max(-1.0, min(1.0, offset[2] / distance))) if distance > 0.0 else 0.0,
        c2w=np.asarray(c2w, dtype=np.float64),
        fovy=fovy,
        distance=distance,
        shift=shift,
        name=name,
    )


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
