"""The process beside Blender's: what crosses, what happens when either end is gone, and who is not listened to."""

import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blender_addon.core import channel, client_process, setup_program
from blender_addon.core.backend import BackendCommand
from blender_addon.core.client_process import ClientProcess
from blender_addon.core.errors import AddonError
from blender_addon.core.file_names import file_stem
from blender_addon.core.jobs import wait_until
from blender_addon.core.messages import ClientEnded, StartBackend, StatusSeen, StopBackend, UseLanguage
from blender_addon.core.remote import parse_address
from blender_addon.core.setup import detect_machine, watch_setup
from tests.blender_addon import extension

ADDON = Path(client_process.__file__).resolve().parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are a thing of POSIX")


@pytest.fixture
def client():
    client = ClientProcess()
    yield client
    client.close()


def answer(client, function, *arguments, **options):
    """What a call comes to: its value or its error."""
    found = []
    client.run(function, *arguments, on_answer=lambda *each: found.append(each), **options)
    assert wait_until(client.receive, lambda: bool(found), timeout=20, interval=0.01)
    value, error = found[0]
    return value if error is None else error


@contextlib.contextmanager
def held_setup(folder):
    """A set-up that runs as far as its files tell, for as long as this is open."""
    folder.mkdir()
    (folder / setup_program.STATE).write_text(json.dumps({"phase": "install"}), encoding="utf-8")
    lock = setup_program.try_lock(folder)
    assert lock is not None
    yield
    os.close(lock)


def test_it_is_started_when_it_is_needed_and_leaves_when_it_is_told_to(client):
    assert client.pid is None and client.receive() == []
    client.send(StopBackend())
    pid = client.pid
    assert extension.is_alive(pid)
    client.close()
    assert client.pid is None and not extension.is_alive(pid)
    client.close()


def test_a_call_is_answered_with_its_value_or_its_error(client):
    assert answer(client, parse_address, "gpu.lan:8443") == ("gpu.lan", 8443)
    error = answer(client, parse_address, "gpu.lan:70000")
    assert isinstance(error, AddonError) and error.reason == "ADDRESS_INVALID" and "70000" in error.message
    assert not client.is_busy


def test_what_nobody_has_thought_of_is_an_answer_too(client):
    error = answer(client, struct.unpack, "<I", b"")
    assert error.reason == "INTERNAL" and "4 bytes" in error.message


def test_machines_are_looked_at_there(client, tmp_path):
    assert answer(client, detect_machine, tmp_path).disk_free > 0


def test_it_speaks_the_language_that_blender_speaks(client):
    catalog = ADDON / "translations" / "de.json"
    client.send(UseLanguage(catalog))
    assert answer(client, parse_address, "").message == "sie ist leer; HOST oder HOST:PORT angeben"
    client.send(UseLanguage(None))
    assert answer(client, parse_address, "").message == "it is empty; write HOST or HOST:PORT"


def test_a_call_that_reports_is_told_to_stop(client, tmp_path):
    """Following a set-up that never ends is what blocks longest."""
    folder, seen, ended = tmp_path / "backend", [], []
    with held_setup(folder):
        number = client.run(watch_setup, folder, on_answer=lambda *each: ended.append(each), on_report=seen.append)
        assert wait_until(client.receive, lambda: len(seen) > 1, timeout=20) and seen[0].is_running and not ended
        client.stop_run(number)
        assert wait_until(client.receive, lambda: bool(ended), timeout=20)
    assert ended[0][0].is_running and ended[0][1] is None


@posix
def test_when_it_is_killed_questions_are_answered_and_the_next_starts_another(client, tmp_path):
    ended = []
    with held_setup(tmp_path / "backend"):
        client.run(watch_setup, tmp_path / "backend", on_answer=lambda *each: ended.append(each), on_report=print)
        first = client.pid
        os.kill(first, signal.SIGKILL)
        heard = []
        assert wait_until(lambda: heard.extend(client.receive()), lambda: bool(heard), timeout=5)
    assert (
        heard == [ClientEnded("it ended with code -9")] and ended[0][1].reason == "CLIENT_FAILED" and not client.is_busy
    )
    assert answer(client, file_stem, "a/b") == "a_b" and client.pid != first


@posix
def test_it_leaves_when_blender_is_killed(tmp_path):
    program = tmp_path / "blender.py"
    program.write_text(
        "import sys, time\n"
        "from blender_addon.core.client_process import ClientProcess\n"
        "from blender_addon.core.messages import StopBackend\n"
        "client = ClientProcess()\n"
        "client.send(StopBackend())\n"
        "while not client._host.is_connected: client.receive(); time.sleep(0.01)\n"
        "print(client.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ADDON.parent)}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=environment
    ) as blender:
        pid = int(blender.stdout.readline())
        blender.kill()
    assert wait_until(lambda: None, lambda: not extension.is_alive(pid), timeout=10)


def test_one_that_cannot_be_started_says_why(client, monkeypatch, tmp_path):
    monkeypatch.setattr(client_process, "_python", lambda: str(tmp_path / "no python"))
    with pytest.raises(AddonError, match="No such file") as error:
        client.send(StopBackend())
    assert error.value.reason == "CLIENT_FAILED" and client.pid is None
    monkeypatch.undo()
    client.send(StopBackend())


def test_one_that_ends_at_once_says_its_last_line(client, monkeypatch):
    monkeypatch.setattr(client_process, "_BOOT", "raise SystemExit('no module named grpc')")
    client.send(StopBackend())
    heard = []
    assert wait_until(lambda: heard.extend(client.receive()), lambda: bool(heard), timeout=10)
    assert heard == [ClientEnded("no module named grpc")]


def test_what_it_logs_is_read_here(client, caplog):
    with caplog.at_level(logging.INFO, logger="blender_addon"):
        answer(client, struct.unpack, "<I", b"")
    record = next(record for record in caplog.records if record.name == "blender_addon.client.program")
    assert "could not be answered" in record.getMessage() and "struct.error" in record.getMessage()


class TestChannel:
    def test_only_who_knows_the_token_is_heard(self):
        host = channel.Host()
        with socket.create_connection(("127.0.0.1", host.port)) as stranger:
            stranger.sendall(bytes(channel.TOKEN_BYTES) + channel._packed("open the door"))
            end = time.monotonic() + 1
            while time.monotonic() < end and not host.is_connected:
                assert host.receive() == []
            silent = socket.create_connection(("127.0.0.1", host.port))
            guest = channel.Guest(host.port, host.token)
            guest.send("good evening")
            heard = []
            assert wait_until(lambda: heard.extend(host.receive()), lambda: bool(heard), timeout=5)
            assert heard == ["good evening"]
            silent.close()
            guest.close()
        host.close()

    def test_large_messages_come_whole_and_in_order_both_ways(self):
        host = channel.Host()
        guest = channel.Guest(host.port, host.token)
        content = [os.urandom(3_000_000), "small", list(range(1000))]
        for each in content:
            host.send(each)  # before it has seen anybody
        heard = guest.receive()
        wait_until(host.receive, lambda: host.is_connected, timeout=5)
        got = []
        reader = threading.Thread(target=lambda: got.extend(next(heard) for _ in content))
        reader.start()
        assert wait_until(host.receive, lambda: not reader.is_alive(), timeout=10, interval=0.0)
        assert got == content
        sender = threading.Thread(target=lambda: [guest.send(each) for each in content])
        sender.start()
        back = []
        assert wait_until(lambda: back.extend(host.receive()), lambda: len(back) == 3, timeout=10, interval=0.0)
        assert back == content
        sender.join()
        guest.close()
        host.close()

    @posix
    def test_speaking_to_one_that_has_ended_ends_nobody(self):
        """Blender leaves SIGPIPE at its default, which ends a process that writes to nobody."""
        program = (
            "import signal\n"
            "from blender_addon.core.channel import Gone, Guest, Host\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "host = Host()\n"
            "Guest(host.port, host.token).close()\n"
            "while not host.is_connected:\n"
            "    host._answer()\n"
            "for _ in range(20):\n"
            "    host.send(bytes(100_000))\n"
            "try:\n"
            "    host.receive()\n"
            "except Gone:\n"
            "    print('gone')\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ADDON.parent)}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stdout) == (0, "gone\n"), done.stderr

    def test_what_was_said_before_the_end_is_heard(self):
        host = channel.Host()
        guest = channel.Guest(host.port, host.token)
        guest.send("last words")
        guest.close()
        heard = []
        assert wait_until(lambda: heard.extend(host.receive()), lambda: bool(heard), timeout=5)
        assert heard == ["last words"]
        with pytest.raises(channel.Gone):
            host.receive()
        host.close()


def test_errors_cross_whole():
    error = pickle.loads(pickle.dumps(AddonError("DISK_FULL", "no room", retryable=True)))
    assert (error.reason, error.message, error.retryable, str(error)) == ("DISK_FULL", "no room", True, "no room")


def test_the_status_of_a_backend_crosses(client, tmp_path):
    client.send(StartBackend(BackendCommand(("/nowhere/backend",), tmp_path / "data", tmp_path / "log")))
    heard = []
    assert wait_until(
        lambda: heard.extend(m for m in client.receive() if isinstance(m, StatusSeen)),
        lambda: any(m.status.reason == "BACKEND_NOT_INSTALLED" for m in heard),
        timeout=10,
    )
