"""What a job is asked to do, as plain values, and as they are kept."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What the service takes."""

    max_views: int = 256
    max_image_edge: int = 8192
    max_total_pixels: int = 256_000_000
    max_inline_image_bytes: int = 1 << 20
    max_blob_bytes: int = 256 << 20
    chunk_bytes: int = 1 << 20
    max_message_bytes: int = 4 << 20
    queue_limit: int = 32
    min_target_faces: int = 100
    max_target_faces: int = 500_000
    min_texture_size: int = 128
    max_texture_size: int = 8192
    max_prompt_characters: int = 2000
    max_variants: int = 16
    max_candidates: int = 16
    max_steps: int = 1000
    max_guidance: int = 30
    max_pictures: int = 4
    max_distil_steps: int = 2000
    max_label_characters: int = 200


@dataclass(frozen=True)
class CameraSpec:
    """A pinhole camera in the house convention; pixels."""

    c2w: tuple[float, ...]
    """16 values, row-major."""
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


@dataclass(frozen=True)
class ViewSpec:
    """A picture by a known camera."""

    image: str
    """sha256 of a PNG, as every image here."""
    camera: CameraSpec
    depth: str | None = None
    """sha256 of raw little-endian float32 or of an .npy."""


@dataclass(frozen=True)
class TextSource:
    """A sentence that describes one object."""

    prompt: str
    negative_prompt: str = ""


@dataclass(frozen=True)
class SidePicture:
    """A picture from a side that is known."""

    image: str
    side: str
    """front, right, back or left; empty where nobody said."""


@dataclass(frozen=True)
class ImageSource:
    """One picture from an unknown camera, or several from known sides."""

    image: str
    """Of the front where there are others."""
    prompt: str = ""
    elevation: float | None = None
    """Radians; None to find it out."""
    others: tuple[SidePicture, ...] = ()
    background: str = "auto"
    """auto, keep_alpha, remove or none, see `mvgamba.multiview.background`."""


@dataclass(frozen=True)
class CaptureSource:
    """Pictures by known cameras."""

    views: tuple[ViewSpec, ...]


@dataclass(frozen=True)
class JobMesh:
    """A mesh that came of another job."""

    job_id: str
    asset: str = "mesh.glb"
    sha256: str = ""
    """Of the file, once the service has looked it up and kept it for this job."""


@dataclass(frozen=True)
class VariationSource:
    """An object that is there already, to be changed by words."""

    object: CaptureSource | JobMesh
    prompt: str
    negative_prompt: str = ""
    strength: float = 0.6
    """0 keeps the object, 1 forgets it."""


Source = TextSource | ImageSource | CaptureSource | VariationSource


@dataclass(frozen=True)
class MultiviewOptions:
    """How views are made; None for what the generator does best with."""

    generator: str = "auto"
    candidates: int = 4
    steps: int | None = None
    guidance: float | None = None
    recall: bool = True
    distil_steps: int = 0


@dataclass(frozen=True)
class Options:
    """What a person can set; `seed` None asks for one to be drawn."""

    quality: str = "standard"
    reconstructor: str = "auto"
    refine: bool = True
    target_faces: int = 20_000
    texture_size: int = 1024
    seed: int | None = None
    device: str = "auto"
    seconds: float | None = None
    """Budget of wall time; None for no limit."""
    multiview: MultiviewOptions = field(default_factory=MultiviewOptions)
    variants: int = 1
    """Results, with seeds one after the other."""
    review_views: bool = False
    """End after the views."""
    memory_mib: int | None = None
    """Budget of memory, see `mvgamba.types.GenerateOptions`; None for what is free."""


@dataclass(frozen=True)
class JobSpec:
    """One job: what to make, and from what."""

    source: Source
    options: Options = field(default_factory=Options)
    label: str = ""

    @property
    def kind(self) -> str:
        """text, image, capture or variation."""
        return _KINDS[type(self.source)]

    def blobs(self) -> list[tuple[str, str]]:
        """(path of the field, sha256) of everything that must have been uploaded."""
        match self.source:
            case ImageSource(image=image, others=others):
                return [("image.image", image), *((f"image.others[{i}].image", o.image) for i, o in enumerate(others))]
            case CaptureSource(views=views):
                return _blobs_of_views(views, "capture")
            case VariationSource(object=CaptureSource(views=views)):
                return _blobs_of_views(views, "variation.capture")
            case VariationSource(object=JobMesh(sha256=sha256)) if sha256:
                return [("variation.job_id", sha256)]
            case _:
                return []

    def to_json(self) -> str:
        """Canonical: equal specs give equal text."""
        record = {"kind": self.kind, **dataclasses.asdict(self)}
        # fields that came later say nothing at their defaults, so that what an older service has stored keeps its digest
        _leave_out(record["source"], _ADDED_TO_SOURCES.get(self.kind, {}))
        _leave_out(record["options"]["multiview"], _ADDED_TO_MULTIVIEW)
        _leave_out(record["options"], _ADDED_TO_OPTIONS)
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()


_KINDS: dict[type, str] = {
    TextSource: "text",
    ImageSource: "image",
    CaptureSource: "capture",
    VariationSource: "variation",
}
_ADDED_TO_SOURCES: dict[str, dict[str, Any]] = {
    "image": {"prompt": "", "elevation": None, "others": (), "background": "auto"}
}
_ADDED_TO_MULTIVIEW: dict[str, Any] = {"recall": True, "distil_steps": 0}
_ADDED_TO_OPTIONS: dict[str, Any] = {
    "multiview": {k: v for k, v in dataclasses.asdict(MultiviewOptions()).items() if k not in _ADDED_TO_MULTIVIEW},
    "variants": 1,
    "review_views": False,
    "memory_mib": None,
}


def _leave_out(record: dict[str, Any], added: dict[str, Any]) -> None:
    for name, default in added.items():
        if record[name] == default:
            del record[name]


def _blobs_of_views(views: tuple[ViewSpec, ...], path: str) -> list[tuple[str, str]]:
    images = [(f"{path}.views[{i}].image", v.image) for i, v in enumerate(views)]
    return images + [(f"{path}.views[{i}].depth", v.depth) for i, v in enumerate(views) if v.depth]


def spec_from_json(text: str) -> JobSpec:
    """The inverse of `JobSpec.to_json`, also for what an older service has written."""
    record: dict[str, Any] = json.loads(text)
    source = record["source"]
    made: Source
    match record["kind"]:
        case "text":
            made = TextSource(**source)
        case "image":
            others = tuple(SidePicture(**other) for other in source.get("others", ()))
            made = ImageSource(**{**source, "others": others})
        case "capture":
            made = _capture_from_record(source)
        case "variation":
            thing = source["object"]
            found = _capture_from_record(thing) if "views" in thing else JobMesh(**thing)
            made = VariationSource(**{**source, "object": found})
        case kind:
            raise ValueError(f"a stored job has a source of unknown kind {kind!r}")
    options = record["options"]
    multiview = MultiviewOptions(**options.get("multiview", {}))
    return JobSpec(made, Options(**{**options, "multiview": multiview}), record["label"])


def _capture_from_record(record: dict[str, Any]) -> CaptureSource:
    return CaptureSource(tuple(_view_from_record(v) for v in record["views"]))


def _view_from_record(record: dict[str, Any]) -> ViewSpec:
    camera = record["camera"]
    return ViewSpec(record["image"], CameraSpec(**{**camera, "c2w": tuple(camera["c2w"])}), record["depth"])
