"""One job as plain data: what was captured, what the person set, and where the result belongs."""

import dataclasses
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class CapturedView:
    """One rendered picture of the subject with its camera, in Blender's world."""

    image_path: Path
    """RGBA PNG, sRGB, straight alpha."""
    c2w: np.ndarray
    """(4, 4) camera to world in Blender's world."""
    fovy: float
    """Radians."""
    width: int
    height: int
    depth_path: Path | None = None
    """(height, width) float32 .npy, along the view axis in scene units; 0 where nothing is."""

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels."""
        focal = 0.5 * self.height / float(np.tan(0.5 * self.fovy))
        return focal, focal, 0.5 * self.width, 0.5 * self.height


@dataclass(frozen=True)
class JobOptions:
    """What a person sets. Empty or zero asks the server for its own default."""

    quality: str = "standard"
    seed: int = 0
    refine: bool = True
    target_faces: int = 20_000
    texture_size: int = 1024
    device: str = "auto"


@dataclass(frozen=True)
class Target:
    """Where the result belongs: names and identifiers, never pointers, which undo would break."""

    scene_name: str
    filepath: str
    """Of the .blend that was open; empty when unsaved."""
    source_names: tuple[str, ...]
    source_uids: tuple[int, ...]
    """`session_uid` of each source object."""
    collection_name: str = ""
    hide_source: bool = False


@dataclass(frozen=True)
class JobRequest:
    """Everything a worker thread needs; nothing in it belongs to Blender."""

    label: str
    views: tuple[CapturedView, ...]
    options: JobOptions
    target: Target
    capture: dict = field(default_factory=dict)
    """How the views were taken (count, size, shading, ...), for the record on the result."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def settings_json(self, **more: object) -> str:
        """Canonical JSON of how the result was made, as stored on the object."""
        record = {"kind": "capture", "options": dataclasses.asdict(self.options), "capture": self.capture, **more}
        return json.dumps(record, sort_keys=True, separators=(",", ":"))
