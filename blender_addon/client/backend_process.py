"""The backend as a child process: started on demand, told its token, ended together with Blender."""

import enum
import errno
import json
import logging
import os
import queue
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from ..core.backend import BackendCommand, Endpoint, folder_error, log_tail
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.server_info import check_version

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds until the backend must have said where it listens; a cold disk needs tens of them."""
CRASH_MEMORY, MAX_CRASHES, FIRST_PAUSE = 120.0, 3, 0.5
"""A backend that ends by itself is started again after 0.5, 1 and 2 s; the fourth time within two minutes is too often."""
_MAX_LOG_BYTES = 4_000_000


class BackendPhase(enum.StrEnum):
    """Where a local backend stands, as far as its process tells."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    """It could not be started, or ended by itself."""


@dataclass(frozen=True)
class BackendView:
    """A look at a local backend that waits for nothing."""

    phase: BackendPhase
    endpoint: Endpoint | None = None
    reason: str = ""
    message: str = ""


class BackendProcess:
    """One backend on this machine. Every method may be called from any thread."""

    def __init__(self, command: BackendCommand) -> None:
        self.command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._endpoint: Endpoint | None = None
        self._log: IO[str] | None = None
        self._starting = False
        self._is_held = False
        self._leaving = threading.Event()
        self._failure: AddonError | None = None
        self._crashes: list[float] = []
        """When it ended by itself, by the monotonic clock; only those of the last `CRASH_MEMORY` seconds."""
        self.on_phase: Callable[[], None] | None = None
        """Called, from any thread, when `look` has something else to say."""

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def look(self) -> BackendView:
        """How it is right now. Never waits, also while another thread starts it."""
        process, endpoint, failure = self._process, self._endpoint, self._failure
        if self._starting:
            return BackendView(BackendPhase.STARTING)
        if process is not None and endpoint is not None:
            if process.poll() is None:
                return BackendView(BackendPhase.RUNNING, endpoint)
            return BackendView(BackendPhase.FAILED, None, "BACKEND_START_FAILED", self.last_log_line())
        if failure is not None:
            return BackendView(BackendPhase.FAILED, None, failure.reason, failure.message)
        return BackendView(BackendPhase.STOPPED)

    def ensure(self) -> Endpoint:
        """Start the backend unless it runs, and say where it listens. Blocks: not for the main thread.

        One that ended by itself is started again, each time after a longer pause, `MAX_CRASHES` times. One that was
        stopped is not, until `allow`: a job that waits for it must not undo what a person has done.

        Raises:
            AddonError: BACKEND_STOPPED (retryable), BACKEND_NOT_INSTALLED, BACKEND_START_FAILED, PORT_IN_USE, BIND_DENIED, VERSION_MISMATCH,
                DISK_FULL, FOLDER_NOT_WRITABLE.
        """
        with self._lock:
            process = self._process
            if process is not None and self._endpoint is not None:
                if process.poll() is None:
                    return self._endpoint
                self._crashes.append(time.monotonic())
            if self._is_held:
                raise AddonError("BACKEND_STOPPED", retryable=True)
            self._starting = True
            self._tell()
            try:
                self._release()
                self._pause_after_crashes()
                endpoint = self._start()
                self._failure = None
                return endpoint
            except AddonError as error:
                self._failure = error
                raise
            finally:
                self._starting = False
                self._tell()

    def _tell(self) -> None:
        if self.on_phase is not None:
            self.on_phase()

    def allow(self) -> None:
        """A person wants it: after `stop` it may be started again."""
        self._is_held = False

    def forgive(self) -> None:
        """Forget crashes and failures: a person wants it tried again."""
        self._crashes.clear()
        self._failure = None
        self._is_held = False

    def stop(self, *, grace: float = 3.0) -> None:
        """End the process: it leaves when its stdin closes, and is made to when it does not. It stays ended until `allow`."""
        self._is_held = True
        self._leaving.set()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        # Another thread may hold the lock while it waits for a backend that is still starting; that wait ends with it.
        if not self._lock.acquire(timeout=grace):
            if process is not None:
                process.kill()
            self._lock.acquire()
        try:
            process = self._process
            if process is not None:
                try:
                    process.wait(grace)
                except subprocess.TimeoutExpired:
                    log.warning("the backend did not leave within %.0f s and was ended", grace)
                    process.kill()
                    process.wait()
            self._release()
            self._failure = None
        finally:
            self._leaving.clear()
            self._lock.release()
            self._tell()

    def last_log_line(self) -> str:
        """What the backend said last, for the row of a failed start."""
        return next((line.strip() for line in reversed(log_tail(self.command.log_path)) if line.strip()), "")

    def _pause_after_crashes(self) -> None:
        """Wait the longer, the more often it has ended by itself lately. Raises: AddonError, when it was too often."""
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if now - at < CRASH_MEMORY]
        count = len(self._crashes)
        if count > MAX_CRASHES:
            self._crashes.clear()  # what a person asks for next is tried
            text = tr("it ended by itself {count} times in a row; its log ends with: {line}")
            raise AddonError("BACKEND_START_FAILED", text.format(count=count, line=self.last_log_line()))
        if count and self._leaving.wait(FIRST_PAUSE * 2 ** (count - 1)):
            raise AddonError("BACKEND_START_FAILED", tr("it was stopped"))

    def _start(self) -> Endpoint:
        command, token = self.command, secrets.token_urlsafe(32)
        try:
            command.data_dir.mkdir(parents=True, exist_ok=True)
            command.log_path.parent.mkdir(parents=True, exist_ok=True)
            rotate = command.log_path.exists() and command.log_path.stat().st_size > _MAX_LOG_BYTES
            self._log = command.log_path.open("w" if rotate else "a", encoding="utf-8")
        except OSError as error:
            raise folder_error(error, command.data_dir) from error
        # The token goes through the environment, never through the arguments, which every user of the machine can read.
        environment = {**os.environ, **(command.environment or {}), "MVGAMBA_TOKEN": token}
        environment.pop("PYTHONHOME", None)  # Blender's Python is not the backend's
        try:
            self._process = subprocess.Popen(
                [
                    *command.command,
                    "serve",
                    "--data-dir",
                    str(command.data_dir),
                    "--die-with-stdin",
                    *(("--port", str(command.port)) if command.port else ()),
                    *command.arguments,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
            )
        except OSError as error:
            self._release()
            raise AddonError("BACKEND_NOT_INSTALLED", f"{command.command[0]}: {error.strerror}") from error
        hello = self._read_hello(self._process)
        if hello is None:
            was_killed = _was_killed(self._process)
            self._process.kill()
            self._process.wait()
            self._release()
            raise port_error(command.port) or AddonError(
                "BACKEND_START_FAILED", self.last_log_line(), retryable=was_killed
            )
        try:
            check_version(str(hello.get("version", "")), tuple(map(str, hello.get("api", ()))))
        except AddonError:
            self._process.kill()
            self._process.wait()
            self._release()
            raise
        self._endpoint = Endpoint(hello.get("address") or f"127.0.0.1:{hello['port']}", token)
        log.info("backend started, pid %d, %s", self._process.pid, self._endpoint.address)
        return self._endpoint

    def _read_hello(self, process: "subprocess.Popen[str]") -> dict | None:
        """The first JSON line of stdout, or None when the process ends or stays silent."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdout is not None

        def drain(stdout: IO[str]) -> None:
            # Goes on reading after the first line, so that a chatty backend never blocks on a full pipe.
            with stdout:
                for line in stdout:
                    lines.put(line)
            lines.put("")
            process.wait()
            self._tell()

        threading.Thread(target=drain, args=(process.stdout,), name="mvgamba-backend-stdout", daemon=True).start()
        try:
            line = lines.get(timeout=START_TIMEOUT)
            hello = json.loads(line) if line.strip() else None
        except (queue.Empty, json.JSONDecodeError):
            return None
        return hello if isinstance(hello, dict) and "port" in hello else None

    def _release(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._log is not None:
            self._log.close()
        self._process, self._endpoint, self._log = None, None, None


def _was_killed(process: "subprocess.Popen[str]") -> bool:
    """Whether somebody else has ended a process just now, which may come out otherwise the next time (POSIX tells)."""
    try:
        return process.wait(0.5) < 0
    except subprocess.TimeoutExpired:
        return False


def port_error(port: int) -> AddonError | None:
    """Why a port that a person has forced cannot be had; None when it can, or none was forced."""
    if not port:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # there it would share the port instead of waiting out an old connection
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = "PORT_IN_USE" if error.errno in (errno.EADDRINUSE, 10048) else "BIND_DENIED"
            return AddonError(reason, str(port))
    return None
