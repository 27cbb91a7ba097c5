"""Two homes for these tests: the usual environment (core only) and Blender's own Python (everything).

Blender's user folder is a temporary one, so nobody's settings are read or written.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from types import SimpleNamespace

import pytest

from tests.blender_addon import extension

HAS_BPY = importlib.util.find_spec("bpy") is not None

if HAS_BPY:
    extension.use_folder(tempfile.mkdtemp(prefix="mvgamba-blender-"))


_status = 0


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    global _status
    _status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if HAS_BPY:
        shutil.rmtree(os.environ["BLENDER_USER_RESOURCES"], ignore_errors=True)
        # Blender as a module may crash or hang while Python takes it down, after all tests have passed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


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


@pytest.fixture(scope="module")
def fake_backend(addon):
    """All jobs of a file of tests go to one backend with the fake pipeline."""
    extension.use_backend_arguments("--pipeline fake")
    yield
    addon.session().stop_backend()
    extension.use_backend_arguments("")


@pytest.fixture
def scene(addon):
    """An empty scene."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return bpy.context.scene


@pytest.fixture
def request_for(addon):
    """Makes the request of a job from some sources; keywords are those of `make_target`."""
    import bpy

    def request_for(*sources, **placement):
        target = addon.module("scene.target").make_target(bpy.context, sources, **placement)
        return addon.request.JobRequest("barrel", (), addon.request.JobOptions(seed=41), target, {"views": 8})

    return request_for


@pytest.fixture
def preferences(addon, scene, monkeypatch):
    """Of the extension, with the fake pipeline on this machine; all as it was afterwards."""
    from tests.blender_addon.backend_page import CHANGED, own, wait

    monkeypatch.delenv("MVGAMBA_TOKEN", raising=False)
    addon.session().stop_backend()
    own().backend_arguments = "--pipeline fake"
    addon.module("ui.preferences").check_backend()
    yield own()
    for row in addon.session().board.rows:
        addon.session().cancel(row)
    wait(addon, lambda: not addon.session().board.num_active)
    addon.session().board.rows.clear()
    addon.session().stop_backend()
    for name in CHANGED:
        own().property_unset(name)
    addon.module("ui.preferences").check_backend()


@pytest.fixture
def ui(addon):
    """Modules of the panels around the backend."""
    names = ("backend", "setup", "diagnostics", "preferences", "main", "jobs", "remedies")
    return SimpleNamespace(**{name: addon.module(f"ui.{name}") for name in names})


@pytest.fixture
def make(addon, preferences, scene):
    """Sends a job of words; what the fake pipeline shall do is written into them."""

    def make(prompt="a barrel", **options):
        options = addon.request.JobOptions(**{"quality": "draft", **options})
        return addon.api.generate_from(addon.request.TextInput(prompt), options=options, wait=False)

    return make
