"""Thumbnails of a capture, and the preset that replaces a subject by a light prop."""

import time

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = pytest.mark.blender


@pytest.fixture
def preview(addon, scene):
    return addon.module("ui.capture_preview")


@pytest.fixture
def subject(scene):
    cube = props.add_cube()
    cube.select_set(True)
    bpy.context.view_layer.objects.active = cube
    return cube


def test_four_small_pictures_are_taken_and_the_file_is_left_alone(preview, scene, subject):
    before = props.state_of_file()
    assert bpy.ops.mvgamba.capture_preview() == {"FINISHED"}
    assert props.state_of_file() == before
    assert len(preview._paths) == 4
    for path in preview._paths:
        assert props.read(path).shape == (128, 128, 4)


def test_a_window_does_not_wait_for_them(addon, preview, scene, subject):
    began = time.monotonic()
    paths = preview.begin(bpy.context, apart=True)
    assert not any(path.exists() for path in paths)
    assert time.monotonic() - began < 5.0 and preview._render is not None
    assert addon.jobs.wait_until(addon.session().pump, lambda: not preview.is_running(), timeout=60)
    assert all(path.is_file() for path in paths) and preview._problem == ""


def test_another_request_ends_the_one_before(addon, preview, scene, subject):
    preview.begin(bpy.context, apart=True)
    first = preview._render
    preview.begin(bpy.context, apart=True)
    assert preview._render not in (first, None)
    assert addon.jobs.wait_until(addon.session().pump, lambda: not preview.is_running(), timeout=60)
    assert all(path.is_file() for path in preview._paths)
    assert addon.jobs.wait_until(addon.session().pump, lambda: not addon.session().client.is_busy, timeout=10)


def test_what_goes_wrong_is_shown(addon, preview, scene, subject, monkeypatch):
    monkeypatch.setattr(addon.capture, "blender_command", lambda: ("/nowhere/blender",))
    preview.begin(bpy.context, apart=True)
    assert addon.jobs.wait_until(addon.session().pump, lambda: not preview.is_running(), timeout=10)
    assert "could not be started" in preview._problem and preview._paths == ()
    monkeypatch.undo()
    preview.begin(bpy.context)
    assert preview._problem == ""


def test_nothing_selected_is_said(scene):
    with pytest.raises(RuntimeError, match="Select an object to capture"):
        bpy.ops.mvgamba.capture_preview()


@pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND")
def test_the_prop_preset_sends_a_light_job_that_stores_its_source(addon, scene, subject):
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    preferences.backend_arguments = "--pipeline fake"
    addon.module("ui.preferences").check_backend()
    scene.mvgamba.source, scene.mvgamba.capture_size, scene.mvgamba.capture_views = "TEXT", "256", "4"
    try:
        assert bpy.ops.mvgamba.replace_by_prop() == {"FINISHED"}
        (row,) = addon.session().board.rows
        options, target = row.request.options, row.request.target
        assert (options.target_faces, options.texture_size) == (5000, 1024)
        assert (target.mode, target.source_after) == ("MATCH", "STORE")
        assert addon.jobs.wait_until(addon.session().pump, lambda: not row.is_active, timeout=30)
        assert row.state is addon.jobs.JobState.PLACED, row.text
        assert not subject.visible_get() and subject.name in bpy.data.objects
    finally:
        addon.session().board.rows.clear()
        addon.session().stop_backend()
        preferences.backend_arguments = ""
