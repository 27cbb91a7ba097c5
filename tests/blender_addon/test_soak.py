"""Jobs by the dozen with undo, loading, killing and disabling in between; MVGAMBA_SOAK_JOBS for more of them."""

import os
import sys
import time

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, soak  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a thing of POSIX"),
]

JOBS = int(os.environ.get("MVGAMBA_SOAK_JOBS", "30"))
SEED = int(os.environ.get("MVGAMBA_SOAK_SEED", "1"))


def use_fake_backend():
    bpy.context.preferences.addons[extension.MODULE].preferences.backend_arguments = "--pipeline fake"
    extension.module("ui.preferences").check_backend()


@pytest.mark.slow
def test_nothing_breaks_and_nothing_is_left(addon):
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    use_fake_backend()
    run = soak.Soak(extension.module, use_fake_backend, jobs=JOBS, seed=SEED)
    for pause in run.steps():
        end = time.monotonic() + pause
        while True:
            extension.module("scene.session").session().pump()
            if time.monotonic() >= end:
                break
            time.sleep(0.01)
    print(run.report)
    assert not soak.problems(run.report), run.report
