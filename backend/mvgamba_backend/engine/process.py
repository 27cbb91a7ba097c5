"""A worker process as its parent sees it: JSON lines out, JSON lines in, and the end, however it comes."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

WORKER_MODULE = "mvgamba_backend.engine.worker"


class WorkerProcess:
    """One child. It leaves when its stdin closes, which the system does when this process dies."""

    def __init__(
        self,
        *,
        pipeline: str,
        fake_devices: int,
        environment: Mapping[str, str],
        on_message: Callable[["WorkerProcess", dict[str, Any]], None],
        on_exit: Callable[["WorkerProcess", int], None],
    ) -> None:
        self._on_message = on_message
        self._on_exit = on_exit
        self._sending = threading.Lock()
        self._doomed = False
        # -P: the folder that the service happens to be started in must not shadow packages
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                WORKER_MODULE,
                "--pipeline",
                pipeline,
                *(["--fake-devices", str(fake_devices)] if fake_devices else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # threads that wait by spinning make a job several times slower on a machine where others work too
            env={"OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1", **os.environ, **environment},
            text=True,
            encoding="utf-8",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
        )
        self._reader = threading.Thread(target=self._read, name=f"mvgamba-worker-{self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can still be given something to do."""
        return not self._doomed and self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """A worker that has died does not hear it; its end is reported anyway."""
        assert self._process.stdin is not None
        with self._sending:
            try:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                log.debug("worker %d is gone", self.pid)

    def close(self) -> None:
        """Let it leave."""
        assert self._process.stdin is not None
        with self._sending:
            try:
                self._process.stdin.close()
            except OSError:
                log.debug("worker %d is gone", self.pid)

    def kill(self) -> None:
        self._doomed = True
        self._process.kill()

    def end(self, *, timeout: float) -> None:
        """Let it leave, and make it when it does not; returns when it is gone."""
        self.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=5.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    log.warning("worker %d wrote a line that is no message: %.200s", self.pid, line)
                    continue
                try:
                    self._on_message(self, message)
                except Exception:  # whoever listens may fail; this thread must see the end of the worker
                    log.exception("a message of worker %d could not be handled", self.pid)
        code = self._process.wait()
        self.close()
        self._on_exit(self, code)


def describe_exit(code: int) -> tuple[str, dict[str, str]]:
    """How a process ended, in a sentence's part and as facts."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", probably because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}", {"signal": name}
    return f"ended with exit code {code}", {"exit_code": str(code)}
