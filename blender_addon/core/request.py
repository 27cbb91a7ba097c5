"""One job as plain data: what it is made from, what the person set, and where the result belongs."""

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
class TextInput:
    """A sentence that describes one object."""

    prompt: str
    negative_prompt: str = ""


@dataclass(frozen=True)
class ImageInput:
    """One picture of the object."""

    image_path: Path
    """PNG, RGB or RGBA."""
    prompt: str = ""
    """What it shows; may be empty."""
    elevation: float | None = None
    """Radians, of its camera over the horizon; None to have it found out."""


@dataclass(frozen=True)
class VariationInput:
    """Words that change an object: that of the request's views, or the result of an earlier job."""

    prompt: str
    negative_prompt: str = ""
    strength: float = 0.6
    """0 keeps the object, 1 forgets it."""
    job_id: str = ""
    """Of a job whose result is the object; empty for the views."""
    asset_name: str = ""
    """Which of its meshes; empty for the first."""


@dataclass(frozen=True)
class JobOptions:
    """What a person sets. Empty or zero asks the server for its own default."""

    quality: str = "standard"
    seed: int = 0
    refine: bool = True
    target_faces: int = 20_000
    texture_size: int = 1024
    device: str = "auto"
    variants: int = 1
    """Results, with seeds one after the other."""
    review_views: bool = False
    """End after the views, so that a person can look at them; `approved_request` goes on."""
    generator: str = ""
    candidates: int = 0
    """Sets of views of which the best is taken."""
    steps: int | None = None
    guidance: float | None = None


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
    location: tuple[float, float, float] | None = None
    """For a result without a source: where the middle of its underside stands, in the world."""
    size: float = 0.0
    """For a result without a source: its longest edge in scene units; 0 leaves it as it was made, in a ball of radius 1."""


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
    source: TextInput | ImageInput | VariationInput | None = None
    """What it is made from, if not from the views alone."""

    @property
    def kind(self) -> str:
        """capture, text, image or variation."""
        return {TextInput: "text", ImageInput: "image", VariationInput: "variation"}.get(type(self.source), "capture")

    def files(self) -> list[Path]:
        """Everything that the server must have before the job."""
        paths = [view.image_path for view in self.views]
        paths += [view.depth_path for view in self.views if view.depth_path is not None]
        return paths + ([self.source.image_path] if isinstance(self.source, ImageInput) else [])

    def settings_json(self, **more: object) -> str:
        """Canonical JSON of how the result was made, as stored on the object."""
        record = {"kind": self.kind, "options": dataclasses.asdict(self.options), "capture": self.capture, **more}
        if self.source is not None:
            record["source"] = dataclasses.asdict(self.source)
        return json.dumps(record, sort_keys=True, separators=(",", ":"), default=str)


def views_from_transforms(path: Path) -> tuple[CapturedView, ...]:
    """The views that a server has made, from their transforms.json; its +Z-up world is Blender's. The pictures lie beside it.

    Raises: ValueError, if it is not what a server writes.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        width, height = int(table["w"]), int(table["h"])
        return tuple(
            CapturedView(
                path.parent / Path(frame["file_path"]).name,
                np.array(frame["transform_matrix"], dtype=np.float64).reshape(4, 4),
                2.0 * float(np.arctan(0.5 * height / float(frame["fl_y"]))),
                width,
                height,
            )
            for frame in table["frames"]
        )
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path.name} holds no views: {error}") from error


def approved_request(request: JobRequest, views: tuple[CapturedView, ...], **changes: object) -> JobRequest:
    """The job that goes on from views that a person has looked at: of the same options and place, with these views as a capture.

    Args:
        views: Those of the review, some of them perhaps with other pictures; one size for all.
        changes: Of the options.
    """
    options = dataclasses.replace(request.options, **{"review_views": False, "variants": 1, **changes})
    made_from = (
        {} if request.source is None else {"source": {"kind": request.kind, **dataclasses.asdict(request.source)}}
    )
    return JobRequest(request.label, views, options, request.target, {**request.capture, **made_from})
