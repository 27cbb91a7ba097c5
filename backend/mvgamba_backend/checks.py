"""The checks of a spec that need no pipeline.

Errors begin with the path of the field, as in the .proto: `capture.views[2].camera.fx is -1.0; ...`.
"""

import math
import re
import struct
from collections.abc import Callable

from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba.multiview.prompts import plain_prompt
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobSpec,
    Limits,
    MultiviewOptions,
    Options,
    TextSource,
    VariationSource,
    ViewSpec,
)

QUALITIES = ("draft", "standard", "high")
MAX_SEED = 2**31
PNG_HEAD_BYTES = 26
"""Enough of a PNG to know its size and colour type."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
SIDES = ("right", "back", "left")
"""Of the pictures beside that of the front."""
BACKGROUNDS = ("auto", "keep_alpha", "remove", "none")
DISTILLERS = ("auto", "starter")
"""Generators that surfels can be pulled by."""
MOST_ELEVATION = math.pi / 3
"""Of the camera of a picture, radians."""


def check_spec(spec: JobSpec, limits: Limits) -> None:
    """Everything that can be told without the images. Raises: InvalidInput, InvalidCameras, InvalidImage."""
    if len(spec.label) > limits.max_label_characters:
        raise InvalidInput(f"label has {len(spec.label)} characters; at most {limits.max_label_characters} are taken.")
    check_options(spec.options, limits)
    match spec.source:
        case TextSource(prompt=prompt, negative_prompt=negative):
            _check_prompt("text.prompt", prompt, limits)
            _check_prompt("text.negative_prompt", negative, limits, may_be_empty=True)
        case ImageSource():
            _check_picture(spec.source, limits)
        case CaptureSource(views=views):
            _check_views(views, "capture.views", limits)
            _check_is_plain(spec.options)
        case VariationSource():
            _check_variation(spec.source, limits)
    _check_distilling(spec)
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
    if options.memory_mib is not None and options.memory_mib < 1:
        raise InvalidInput("options.memory_mib is 0; it must be at least 1 MiB, or not set for what is free.")
    if not 0 < len(options.reconstructor) <= 64:
        raise InvalidInput("options.reconstructor must have 1 to 64 characters; auto takes the best there is.")
    _check_multiview(options.multiview, limits)
    if not 1 <= options.variants <= limits.max_variants:
        raise InvalidInput(f"options.variants is {options.variants}; it must lie between 1 and {limits.max_variants}.")
    if options.seed is not None and options.seed + options.variants > MAX_SEED:
        raise InvalidInput(
            f"options.seed is {options.seed}; {options.variants} variants need seeds up to {options.seed + options.variants - 1}, "
            f"and {MAX_SEED - 1} is the largest."
        )


def _check_multiview(options: MultiviewOptions, limits: Limits) -> None:
    path = "options.multiview"
    if not 0 < len(options.generator) <= 64:
        raise InvalidInput(f"{path}.generator must have 1 to 64 characters; auto takes the best there is.")
    if not 1 <= options.candidates <= limits.max_candidates:
        raise InvalidInput(
            f"{path}.candidates is {options.candidates}; it must lie between 1 and {limits.max_candidates}."
        )
    if options.steps is not None and not 1 <= options.steps <= limits.max_steps:
        raise InvalidInput(f"{path}.steps is {options.steps}; it must lie between 1 and {limits.max_steps}.")
    if options.guidance is not None and not 0 <= options.guidance <= limits.max_guidance:
        raise InvalidInput(f"{path}.guidance is {options.guidance}; it must lie between 0 and {limits.max_guidance}.")
    if not 0 <= options.distil_steps <= limits.max_distil_steps:
        raise InvalidInput(
            f"{path}.distil_steps is {options.distil_steps}; it must lie between 0 (none) and {limits.max_distil_steps}."
        )


def _check_distilling(spec: JobSpec) -> None:
    options, path = spec.options, "options.multiview.distil_steps"
    steps = options.multiview.distil_steps
    if not steps:
        return
    if spec.kind not in ("text", "image"):
        raise InvalidInput(f"{path} is {steps}; score distillation is for text and image, not for a {spec.kind}.")
    if options.multiview.generator not in DISTILLERS:
        raise InvalidInput(
            f"{path} is {steps}; score distillation is done by the starter generator, not by {options.multiview.generator!r}."
        )
    if options.review_views:
        raise InvalidInput(f"{path} is {steps}; a review ends after the views, before there is anything to distil.")


def _check_is_plain(options: Options) -> None:
    """Of a capture nothing is made that a seed could vary or a person could look at first."""
    if options.variants != 1:
        raise InvalidInput(f"options.variants is {options.variants}; a capture has one result. Leave it out.")
    if options.review_views:
        raise InvalidInput("options.review_views: the views of a capture are there already. Leave it out.")


def _check_prompt(path: str, text: str, limits: Limits, *, may_be_empty: bool = False) -> None:
    if not may_be_empty and not plain_prompt(text):
        raise InvalidInput(f"{path} is empty; describe one object in a few words, such as: a red wooden barrel.")
    if len(text) > limits.max_prompt_characters:
        raise InvalidInput(f"{path} has {len(text)} characters; at most {limits.max_prompt_characters} are taken.")


def _check_picture(source: ImageSource, limits: Limits) -> None:
    _check_prompt("image.prompt", source.prompt, limits, may_be_empty=True)
    if source.elevation is not None and not abs(source.elevation) <= MOST_ELEVATION:
        raise InvalidInput(
            f"image.elevation is {source.elevation}; radians between {-MOST_ELEVATION:.3f} and {MOST_ELEVATION:.3f} are needed."
        )
    if source.background not in BACKGROUNDS:
        raise InvalidInput(f"image.background is {source.background!r}; it must be one of {', '.join(BACKGROUNDS)}.")
    if 1 + len(source.others) > limits.max_pictures:
        raise InvalidInput(
            f"image has {1 + len(source.others)} pictures with image.others; at most {limits.max_pictures} are taken."
        )
    for i, other in enumerate(source.others):
        path = f"image.others[{i}].side"
        if other.side == "front":
            raise InvalidInput(f"{path} is front, which image.image shows; right, back and left are for the others.")
        if other.side not in SIDES:
            raise InvalidInput(f"{path} is {other.side or 'not set'}; say right, back or left.")
        if other.side in (before.side for before in source.others[:i]):
            raise InvalidInput(f"{path} is {other.side}, as of an earlier picture; give each side once.")


def _check_variation(source: VariationSource, limits: Limits) -> None:
    _check_prompt("variation.prompt", source.prompt, limits)
    _check_prompt("variation.negative_prompt", source.negative_prompt, limits, may_be_empty=True)
    if not 0 <= source.strength <= 1:
        raise InvalidInput(
            f"variation.strength is {source.strength}; it must lie between 0 (keep the object) and 1 (forget it)."
        )
    if isinstance(source.object, CaptureSource):
        _check_views(source.object.views, "variation.capture.views", limits)


def _check_views(views: tuple[ViewSpec, ...], path: str, limits: Limits) -> None:
    if not views:
        raise InvalidInput(f"{path} is empty; at least one view is needed.")
    if len(views) > limits.max_views:
        raise InvalidInput(f"{path} has {len(views)} views; at most {limits.max_views} are taken at once.")
    first = views[0].camera
    for i, view in enumerate(views):
        _check_camera(view.camera, f"{path}[{i}].camera", limits)
        if (view.camera.width, view.camera.height) != (first.width, first.height):
            raise InvalidCameras(
                f"{path}[{i}].camera is {view.camera.width} x {view.camera.height} pixels, the first view is "
                f"{first.width} x {first.height}; all views of one capture must have one size."
            )
        if (view.depth is None) != (views[0].depth is None):
            raise InvalidInput(f"{path}[{i}].depth: give depth for every view or for none.")
    total = first.width * first.height * len(views)
    if total > limits.max_total_pixels:
        raise InvalidImage(
            f"{path} hold {total / 1e6:.0f} megapixels; at most {limits.max_total_pixels / 1e6:.0f} are taken. "
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
        case ImageSource():
            for path, sha256 in spec.blobs():
                width, height = _png_size(path, head(sha256), needs_alpha=False)
                if max(width, height) > limits.max_image_edge:
                    raise InvalidImage(
                        f"{path} is {width} x {height} pixels; at most {limits.max_image_edge} on a side."
                    )
        case CaptureSource(views=views):
            _check_images_of_views(views, "capture.views", head)
        case VariationSource(object=CaptureSource(views=views)):
            _check_images_of_views(views, "variation.capture.views", head)


def _check_images_of_views(
    views: tuple[ViewSpec, ...], of: str, head: Callable[[str], tuple[int, bytes] | None]
) -> None:
    for i, view in enumerate(views):
        path, camera = f"{of}[{i}]", view.camera
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
