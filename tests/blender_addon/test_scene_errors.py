"""What goes wrong with jobs: its sentences, and the buttons that help."""

import socket

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, wait  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


OF_JOBS = {
    "#fail:OUT_OF_MEMORY": ("Not enough memory", ["retry_low_memory", "backend_unload"]),
    "#fail:EMPTY_RECONSTRUCTION": ("The result has no surface", ["new_seed", "retry_with_review"]),
    "#fail:DISK_FULL": ("Disk is full", ["change_folder", "retry"]),
    "#fail:NO_CUDA_DEVICE": ("No NVIDIA GPU was found", ["use_remote", "open_preferences"]),
    "#fail:UNSUPPORTED_DEVICE": ("The GPU is not supported", ["use_remote", "open_preferences"]),
    "#fail:DRIVER_TOO_OLD": ("The NVIDIA driver is too old", ["use_remote", "copy_diagnostics"]),
    "#fail:WEIGHTS_MISSING": ("Weights are missing", ["weights_download", "open_preferences"]),
    "#fail:WEIGHTS_CORRUPT": ("Weights are damaged", ["weights_verify", "weights_download"]),
    "#fail:INVALID_INPUT": ("The backend could not use what it was given", ["retry"]),
    "#fail:DEADLINE_EXCEEDED": ("The backend took too long to answer", ["retry"]),
    "#fail:UNHEARD_OF": ("Backend error, see its log", ["copy_diagnostics", "open_log", "retry"]),
    "#crash": ("Backend error, see its log", ["copy_diagnostics", "open_log", "retry"]),
    "#die:refine": ("The backend's worker stopped", ["retry_low_memory", "open_log"]),
}


def test_every_way_a_job_fails_has_its_sentence_and_its_buttons(addon, preferences, ui, make):
    rows = {prompt: make(prompt) for prompt in OF_JOBS}
    for prompt, (words, buttons) in OF_JOBS.items():
        row = end_of(addon, rows[prompt])
        assert row.text.startswith(words), (prompt, row.text)
        assert operators(drawn(ui.remedies.draw_remedies, row)) == [f"mvgamba.{name}" for name in buttons], prompt


def test_the_buttons_of_a_failed_job_send_it_again_changed(addon, preferences, make):
    row = end_of(addon, make("#fail:EMPTY_RECONSTRUCTION", quality="high", texture_size=2048, variants=2, seed=5))
    expected = {
        "retry_low_memory": {"quality": "draft", "texture_size": 1024, "variants": 1, "seed": 5, "memory_mib": 2048},
        "retry_with_review": {"quality": "high", "review_views": True},
        "retry": {"quality": "high", "texture_size": 2048, "seed": 5},
    }
    for name, fields in expected.items():
        assert getattr(bpy.ops.mvgamba, name)(request_id=row.id) == {"FINISHED"}
        options = addon.session().board.rows[0].request.options
        assert {field: getattr(options, field) for field in fields} == fields
    bpy.ops.mvgamba.new_seed(request_id=row.id)
    assert addon.session().board.rows[0].request.options.seed != 5


def test_every_button_takes_the_job_that_it_stands_beside(addon):
    for remedy in addon.errors.REMEDIES.values():
        for button in remedy.buttons:
            name = button.operator.partition(".")[2]
            assert "request_id" in getattr(bpy.ops.mvgamba, name).get_rna_type().properties, name


def test_a_forced_port_that_is_taken_has_a_button(addon, preferences, ui, make):
    with socket.create_server(("127.0.0.1", 0)) as other:
        preferences.port = other.getsockname()[1]
        row = end_of(addon, make())
    assert row.reason == "PORT_IN_USE" and str(preferences.port) in row.text
    assert operators(drawn(ui.remedies.draw_remedies, row))[0] == "mvgamba.use_automatic_port"
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).reason == "PORT_IN_USE")
    assert "mvgamba.use_automatic_port" in operators(drawn(ui.backend.draw_hint, bpy.context))
    bpy.ops.mvgamba.use_automatic_port()
    bpy.ops.mvgamba.retry(request_id=row.id)
    assert end_of(addon, addon.session().board.rows[0]).state is addon.jobs.JobState.PLACED


def test_a_backend_that_stops_says_its_last_line(addon, preferences, ui, make):
    preferences.backend_arguments = "--no-such-option"
    row = end_of(addon, make())
    assert row.reason == "BACKEND_START_FAILED" and "--no-such-option" in row.text
    assert operators(drawn(ui.remedies.draw_remedies, row)) == ["mvgamba.open_log", "mvgamba.copy_diagnostics"]


def test_a_folder_that_cannot_be_used_has_a_button(addon, preferences, ui, make, tmp_path):
    (tmp_path / "file").touch()
    preferences.data_folder = str(tmp_path / "file" / "data")
    row = end_of(addon, make())
    assert row.reason == "FOLDER_NOT_WRITABLE"
    bpy.ops.mvgamba.change_folder("EXEC_DEFAULT", directory=str(tmp_path / "Daten ü"))
    bpy.ops.mvgamba.retry(request_id=row.id)
    assert end_of(addon, addon.session().board.rows[0]).state is addon.jobs.JobState.PLACED
    assert (tmp_path / "Daten ü").is_dir()


def test_an_old_backend_asks_for_an_update(addon, preferences, ui, make, tmp_path):
    program = tmp_path / "old-backend"
    program.write_text("""#!/bin/sh\necho '{"port": 1, "version": "0.0.9", "api": ["v1"]}'\nexec sleep 60\n""")
    program.chmod(0o755)
    preferences.backend_path = str(program)
    row = end_of(addon, make())
    assert row.reason == "VERSION_MISMATCH" and "0.0.9" in row.text
    assert operators(drawn(ui.remedies.draw_remedies, row))[0] == "mvgamba.backend_update"
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Wrong Version")
    with pytest.raises(RuntimeError, match="not installed by Set Up"):
        bpy.ops.mvgamba.backend_update()
