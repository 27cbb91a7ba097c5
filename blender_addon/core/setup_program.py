"""Sets the backend up in a folder of its own: an environment, the package, a self-test.

A program of its own, for any Python from 3.11 on and with nothing but its library: the extension copies it into the folder
and starts it, and it goes on when Blender ends. What it does stands in `state.json`, what it said in `setup.log`; a file
`cancel` ends it, and as long as it lives it holds a lock on `setup.lock`. Started again it goes on where it was.
"""

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("setup")

STATE, LOG, LOCK, CANCEL, PROGRAM = "state.json", "setup.log", "setup.lock", "cancel", "setup_program.py"
ENVIRONMENT, CACHE, SUMS = "environment", "downloads", "SHA256SUMS"
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
RUNNING_PHASES = ("check", "environment", "download", "install", "test")
POLL = 0.2
"""Seconds between two looks for the wish to cancel."""
TEST_TIMEOUT = 600.0


@dataclass
class SetupState:
    """What `state.json` holds."""

    phase: str = ""
    """One of `RUNNING_PHASES`, done, failed or cancelled; empty before the first run."""
    text: str = ""
    """What is being done, in the words of the tools, such as the file that is downloaded."""
    fraction: float | None = None
    """Of the phase, where it is known."""
    reason: str = ""
    """Of core/errors.py, when it has failed."""
    message: str = ""
    command: list[str] = field(default_factory=list)
    """How the backend is started; filled when done."""
    version: str = ""
    is_installing: bool = False
    """Whether the environment is being changed: if that was broken off, it is made anew."""


class SetupError(Exception):
    """Ends the set-up, with a reason and a sentence's part."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cancelled(Exception):
    """The file `cancel` is there."""


def read_state(folder: Path) -> SetupState:
    """As far as it can be read; an empty one when nothing was begun."""
    try:
        found = json.loads((folder / STATE).read_text(encoding="utf-8"))
        known = {f.name for f in dataclasses.fields(SetupState)}
        return SetupState(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return SetupState()


def write_state(folder: Path, state: SetupState) -> None:
    """Whole or not at all, so that nobody reads half of it."""
    path = folder / (STATE + ".new")
    path.write_text(json.dumps(dataclasses.asdict(state)), encoding="utf-8")
    for _ in range(20):  # Windows refuses while somebody reads the old one
        try:
            os.replace(path, folder / STATE)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(path, folder / STATE)


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None while another process (or its child) has it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def executable(folder: Path, name: str) -> Path:
    """A program of the environment."""
    if sys.platform == "win32":
        return folder / ENVIRONMENT / "Scripts" / f"{name}.exe"
    return folder / ENVIRONMENT / "bin" / name


def parse_pip_line(line: str) -> tuple[str, str, float | None] | None:
    """Phase, text and fraction that a line of pip stands for; None for a line that says nothing new."""
    line = line.strip()
    if found := re.match(r"Progress (\d+) of (\d+)$", line):
        return "download", "", int(found[1]) / max(int(found[2]), 1)
    if found := re.match(r"(?:Downloading|Using cached) (\S+)(.*)", line):
        name = re.match(r"[A-Za-z0-9_.]+?(?=-\d)|[^/]+$", found[1].rpartition("/")[2])
        size = re.search(r"\(([\d.]+ [kMG]?B)\)", found[2])
        return "download", (name[0] if name else found[1]) + (f" ({size[1]})" if size else ""), None
    if found := re.match(r"(?:Collecting|Processing) (\S+)", line):
        return "download", found[1].rpartition("/")[2], None
    if found := re.match(r"Building wheel for (\S+)", line):
        return "download", found[1], None
    if line.startswith("Installing collected packages"):
        return "install", "", None
    return None


def pip_problem(lines: list[str]) -> SetupError:
    """What a failed pip means, out of the end of what it said."""
    text = "\n".join(lines)
    last = next((line.removeprefix("ERROR: ") for line in reversed(lines) if line.startswith("ERROR:")), "")
    last = last or next((line for line in reversed(lines) if line.strip()), "pip said nothing")
    if "No space left on device" in text or "[Errno 28]" in text or "not enough space on the disk" in text:
        return SetupError("DISK_FULL", "there was no room for the packages")
    if re.search(r"is invalid|DO NOT MATCH THE HASHES|BadZipFile|Bad CRC|has an invalid wheel|File is not a zip", text):
        return SetupError("SETUP_CORRUPT", last)
    if re.search(r"Permission denied|Read-only file system", text):
        return SetupError("FOLDER_NOT_WRITABLE", last)
    if re.search(r"No matching distribution|Could not find a version", text):
        if re.search(r"Retrying|NewConnectionError|NameResolution|ProxyError|SSLError|ConnectTimeout", text):
            return SetupError("SETUP_FAILED", "the package index does not answer")
        return SetupError("SETUP_FAILED", last)
    return SetupError("SETUP_FAILED", last)


class Setup:
    """One run in one folder."""

    def __init__(self, arguments: argparse.Namespace, lock: int) -> None:
        self._arguments = arguments
        self._folder: Path = arguments.folder
        self._lock = lock
        self.state = read_state(self._folder)
        self._pip = (0, 0)
        """Version of the environment's pip."""

    def run(self) -> int:
        """0 when the backend is there and works, 1 else; either way `state.json` says so."""
        was_broken_off = self.state.is_installing
        self.state = SetupState(is_installing=was_broken_off)
        try:
            self._enter("check")
            self._check()
            self._enter("environment")
            self._make_environment(anew=was_broken_off)
            self._enter("download")
            self._install()
            self._enter("test")
            self._test()
            shutil.rmtree(self._folder / CACHE, ignore_errors=True)
            self._enter("done")
        except Cancelled:
            self._enter("cancelled")
        except SetupError as error:
            self._fail(error.reason, str(error))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            closed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            reason = "DISK_FULL" if full else "FOLDER_NOT_WRITABLE" if closed else "SETUP_FAILED"
            self._fail(reason, f"{error.filename or self._folder}: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - the last frame: nobody else would tell the person
            log.exception("the set-up stopped")
            self._fail("SETUP_FAILED", str(error))
        return 0 if self.state.phase == "done" else 1

    # ---------------------------------------------------------------- steps

    def _check(self) -> None:
        if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
            raise SetupError("PYTHON_NOT_FOUND", f"this is Python {sys.version.split()[0]}; 3.11 to 3.13 are needed")
        free = shutil.disk_usage(self._folder).free >> 20
        if free < self._arguments.min_free_mib:
            raise SetupError("DISK_FULL", f"{free} MiB are free, {self._arguments.min_free_mib} are needed")
        package = Path(self._arguments.package)
        if package.suffix == ".whl":
            self._check_wheel(package)
        for folder in self._arguments.find_links:
            self._check_sums(Path(folder))

    def _check_wheel(self, path: Path) -> None:
        if not path.is_file():
            raise SetupError("SETUP_FAILED", f"{path} is not there")
        try:
            with zipfile.ZipFile(path) as wheel:
                damaged = wheel.testzip()
        except zipfile.BadZipFile as error:
            raise SetupError("SETUP_CORRUPT", path.name) from error
        if damaged is not None:
            raise SetupError("SETUP_CORRUPT", path.name)
        self._check_sums(path.parent, only=path.name)

    def _check_sums(self, folder: Path, *, only: str = "") -> None:
        """Compare with `SHA256SUMS` beside the wheels, where there is one."""
        sums = folder / SUMS
        if not sums.is_file():
            return
        for line in sums.read_text(encoding="utf-8").splitlines():
            expected, _, name = line.partition(" ")
            name = name.strip().lstrip("*")
            if not name or (only and name != only):
                continue
            self._raise_if_cancelled()
            self._tell(name)
            path = folder / Path(name).name
            if not path.is_file():
                raise SetupError("SETUP_CORRUPT", f"{name} of {SUMS} is not there")
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected.lower():
                    raise SetupError("SETUP_CORRUPT", f"{name} is not what {SUMS} says")

    def _make_environment(self, *, anew: bool) -> None:
        python = executable(self._folder, "python")
        if not anew and python.exists() and self._find_pip(python):
            return
        self._set_installing(True)
        lines: list[str] = []
        command = [sys.executable, "-I", "-m", "venv", "--clear", str(self._folder / ENVIRONMENT)]
        if self._run(command, lines.append) != 0:
            text = " ".join(" ".join(lines[-3:]).split()) or "it said nothing"
            problem = pip_problem(lines)
            if problem.reason == "SETUP_FAILED":
                problem = SetupError("SETUP_FAILED", f"{sys.executable} cannot make an environment: {text}")
            raise problem
        if not self._find_pip(python):
            raise SetupError("SETUP_FAILED", f"the environment that {sys.executable} made has no pip")

    def _install(self) -> None:
        arguments = self._arguments
        lines: list[str] = []
        command = [str(executable(self._folder, "python")), "-m", "pip", "install", "--no-input"]
        # raw, where pip knows it, says the bytes of large files
        command += ["--disable-pip-version-check", "--progress-bar", "raw" if self._pip >= (24, 1) else "off"]
        command += ["--cache-dir", str(self._folder / CACHE)]
        if arguments.no_index:
            command.append("--no-index")
        for folder in arguments.find_links:
            command += ["--find-links", folder]
        if arguments.index_url:
            command += ["--index-url", arguments.index_url]
        if arguments.upgrade:
            command.append("--upgrade")
        self._set_installing(True)

        def on_line(line: str) -> None:
            lines.append(line)
            del lines[:-400]
            found = parse_pip_line(line)
            if found is not None:
                phase, text, fraction = found
                if phase != self.state.phase:
                    self._enter(phase)
                self._tell(text or self.state.text, fraction)

        if self._run([*command, arguments.package], on_line) != 0:
            raise pip_problem(lines)
        self._set_installing(False)

    def _test(self) -> None:
        backend = executable(self._folder, "mvgamba-backend")
        if not backend.exists():
            raise SetupError("SETUP_FAILED", "the package has no program mvgamba-backend")
        lines: list[str] = []
        if self._run([str(backend), "--version"], lines.append, timeout=TEST_TIMEOUT) != 0:
            raise SetupError("SETUP_FAILED", f"the backend does not start: {' '.join(lines[-1:])}")
        found = re.search(r"\d+(?:\.\d+)+", " ".join(lines))
        doctor = executable(self._folder, "mvgamba")
        if doctor.exists():
            lines = []
            code = self._run([str(doctor), "doctor", "--json"], lines.append, timeout=TEST_TIMEOUT)
            if code != 0:
                raise SetupError("SETUP_FAILED", f"the self-test failed: {_doctor_problem(lines)}")
        self.state.command, self.state.version = [str(backend)], found[0] if found else ""

    # ---------------------------------------------------------------- tools

    def _find_pip(self, python: Path) -> bool:
        """Whether the environment has a pip that runs, and of which version it is."""
        lines: list[str] = []
        if self._run([str(python), "-m", "pip", "--version"], lines.append) != 0:
            return False
        found = re.search(r"pip (\d+)\.(\d+)", " ".join(lines))
        self._pip = (int(found[1]), int(found[2])) if found else (0, 0)
        return True

    def _run(self, command: list[str], on_line: Callable[[str], None], *, timeout: float | None = None) -> int:
        """Run a program line by line; its exit status. Raises: Cancelled, SetupError after `timeout` seconds."""
        log.info("> %s", " ".join(command))
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PIP_NO_INPUT": "1"}
        more = {} if sys.platform == "win32" else {"pass_fds": (self._lock,), "start_new_session": True}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
            **more,
        )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_drain, args=(process, lines), daemon=True).start()
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                self._raise_if_cancelled()
                if end is not None and time.monotonic() > end:
                    raise SetupError("SETUP_FAILED", f"{Path(command[0]).name} did not end within {timeout:.0f} s")
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=POLL)
                    if line is None:
                        return process.wait()
                    if not line.startswith("Progress "):
                        log.info("%s", line.rstrip())
                    on_line(line.rstrip())
        finally:
            _end(process)

    def _raise_if_cancelled(self) -> None:
        if (self._folder / CANCEL).exists():
            raise Cancelled

    def _enter(self, phase: str) -> None:
        if phase in RUNNING_PHASES:
            self._raise_if_cancelled()
        log.info("-- %s", phase)
        self.state.phase, self.state.text, self.state.fraction = phase, "", None
        write_state(self._folder, self.state)

    def _tell(self, text: str, fraction: float | None = None) -> None:
        if (text, fraction) != (self.state.text, self.state.fraction):
            self.state.text, self.state.fraction = text, fraction
            write_state(self._folder, self.state)

    def _set_installing(self, value: bool) -> None:
        self.state.is_installing = value
        write_state(self._folder, self.state)

    def _fail(self, reason: str, message: str) -> None:
        log.error("%s: %s", reason, message)
        self.state.reason, self.state.message = reason, " ".join(message.split())[:400]
        with contextlib.suppress(OSError):  # a full disk may refuse that too; the log has said it
            self._enter("failed")


def _drain(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a program and what it has started."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.terminate()
        else:
            import signal

            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _doctor_problem(lines: list[str]) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        facts = json.loads(lines[-1])
        if facts.get("problems"):
            return "; ".join(map(str, facts["problems"]))
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


@contextlib.contextmanager
def _locked(folder: Path, *, patience: float) -> Iterator[int | None]:
    """The lock of the folder; None when another run does not end. What an earlier one has left behind may need a moment."""
    end = time.monotonic() + patience
    while (descriptor := try_lock(folder)) is None and time.monotonic() < end:
        time.sleep(POLL)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed or cancelled, 2 another run has the folder."""
    parser = argparse.ArgumentParser(description="Set the MVGamba backend up in a folder of its own.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--package", required=True, help="name and version, a wheel, or a source tree")
    parser.add_argument("--find-links", action="append", default=[], metavar="DIR", help="folder of wheels")
    parser.add_argument("--no-index", action="store_true", help="use nothing but the folders of wheels")
    parser.add_argument("--index-url", default="")
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--min-free-mib", type=int, default=0)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for an earlier run to end")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with _locked(arguments.folder, patience=arguments.patience) as lock:
        if lock is None:
            log.error("another set-up uses %s", arguments.folder)
            return 2
        return Setup(arguments, lock).run()


if __name__ == "__main__":
    sys.exit(main())
