"""The cameras of a capture as plain numbers, and where they stand after its subject was moved."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .cameras import CaptureCamera, seen_from

_FLAT = 1e-6
"""Of its longest side: a matrix that leaves less than this of another side has flattened it."""


def rig_record(cameras: Iterable[CaptureCamera]) -> list[dict[str, Any]]:
    """Pose (three rows of camera to world), lens and name of each camera, as JSON."""
    return [
        {
            "c2w": np.asarray(camera.c2w, dtype=float)[:3].tolist(),
            "fovy": float(camera.fovy),
            "shift": [float(value) for value in camera.shift],
            "name": camera.name,
        }
        for camera in cameras
    ]


def rig_from_record(rows: Iterable[dict[str, Any]], move: np.ndarray, center: np.ndarray) -> tuple[CaptureCamera, ...]:
    """The cameras of `rig_record` after they were moved.

    Args:
        move: (4, 4) of `similarity`. Where it mirrors, each camera sees what it saw in a mirror.
        center: Of the subject as it is now.
    Raises:
        ValueError: It is no such record.
    """
    try:
        return tuple(_moved(row, move, center) for row in rows)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is not the record of cameras: {error!r}") from error


def similarity(affine: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(4, 4): how cameras follow a subject that was moved by `affine`; they cannot be sheared or stretched.

    The nearest rotation (perhaps mirrored), as much larger as the subject has grown where it has grown most, so that all
    of it stays in the pictures. The subject's middle stays in the middle.

    Args:
        affine: (4, 4) from where a point of the subject was to where it is.
        center: Of the subject as it was.
    """
    u, stretch, vt = np.linalg.svd(affine[:3, :3])
    factor = float(stretch[0])
    if factor > 0.0:
        if stretch[2] < _FLAT * factor and np.linalg.det(u @ vt) < 0.0:
            u[:, 2] = -u[:, 2]  # flattened: then both sides of the mirror are as near
        turn = u @ vt
    else:
        factor, turn = 1.0, np.eye(3)
    move = np.eye(4)
    move[:3, :3] = factor * turn
    center = np.asarray(center, dtype=np.float64)
    move[:3, 3] = affine[:3, :3] @ center + affine[:3, 3] - move[:3, :3] @ center
    return move


def sphere_move(center: np.ndarray, radius: float, center_now: np.ndarray, radius_now: float) -> np.ndarray:
    """(4, 4): how cameras follow a subject of which nothing is known but its bounding sphere; it does not turn."""
    factor = radius_now / radius if radius > 0.0 else 1.0
    move = np.diag([factor, factor, factor, 1.0])
    move[:3, 3] = np.asarray(center_now, dtype=np.float64) - factor * np.asarray(center, dtype=np.float64)
    return move


def _moved(row: dict[str, Any], move: np.ndarray, center: np.ndarray) -> CaptureCamera:
    linear = move[:3, :3]
    volume = float(np.linalg.det(linear))
    c2w, (x, y) = np.eye(4), (float(value) for value in row["shift"])
    c2w[:3] = np.array(row["c2w"], dtype=np.float64).reshape(3, 4)
    c2w[:3, :3] = linear @ c2w[:3, :3] / np.cbrt(abs(volume))
    c2w[:3, 3] = linear @ c2w[:3, 3] + move[:3, 3]
    if volume < 0.0:  # no camera is left-handed: it sees the mirrored picture, right side left
        c2w[:3, 0], x = -c2w[:3, 0], -x
    return seen_from(c2w, float(row["fovy"]), center, shift=(x, y), name=str(row.get("name", "")))
