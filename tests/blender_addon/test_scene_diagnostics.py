"""What a bug report says, and what it must not."""

import json
import os

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import end_of, wait  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


def test_diagnostics_tell_no_prompt_no_picture_and_no_token(addon, preferences, ui, make, scene):
    scene.mvgamba.prompt, preferences.remote_token = "a private barrel", "s3cret-token"
    row = end_of(addon, make("a private #fail:OUT_OF_MEMORY #preview"))
    text = ui.diagnostics.collect(bpy.context)
    report = json.loads(text)
    assert report["blender"]["version"] == bpy.app.version_string and report["extension"]
    assert report["jobs"][0]["reason"] == "OUT_OF_MEMORY" and report["jobs"][0]["kind"] == "text"
    assert report["settings"]["quality"] == scene.mvgamba.quality and len(report["logs"]["backend"]) > 0
    assert report["preferences"]["backend_mode"] == "LOCAL"
    for secret in ("private", "s3cret-token", "base64", os.path.expanduser("~") + os.sep):
        assert secret not in text
    with_all = ui.diagnostics.collect(bpy.context, with_prompts=True, with_pictures=True)
    assert "a private barrel" in with_all and row.request.label in with_all and "s3cret-token" not in with_all
    assert json.loads(with_all)["pictures"][0]["base64"]


def test_diagnostics_tell_versions_of_the_backend(addon, preferences, ui):
    # that of the test before may be shown for a moment longer
    assert wait(addon, lambda: not ui.backend.current_status(bpy.context).is_answering)
    bpy.ops.mvgamba.backend_start()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Ready")
    backend = json.loads(ui.diagnostics.collect(bpy.context))["backend"]
    assert backend["version"] and backend["packages"]["numpy"] and backend["devices"]
