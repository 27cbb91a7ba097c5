"""Images of a stage as the user sees them: a renderer reads files, and not all that is shown lies in one.

Saved, packed and generated images, their tiles, sequences and movies come right by themselves. What was painted since, and
what has lost its file, is only in memory: such an image gets a twin, packed, that the copied materials show instead.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from ..core.errors import AddonError
from ..core.i18n import tr

log = logging.getLogger(__name__)

_LAST_TILE = 2000
"""The highest number that Blender gives a tile."""
_ENDINGS = {"OPEN_EXR": ".exr", "JPEG": ".jpg", "TARGA": ".tga", "TIFF": ".tif", "HDR": ".hdr", "WEBP": ".webp"}


_CAN_COPY = "save_copy" in bpy.types.Image.bl_rna.functions["save"].parameters
"""Whether an image can be written without becoming what was written; not in 4.2 and 4.3."""


def show_images(created: list[bpy.types.ID]) -> tuple[str, ...]:
    """Let the copied materials and worlds in `created` show what the user sees; twins are added to the list.

    Gives the names of images that have lost their file and show nothing.

    Raises:
        AddonError: CAPTURE_FAILED, naming a painted image that cannot be read.
    """
    twins: dict[bpy.types.Image, bpy.types.Image | None] = {}
    lost: dict[str, None] = {}
    for node in list(_image_nodes(created)):
        image = node.image
        if image not in twins:
            twins[image] = _twin(image, created)
        if twins[image] is not None:
            node.image = twins[image]
        elif _has_lost_file(image, node.image_user):
            lost[image.name] = None
    return tuple(lost)


def would_lose_paint() -> bool:
    """Whether a render in this process might make Blender forget what was painted: without a window 4.5 reads files anew."""
    return any(image.is_dirty and image.source != "GENERATED" for image in bpy.data.images)


def _image_nodes(created: list[bpy.types.ID]) -> Iterator[bpy.types.Node]:
    for item in created:
        tree = item if isinstance(item, bpy.types.NodeTree) else None
        if isinstance(item, bpy.types.Material | bpy.types.World | bpy.types.Light):
            tree = item.node_tree
        if tree is not None:
            yield from (node for node in tree.nodes if getattr(node, "image", None) is not None)


def _twin(image: bpy.types.Image, created: list[bpy.types.ID]) -> bpy.types.Image | None:
    """A packed copy of what is in memory, where that is not what a renderer would read."""
    if image.source == "TILED":
        if image.is_dirty:
            if not _CAN_COPY:
                text = tr(
                    'the tiles of "{name}" were painted: save the image, this version of Blender can read no others'
                )
                raise AddonError("CAPTURE_FAILED", text.format(name=image.name))
            return _tiled_twin(image, created)
        if image.filepath or len(image.packed_files) or _CAN_COPY:
            return None
        made = image.copy()  # a renderer of 4.2 and 4.3 may know no generated tiles
        created.append(made)
        return _tiled_twin(made, created)
    if not image.has_data or image.source not in ("FILE", "GENERATED"):
        return None
    if not image.is_dirty and not _has_lost_file(image, None):
        return None
    width, height = image.size
    twin = bpy.data.images.new(image.name, width, height, alpha=True, float_buffer=image.is_float)
    created.append(twin)
    _look_alike(twin, image)
    pixels = np.empty(image.channels * width * height, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    twin.pixels.foreach_set(_rgba(pixels.reshape(-1, image.channels)).ravel())
    twin.pack()
    return twin


def _tiled_twin(image: bpy.types.Image, created: list[bpy.types.ID]) -> bpy.types.Image:
    """Python reads the pixels of the first tile only, but Blender writes them all."""
    numbers = [tile.number for tile in image.tiles]
    with tempfile.TemporaryDirectory(prefix="mvgamba-tiles-") as folder:
        pattern = Path(folder) / f"tile.<UDIM>{_ENDINGS.get(image.file_format, '.png')}"
        files = {number: pattern.with_name(pattern.name.replace("<UDIM>", str(number))) for number in numbers}
        _write_tiles(image, pattern)
        for number, path in files.items():
            if not path.is_file():
                text = tr('tile {number} of "{name}" has no picture: remove it, or save the image')
                raise AddonError("CAPTURE_FAILED", text.format(number=number, name=image.name))
        twin = bpy.data.images.load(str(files[numbers[0]]), check_existing=False)
        created.append(twin)
        twin.source, twin.filepath = "TILED", str(pattern)
        for number in numbers:
            if twin.tiles.get(number) is None:
                twin.tiles.new(number)
        for tile in [tile for tile in twin.tiles if tile.number not in files]:
            twin.tiles.remove(tile)
        _look_alike(twin, image)
        twin.pack()
    return twin


def _write_tiles(image: bpy.types.Image, pattern: Path) -> None:
    """Write a copy of each tile; the image stays as it is.

    Once all tiles are written Blender forgets which of them were generated, though it was to write a copy: they would be
    gone when the file is opened again. An empty tile at the end stops it short of that. Packed tiles know no such mark, and
    would all be unpacked when a tile is removed.
    """
    active, guard = image.tiles.active_index, None
    if image.tiles[-1].number < _LAST_TILE and not len(image.packed_files):
        guard = image.tiles.new(_LAST_TILE)
    try:
        with contextlib.suppress(RuntimeError):  # the empty tile; whoever called looks for those that count
            image.save(filepath=str(pattern), quality=100, **({"save_copy": True} if _CAN_COPY else {}))
    finally:
        if guard is not None:
            image.tiles.remove(guard)
        image.tiles.active_index = active


def _look_alike(twin: bpy.types.Image, image: bpy.types.Image) -> None:
    twin.colorspace_settings.name = image.colorspace_settings.name
    twin.alpha_mode = image.alpha_mode


def _rgba(pixels: np.ndarray) -> np.ndarray:
    """(N, 4) of pixels with one to four channels."""
    count = pixels.shape[1]
    if count == 4:
        return pixels
    color = pixels[:, :3] if count == 3 else np.repeat(pixels[:, :1], 3, axis=1)
    return np.concatenate([color, np.ones((len(pixels), 1), dtype=np.float32)], axis=1)


def _has_lost_file(image: bpy.types.Image, user: bpy.types.ImageUser | None) -> bool:
    """Whether the file that an image is read from is gone."""
    if image.source not in ("FILE", "SEQUENCE", "MOVIE", "TILED") or len(image.packed_files) or not image.filepath:
        return False
    if image.source == "TILED":
        if any(getattr(tile, "is_generated_tile", False) for tile in image.tiles):
            return False
        path = image.filepath.replace("<UDIM>", str(image.tiles[0].number))
    else:
        path = image.filepath if user is None else image.filepath_from_user(image_user=user)
    return not Path(bpy.path.abspath(path, library=image.library)).is_file()
