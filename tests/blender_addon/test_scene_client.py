"""Blender and the process beside it: nothing of ours runs in Blender's, and no end of the other one loses a job."""

import os
import signal
import sys
import threading

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.usefixtures("fake_backend"),
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture
def send(addon, scene, monkeypatch):
    """Sends a job of words that the fake pipeline is directed by; gives its row."""
    monkeypatch.setattr(addon.session(), "_crashes", [])

    def send(words=""):
        text = addon.request.TextInput(f"prop {words}")
        return addon.api.generate_from(text, wait=False)

    yield send
    addon.session().board.rows.clear()


def wait(addon, condition, timeout=40.0):
    return addon.jobs.wait_until(addon.session().pump, condition, timeout=timeout, interval=0.02)


def kill(addon):
    pid = addon.session().client.pid
    os.kill(pid, signal.SIGKILL)
    return pid


def test_blenders_process_has_no_thread_and_no_module_of_the_client(addon, send):
    row = send("#slow:1")
    states = addon.jobs.JobState
    assert wait(addon, lambda: row.state is states.RUNNING)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("mvgamba")] == []
    assert wait(addon, lambda: not row.is_active) and row.state is states.PLACED
    assert [name for name in sys.modules if name.startswith(f"{extension.MODULE}.client.")] == []


@pytest.mark.parametrize("state", ["SUBMITTING", "RUNNING"])
def test_a_job_survives_the_end_of_the_process(addon, send, state):
    row = send("#slow:1")
    assert wait(addon, lambda: row.state is addon.jobs.JobState[state] or not row.is_active)
    pid = kill(addon)
    assert wait(addon, lambda: not row.is_active) and row.state is addon.jobs.JobState.PLACED, row.text
    assert addon.session().client.pid not in (pid, None)
    assert len([obj for obj in bpy.data.objects if obj.mvgamba.job_id]) == 1


def test_a_cancelled_job_stays_cancelled(addon, send):
    row = send("#slow:20")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    addon.session().cancel(row)
    kill(addon)
    assert wait(addon, lambda: not row.is_active) and row.state is addon.jobs.JobState.CANCELLED, row.text


def test_a_process_that_ends_again_and_again_is_given_up_with_a_sentence(addon, send):
    row = send("#slow:8")
    for _ in range(addon.session.__globals__["MAX_CRASHES"] + 1):
        assert wait(addon, lambda: addon.session().client.pid is not None)
        pid = kill(addon)
        assert wait(addon, lambda pid=pid: addon.session().client.pid != pid)
    assert wait(addon, lambda: not row.is_active) and row.reason == "CLIENT_FAILED"
    assert row.text.startswith("The extension's own process has ended")
    other = send()
    assert wait(addon, lambda: not other.is_active) and other.state is addon.jobs.JobState.PLACED


def test_one_that_does_not_start_is_said_where_the_button_is(addon, send, monkeypatch):
    addon.session().client.close()
    monkeypatch.setattr(addon.module("core.client_process"), "_python", lambda: "/nowhere/python")
    with pytest.raises(addon.errors.AddonError, match="nowhere") as error:
        send()
    assert error.value.reason == "CLIENT_FAILED" and addon.session().board.rows == []
    bpy.context.scene.mvgamba.source, bpy.context.scene.mvgamba.prompt = "TEXT", "a barrel"
    with pytest.raises(RuntimeError, match="The extension's own process has ended: .*nowhere"):
        bpy.ops.mvgamba.generate()
    monkeypatch.undo()
    row = send()
    assert wait(addon, lambda: not row.is_active) and row.state is addon.jobs.JobState.PLACED


def test_jobs_can_end_after_blender(addon, send, tmp_path):
    """Disabling does what closing Blender does, and leaves us here to look."""
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    preferences.finish_jobs = True
    row = send("#slow:6")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    pid, folder = addon.session().client.pid, addon.api.jobs_folder() / row.id
    assert not (folder / "meta.json").exists()
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    try:
        assert addon.jobs.wait_until(lambda: None, lambda: (folder / "meta.json").exists(), timeout=40)
        assert addon.jobs.wait_until(lambda: None, lambda: not extension.is_alive(pid), timeout=20)
    finally:
        bpy.ops.preferences.addon_enable(module=extension.MODULE)
        extension.use_backend_arguments("--pipeline fake")
    book = extension.module("scene.history").book()
    book.refresh(folder.parent)
    assert row.id in [entry.request_id for entry in book.wait().entries]


def test_it_leaves_when_the_extension_is_disabled(addon, send):
    row = send()
    assert wait(addon, lambda: not row.is_active)
    pid = addon.session().client.pid
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    try:
        assert not extension.is_alive(pid)
    finally:
        bpy.ops.preferences.addon_enable(module=extension.MODULE)
        extension.use_backend_arguments("--pipeline fake")


def test_it_stays_for_nobody(addon, scene):
    """A question such as what the history holds starts it; while no backend is used it goes afterwards."""
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    bpy.ops.preferences.addon_enable(module=extension.MODULE)
    extension.use_backend_arguments("--pipeline fake")
    client, book = addon.session().client, extension.module("scene.history").book()
    book.refresh(addon.api.jobs_folder())
    pid = client.pid
    assert extension.is_alive(pid)
    book.wait()
    addon.session().pump()
    assert client.pid is None and addon.jobs.wait_until(lambda: None, lambda: not extension.is_alive(pid), timeout=10)
