"""Two homes for these tests: the usual environment (core only) and Blender's own Python (everything).

Blender's user folder is a temporary one, so nobody's settings are read or written.
"""

import importlib
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = "bl_ext.user_default.mvgamba"
HAS_BPY = importlib.util.find_spec("bpy") is not None

if HAS_BPY:
    os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="mvgamba-blender-")


def pytest_unconfigure() -> None:
    if HAS_BPY:
        shutil.rmtree(os.environ["BLENDER_USER_RESOURCES"], ignore_errors=True)


@pytest.fixture(scope="session")
def addon() -> SimpleNamespace:
    """The extension, enabled in Blender from a copy of the source as an extension of the user's repository."""
    bpy = pytest.importorskip("bpy")
    folder = Path(os.environ["BLENDER_USER_RESOURCES"]) / "extensions" / "user_default" / "mvgamba"
    if not folder.exists():
        shutil.copytree(ROOT / "blender_addon", folder, ignore=shutil.ignore_patterns("__pycache__", "build_addon.py"))
    assert bpy.ops.preferences.addon_enable(module=MODULE) == {"FINISHED"}

    def module(name: str):
        return importlib.import_module(f"{MODULE}.{name}")

    return SimpleNamespace(
        module=module,
        api=module("api"),
        capture=module("scene.capture"),
        place=module("scene.place"),
        session=module("scene.session").session,
        jobs=module("core.jobs"),
        request=module("core.request"),
        errors=module("core.errors"),
        axes=module("core.axes"),
        cameras=module("core.cameras"),
    )


@pytest.fixture
def scene(addon):
    """An empty scene."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return bpy.context.scene


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
