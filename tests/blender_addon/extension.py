"""The extension, enabled from a copy of the source in the user folder of a Blender that has nobody else's settings."""

import contextlib
import importlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
MODULE = "bl_ext.user_default.mvgamba"


def use_folder(folder: str | Path) -> None:
    """Keep Blender's settings and extensions in `folder`; to be called before bpy is imported."""
    Path(folder).mkdir(parents=True, exist_ok=True)  # Blender passes over a folder that does not exist
    os.environ["BLENDER_USER_RESOURCES"] = str(folder)


def enable() -> None:
    """Copy the source to where Blender looks for extensions, and enable it."""
    import bpy

    folder = Path(os.environ["BLENDER_USER_RESOURCES"]) / "extensions" / "user_default" / "mvgamba"
    if not folder.exists():
        shutil.copytree(ROOT / "blender_addon", folder, ignore=shutil.ignore_patterns("__pycache__", "build_addon.py"))
    if bpy.ops.preferences.addon_enable(module=MODULE) != {"FINISHED"}:
        raise RuntimeError(f"Blender did not enable {MODULE}")


def module(name: str) -> ModuleType:
    """A module of the enabled extension, such as `scene.capture`."""
    return importlib.import_module(f"{MODULE}.{name}")


def use_backend_arguments(arguments: str) -> None:
    """What the local backend is started with from now on, such as `--pipeline fake`."""
    import bpy

    # Looked up anew each time: a reference does not outlive that the extension is disabled.
    bpy.context.preferences.addons[MODULE].preferences.backend_arguments = arguments
    module("ui.preferences").check_backend()


def backend_command() -> list[str] | None:
    """How to start a backend here: MVGAMBA_BACKEND, or the environment that `make` builds beside the source."""
    if os.environ.get("MVGAMBA_BACKEND"):
        return shlex.split(os.environ["MVGAMBA_BACKEND"])
    folder = "Scripts" if sys.platform == "win32" else "bin"
    for name in ("mvgamba-backend", "mvgamba-backend.exe"):
        path = ROOT / ".venv" / folder / name
        if path.is_file():
            return [str(path)]
    found = shutil.which("mvgamba-backend")
    return [found] if found else None


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        with contextlib.suppress(FileNotFoundError):  # only Linux has it
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    return True
