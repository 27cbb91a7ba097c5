"""A backend on another machine, as a person meets it in Blender."""

import shutil
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, wait  # noqa: E402
from tests.blender_addon.test_remote import TOKEN, make_certificate, start  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


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
