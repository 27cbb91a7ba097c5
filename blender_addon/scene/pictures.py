"""Image datablocks as files that a backend takes: PNG, RGB or RGBA of 8 bits, straight alpha."""

import logging
from pathlib import Path

import bpy

from ..core.errors import AddonError
from ..core.i18n import tr
from .temporary import temporary_datablocks

log = logging.getLogger(__name__)

MAX_EDGE = 2048
"""Pixels of the longer side; larger pictures are scaled down, no generator looks at more."""
MAX_PIXELS = 64_000_000
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".tif", ".tiff", ".exr", ".hdr")


def write_picture(image: bpy.types.Image, path: Path, *, max_edge: int = MAX_EDGE) -> Path:
    """Write what an image datablock shows to `path`. The datablock, and the settings of the file, stay as they are.

    Raises:
        AddonError: INVALID_IMAGE, when it has no pixels, too many of them, or is not one picture.
    """
    check_picture(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_datablocks() as created:
        scene = bpy.data.scenes.new("MVGamba Picture")
        created.append(scene)
        settings = scene.render.image_settings
        if hasattr(settings, "media_type"):
            settings.media_type = "IMAGE"
        settings.file_format, settings.color_depth, settings.compression = "PNG", "8", 15
        # Alpha that is no coverage (a JPEG, a picture stored without it) would be written as full anyway.
        settings.color_mode = "RGBA"
        scene.render.dither_intensity = 0.0
        scene.display_settings.display_device = "sRGB"
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        try:
            image.save_render(str(path), scene=scene)
        except RuntimeError as error:
            text = tr('"{name}" could not be written: {why}').format(name=image.name, why=error)
            raise AddonError("INVALID_IMAGE", text) from error
    if not path.is_file():
        raise AddonError("INVALID_IMAGE", tr('"{name}" has no pixels').format(name=image.name))
    if image.type != "RENDER_RESULT" and max(image.size) <= max_edge:
        return path
    _shrink(path, max_edge)
    return path


def check_picture(image: bpy.types.Image | None) -> None:
    """Raises: AddonError, INVALID_IMAGE, for what is not one picture."""
    if image is None:
        raise AddonError("INVALID_IMAGE", tr("a row of the list has no image"))
    if image.source not in ("FILE", "GENERATED", "VIEWER"):
        raise AddonError("INVALID_IMAGE", tr('"{name}" is not one picture: use a single image').format(name=image.name))
    if image.type == "RENDER_RESULT":
        return  # its size is only told where it is shown
    width, height = image.size
    if not image.has_data and width == 0:
        raise AddonError("INVALID_IMAGE", tr('"{name}" has no pixels: is its file missing').format(name=image.name))
    if width * height > MAX_PIXELS:
        raise AddonError(
            "INVALID_IMAGE",
            tr('"{name}" has {width} x {height} pixels: at most 64 million are taken').format(
                name=image.name, width=width, height=height
            ),
        )


def fit_picture(source: Path, path: Path, *, width: int, height: int) -> Path:
    """A picture file as a PNG of exactly this size, for a view that a person replaces. Raises: AddonError, INVALID_IMAGE."""
    with temporary_datablocks() as created:
        created.append(load_picture(source))
        write_picture(created[0], path, max_edge=1 << 16)
    _scaled(path, width, height)
    return path


def load_picture(path: Path) -> bpy.types.Image:
    """A datablock of a picture file. Raises: AddonError, INVALID_IMAGE."""
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise AddonError("INVALID_IMAGE", tr("{name} cannot be read as a picture").format(name=path.name)) from error
    if image.size[0] == 0 or image.source == "MOVIE":
        bpy.data.images.remove(image)
        raise AddonError("INVALID_IMAGE", tr("{name} cannot be read as a picture").format(name=path.name))
    return image


def _shrink(path: Path, max_edge: int) -> None:
    with temporary_datablocks() as created:
        created.append(bpy.data.images.load(str(path)))
        width, height = created[0].size
    longer = max(width, height)
    if longer > max_edge:
        _scaled(path, max(1, round(width * max_edge / longer)), max(1, round(height * max_edge / longer)))


def _scaled(path: Path, width: int, height: int) -> None:
    with temporary_datablocks() as created:
        image = bpy.data.images.load(str(path))
        created.append(image)
        if tuple(image.size) != (width, height):
            image.scale(width, height)
            image.save(filepath=str(path))
