"""Images in and out: files of any usual kind -> straight sRGB and alpha, with the checks that strangers' files need."""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from mvgamba.errors import InvalidImage

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are unpacked."""

PICTURE_EDGE = 2048
"""Pictures with a longer edge are reduced to this while they are read, in pixels."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "TGA", "AVIF", "JPEG2000", "ICO", "PPM", "PSD", "QOI")
"""What a picture may be stored as. Formats that run other programs (EPS) are not among them."""

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
"""What Pillow raises for broken files, besides its own `UnidentifiedImageError`."""

_OTHERS = {
    b"%PDF": "a PDF document",
    b"%!PS": "a text for printers (PostScript)",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, maybe an SVG drawing",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"glTF": "a GLB model",
    b"PK\x03\x04": "a zip archive",
    b"\x00\x00\x00": "a video or a HEIC photo",
}
"""What people hand over instead, by its first bytes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture as a person handed it over, upright."""

    rgb: Float32[np.ndarray, "H W 3"]
    """sRGB in [0, 1], straight."""
    alpha: Float32[np.ndarray, "H W"] | None
    """None where the file has none. It may be 1 everywhere, which says nothing either."""
    name: str = "the image"
    """For messages."""
    warnings: tuple[str, ...] = ()


def read_picture(source: Path | bytes, *, name: str | None = None, max_edge: int = PICTURE_EDGE) -> Picture:
    """Read what a person calls a picture: any mode and depth, turned upright, the first frame where it moves.

    Colours are converted to sRGB where a profile says that they are something else. What is longer than `max_edge`
    pixels is reduced while it is read; 64 megapixels need up to 1.1 GiB on the way.

    Raises:
        InvalidImage: It is missing, of no known kind, damaged, or larger than 64 megapixels.
    """
    name = name or (source.name if isinstance(source, Path) else "the image")
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is read nevertheless, such as odd EXIF entries
        with _open(source, name, formats=FORMATS, missing="Check the path.") as image:
            if image.format != "MPO" and image.format != "PSD" and _several_frames(image):
                notes.append(f"{name} has several frames; the first one is used.")
            try:
                white = _white_of(image, name)
                small = _upright(_reduced(image, max_edge), name, notes)
                rgb, alpha = _straight(small, white, name, notes)
            except _DAMAGE as error:
                raise _damaged(name, error) from error
    return Picture(rgb, alpha, name, tuple(notes))


def read_rgba(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Read an image with transparency.

    Returns:
        float32 (H, W, 4): sRGB in [0, 1], straight, and alpha.
    Raises:
        InvalidImage: It is missing, broken, too large, or has no alpha channel.
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    with _open(source, name) as image:
        if not _has_alpha(image):
            raise InvalidImage(
                f"{name} has no alpha channel (its mode is {image.mode}), so it does not say what belongs to the object. "
                "Render with a transparent background, or save a cut-out as RGBA PNG (in Blender: Render Properties, "
                "Film, Transparent)."
            )
        return _decoded(image, "RGBA", name)


def read_mask(source: Path, *, name: str | None = None) -> np.ndarray:
    """Read a grey image as coverage, float32 (H, W) in [0, 1]. Raises: InvalidImage."""
    name = name or str(source)
    with _open(source, name) as image:
        return _decoded(image, "L", name)


def read_rgb(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Read the colours of an image, float32 (H, W, 3) in [0, 1]. Raises: InvalidImage."""
    name = name or (str(source) if isinstance(source, Path) else "the image")
    with _open(source, name) as image:
        return _decoded(image, "RGB", name)


def image_size(source: Path) -> tuple[int, int]:
    """(height, width), from the header alone. Raises: InvalidImage."""
    with _open(source, str(source)) as image:
        return image.height, image.width


def encode_png(pixels: np.ndarray) -> bytes:
    """(H, W, 3 or 4) in [0, 1] or uint8 -> PNG."""
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _decoded(image: Image.Image, mode: str, name: str) -> np.ndarray:
    try:
        return np.asarray(image.convert(mode), np.float32) / 255.0
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> InvalidImage:
    return InvalidImage(f"{name} is damaged and cannot be read to its end: {error}. Export it again.")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except _DAMAGE:
        return False  # a broken second frame does not matter


def _reduced(image: Image.Image, max_edge: int) -> Image.Image:
    """At most so long, in a mode that keeps every value; reading and averaging go together where the format can."""
    image.draft(
        None, (max_edge, max_edge)
    )  # of JPEG, an eighth, a quarter or a half is decoded at a fraction of the cost
    if image.mode in ("1", "P", "PA") or (image.mode in ("L", "RGB") and "transparency" in image.info):
        image = image.convert("L" if image.mode == "1" else "RGBA" if _has_alpha(image) else "RGB")
    image.thumbnail((max_edge, max_edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.load()
    return image


def _upright(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Turned as EXIF asks for."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        notes.append(f"{name} has EXIF data that cannot be read; it may lie on its side.")
        return image


def _white_of(image: Image.Image, name: str) -> float:
    """The value of white: of more than eight bits or floats by the range that the values take."""
    if image.mode.startswith("I;16"):
        return 65535.0
    if image.mode not in ("I", "F"):
        return 255.0
    low, high = cast(tuple[float, float], image.getextrema())  # of one channel
    for white in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= white:
            return white
    raise InvalidImage(
        f"{name} holds grey values from {low:g} to {high:g}; 0 to 255, 0 to 65535, or floats from 0 to 1 are read. "
        "Save it as a PNG of 8 or 16 bits."
    )


def _straight(image: Image.Image, white: float, name: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """sRGB and alpha of a small image."""
    if white != 255.0 or image.mode in ("I", "F"):
        grey = np.asarray(image, np.float32) / white
        if not np.isfinite(grey).all():
            raise InvalidImage(f"{name} holds values that are no numbers (NaN or infinity). Save it as PNG.")
        return np.repeat(grey.clip(0, 1)[..., None], 3, 2), None
    alpha = None
    if _has_alpha(image):
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        image = image.convert("L" if image.mode == "LA" else "RGB")
    image = _in_srgb(image, name, notes).convert("RGB")
    return np.asarray(image, np.float32) / 255, alpha


def _in_srgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Converted from the profile that it carries, if it carries one."""
    data = image.info.get("icc_profile")
    if not data:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != image.mode:
            return image  # such as a grey picture with a profile for RGB, as some programs write it: neutral either way
        converted = ImageCms.profileToProfile(
            image,
            profile,
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        return converted if converted is not None else image
    except (ImageCms.PyCMSError, *_DAMAGE):
        notes.append(f"{name} has a colour profile that cannot be read; its colours are taken as sRGB.")
        return image


def _open(
    source: Path | bytes,
    name: str,
    *,
    formats: tuple[str, ...] | None = None,
    missing: str = "Check file_path in the list of frames.",
) -> Image.Image:
    if formats is not None:
        Image.init()
        formats = tuple(kind for kind in formats if kind in Image.OPEN)  # some builds of Pillow have no AVIF
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
    except FileNotFoundError as error:
        raise InvalidImage(f"{name} does not exist. {missing}") from error
    except Image.DecompressionBombError as error:
        raise InvalidImage(f"{name} is larger than {MAX_PIXELS // 1_000_000} megapixels; scale it down.") from error
    except UnidentifiedImageError as error:
        raise InvalidImage(
            f"{name} is not an image that can be read: {_what_it_is(source)}. Use PNG or JPEG."
        ) from error
    except _DAMAGE as error:
        raise InvalidImage(f"{name} is not an image that can be read ({error}). Use PNG.") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise InvalidImage(
            f"{name} is {size} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read. Scale it down."
        )
    return image


def _what_it_is(source: Path | bytes) -> str:
    """In words, of what is no image, by its content: its name may say anything."""
    if isinstance(source, bytes):
        start = source[:64]
    else:
        with source.open("rb") as file:
            start = file.read(64)
    if not start:
        return "it is empty"
    for first, what in _OTHERS.items():
        if start.startswith(first):
            return f"it is {what}"
    if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start):
        return "it holds text"
    return f"it begins with the bytes {start[:8].hex(' ')}"
