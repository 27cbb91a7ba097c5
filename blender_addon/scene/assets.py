"""Results in the Asset Browser: marked in this file, or written to a library as a small file of their own."""

import logging
import os
import re
from pathlib import Path

import bpy

from ..core.errors import AddonError
from ..core.file_names import file_stem, unused
from ..core.i18n import tr
from .stand_in import stand_in

log = logging.getLogger(__name__)

CATALOG_ID = "4b56f439-b1c3-550a-9bb2-84f34ec227ce"
CATALOG_FILE = "blender_assets.cats.txt"
_CATALOG_LINE = f"{CATALOG_ID}:MVGamba:MVGamba"
_MOST_WORDS = 6
_SMALL_WORDS = frozenset(("and", "for", "from", "into", "its", "the", "with", "without"))


def mark_asset(
    obj: bpy.types.Object, *, preview: Path | None = None, license: str = "", copyright: str = "", author: str = ""
) -> None:
    """Make a result an asset of the open file: description, tags, catalog and picture. What the user has filled in stays.

    Args:
        preview: A picture of it; without one Blender draws its own.
    """
    if obj.asset_data is None:
        obj.asset_mark()
    data, own = obj.asset_data, obj.mvgamba
    data.description = data.description or own.prompt or obj.name
    for tag in ("MVGamba", own.kind.capitalize(), *main_words(own.prompt or obj.name)):
        data.tags.new(tag, skip_if_exists=True)
    data.catalog_id = CATALOG_ID if int(data.catalog_id.replace("-", "") or "0", 16) == 0 else data.catalog_id
    for name, value in (("license", license), ("copyright", copyright), ("author", author)):
        if value and hasattr(data, name):
            setattr(data, name, value)
    _set_preview(obj, preview)


def main_words(text: str) -> list[str]:
    """The words of a prompt that tell assets apart, in small letters, each once."""
    words = [word.lower() for word in re.findall(r"[^\W\d_]{3,}", text)]
    return list(dict.fromkeys(word for word in words if word not in _SMALL_WORDS))[:_MOST_WORDS]


def save_to_library(
    obj: bpy.types.Object,
    folder: Path,
    *,
    preview: Path | None = None,
    write_catalog: bool = False,
    license: str = "",
    copyright: str = "",
    author: str = "",
) -> Path:
    """Write a result as an asset into a .blend of its own in an asset library. The open file stays as it is.

    Args:
        folder: Of the library.
        write_catalog: Also add the catalog "MVGamba" to the library, if it has none.
    Raises:
        AddonError: OUTPUT_FAILED.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(folder / f"{file_stem(obj.name)}.blend")
        with stand_in(obj) as copy:
            mark_asset(copy, preview=preview, license=license, copyright=copyright, author=author)
            bpy.data.libraries.write(str(path), {copy}, path_remap="ABSOLUTE", fake_user=True, compress=True)
        if write_catalog:
            add_catalog(folder)
    except (OSError, RuntimeError) as error:
        raise AddonError("OUTPUT_FAILED", str(error)) from error
    return path


def add_catalog(folder: Path) -> bool:
    """Add our catalog to those of a library; whether it was not there.

    Raises:
        AddonError: OUTPUT_FAILED, when the list is of a version that this one does not know, or cannot be written.
    """
    path = folder / CATALOG_FILE
    try:
        text = (
            path.read_text(encoding="utf-8") if path.exists() else "# Catalogs of this asset library\n\nVERSION 1\n\n"
        )
        if CATALOG_ID in text:
            return False
        if not re.search(r"^VERSION 1\s*$", text, re.MULTILINE):
            raise AddonError("OUTPUT_FAILED", tr("{name} is of an unknown version").format(name=CATALOG_FILE))
        part = path.with_name(f"{path.name}.part")
        part.write_text(f"{text.rstrip()}\n{_CATALOG_LINE}\n", encoding="utf-8", newline="\n")
        os.replace(part, path)
    except (OSError, UnicodeDecodeError) as error:
        raise AddonError("OUTPUT_FAILED", str(error)) from error
    return True


def library_folders(context: bpy.types.Context) -> list[tuple[str, Path]]:
    """The user's asset libraries, by name."""
    libraries = context.preferences.filepaths.asset_libraries
    return [(library.name, Path(bpy.path.abspath(library.path))) for library in libraries if library.path]


def _set_preview(obj: bpy.types.Object, path: Path | None) -> None:
    if path is not None and path.is_file():
        try:
            with bpy.context.temp_override(id=obj):
                bpy.ops.ed.lib_id_load_custom_preview(filepath=str(path))
            return
        except RuntimeError as error:
            log.info("the preview is drawn by Blender: %s", error)
    obj.asset_generate_preview()
