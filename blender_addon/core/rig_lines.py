"""The capture cameras as lines: what an overlay draws before there are any camera objects."""

import math
from collections.abc import Iterable

import numpy as np

from .cameras import CaptureCamera

_SEGMENTS = 64
_LEVEL = math.radians(1.0)
"""Elevations that differ by less belong to one ring."""


def rig_lines(cameras: Iterable[CaptureCamera], center: np.ndarray) -> np.ndarray:
    """Frusta, and a ring through each height at which two or more cameras stand, as line segments.

    Returns:
        (N, 2, 3) float32, in Blender's world; no lines for no cameras.
    """
    cameras, center = list(cameras), np.asarray(center, dtype=np.float64)
    pieces = [frustum_lines(camera, 0.12 * camera.distance) for camera in cameras]
    heights: dict[int, list[CaptureCamera]] = {}
    for camera in cameras:
        heights.setdefault(round(camera.elevation / _LEVEL), []).append(camera)
    for same in heights.values():
        distance = same[0].distance
        is_round = all(abs(camera.distance - distance) < 1e-3 * distance for camera in same)
        if len(same) > 1 and is_round and abs(math.cos(same[0].elevation)) > 1e-3:
            pieces.append(_ring(center, distance, same[0].elevation))
    return np.concatenate(pieces).astype(np.float32) if pieces else np.empty((0, 2, 3), dtype=np.float32)


def frustum_lines(camera: CaptureCamera, depth: float) -> np.ndarray:
    """(11, 2, 3) segments: the pyramid from the camera to its picture at `depth`, and a mark on the upper edge."""
    half = math.tan(0.5 * camera.fovy) * depth
    x, y = (2.0 * half * shift for shift in camera.shift)
    corners = np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]])
    mark = np.array([[x - 0.5 * half, y + 1.1 * half], [x + 0.5 * half, y + 1.1 * half], [x, y + 1.6 * half]])
    points = np.vstack([[[0.0, 0.0, 0.0]], *(np.column_stack([p, np.full(len(p), -depth)]) for p in (corners, mark))])
    points = points @ camera.c2w[:3, :3].T + camera.c2w[:3, 3]
    edges = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1), (5, 6), (6, 7), (7, 5)]
    return points[np.array(edges)]


def _ring(center: np.ndarray, distance: float, elevation: float) -> np.ndarray:
    angles = 2.0 * np.pi * np.arange(_SEGMENTS + 1) / _SEGMENTS
    radius = distance * math.cos(elevation)
    points = center + np.column_stack(
        [radius * np.sin(angles), -radius * np.cos(angles), np.full(len(angles), distance * math.sin(elevation))]
    )
    return np.stack([points[:-1], points[1:]], axis=1)
