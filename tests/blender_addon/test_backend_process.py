"""The child process, with small real programs in the place of the backend."""

import os
import socket
import sys
import threading
import time

import pytest

from blender_addon.client.backend_process import BackendPhase, BackendProcess
from blender_addon.core.backend import BackendCommand, find_backend, log_tail
from blender_addon.core.errors import AddonError

HELLO = """
import json, os, sys
print(json.dumps({"port": 4711, "pid": os.getpid(), "api": ["v1"], "version": "0.1.0"}), flush=True)
print(sys.argv, os.environ["MVGAMBA_TOKEN"][:0], file=sys.stderr, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def make(tmp_path):
    made = []

    def make(program, **settings):
        script = tmp_path / "backend.py"
        script.write_text(program)
        process = BackendProcess(
            BackendCommand(
                (sys.executable, str(script)), tmp_path / "data", tmp_path / "logs" / "backend.log", **settings
            )
        )
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


def test_the_backend_says_where_it_listens(make):
    backend = make(HELLO)
    endpoint = backend.ensure()
    assert endpoint.address == "127.0.0.1:4711" and len(endpoint.token) >= 32
    assert backend.ensure() == endpoint and backend.pid is not None


def test_the_token_is_not_among_the_arguments(make):
    backend = make(HELLO)
    endpoint = backend.ensure()
    deadline = time.monotonic() + 5
    while "serve" not in backend.last_log_line() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "serve" in backend.last_log_line() and endpoint.token not in backend.last_log_line()


def test_stopping_closes_stdin_and_the_backend_leaves(make):
    backend = make(HELLO)
    backend.ensure()
    pid = backend.pid
    backend.stop()
    assert backend.pid is None
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_that_was_stopped_is_not_started_by_a_job_that_waits_for_it(make):
    backend = make(HELLO)
    backend.ensure()
    backend.stop()
    with pytest.raises(AddonError) as caught:
        backend.ensure()
    assert caught.value.reason == "BACKEND_STOPPED" and caught.value.retryable
    assert backend.look().phase == BackendPhase.STOPPED and backend.pid is None
    backend.allow()
    assert backend.ensure().address and backend.pid is not None


def test_a_backend_that_ignores_stdin_is_ended(make):
    backend = make(HELLO.replace("sys.stdin.read()", "import time; time.sleep(60)"))
    backend.ensure()
    began = time.monotonic()
    backend.stop(grace=0.2)
    assert time.monotonic() - began < 5 and backend.pid is None and backend.look().phase == BackendPhase.STOPPED


def test_stopping_does_not_wait_for_a_backend_that_never_says_hello(make):
    backend = make("import time; time.sleep(60)")
    errors = []

    def start():
        try:
            backend.ensure()
        except AddonError as error:
            errors.append(error.reason)

    thread = threading.Thread(target=start)
    thread.start()
    while backend.pid is None:
        time.sleep(0.01)
    began = time.monotonic()
    backend.stop(grace=0.2)
    thread.join(5)
    assert time.monotonic() - began < 5 and errors == ["BACKEND_START_FAILED"]


def test_a_dead_backend_is_started_again_with_another_token(make):
    backend = make(HELLO)
    first = backend.ensure()
    backend._process.kill()
    backend._process.wait()
    assert backend.ensure().token != first.token


def crash(backend):
    backend._process.kill()
    backend._process.wait()


def test_one_that_ends_by_itself_again_and_again_is_given_up(make, monkeypatch):
    from blender_addon.client import backend_process

    monkeypatch.setattr(backend_process, "FIRST_PAUSE", 0.05)
    backend, pauses = make(HELLO), []
    backend.ensure()
    for _ in range(backend_process.MAX_CRASHES):
        crash(backend)
        assert backend.look().phase == BackendPhase.FAILED
        began = time.monotonic()
        backend.ensure()
        pauses.append(time.monotonic() - began)
    assert pauses[2] > 0.2
    crash(backend)
    with pytest.raises(AddonError, match="4 times in a row") as caught:
        backend.ensure()
    assert caught.value.reason == "BACKEND_START_FAILED" and not caught.value.retryable
    assert backend.look().reason == "BACKEND_START_FAILED"
    backend.ensure()  # a person tries again
    assert backend.look().phase == BackendPhase.RUNNING


@pytest.mark.skipif(sys.platform == "win32", reason="signals are a thing of POSIX")
def test_one_that_is_killed_while_it_starts_is_worth_another_try(make):
    with pytest.raises(AddonError) as killed:
        make("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").ensure()
    with pytest.raises(AddonError) as failed:
        make("raise SystemExit('no room')").ensure()
    assert {killed.value.reason, failed.value.reason} == {"BACKEND_START_FAILED"}
    assert killed.value.retryable and not failed.value.retryable


def test_stopping_ends_the_pause_before_another_start(make, monkeypatch):
    from blender_addon.client import backend_process

    monkeypatch.setattr(backend_process, "FIRST_PAUSE", 30.0)
    backend, errors = make(HELLO), []
    backend.ensure()
    crash(backend)

    def start():
        try:
            backend.ensure()
        except AddonError as error:
            errors.append(error.reason)

    thread = threading.Thread(target=start)
    thread.start()
    while backend.look().phase != BackendPhase.STARTING:
        time.sleep(0.01)
    began = time.monotonic()
    backend.stop(grace=5.0)
    thread.join(5)
    assert time.monotonic() - began < 3 and errors == ["BACKEND_START_FAILED"]


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        ('"api": ["v1"], "version": "0.0.9"', "0.0.9 is too old"),
        ('"api": ["v2"], "version": "3.0"', "3.0 speaks v2"),
        ('"pid": 1', "of an unknown version"),
    ],
)
def test_a_backend_of_another_version_is_not_talked_to(make, hello, says):
    backend = make(HELLO.replace('"api": ["v1"], "version": "0.1.0"', hello))
    with pytest.raises(AddonError, match=says) as caught:
        backend.ensure()
    assert caught.value.reason == "VERSION_MISMATCH" and backend.pid is None
    assert backend.look().reason == "VERSION_MISMATCH"


def test_a_forced_port_that_is_taken_is_named(make):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddonError) as caught:
            make("import sys; print(sys.argv, file=sys.stderr); sys.exit(2)", port=port).ensure()
    assert (caught.value.reason, caught.value.message) == ("PORT_IN_USE", str(port))


def test_a_forced_port_is_passed_on(make):
    backend = make(HELLO, port=45678)
    backend.ensure()
    deadline = time.monotonic() + 5
    while "serve" not in backend.last_log_line() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "'--port', '45678'" in backend.last_log_line()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    command = BackendCommand((sys.executable,), tmp_path / "file" / "data", tmp_path / "log")
    with pytest.raises(AddonError, match="file") as caught:
        BackendProcess(command).ensure()
    assert caught.value.reason == "FOLDER_NOT_WRITABLE"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told_from_a_closed_folder(tmp_path):
    from blender_addon.core.backend import folder_error

    with pytest.raises(OSError) as caught, open("/dev/full", "w") as full:
        full.write("x")
    assert folder_error(caught.value, tmp_path).reason == "DISK_FULL"


def test_a_user_folder_may_be_written_in_any_script(tmp_path):
    folder = tmp_path / "Žofie 山田 ü"
    folder.mkdir()
    (folder / "backend.py").write_text(HELLO)
    command = (sys.executable, str(folder / "backend.py"))
    backend = BackendProcess(BackendCommand(command, folder / "Daten", folder / "Protokoll.log"))
    assert backend.ensure().address
    backend.stop()
    assert (folder / "Daten").is_dir()


def test_the_end_of_a_long_log_is_read_and_no_more(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(200_000)) + b"\xff\n")
    lines = log_tail(path, num_lines=3)
    assert lines[:2] == ["line 199998", "line 199999"] and len(lines) == 3
    assert log_tail(tmp_path / "none") == []


def test_a_failed_start_brings_the_last_line_of_the_log(make):
    backend = make("import sys; print('no room for weights', file=sys.stderr); sys.exit(3)")
    with pytest.raises(AddonError) as caught:
        backend.ensure()
    assert caught.value.reason == "BACKEND_START_FAILED" and caught.value.message == "no room for weights"


@pytest.mark.parametrize("line", ["hello", "[1, 2]", "{}"])
def test_a_program_that_is_no_backend_is_not_mistaken_for_one(make, line):
    with pytest.raises(AddonError, match="."):
        make(f"print({line!r}, flush=True); import sys; sys.stdin.read()").ensure()


def test_a_path_that_does_not_exist_is_not_installed(tmp_path):
    backend = BackendProcess(BackendCommand((str(tmp_path / "nothing"),), tmp_path, tmp_path / "log"))
    with pytest.raises(AddonError) as caught:
        backend.ensure()
    assert caught.value.reason == "BACKEND_NOT_INSTALLED"


def test_the_preferences_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("MVGAMBA_BACKEND", '"/a b/python" -m mvgamba_backend')
    assert find_backend("") == ("/a b/python", "-m", "mvgamba_backend")
    assert find_backend(sys.executable) == (sys.executable,)
    assert find_backend("/nothing/here") is None
