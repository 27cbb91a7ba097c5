"""The process beside Blender's in which everything runs that waits, and gRPC with all its threads.

Threads and Blender do not go together: whichever thread Python's collector happens to run in frees Blender's objects there,
while the main thread is inside an undo step. So Blender's own process has none of ours.
"""

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .channel import Gone, Host
from .errors import AddonError
from .i18n import tr
from .messages import Answer, ClientEnded, Leave, Logged, Reported, Run, StopRun

log = logging.getLogger(__name__)

GRACE = 8.0
"""Seconds that it may take to end a backend and leave."""
_BOOT = """
import importlib, json, sys, types
told = json.loads(sys.stdin.readline())
sys.path[:] = told["sys_path"]
for name in told["above"]:  # stand-ins: the packages above register classes of Blender when they are imported
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [told["folder"]] if name == told["above"][-1] else []
importlib.import_module(told["above"][-1] + ".client.program").main(told["port"], bytes.fromhex(told["token"]))
"""


@dataclass
class _Open:
    """A question that waits for its answer."""

    on_answer: Callable[[Any, AddonError | None], None]
    on_report: Callable[[Any], None] | None


class ClientProcess:
    """Started with the first message. Main thread only; only `close` waits."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._host: Host | None = None
        self._errors: IO[bytes] | None = None
        self._open: dict[int, _Open] = {}
        self._number = 0

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def is_busy(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._open)

    def send(self, message: object) -> None:
        """Say something; the process is started when it does not run. Raises: AddonError, CLIENT_FAILED."""
        if self._host is None:
            self._start()
        assert self._host is not None
        self._host.send(message)

    def ask(
        self,
        question: Callable[[int], object],
        on_answer: Callable[[Any, AddonError | None], None],
        on_report: Callable[[Any], None] | None = None,
    ) -> int:
        """Send the question of a number; its answer, or why there is none, comes within a later `receive`.

        Raises:
            AddonError: CLIENT_FAILED.
        """
        self._number += 1
        self.send(question(self._number))
        self._open[self._number] = _Open(on_answer, on_report)
        return self._number

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        on_answer: Callable[[Any, AddonError | None], None],
        on_report: Callable[[Any], None] | None = None,
    ) -> int:
        """Have a function of the core called there; with `on_report` it takes `report` and `should_stop` as well."""
        return self.ask(lambda n: Run(n, function, arguments, on_report is not None), on_answer, on_report)

    def stop_run(self, number: int) -> None:
        """Ask a `run` that reports to end early."""
        if number in self._open and self._host is not None:
            self._host.send(StopRun(number))

    def receive(self) -> list[Any]:
        """What has arrived; answers and reports have been handed to those who asked."""
        if self._host is None:
            return []
        try:
            messages = self._host.receive()
            assert self._process is not None
            if not self._host.is_connected and self._process.poll() is not None:
                raise Gone
        except Gone:
            return [self._ended()]
        rest = []
        for message in messages:
            match message:
                case Answer(number, value, error):
                    self._open.pop(number).on_answer(value, error)
                case Reported(number, value):
                    on_report = self._open[number].on_report
                    if on_report is not None:
                        on_report(value)
                case Logged(record):
                    logger = logging.getLogger(record.name)
                    if logger.isEnabledFor(record.levelno):
                        logger.handle(record)
                case _:
                    rest.append(message)
        return rest

    def close(self, *, wait: bool = True) -> None:
        """Have it leave, its backend first, and wait until it has. When nobody waits it lets its jobs end before."""
        process, host = self._process, self._host
        if process is None or host is None:
            return
        host.send(Leave(finish_jobs=not wait))
        end = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < end:
            try:
                host.receive()
            except Gone:
                break
            if not wait and host.is_connected and host.has_sent:
                log.debug("process %d is left alone", process.pid)
                _left_running[:] = [process, *(other for other in _left_running if other.poll() is None)]
                self._release()
                return
            time.sleep(0.005)
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("the client's process did not leave within %.0f s and was ended", GRACE)
            process.kill()
            process.wait()
        self._release()

    def _start(self) -> None:
        package = __package__.rpartition(".")[0]
        parts = package.split(".")
        host, errors = Host(), tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        told = {
            "sys_path": [str(Path(path).absolute()) for path in sys.path],
            "above": [".".join(parts[: i + 1]) for i in range(len(parts))],
            "folder": str(Path(__file__).resolve().parents[1]),
            "port": host.port,
            "token": host.token.hex(),
        }
        try:
            # a file, because a pipe to one that ends at once would end Blender (SIGPIPE)
            with tempfile.TemporaryFile() as stdin:
                stdin.write(json.dumps(told).encode() + b"\n")
                stdin.seek(0)
                process = subprocess.Popen(
                    [_python(), "-I", "-S", "-c", _BOOT],
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
                )
        except OSError as error:
            host.close()
            errors.close()
            raise AddonError("CLIENT_FAILED", str(error)) from error
        self._process, self._host, self._errors = process, host, errors
        log.debug("the client's process is %d", process.pid)

    def _ended(self) -> ClientEnded:
        assert self._process is not None and self._errors is not None
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", errors="replace").strip()
        log.warning("the client's process ended with code %d\n%s", code, said)
        message = said.splitlines()[-1] if said else tr("it ended with code {code}").format(code=code)
        self._release()
        waiting, self._open = list(self._open.values()), {}
        for each in waiting:
            each.on_answer(None, AddonError("CLIENT_FAILED", message))
        return ClientEnded(message)

    def _release(self) -> None:
        if self._host is not None:
            self._host.close()
        if self._errors is not None:
            self._errors.close()
        self._process, self._host, self._errors = None, None, None


_left_running: list["subprocess.Popen[bytes]"] = []
"""Kept, because Python complains about a process that is forgotten while it runs; here that is the point."""


def _python() -> str:
    """The interpreter that the packages of this one are for: Blender's own, which it names, or that of the system that it was built for."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [Path(prefix, "bin") for prefix in (sys.prefix, sys.base_prefix)]
    beside = [Path(sys.executable), *(folder / version for folder in folders)]
    found = next((path for path in beside if path.name.startswith("python") and path.is_file()), None)
    return str(found) if found is not None else sys.executable
