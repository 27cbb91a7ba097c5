"""Images in and out: files of any usual kind -> straight sRGB and alpha, with the checks that strangers' files need."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mvgamba.errors import InvalidImage

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are unpacked."""


def read_rgba(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Read an image with transparency.

    Returns:
        float32 (H, W, 4): sRGB in [0, 1], straight, and alpha.
    Raises:
        InvalidImage: It is missing, broken, too large, or has no alpha channel.
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    with _open(source, name) as image:
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        if not has_alpha:
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
        raise InvalidImage(f"{name} is damaged and cannot be read to its end: {error}. Export it again.") from error


def _open(source: Path | bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        raise InvalidImage(f"{name} does not exist. Check file_path in the list of frames.") from error
    except Image.DecompressionBombError as error:
        raise InvalidImage(f"{name} is larger than {MAX_PIXELS // 1_000_000} megapixels; scale it down.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InvalidImage(f"{name} is not an image that can be read ({error}). Use PNG.") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise InvalidImage(
            f"{name} is {size} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read. Scale it down."
        )
    return image
