"""What the panel says about the backend, against real services that are killed, frozen and slow."""

import os
import signal
import sys
import threading
import time

import pytest

from blender_addon.client import backend_watcher
from blender_addon.client.backend_process import BackendProcess
from blender_addon.client.backend_watcher import BackendWatcher
from blender_addon.client.remote import RemoteConnection
from blender_addon.core.backend import BackendCommand
from blender_addon.core.backend_status import BackendState, BackendStatus, status_of_error
from blender_addon.core.errors import AddonError
from blender_addon.core.remote import RemoteBackend
from blender_addon.core.server_info import DeviceInfo, GeneratorInfo, ServerInfo, check_version, version_key
from tests.blender_addon import extension

pytestmark = pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are a thing of POSIX")


@pytest.fixture
def quick(monkeypatch):
    """Looks often, so that the tests are short."""
    for name in ("SOON", "OFTEN", "SELDOM"):
        monkeypatch.setattr(backend_watcher, name, 0.05)
    monkeypatch.setattr(backend_watcher, "DESCRIBE_TIMEOUT", 0.5)


@pytest.fixture
def backend(tmp_path):
    command = tuple(extension.backend_command())
    process = BackendProcess(BackendCommand(command, tmp_path / "data", tmp_path / "log", ("--pipeline", "fake")))
    yield process
    process.stop()


@pytest.fixture
def watcher(quick):
    watcher = BackendWatcher()
    yield watcher
    watcher.stop()


def wait(watcher, *states, timeout=20.0):
    end = time.monotonic() + timeout
    while watcher.status.state not in states:
        assert time.monotonic() < end, watcher.status
        time.sleep(0.01)
    return watcher.status


def test_it_follows_a_backend_from_start_to_stop(watcher, backend):
    seen = []
    watcher.on_change = lambda status: seen.append(status.state)
    watcher.watch(backend)
    assert watcher.status.state is BackendState.STOPPED
    thread = threading.Thread(target=backend.ensure)
    thread.start()
    end = time.monotonic() + 20
    while watcher.status.state is not BackendState.READY and time.monotonic() < end:
        time.sleep(0.005)
    thread.join()
    status = watcher.status
    assert BackendState.STARTING in seen and status.state is BackendState.READY
    assert status.info.version and status.info.devices and "v1" in status.info.api
    assert status.word == "Ready" and status.info.version in status.text
    assert any("starter" in line for line in status.lines)
    backend.stop()
    assert wait(watcher, BackendState.STOPPED).word == "Stopped"


def test_it_never_starts_one(watcher, backend):
    watcher.watch(backend)
    time.sleep(0.3)
    assert watcher.status.state is BackendState.STOPPED and backend.pid is None


@posix
def test_one_that_was_killed_has_failed_with_the_last_line_of_its_log(watcher, backend):
    backend.ensure()
    watcher.watch(backend)
    wait(watcher, BackendState.READY)
    os.kill(backend.pid, signal.SIGKILL)
    status = wait(watcher, BackendState.FAILED)
    assert status.reason == "BACKEND_START_FAILED" and status.message == backend.last_log_line() != ""
    backend.ensure()
    wait(watcher, BackendState.READY)


@posix
def test_one_that_hangs_is_unreachable_until_it_answers_again(watcher, backend):
    backend.ensure()
    watcher.watch(backend)
    wait(watcher, BackendState.READY)
    os.kill(backend.pid, signal.SIGSTOP)
    try:
        status = wait(watcher, BackendState.UNREACHABLE)
        assert status.reason == "DEADLINE_EXCEEDED" and status.word == "Unreachable"
    finally:
        os.kill(backend.pid, signal.SIGCONT)
    wait(watcher, BackendState.READY)


@posix
def test_stopping_the_watcher_does_not_wait_for_an_answer(watcher, backend, monkeypatch):
    monkeypatch.setattr(backend_watcher, "DESCRIBE_TIMEOUT", 30.0)
    backend.ensure()
    watcher.watch(backend)
    wait(watcher, BackendState.READY)
    os.kill(backend.pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)  # a call is under way now
        began = time.monotonic()
        watcher.stop()
        assert time.monotonic() - began < 2.0
    finally:
        os.kill(backend.pid, signal.SIGCONT)


def test_a_failed_start_is_shown(watcher, tmp_path):
    (tmp_path / "ends.py").write_text("import sys; print('no room for weights', file=sys.stderr); sys.exit(3)")
    command = (sys.executable, str(tmp_path / "ends.py"))
    backend = BackendProcess(BackendCommand(command, tmp_path / "data", tmp_path / "log"))
    watcher.watch(backend)
    with pytest.raises(AddonError):
        backend.ensure()
    status = wait(watcher, BackendState.FAILED)
    assert status.text == "Backend stopped: no room for weights"
    backend.forgive()
    wait(watcher, BackendState.STOPPED)


def test_a_remote_one_is_told_from_a_dead_host(watcher, backend):
    endpoint = backend.ensure()
    port = int(endpoint.address.rpartition(":")[2])
    watcher.watch(RemoteConnection(RemoteBackend("127.0.0.1", port, endpoint.token, has_tls=False)))
    status = wait(watcher, BackendState.READY)
    assert status.is_remote and status.address == f"127.0.0.1:{port}" and status.text.startswith(status.address)
    backend.stop()
    wait(watcher, BackendState.UNREACHABLE)
    end = time.monotonic() + 10
    while "nothing listens" not in watcher.status.text:  # the next look finds out why
        assert time.monotonic() < end, watcher.status.text
        time.sleep(0.01)


def test_two_blenders_share_one_data_folder(backend):
    other = BackendProcess(backend.command)
    try:
        first, second = backend.ensure(), other.ensure()
        assert first.address != second.address
        assert (backend.command.data_dir / "instance-2").is_dir()
    finally:
        other.stop()


def test_every_state_has_a_word_of_its_own():
    words = [BackendStatus(state).word for state in BackendState]
    assert len(set(words)) == len(words)
    assert BackendStatus(BackendState.STOPPED, is_remote=True).word == "Not Connected"


def test_reasons_become_states():
    assert status_of_error(AddonError("VERSION_MISMATCH")).state is BackendState.WRONG_VERSION
    assert status_of_error(AddonError("TLS_ERROR")).state is BackendState.FAILED
    assert status_of_error(AddonError("BACKEND_NOT_INSTALLED")).state is BackendState.NOT_INSTALLED


def test_memory_models_and_jobs_have_a_line_each():
    info = ServerInfo(
        True,
        ("text",),
        (GeneratorInfo("starter", True, "", ("text",)), GeneratorInfo("mvdream", False, "no weights", ("text",))),
        version="0.1.0",
        devices=(DeviceInfo("cuda:0", "H200", 140 << 30, 120 << 30), DeviceInfo("cpu", "CPU", 0, 0)),
        num_queued=2,
        num_running=1,
    )
    status = BackendStatus(BackendState.READY, info=info)
    assert status.lines == [
        "H200, 120.0 of 140.0 GB were free",
        "CPU",
        "Weights: starter",
        "Jobs: 1 running, 2 waiting",
    ]
    assert status.word == "Busy"


def test_a_pipeline_that_does_not_load_is_no_ready_backend(watcher):
    info = ServerInfo(True, (), (), version="0.1.0", api=("v1",), problem="torch is missing")
    status = watcher._status_of_info(info, address="127.0.0.1:1")
    assert status.state is BackendState.FAILED and "torch is missing" in status.text


def test_versions_are_ordered_as_numbers():
    assert version_key("0.10") > version_key("0.9.9") and version_key("1.0.0+cpu") == version_key("1")
    assert version_key("") < version_key("0")
    check_version("0.1.0", ("v1", "v2"))
    check_version("12.3.4rc1", ("v1",))


@pytest.mark.parametrize(
    ("device", "lacks"),
    [("auto", False), ("", False), ("cpu", False), ("cuda:0", False), ("cuda", False), ("cuda:1", True), ("tpu", True)],
)
def test_a_device_is_known_to_be_missing_only_where_the_backend_has_said_what_it_has(device, lacks):
    info = ServerInfo(True, (), (), devices=(DeviceInfo("cpu", "CPU", 0, 0), DeviceInfo("cuda:0", "H200", 0, 0)))
    assert BackendStatus(BackendState.READY, info=info).lacks(device) is lacks
    assert not BackendStatus(BackendState.STARTING).lacks(device)
    assert not BackendStatus(BackendState.LOADING, info=ServerInfo(False, (), ())).lacks(device)


def test_cuda_is_missing_where_there_is_only_a_processor():
    assert ServerInfo(True, (), (), devices=(DeviceInfo("cpu", "CPU", 0, 0),)).lacks("cuda")
