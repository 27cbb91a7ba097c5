"""Where the extension keeps its files: never beside its code, which an upgrade wipes."""

from pathlib import Path

import bpy

ROOT_PACKAGE = __package__.rpartition(".")[0]


def user_folder(name: str) -> Path:
    """A folder of ours in the user's extension data, made on demand."""
    if ROOT_PACKAGE.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path=name, create=True))
    # Enabled from a source tree, as developers do, there is no extension to ask.
    folder = Path(bpy.utils.resource_path("USER")) / "mvgamba" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
