"""The child process, with small real programs in the place of the backend."""

import os
import sys
import threading
import time

import pytest

from blender_addon.core.backend_process import BackendCommand, BackendProcess, find_backend
from blender_addon.core.errors import AddonError

HELLO = """
import json, os, sys
print(json.dumps({"port": 4711, "pid": os.getpid(), "token_came": bool(os.environ.get("MVGAMBA_TOKEN"))}), flush=True)
print(sys.argv, os.environ["MVGAMBA_TOKEN"][:0], file=sys.stderr, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def make(tmp_path):
    made = []

    def make(program):
        script = tmp_path / "backend.py"
        script.write_text(program)
        process = BackendProcess(
            BackendCommand((sys.executable, str(script)), tmp_path / "data", tmp_path / "logs" / "backend.log")
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


def test_a_backend_that_ignores_stdin_is_ended(make):
    backend = make(HELLO.replace("sys.stdin.read()", "import time; time.sleep(60)"))
    backend.ensure()
    began = time.monotonic()
    backend.stop(grace=0.2)
    assert time.monotonic() - began < 5 and backend.pid is None


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
