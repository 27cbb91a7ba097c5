"""One job as plain data: what it is made from, what the person set, and where the result belongs."""

import dataclasses
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import AddonError
from .i18n import tr


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

    shift: tuple[float, float] = (0.0, 0.0)
    """How far the picture is moved off the axis, to the right and up, as a fraction of its longer edge (lens shift)."""

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels."""
        focal = 0.5 * self.height / float(np.tan(0.5 * self.fovy))
        edge = max(self.width, self.height)
        return focal, focal, 0.5 * self.width - self.shift[0] * edge, 0.5 * self.height + self.shift[1] * edge


@dataclass(frozen=True)
class TextInput:
    """A sentence that describes one object."""

    prompt: str
    negative_prompt: str = ""


PICTURE_SIDES = ("front", "right", "back", "left")
"""That a picture may show; right is what lies to the right in the picture of the front."""
BACKGROUNDS = ("auto", "keep_alpha", "remove", "none")


@dataclass(frozen=True)
class SidePicture:
    """A picture of the object from a side that is not the front."""

    image_path: Path
    """PNG, RGB or RGBA."""
    side: str
    """right, back or left."""


@dataclass(frozen=True)
class ImageInput:
    """One picture of the object, or several; `of_sides` sorts them."""

    image_path: Path
    """PNG, RGB or RGBA; of the front where there are others."""
    prompt: str = ""
    """What it shows; may be empty."""
    elevation: float | None = None
    """Radians, of its camera over the horizon; None to have it found out."""
    others: tuple[SidePicture, ...] = ()
    """Of further sides, each once."""
    background: str = "auto"
    """Of all pictures: alpha where there is some, else removed (auto); alpha as it is (keep_alpha); removed whatever alpha says (remove);
    the object fills the picture (none)."""

    @classmethod
    def of_sides(
        cls,
        pictures: Sequence[tuple[Path, str]],
        *,
        prompt: str = "",
        elevation: float | None = None,
        background: str = "auto",
    ) -> "ImageInput":
        """From pictures, each with the side that it shows or auto: those take the sides that are left, the front first.

        Raises:
            AddonError: INVALID_INPUT. There is none, there are more than sides, none is of the front, or two are of one side.
        """
        if not pictures:
            raise AddonError("INVALID_INPUT", tr("add a picture of the object"))
        if len(pictures) > len(PICTURE_SIDES):
            raise AddonError(
                "INVALID_INPUT",
                tr("{count} pictures; at most {most} are used").format(count=len(pictures), most=len(PICTURE_SIDES)),
            )
        said = [side.lower() for _, side in pictures]
        for side in said:
            if side not in ("auto", *PICTURE_SIDES):
                raise AddonError("INVALID_INPUT", tr("no picture can be of the side {side}").format(side=side))
            if side != "auto" and said.count(side) > 1:
                raise AddonError("INVALID_INPUT", tr("two pictures are of one side, {side}").format(side=side))
        free = [side for side in PICTURE_SIDES if side not in said]
        sides = [free.pop(0) if side == "auto" else side for side in said]
        if "front" not in sides:
            raise AddonError("INVALID_INPUT", tr("one of the pictures must be of the front"))
        found = {side: path for (path, _), side in zip(pictures, sides, strict=True)}
        others = tuple(SidePicture(found[side], side) for side in PICTURE_SIDES[1:] if side in found)
        return cls(found["front"], prompt, elevation, others, background)

    @property
    def image_paths(self) -> tuple[Path, ...]:
        """Of all pictures, the front first."""
        return (self.image_path, *(other.image_path for other in self.others))


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
    recall: bool = True
    """Whether views may begin from an object that the generator remembers; else from noise."""
    distil_steps: int = 0
    """Of score distillation, for words and pictures; 0 leaves it out, 150 is usual and takes minutes."""
    memory_mib: int | None = None
    """That the job may hold at most, of main memory and as much again on a CUDA device; None for what is free. It costs settings, see
    `backend/README.md`."""


MEMORY_MIB = {"LOW": 2048, "NORMAL": 4096, "HIGH": 8192}
"""Budgets by the words of the panel. With eight pictures of 448 px and textures of 4096 px, all qualities fit into 4 GiB and a standard job with a
texture of 2048 px into 2 (measured: `tests/benchmarks/results/memory.json`); 16 pictures of 1024 px at high quality are planned with 7.4."""


def memory_word(memory_mib: int | None) -> str:
    """The panel's word for a budget: AUTO for none, else the largest that is not above it, at least LOW."""
    if memory_mib is None:
        return "AUTO"
    return max((mib, word) for word, mib in MEMORY_MIB.items() if mib <= max(memory_mib, MEMORY_MIB["LOW"]))[1]


RUN = uuid.uuid4().hex
"""This run of Blender, outside of which a `session_uid` means nothing."""


@dataclass(frozen=True)
class Target:
    """Where the result belongs: names and identifiers, never pointers, which undo would break.

    Identifiers are `session_uid`s: they hold over undo and renaming, in this run of Blender and until a file is loaded.
    """

    scene_name: str
    filepath: str
    """Of the .blend that was open; empty when unsaved."""
    source_names: tuple[str, ...]
    source_uids: tuple[int, ...]
    collection_name: str = ""
    """Where the result is linked; empty for the collection of its source, else for one of our own."""
    mode: str = "MATCH"
    """One of `placing.MODES`."""
    location: tuple[float, float, float] | None = None
    """Of the 3D cursor when the job was sent, in the world; None for where it is when the result is placed."""
    heading: float = 0.0
    """Of the 3D cursor, about Z; radians."""
    size: float = 0.0
    """In scene units along `size_axis`; 0 leaves it as it was made: a capture in its own size, else in a ball of radius 1."""
    size_axis: str = "MAX"
    """One of `placing.AXES`."""
    use_ground: bool = True
    """The lowest point at the height of the place; else the middle."""
    shade_smooth: bool = True
    source_after: str = "KEEP"
    """KEEP, HIDE or STORE: what becomes of the sources when the result is placed."""
    scene_uid: int = 0
    """0 when only the name is known; so for the other identifiers."""
    collection_uid: int = 0
    replaced_name: str = ""
    """Of the object whose mesh is replaced, with mode REPLACE."""
    replaced_uid: int = 0
    run: str = RUN
    """In which the identifiers were taken; one that was stored may be of an earlier run."""


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
        return paths + (list(self.source.image_paths) if isinstance(self.source, ImageInput) else [])

    def settings_json(self, **more: object) -> str:
        """Canonical JSON of how the result was made, as stored on the object; `record.request_from_record` reads it."""
        record = {
            "kind": self.kind,
            "label": self.label,
            "request_id": self.request_id,
            "options": dataclasses.asdict(self.options),
            "capture": self.capture,
            "target": dataclasses.asdict(self.target),
            **more,
        }
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
    options = dataclasses.replace(
        request.options, **{"review_views": False, "variants": 1, "distil_steps": 0, **changes}
    )
    made_from = (
        {} if request.source is None else {"source": {"kind": request.kind, **dataclasses.asdict(request.source)}}
    )
    return JobRequest(request.label, views, options, request.target, {**request.capture, **made_from})
