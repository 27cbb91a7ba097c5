"""Where the extension keeps its files: never beside its code, which an upgrade wipes."""

from pathlib import Path

import bpy

from ..core.errors import AddonError

ROOT_PACKAGE = __package__.rpartition(".")[0]


def user_folder(name: str) -> Path:
    """A folder of ours in the user's extension data, made on demand. Raises: AddonError, FOLDER_NOT_WRITABLE."""
    if ROOT_PACKAGE.startswith("bl_ext."):
        folder = Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path=name))
    else:  # enabled from a source tree, as developers do, there is no extension to ask
        folder = Path(bpy.utils.resource_path("USER")) / "mvgamba" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AddonError("FOLDER_NOT_WRITABLE", f"{folder}: {error.strerror or error}") from error
    return folder
