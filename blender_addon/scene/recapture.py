"""Capturing again what was captured before: what a request tells of its capture, and the cameras that follow their subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..core.cameras import CaptureCamera
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.rig_record import rig_from_record, rig_record, similarity, sphere_move
from .capture import Capture, CaptureSettings
from .own_cameras import check_cameras
from .result import TO_RESULT, adjusted
from .subject import BoundingSphere

_RIG_KEYS = ("cameras", "rig", "center", "radius")


def capture_record(
    settings: CaptureSettings, taken: Capture, subject: Sequence[bpy.types.Object], *, own: bool, frame: int
) -> dict[str, Any]:
    """All that a request remembers of its capture, as JSON.

    Lengths and matrices are of the world as it was. `subject` is the object that own cameras follow when they are taken
    again, the first one; `rig` are these cameras.
    """
    first = subject[0]
    record = {
        "views": settings.num_views,
        "cameras": "own" if own else "ring",
        "image_size": settings.image_size,
        "azimuth": settings.azimuth,
        "margin": settings.margin,
        "depth": settings.with_depth,
        "shading": settings.shading,
        "isolate": settings.isolate,
        "frame": frame,
        "center": [float(value) for value in taken.sphere.center],
        "radius": taken.sphere.radius,
        "subject": {"name": first.name, "matrix": _rows(first.matrix_world)},
        "seconds": round(taken.seconds, 3),
        "left_out": list(taken.left_out),
    }
    return {**record, "rig": rig_record(taken.cameras)} if own else record


def capture_settings_of(record: Mapping[str, Any]) -> CaptureSettings:
    """How the views of an earlier job were taken, from what its request tells of it."""
    return CaptureSettings(
        record["views"],
        record["image_size"],
        record["azimuth"],
        record["margin"],
        record["depth"],
        shading=record.get("shading", "flat"),
        isolate=record.get("isolate", True),
    )


def rig_only(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a job that goes on from a capture takes along of it: its own cameras, if it had some."""
    return {key: record[key] for key in _RIG_KEYS if key in record} if record.get("cameras") == "own" else {}


def result_record(obj: bpy.types.Object) -> dict[str, Any]:
    """What a capture of a result itself adds to the record of its request: (4, 4) from the world of the capture to the axes of
    the mesh as it was delivered, so that what comes of it lies in the object wherever that is then."""
    return {TO_RESULT: _rows((obj.matrix_world @ adjusted(obj)).inverted_safe())}


def subject_move(record: Mapping[str, Any], objects: Sequence[bpy.types.Object]) -> np.ndarray | None:
    """(4, 4) from where a point of the subject was at its capture to where it is, by the object that the record names.

    None when that object is gone, or the record is older than such names.
    """
    said = record.get("subject", {})
    obj = next((obj for obj in objects if obj.name == said.get("name")), None)
    if obj is None:
        return None
    then, now = np.array(said["matrix"], dtype=np.float64), np.array(obj.matrix_world, dtype=np.float64)
    linear = now[:3, :3] @ np.linalg.pinv(then[:3, :3])  # a plane that was scaled flat has no inverse
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = linear, now[:3, 3] - linear @ then[:3, 3]
    return moved


@dataclass(frozen=True)
class CamerasAgain:
    """The cameras of an earlier capture, for `capture`: called with the sphere around the subject as it is now."""

    record: Mapping[str, Any]
    affine: np.ndarray | None
    """(4, 4) from where a point of the subject was to where it is; None when only the two spheres tell."""

    def __call__(self, sphere: BoundingSphere) -> tuple[CaptureCamera, ...]:
        """Raises: AddonError, CAPTURE_FAILED, when the record is damaged or a camera would look away."""
        then = np.array(self.record["center"], dtype=float)
        if self.affine is not None:
            move = similarity(self.affine, then)
        else:
            move = sphere_move(then, float(self.record["radius"]), sphere.center, sphere.radius)
        try:
            cameras = rig_from_record(self.record["rig"], move, sphere.center)
        except ValueError as error:
            raise AddonError("CAPTURE_FAILED", tr("the cameras that this was captured from cannot be read")) from error
        check_cameras(cameras, sphere)
        return cameras


def cameras_again(record: Mapping[str, Any], affine: np.ndarray | None) -> CamerasAgain | None:
    """The own cameras of a capture; None for one from the ring, or one that has not noted them."""
    return CamerasAgain(record, affine) if record.get("cameras") == "own" and record.get("rig") else None


def ring_notes(record: Mapping[str, Any]) -> list[str]:
    """What a person should know of a capture that is taken again on the ring."""
    if record.get("cameras") == "own" and not record.get("rig"):
        return [tr("Captured from a ring: this result is older than the memory of its own cameras")]
    return []


def _rows(matrix: Any) -> list[list[float]]:
    return [[float(value) for value in row] for row in matrix]
