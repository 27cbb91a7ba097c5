"""The backend as a person meets it in Blender: its states, its errors with their buttons, remote ones, the set-up."""

import json
import os
import shutil
import socket
import sys
import time
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, props  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402
from tests.blender_addon.test_remote import TOKEN, make_certificate, start  # noqa: E402
from tests.blender_addon.test_setup import make_wheel  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]

CHANGED = (
    "backend_mode",
    "start_mode",
    "backend_path",
    "backend_arguments",
    "port",
    "data_folder",
    "idle_minutes",
    "log_level",
)
CHANGED += ("remote_address", "remote_tls", "remote_ca_file", "remote_token", "remote_hosts")
CHANGED += ("setup_folder", "setup_package", "setup_wheels", "setup_python")


def own():
    # Looked up anew each time: a reference does not outlive that the extension is disabled.
    return bpy.context.preferences.addons[extension.MODULE].preferences


@pytest.fixture
def preferences(addon, scene, monkeypatch):
    """The fake pipeline on this machine; all as it was afterwards."""
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
    names = ("backend", "setup", "diagnostics", "preferences", "main", "jobs", "remedies")
    return SimpleNamespace(**{name: addon.module(f"ui.{name}") for name in names})


@pytest.fixture
def make(addon, preferences, scene):
    """Sends a job of words; what the fake pipeline shall do is written into them."""

    def make(prompt="a barrel", **options):
        options = addon.request.JobOptions(**{"quality": "draft", **options})
        return addon.api.generate_from(addon.request.TextInput(prompt), options=options, wait=False)

    return make


def wait(addon, condition, *, timeout=30.0):
    return addon.jobs.wait_until(addon.session().pump, condition, timeout=timeout)


def end_of(addon, row):
    assert wait(addon, lambda: not row.is_active), row.text
    return row


def drawn(draw, *arguments):
    calls: list = []
    draw(LayoutRecorder(calls), *arguments)
    return calls


def texts(calls):
    return [options.get("text", "") for name, _, options in calls if name in ("label", "progress")]


def operators(calls):
    return [arguments[0] for name, arguments, _ in calls if name == "operator"]


# ---------------------------------------------------------------- on this machine


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
    assert wait(addon, lambda: not is_alive(pid), timeout=10), "nobody needs the old one any more"


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


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


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


# ---------------------------------------------------------------- errors and their buttons

OF_JOBS = {
    "#fail:OUT_OF_MEMORY": ("Not enough memory", ["retry_low_memory", "backend_unload"]),
    "#fail:EMPTY_RECONSTRUCTION": ("The result has no surface", ["new_seed", "retry_with_review"]),
    "#fail:DISK_FULL": ("Disk is full", ["change_folder", "retry"]),
    "#fail:NO_CUDA_DEVICE": ("No NVIDIA GPU was found", ["use_remote", "open_preferences"]),
    "#fail:UNSUPPORTED_DEVICE": ("The GPU is not supported", ["use_remote", "open_preferences"]),
    "#fail:DRIVER_TOO_OLD": ("The NVIDIA driver is too old", ["use_remote", "copy_diagnostics"]),
    "#fail:WEIGHTS_MISSING": ("Weights are missing", ["open_preferences"]),
    "#fail:WEIGHTS_CORRUPT": ("Weights are damaged", ["open_preferences"]),
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
        "retry_low_memory": {"quality": "draft", "texture_size": 1024, "variants": 1, "seed": 5},
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


# ---------------------------------------------------------------- elsewhere


@pytest.fixture
def remote(preferences, tmp_path):
    """A service with TLS that plays a render box, and preferences that name it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    cert, key = make_certificate(tmp_path, "box")
    process, port = start(tmp_path / "box", "--tls-cert", cert, "--tls-key", key)
    preferences.backend_mode = "REMOTE"
    preferences.remote_address, preferences.remote_token = f"localhost:{port}", TOKEN
    preferences.remote_ca_file = str(cert)
    yield SimpleNamespace(process=process, port=port)
    process.stdin.close()
    process.stdout.close()
    process.wait(20)


def test_a_job_goes_to_a_remote_backend_over_tls(addon, preferences, remote, ui, make):
    assert ui.backend.current_status(bpy.context).word == "Not Connected"
    bpy.ops.mvgamba.test_connection()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).word == "Ready")
    assert f"localhost:{remote.port}" in ui.backend.current_status(bpy.context).text
    row = end_of(addon, make())
    assert row.state is addon.jobs.JobState.PLACED and addon.session().backend_pid is None
    assert not bpy.ops.mvgamba.backend_stop.poll(), "it is not ours to stop"


def test_a_wrong_token_leads_to_the_preferences(addon, preferences, remote, ui, make):
    preferences.remote_token = "another-token"
    row = end_of(addon, make())
    assert row.reason == "UNAUTHENTICATED" and "another-token" not in row.message
    assert operators(drawn(ui.remedies.draw_remedies, row)) == ["mvgamba.open_preferences"]


def test_a_certificate_that_is_not_trusted_is_told(addon, preferences, remote, ui):
    preferences.remote_ca_file = ""
    bpy.ops.mvgamba.test_connection()
    assert wait(addon, lambda: ui.backend.current_status(bpy.context).reason == "TLS_ERROR")
    assert "trusted authority" in ui.backend.hint(bpy.context)


def test_a_host_is_asked_for_once(addon, preferences, ui, monkeypatch):
    preferences.backend_mode, preferences.remote_address = "REMOTE", "GPU.lan:8443"
    preferences.remote_token = TOKEN
    obstacle = ui.backend.obstacle
    assert "Allow Online Access" in obstacle(bpy.context)  # this Blender is offline
    calls = drawn(ui.backend.draw_hint, bpy.context)
    assert operators(calls) == ["mvgamba.open_system_preferences", "mvgamba.open_preferences"]
    monkeypatch.setattr(addon.module("scene.backend"), "check_online_access", lambda: None)
    assert "gpu.lan" in obstacle(bpy.context) and "would be sent" in obstacle(bpy.context)
    assert "mvgamba.allow_remote" in operators(drawn(ui.backend.draw_hint, bpy.context))
    with pytest.raises(addon.errors.AddonError) as caught:
        addon.api.generate_from(addon.request.TextInput("a barrel"))
    assert caught.value.reason == "REMOTE_NOT_ALLOWED" and not addon.session().board.rows
    assert "once you have allowed it" in ui.preferences.remote_notice(bpy.context)
    bpy.ops.mvgamba.allow_remote("EXEC_DEFAULT")
    assert obstacle(bpy.context) == "" and preferences.remote_hosts == "gpu.lan"
    assert ui.preferences.remote_notice(bpy.context) == "Prompts, pictures and captures are sent to gpu.lan"
    preferences.remote_address = "other.lan"
    assert "other.lan" in obstacle(bpy.context)


def test_offline_mode_of_the_command_line_is_said_as_such(addon, tmp_path):
    """In a Blender of its own: the flag is set when it starts."""
    backend = addon.module("scene.backend")
    with pytest.raises(addon.errors.AddonError) as caught:
        backend.check_online_access()
    override = bpy.app.online_access_override
    assert ("--offline-mode" in caught.value.message) == override
    assert ("Allow Online Access" in caught.value.message) == (not override)


def test_without_tls_only_this_machine_is_spoken_to(addon, preferences, ui, monkeypatch):
    monkeypatch.setattr(addon.module("scene.backend"), "check_online_access", lambda: None)
    preferences.backend_mode, preferences.remote_token = "REMOTE", TOKEN
    preferences.remote_tls, preferences.remote_address = False, "gpu.lan"
    assert "read along" in ui.backend.obstacle(bpy.context)
    preferences.remote_address = "127.0.0.1"
    assert ui.backend.obstacle(bpy.context) == ""
    preferences.remote_address = "http://gpu.lan"
    assert "HOST:PORT" in ui.backend.obstacle(bpy.context)


# ---------------------------------------------------------------- the first run


@pytest.fixture
def nothing(addon, preferences, monkeypatch):
    """A Blender without any backend."""
    monkeypatch.delenv("MVGAMBA_BACKEND", raising=False)
    monkeypatch.setenv("PATH", "/nothing")
    addon.module("ui.preferences").check_backend()


def test_without_a_backend_a_card_takes_the_place_of_the_form(addon, preferences, nothing, ui):
    assert ui.backend.current_status(bpy.context).word == "Not Installed"
    calls: list = []
    ui.main.MVGAMBA_PT_main.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
    assert operators(calls) == [
        f"mvgamba.{name}" for name in ("backend_setup", "use_remote", "locate_backend", "open_docs")
    ]
    said = " ".join(texts(calls))
    assert "GB of download" in said and "Apache-2.0" in said
    session = addon.session()
    session.setup.examine(ui.setup.setup_folder(bpy.context))
    assert wait(addon, lambda: session.setup.machine is not None)
    found = texts(drawn(ui.setup.draw_first_run, bpy.context))
    assert any("of disk free" in text for text in found) and any("Python" in text for text in found)


def test_set_up_needs_online_access_but_not_from_a_folder_of_wheels(addon, preferences, nothing, ui, tmp_path):
    with pytest.raises(RuntimeError, match="Online access is off"):
        bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT")
    preferences.setup_wheels = str(tmp_path)
    assert not ui.setup.setup_plan(bpy.context).needs_network


def test_set_up_makes_a_backend_that_jobs_use(addon, preferences, nothing, ui, make, tmp_path, monkeypatch):
    # the tiny package runs what the tests run, so it must be found while it is built
    monkeypatch.setenv("MVGAMBA_BACKEND", " ".join(BACKEND))
    make_wheel(tmp_path / "wheels")
    monkeypatch.delenv("MVGAMBA_BACKEND")
    monkeypatch.setattr(addon.module("core.setup"), "DISK_MIB", 1)
    preferences.setup_folder, preferences.setup_wheels = str(tmp_path / "folder ü"), str(tmp_path / "wheels")
    preferences.setup_python = sys.executable
    assert bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT") == {"FINISHED"}
    assert ui.backend.current_status(bpy.context).word == "Installing"
    assert not bpy.ops.mvgamba.backend_setup.poll()
    assert "mvgamba.setup_cancel" in operators(drawn(ui.setup.draw_first_run, bpy.context))
    assert wait(addon, lambda: bool(own().backend_path), timeout=60), addon.session().setup.progress.text
    assert not ui.setup.needs_first_run(bpy.context) and bpy.ops.mvgamba.backend_update.poll()
    row = end_of(addon, make())
    assert row.state is addon.jobs.JobState.PLACED, row.text
    made = own().backend_path
    # a Blender that was closed meanwhile finds it, but takes nobody's choice away
    own().backend_path = ""
    ui.setup._take_up()
    assert own().backend_path == made
    own().backend_path = str(tmp_path / "chosen")
    (tmp_path / "chosen").write_text("#!/bin/sh\n")
    (tmp_path / "chosen").chmod(0o755)
    addon.module("ui.preferences").check_backend()
    ui.setup._take_up()
    addon.session().pump()
    assert own().backend_path == str(tmp_path / "chosen")


def test_uninstall_takes_the_backend_away_and_leaves_results(
    addon, preferences, nothing, ui, make, tmp_path, monkeypatch
):
    uninstall = addon.module("ui.uninstall")
    with pytest.raises(RuntimeError, match="not installed by Set Up"):
        bpy.ops.mvgamba.backend_uninstall()
    monkeypatch.setenv("MVGAMBA_BACKEND", " ".join(BACKEND))
    make_wheel(tmp_path / "wheels")
    monkeypatch.delenv("MVGAMBA_BACKEND")
    monkeypatch.setattr(addon.module("core.setup"), "DISK_MIB", 1)
    folder = tmp_path / "folder"
    preferences.setup_folder, preferences.setup_wheels = str(folder), str(tmp_path / "wheels")
    preferences.setup_python = sys.executable
    bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT")
    assert not bpy.ops.mvgamba.backend_uninstall.poll()
    assert wait(addon, lambda: bool(own().backend_path), timeout=60), addon.session().setup.progress.text
    row = end_of(addon, make())
    assert row.state is addon.jobs.JobState.PLACED, row.text
    assert "mvgamba.backend_uninstall" not in operators(drawn(ui.backend.draw_status_box, bpy.context))
    calls: list = []
    ui.backend.draw_status_box(LayoutRecorder(calls), bpy.context, with_uninstall=True)
    assert "mvgamba.backend_uninstall" in operators(calls)
    size, is_all = addon.module("core.uninstall").installed_size(folder)
    assert is_all and size > 5e6 and uninstall.size_text(size, is_all) == f"{size / 1e6:.0f} MB are freed"
    assert uninstall.size_text(3_100_000_000, False) == "More than 3.1 GB are freed"
    assert any(str(folder) in line for line in uninstall.question(bpy.context))

    data = addon.module("scene.backend").data_folder(bpy.context)
    preferences.data_folder = str(folder / "environment" / "data")
    with pytest.raises(RuntimeError, match="holds results"):
        bpy.ops.mvgamba.backend_uninstall()
    preferences.property_unset("data_folder")
    assert "mvgamba.backend_uninstall" in operators(drawn(ui.backend.draw_buttons, "UNINSTALL_FAILED"))
    assert "holds results" in " ".join(texts(drawn(ui.backend.draw_status_box, bpy.context)))
    assert own().backend_path and not ui.setup.needs_first_run(bpy.context), "it is still there"

    results = sorted(path for root in (data, addon.api.jobs_folder()) for path in root.rglob("*.glb"))
    assert results and bpy.ops.mvgamba.backend_uninstall() == {"FINISHED"} and uninstall.problem() == ""
    assert not folder.exists() and all(path.is_file() for path in results)
    assert addon.session().backend_pid is None and own().backend_path == ""
    assert ui.setup.needs_first_run(bpy.context) and addon.session().setup.progress.text == ""
    assert not bpy.ops.mvgamba.backend_uninstall.poll() and row.result_path.is_file()


BACKEND = extension.backend_command() or []


def test_an_existing_backend_can_be_located(addon, preferences, nothing, ui, tmp_path):
    program = tmp_path / "mvgamba-backend"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert bpy.ops.mvgamba.locate_backend("EXEC_DEFAULT", filepath=str(program)) == {"FINISHED"}
    assert ui.preferences.found_command() == (str(program),)
    with pytest.raises(RuntimeError, match="cannot be started"):
        bpy.ops.mvgamba.locate_backend("EXEC_DEFAULT", filepath=str(tmp_path / "none"))
    assert ui.preferences.found_command() == (str(program),), "what was there stays"


# ---------------------------------------------------------------- diagnostics


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


def test_the_preferences_draw_in_both_modes(addon, preferences, ui):
    for mode in ("LOCAL", "REMOTE"):
        preferences.backend_mode, preferences.remote_address, preferences.show_advanced = mode, "gpu.lan", True
        calls: list = []
        values = {name: getattr(preferences, name) for name in ("backend_mode", "show_advanced", "remote_tls")}
        panel = type("Panel", (), {**values, "layout": LayoutRecorder(calls), "bl_rna": preferences.bl_rna})()
        cls = type(preferences)
        for name in ("_draw_local", "_draw_remote"):
            setattr(panel, name, getattr(cls, name).__get__(panel))
        cls.draw(panel, bpy.context)
        shown = [arguments[1] for name, arguments, _ in calls if name == "prop"]
        assert ("remote_token" in shown) == (mode == "REMOTE") and ("backend_path" in shown) == (mode == "LOCAL")
    preferences.show_advanced = False


def test_the_token_is_hidden_in_the_preferences(addon, preferences):
    assert preferences.bl_rna.properties["remote_token"].subtype == "PASSWORD"
    for prop in preferences.bl_rna.properties:
        if prop.identifier not in ("rna_type", "name", "bl_idname"):
            assert prop.description and not prop.description.endswith("."), prop.identifier


def test_a_capture_is_not_taken_for_a_backend_that_is_not_there(addon, preferences, nothing, scene):
    props.add_cube().select_set(True)
    with pytest.raises(RuntimeError, match="Backend is not installed"):
        bpy.ops.mvgamba.generate()
