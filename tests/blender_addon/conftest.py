"""Two homes for these tests: the usual environment (core only) and Blender's own Python (everything).

Blender's user folder is a temporary one, so nobody's settings are read or written.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.blender_addon import extension

ROOT = Path(__file__).resolve().parents[2]
HAS_BPY = importlib.util.find_spec("bpy") is not None

if HAS_BPY:
    extension.use_folder(tempfile.mkdtemp(prefix="mvgamba-blender-"))


def pytest_unconfigure() -> None:
    if HAS_BPY:
        shutil.rmtree(os.environ["BLENDER_USER_RESOURCES"], ignore_errors=True)


@pytest.fixture(scope="session")
def addon() -> SimpleNamespace:
    """The extension, enabled in Blender from a copy of the source as an extension of the user's repository."""
    pytest.importorskip("bpy", reason="needs Blender's Python")
    extension.enable()
    module = extension.module
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
