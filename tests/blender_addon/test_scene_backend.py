"""The backend of this machine as a person meets it in Blender: its states and its settings."""

import time

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, texts, wait  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


def test_it_starts_shows_what_it_is_and_stops(addon, preferences, ui):
    context, status = bpy.context, ui.backend.current_status
    assert status(context).word == "Stopped" and ui.backend.hint(context) == ""
    assert not bpy.ops.mvgamba.backend_stop.poll() and not bpy.ops.mvgamba.backend_unload.poll()
    bpy.ops.mvgamba.backend_start()
    assert wait(addon, lambda: status(context).word == "Ready")
    assert not bpy.ops.mvgamba.backend_start.poll()
    calls = drawn(ui.backend.draw_status_box, context)
    assert any("version" in text for text in texts(calls)) and "mvgamba.backend_stop" in operators(calls)
    assert any("starter" in text for text in texts(calls))
    assert addon.session().pump() is not None, "the timer goes on while there may be news"
    bpy.ops.mvgamba.backend_unload()
    assert wait(addon, lambda: status(context).word == "Stopped") and addon.session().pump() is None


def test_starting_and_loading_are_told_in_the_hint(addon, preferences, ui):
    bpy.ops.mvgamba.backend_start()
    hints = set()
    end = time.monotonic() + 20
    while ui.backend.current_status(bpy.context).word != "Ready" and time.monotonic() < end:
        addon.session().pump()
        hints.add(ui.backend.hint(bpy.context))
        time.sleep(0.005)
    assert "The backend is starting, jobs wait for it" in hints


def test_the_header_shows_icon_and_word_for_every_state(addon, preferences, ui, monkeypatch):
    icons = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
    states = addon.module("core.backend_status").BackendState
    assert set(ui.backend.STATE_ICONS) == set(states) and all(icon in icons for icon in ui.backend.STATE_ICONS.values())
    status = addon.module("core.backend_status").BackendStatus
    for state in states:
        monkeypatch.setattr(addon.session(), "backend_status", status(state))
        ((name, _, options),) = drawn(ui.backend.draw_status, bpy.context)
        assert name == "label" and options["text"] == status(state).word and options["icon"] in icons


def test_memory_is_not_freed_under_a_job(addon, preferences, make):
    row = make("#slow:20")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    with pytest.raises(RuntimeError, match="A job is running"):
        bpy.ops.mvgamba.backend_unload()


def test_a_job_keeps_its_backend_when_the_settings_change(addon, preferences, make):
    row = make("#slow:2")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    pid = addon.session().backend_pid
    preferences.idle_minutes = 7
    other = make()
    assert addon.session().backend_pid != pid
    assert end_of(addon, other).state is addon.jobs.JobState.PLACED
    assert end_of(addon, row).state is addon.jobs.JobState.PLACED, row.text
    assert wait(addon, lambda: not extension.is_alive(pid), timeout=10), "nobody needs the old one any more"


def test_a_job_waits_for_a_backend_that_was_stopped_until_it_is_started(addon, preferences, ui, make):
    row = make("#slow:1")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    bpy.ops.mvgamba.backend_stop()
    assert wait(addon, lambda: row.state is addon.jobs.JobState.LOST), row.text
    time.sleep(1.2)  # it tries again after half a second
    assert addon.session().backend_pid is None
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Stopped")
    bpy.ops.mvgamba.backend_start()
    assert end_of(addon, row).state is addon.jobs.JobState.PLACED, row.text


def test_it_may_start_with_blender(addon, preferences, ui):
    ui.backend._start_with_blender()
    assert addon.session().backend_pid is None, "not unless it was asked for"
    preferences.start_mode = "BLENDER"
    ui.backend._start_with_blender()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Ready")


def test_settings_become_arguments(addon, preferences):
    backend = addon.module("scene.backend")
    assert backend.local_command(bpy.context).arguments == ("--pipeline", "fake")
    preferences.idle_minutes, preferences.log_level, preferences.port = 0, "DEBUG", 4711
    command = backend.local_command(bpy.context)
    assert command.arguments == ("--verbose", "--idle-exit", "0", "--pipeline", "fake") and command.port == 4711
    preferences.backend_arguments = 'an open "quote'
    with pytest.raises(addon.errors.AddonError, match="extra arguments"):
        backend.local_command(bpy.context)


def test_the_log_level_is_that_of_the_preferences(addon, preferences):
    import logging

    preferences.log_level = "DEBUG"
    assert logging.getLogger(extension.MODULE).getEffectiveLevel() == logging.DEBUG
    preferences.log_level = "WARNING"
    assert logging.getLogger(f"{extension.MODULE}.core.worker").getEffectiveLevel() == logging.WARNING


def test_the_preferences_draw_in_both_modes(addon, preferences, ui):
    for mode in ("LOCAL", "REMOTE"):
        preferences.backend_mode, preferences.remote_address, preferences.show_advanced = mode, "gpu.lan", True
        preferences.show_weights = True
        calls: list = []
        values = {
            name: getattr(preferences, name) for name in ("backend_mode", "show_advanced", "show_weights", "remote_tls")
        }
        panel = type("Panel", (), {**values, "layout": LayoutRecorder(calls), "bl_rna": preferences.bl_rna})()
        cls = type(preferences)
        for name in ("_draw_local", "_draw_remote"):
            setattr(panel, name, getattr(cls, name).__get__(panel))
        cls.draw(panel, bpy.context)
        shown = [arguments[1] for name, arguments, _ in calls if name == "prop"]
        assert ("remote_token" in shown) == (mode == "REMOTE") and ("backend_path" in shown) == (mode == "LOCAL")
        assert ("mvgamba.weights_refresh" in operators(calls)) == (mode == "LOCAL")
    preferences.show_advanced = preferences.show_weights = False


def test_the_token_is_hidden_in_the_preferences(addon, preferences):
    assert preferences.bl_rna.properties["remote_token"].subtype == "PASSWORD"
    for prop in preferences.bl_rna.properties:
        if prop.identifier not in ("rna_type", "name", "bl_idname"):
            assert prop.description and not prop.description.endswith("."), prop.identifier
