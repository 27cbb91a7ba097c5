"""What a job is asked to do, as plain values, and the checks that need no pipeline.

Errors begin with the path of the field, as in the .proto: `capture.views[2].camera.fx is -1.0; ...`.
"""

import dataclasses
import hashlib
import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput

QUALITIES = ("draft", "standard", "high")
MAX_SEED = 2**31
PNG_HEAD_BYTES = 26
"""Enough of a PNG to know its size and colour type."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


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
class ImageSource:
    """One picture from an unknown camera."""

    image: str


@dataclass(frozen=True)
class CaptureSource:
    """Pictures by known cameras."""

    views: tuple[ViewSpec, ...]


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


@dataclass(frozen=True)
class JobSpec:
    """One job: what to make, and from what."""

    source: TextSource | ImageSource | CaptureSource
    options: Options = field(default_factory=Options)
    label: str = ""

    @property
    def kind(self) -> str:
        """text, image or capture."""
        return _KINDS[type(self.source)]

    def blobs(self) -> list[tuple[str, str]]:
        """(path of the field, sha256) of everything that must have been uploaded."""
        match self.source:
            case ImageSource(image=image):
                return [("image.image", image)]
            case CaptureSource(views=views):
                images = [(f"capture.views[{i}].image", v.image) for i, v in enumerate(views)]
                return images + [(f"capture.views[{i}].depth", v.depth) for i, v in enumerate(views) if v.depth]
            case _:
                return []

    def to_json(self) -> str:
        """Canonical: equal specs give equal text."""
        record = {"kind": self.kind, **dataclasses.asdict(self)}
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()


_KINDS: dict[type, str] = {TextSource: "text", ImageSource: "image", CaptureSource: "capture"}


def spec_from_json(text: str) -> JobSpec:
    """The inverse of `JobSpec.to_json`."""
    record: dict[str, Any] = json.loads(text)
    source = record["source"]
    made: TextSource | ImageSource | CaptureSource
    match record["kind"]:
        case "text":
            made = TextSource(**source)
        case "image":
            made = ImageSource(**source)
        case "capture":
            made = CaptureSource(tuple(_view_from_record(v) for v in source["views"]))
        case kind:
            raise ValueError(f"a stored job has a source of unknown kind {kind!r}")
    return JobSpec(made, Options(**record["options"]), record["label"])


def _view_from_record(record: dict[str, Any]) -> ViewSpec:
    camera = record["camera"]
    return ViewSpec(record["image"], CameraSpec(**{**camera, "c2w": tuple(camera["c2w"])}), record["depth"])


# ---------------------------------------------------------------- checks


def check_spec(spec: JobSpec, limits: Limits) -> None:
    """Everything that can be told without the images. Raises: InvalidInput, InvalidCameras, InvalidImage."""
    if len(spec.label) > limits.max_label_characters:
        raise InvalidInput(f"label has {len(spec.label)} characters; at most {limits.max_label_characters} are taken.")
    check_options(spec.options, limits)
    match spec.source:
        case TextSource():
            _check_text(spec.source, limits)
        case CaptureSource(views=views):
            _check_views(views, limits)
    for path, sha256 in spec.blobs():
        if not is_sha256(sha256):
            raise InvalidInput(f"{path}.sha256 is {sha256[:80]!r}; 64 lower-case hexadecimal digits are needed.")


def check_options(options: Options, limits: Limits) -> None:
    """Raises: InvalidInput."""
    if options.quality not in QUALITIES:
        raise InvalidInput(f"options.quality is {options.quality!r}; it must be one of {', '.join(QUALITIES)}.")
    ranges = {
        "target_faces": (limits.min_target_faces, limits.max_target_faces),
        "texture_size": (limits.min_texture_size, limits.max_texture_size),
    }
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise InvalidInput(f"options.{name} is {value}; it must lie between {low} and {high}.")
    if options.seed is not None and not 0 <= options.seed < MAX_SEED:
        raise InvalidInput(f"options.seed is {options.seed}; it must lie between 0 and {MAX_SEED - 1}.")
    if not _DEVICE.fullmatch(options.device):
        raise InvalidInput(f"options.device is {options.device[:80]!r}; it must be auto, cpu, cuda or cuda:N.")
    if options.seconds is not None and not (math.isfinite(options.seconds) and options.seconds > 0):
        raise InvalidInput(
            f"options.seconds is {options.seconds}; it must be a positive number, or not set for no limit."
        )
    if not 0 < len(options.reconstructor) <= 64:
        raise InvalidInput("options.reconstructor must have 1 to 64 characters; auto takes the best there is.")


def _check_text(source: TextSource, limits: Limits) -> None:
    if not source.prompt.strip():
        raise InvalidInput("text.prompt is empty; describe one object in a sentence.")
    for name in ("prompt", "negative_prompt"):
        length = len(getattr(source, name))
        if length > limits.max_prompt_characters:
            raise InvalidInput(
                f"text.{name} has {length} characters; at most {limits.max_prompt_characters} are taken."
            )


def _check_views(views: tuple[ViewSpec, ...], limits: Limits) -> None:
    if not views:
        raise InvalidInput("capture.views is empty; at least one view is needed.")
    if len(views) > limits.max_views:
        raise InvalidInput(f"capture.views has {len(views)} views; at most {limits.max_views} are taken at once.")
    first = views[0].camera
    for i, view in enumerate(views):
        _check_camera(view.camera, f"capture.views[{i}].camera", limits)
        if (view.camera.width, view.camera.height) != (first.width, first.height):
            raise InvalidCameras(
                f"capture.views[{i}].camera is {view.camera.width} x {view.camera.height} pixels, the first view is "
                f"{first.width} x {first.height}; all views of one capture must have one size."
            )
        if (view.depth is None) != (views[0].depth is None):
            raise InvalidInput(f"capture.views[{i}].depth: give depth for every view or for none.")
    total = first.width * first.height * len(views)
    if total > limits.max_total_pixels:
        raise InvalidImage(
            f"capture.views hold {total / 1e6:.0f} megapixels; at most {limits.max_total_pixels / 1e6:.0f} are taken. "
            "Send smaller or fewer images."
        )


def _check_camera(camera: CameraSpec, path: str, limits: Limits) -> None:
    m = camera.c2w
    if len(m) != 16:
        raise InvalidCameras(f"{path}.camera_to_world has {len(m)} values; 16, row by row, are needed.")
    if not all(map(math.isfinite, m)):
        raise InvalidCameras(f"{path}.camera_to_world holds a value that is not a finite number.")
    if max(abs(m[12]), abs(m[13]), abs(m[14]), abs(m[15] - 1)) > 1e-6:
        raise InvalidCameras(f"{path}.camera_to_world ends with {list(m[12:])}; the last row must be 0 0 0 1.")
    columns = [(m[j], m[4 + j], m[8 + j]) for j in range(3)]
    for a in range(3):
        for b in range(a, 3):
            dot = sum(x * y for x, y in zip(columns[a], columns[b], strict=True))
            if abs(dot - (a == b)) > 2e-2:
                raise InvalidCameras(f"{path}.camera_to_world is scaled or sheared; send the cameras without scale.")
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = columns
    if ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx) < 0:
        raise InvalidCameras(f"{path}.camera_to_world mirrors (its determinant is negative); a camera cannot.")
    for name in ("fx", "fy", "cx", "cy"):
        value = getattr(camera, name)
        if not math.isfinite(value) or (name in ("fx", "fy") and value <= 0):
            raise InvalidCameras(f"{path}.{name} is {value}; a finite length in pixels is needed.")
    for name in ("width", "height"):
        value = getattr(camera, name)
        if not 1 <= value <= limits.max_image_edge:
            raise InvalidCameras(f"{path}.{name} is {value}; it must lie between 1 and {limits.max_image_edge} pixels.")


def check_images(spec: JobSpec, limits: Limits, head: Callable[[str], tuple[int, bytes] | None]) -> None:
    """Compare the images with what the spec says, from their first bytes.

    Args:
        head: sha256 -> (size in bytes, the first `PNG_HEAD_BYTES`), or None if there is no such blob.
    Raises:
        InvalidImage: A file is not of the promised kind or size. Blobs that are missing are not looked at.
    """
    match spec.source:
        case ImageSource(image=image):
            width, height = _png_size("image.image", head(image), needs_alpha=False)
            if max(width, height) > limits.max_image_edge:
                raise InvalidImage(
                    f"image.image is {width} x {height} pixels; at most {limits.max_image_edge} on a side."
                )
        case CaptureSource(views=views):
            for i, view in enumerate(views):
                path, camera = f"capture.views[{i}]", view.camera
                size = _png_size(f"{path}.image", head(view.image), needs_alpha=True)
                if size != (camera.width, camera.height):
                    raise InvalidImage(
                        f"{path}.image is {size[0]} x {size[1]} pixels, its camera {camera.width} x {camera.height}."
                    )
                found = head(view.depth) if view.depth else None
                needed = 4 * camera.width * camera.height
                if found is not None and found[0] != needed and not found[1].startswith(b"\x93NUMPY"):
                    raise InvalidImage(
                        f"{path}.depth has {found[0]} bytes; raw float32 of {camera.width} x {camera.height} pixels has "
                        f"{needed}. Send that, or an .npy."
                    )


def _png_size(path: str, found: tuple[int, bytes] | None, *, needs_alpha: bool) -> tuple[int, int]:
    data = b"" if found is None else found[1]
    if len(data) < PNG_HEAD_BYTES or not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise InvalidImage(f"{path} is not a PNG. Send an 8-bit PNG.")
    width, height, depth, color = struct.unpack(">IIBB", data[16:26])
    # a palette may carry transparency further on: only the pipeline can tell
    if needs_alpha and color in (_GREY, _RGB):
        raise InvalidImage(
            f"{path} has no alpha channel, so it does not say what belongs to the object. Send RGBA, rendered with a "
            "transparent background."
        )
    if depth > 8:
        raise InvalidImage(f"{path} has {depth} bits per channel. Send an 8-bit PNG.")
    return width, height


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None
