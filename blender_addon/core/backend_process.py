"""The backend as a child process: started on demand, told its token, ended together with Blender."""

import json
import logging
import os
import queue
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import AddonError

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds until the backend must have said where it listens; a cold disk needs tens of them."""
_MAX_LOG_BYTES = 4_000_000


@dataclass(frozen=True)
class Endpoint:
    """Where a running backend listens and the token it wants."""

    address: str
    token: str


@dataclass(frozen=True)
class BackendCommand:
    """How to start the backend."""

    command: tuple[str, ...]
    """The executable and what precedes `serve`."""
    data_dir: Path
    log_path: Path
    arguments: tuple[str, ...] = ()
    """After `serve`, e.g. to choose another pipeline."""
    environment: Mapping[str, str] | None = None
    """Added to that of this process."""


def find_backend(configured: str) -> tuple[str, ...] | None:
    """The command of the preferences, else of the environment (MVGAMBA_BACKEND), else what is on the search path."""
    if configured:
        return (configured,) if shutil.which(configured) else None
    from_environment = os.environ.get("MVGAMBA_BACKEND", "")
    if from_environment:
        return tuple(shlex.split(from_environment, posix=sys.platform != "win32"))
    found = shutil.which("mvgamba-backend")
    return (found,) if found else None


class BackendProcess:
    """One backend on this machine. Every method may be called from any thread."""

    def __init__(self, command: BackendCommand) -> None:
        self.command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._endpoint: Endpoint | None = None
        self._log: IO[str] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ensure(self) -> Endpoint:
        """Start the backend unless it runs, and say where it listens. Blocks: not for the main thread.

        Raises:
            AddonError: BACKEND_NOT_INSTALLED or BACKEND_START_FAILED.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None and self._endpoint is not None:
                return self._endpoint
            self._release()
            return self._start()

    def stop(self, *, grace: float = 3.0) -> None:
        """End the process: it leaves when its stdin closes, and is made to when it does not."""
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
        finally:
            self._lock.release()

    def last_log_line(self) -> str:
        """What the backend said last, for the row of a failed start."""
        try:
            lines = self.command.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _start(self) -> Endpoint:
        command, token = self.command, secrets.token_urlsafe(32)
        command.data_dir.mkdir(parents=True, exist_ok=True)
        command.log_path.parent.mkdir(parents=True, exist_ok=True)
        rotate = command.log_path.exists() and command.log_path.stat().st_size > _MAX_LOG_BYTES
        self._log = command.log_path.open("w" if rotate else "a", encoding="utf-8")
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
                    *command.arguments,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
            )
        except OSError as error:
            self._release()
            raise AddonError("BACKEND_NOT_INSTALLED", f"{command.command[0]}: {error.strerror}") from error
        hello = self._read_hello(self._process)
        if hello is None:
            self._process.kill()
            self._process.wait()
            self._release()
            raise AddonError("BACKEND_START_FAILED", self.last_log_line())
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
