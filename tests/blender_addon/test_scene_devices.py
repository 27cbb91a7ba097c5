"""Where a job is computed and how much memory it may hold, as a person chooses it."""

import contextlib
import json
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, wait  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


@pytest.fixture
def two_devices(addon, preferences, ui, monkeypatch):
    """A backend that plays two CUDA devices, when it has said so."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    preferences.backend_arguments = "--pipeline fake --fake-devices 2"
    bpy.ops.mvgamba.backend_start()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Ready")


def choices(settings):
    """What the menu of devices offers."""
    try:
        settings.device_choice = "no such device"
    except TypeError as error:
        return str(error).partition(" not found in ")[2]
    raise AssertionError("anything is taken")


def device_of(row):
    """Which device computed a job, as its worker says."""
    (result,) = json.loads((Path(row.result_path).parent / "facts.json").read_text())["results"]
    return result["device"]


def advanced(ui, settings, source):
    settings.source = source
    calls = []
    panel = ui.main.MVGAMBA_PT_advanced
    assert panel.poll(bpy.context)
    panel.draw(type("Panel", (), {"layout": LayoutRecorder(calls)})(), bpy.context)
    return [arguments[1] for name, arguments, _ in calls if name == "prop"]


def test_memory_and_device_can_be_chosen_for_every_source(addon, preferences, ui):
    settings = bpy.context.scene.mvgamba
    assert advanced(ui, settings, "CAPTURE") == ["memory", "device_choice"]
    for source in ("TEXT", "IMAGE"):
        assert advanced(ui, settings, source)[-2:] == ["memory", "device_choice"]


def test_what_is_chosen_is_sent_stored_and_comes_back(addon, two_devices, ui):
    settings = bpy.context.scene.mvgamba
    settings.source, settings.prompt, settings.quality = "TEXT", "a barrel", "DRAFT"
    settings.memory, settings.device_choice = "LOW", "cuda:1"
    assert bpy.ops.mvgamba.generate() == {"FINISHED"}
    row = end_of(addon, addon.session().board.rows[0])
    assert row.state is addon.jobs.JobState.PLACED, row.text
    assert (row.request.options.memory_mib, row.request.options.device) == (2048, "cuda:1")
    assert device_of(row) == "card 1"
    settings.memory, settings.device_choice = "HIGH", "AUTO"
    assert settings.job_options().device == "auto" and settings.device == ""
    assert bpy.ops.mvgamba.load_settings() == {"FINISHED"}
    assert (settings.memory, settings.device, settings.device_choice) == ("LOW", "cuda:1", "cuda:1")
    again = addon.api.regenerate(bpy.context.view_layer.objects.active)
    assert (again.request.options.memory_mib, again.request.options.device) == (2048, "cuda:1")
    assert end_of(addon, again).state is addon.jobs.JobState.PLACED


def test_two_jobs_of_one_blender_run_at_once_on_two_devices(addon, two_devices, make):
    running = addon.jobs.JobState.RUNNING
    rows = [make("#slow:20"), make("#slow:20")]
    assert wait(addon, lambda: all(row.state is running for row in rows))


def test_the_menu_offers_what_the_backend_says_and_keeps_what_was_chosen(addon, two_devices, ui):
    settings = bpy.context.scene.mvgamba
    assert choices(settings) == "('AUTO', 'cpu', 'cuda:0', 'cuda:1')"
    settings.device = "cuda:7"
    assert settings.device_choice == "cuda:7" and choices(settings).endswith("'cuda:1', 'cuda:7')")
    bpy.ops.mvgamba.backend_unload()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Stopped")
    assert settings.device_choice == "cuda:7" and choices(settings) == "('AUTO', 'cuda:7')"
    assert ui.backend.hint(bpy.context) == "", "nobody knows yet"


def test_a_device_that_the_backend_lacks_is_said_before_and_after(addon, two_devices, ui, make):
    settings = bpy.context.scene.mvgamba
    settings.device = "cuda:7"
    assert ui.backend.hint(bpy.context).startswith("The backend has no device cuda:7, choose another one")
    row = make(device="cuda:7")
    assert row.log_lines == ["The backend has no device cuda:7"]
    end_of(addon, row)
    assert row.reason == "UNAVAILABLE" and "There is no device cuda:7 here; there are cuda:0, cuda:1, cpu." in row.text
    assert operators(drawn(ui.remedies.draw_remedies, row)) == ["mvgamba.retry_any_device", "mvgamba.open_log"]
    assert bpy.ops.mvgamba.retry_any_device(request_id=row.id) == {"FINISHED"}
    again = addon.session().board.rows[0]
    assert end_of(addon, again).state is addon.jobs.JobState.PLACED and again.log_lines == []
    settings.device = "cuda:1"
    assert ui.backend.hint(bpy.context) == ""


def test_a_request_of_a_script_keeps_its_own_numbers(addon, two_devices, make):
    row = end_of(addon, make(memory_mib=3000, device="cpu"))
    assert row.state is addon.jobs.JobState.PLACED and device_of(row) == "cpu"
    settings = bpy.context.scene.mvgamba
    with contextlib.suppress(RuntimeError):
        bpy.ops.mvgamba.load_settings()
    assert (settings.memory, settings.device_choice) == ("LOW", "cpu"), "the panel's word takes no more than was asked"
    again = addon.api.regenerate(bpy.context.view_layer.objects.active)
    assert again.request.options.memory_mib == 3000
    end_of(addon, again)
