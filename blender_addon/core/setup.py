"""Setting the backend up: what this machine has, and the program that does it, started, watched and cancelled.

The work is done by `setup_program.py` in a process of its own, which outlives Blender; all that is known of it are the
files of its folder.
"""

import contextlib
import importlib.resources
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .backend import folder_error
from .errors import AddonError, sentence
from .i18n import tr
from .setup_program import (
    CANCEL,
    ENVIRONMENT,
    LOG,
    NEWEST_PYTHON,
    OLDEST_PYTHON,
    PROGRAM,
    RUNNING_PHASES,
    SetupState,
    read_state,
    try_lock,
)

log = logging.getLogger(__name__)

PACKAGE = "mvgamba"
"""Name on the package index."""
CUDA_MIB = 8000
"""Room that the environment needs with PyTorch for CUDA, which is what the usual package index has for Linux."""
CPU_MIB = 2000
"""The same with PyTorch for a CPU."""
SLACK_MIB = 200
"""Beside what wheels unpack to: the interpreter's links, pip, and what Python compiles at the first start."""
PROBE_TIMEOUT = 10.0
"""Seconds that a program which is asked for its version may take."""
POLL = 0.3


@dataclass(frozen=True)
class FoundPython:
    """An interpreter of this machine that can make environments."""

    path: str
    version: tuple[int, int]
    is_blenders: bool
    """An environment made by Blender's own ends with that Blender."""


@dataclass(frozen=True)
class Machine:
    """What a person should know before setting up."""

    pythons: tuple[FoundPython, ...]
    """The best first."""
    disk_free: int
    """Bytes, where the folder would lie."""
    memory: int
    """Bytes; 0 when it cannot be told."""
    gpus: tuple[str, ...]
    """Name, memory and driver of each NVIDIA GPU."""

    @property
    def lines(self) -> list[str]:
        """For a card: one thing a line."""
        lines = []
        if self.pythons:
            best = self.pythons[0]
            text = tr("Python {version} of Blender itself") if best.is_blenders else tr("Python {version} found")
            lines.append(text.format(version=".".join(map(str, best.version))))
        else:
            lines.append(tr("No Python from 3.11 to 3.13 was found"))
        memory = f"{self.memory / 2**30:.0f}" if self.memory else "?"
        text = tr("{disk} GB of disk free, {memory} GB of memory")
        lines.append(text.format(disk=f"{self.disk_free / 2**30:.0f}", memory=memory))
        lines += self.gpus or [tr("No NVIDIA GPU found: jobs run on the CPU")]
        return lines


@dataclass(frozen=True)
class SetupPlan:
    """What a person chose."""

    folder: Path
    package: str = PACKAGE
    """A name for the package index, a wheel, or a source tree."""
    wheels: Path | None = None
    """Folder of wheels to install from, without any network."""
    index_url: str = ""
    """Another package index."""
    python: str = ""
    """Interpreter; empty for the best that is found."""
    is_update: bool = False

    @property
    def needs_network(self) -> bool:
        return self.wheels is None


@dataclass(frozen=True)
class SetupProgress:
    """How far a set-up is."""

    state: SetupState
    is_running: bool

    @property
    def was_broken_off(self) -> bool:
        """Whether it ended without saying so: the machine or somebody ended it."""
        return self.state.phase in RUNNING_PHASES and not self.is_running

    @property
    def text(self) -> str:
        """One line; empty before the first run."""
        state = self.state
        if self.was_broken_off:
            return tr("The set-up was broken off, it can go on")
        if state.phase == "failed":
            return sentence(state.reason or "SETUP_FAILED", state.message)
        words = _phases().get(state.phase, "")
        return f"{words}: {state.text}" if state.text else words

    @property
    def fraction(self) -> float:
        """Of the whole, roughly: phases count alike, except that downloads take longest."""
        begins = {"check": 0.0, "environment": 0.02, "download": 0.08, "install": 0.75, "test": 0.92, "done": 1.0}
        names = list(begins)
        if self.state.phase not in begins:
            return 0.0
        at = begins[self.state.phase]
        after = begins[names[min(names.index(self.state.phase) + 1, len(names) - 1)]]
        return at + (after - at) * (self.state.fraction or 0.0)


def _phases() -> dict[str, str]:
    return {
        "check": tr("Checking"),
        "environment": tr("Making an environment"),
        "download": tr("Downloading"),
        "install": tr("Installing"),
        "test": tr("Testing"),
        "done": tr("Set up"),
        "cancelled": tr("The set-up was cancelled, it can go on"),
    }


def progress_of(folder: Path) -> SetupProgress:
    """What the files of a folder say. Reads the disk: not for draw()."""
    state = read_state(folder)
    if state.phase not in RUNNING_PHASES:
        return SetupProgress(state, False)
    try:
        lock = try_lock(folder)
    except OSError:
        return SetupProgress(state, False)
    if lock is not None:
        os.close(lock)
        return SetupProgress(read_state(folder), False)  # it may have ended between the two looks
    return SetupProgress(state, True)


def room_needed(plan: SetupPlan) -> int:
    """MiB that a set-up takes on the disk: what the wheels unpack to, or about what an index has for this system. Reads the disk."""
    if plan.wheels is None:
        return CUDA_MIB if sys.platform == "linux" and not plan.index_url else CPU_MIB
    sizes: dict[str, int] = {}
    with contextlib.suppress(OSError):  # a folder that is not there is for pip to say
        for path in plan.wheels.glob("*.whl"):
            name = path.name.partition("-")[0].lower()
            sizes[name] = max(sizes.get(name, 0), _unpacked_size(path))
    return SLACK_MIB + (sum(sizes.values()) >> 20)


def _unpacked_size(wheel: Path) -> int:
    """Bytes; those of the file itself when it is damaged, which the set-up says later."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return wheel.stat().st_size


def start_setup(plan: SetupPlan) -> "subprocess.Popen[bytes]":
    """Start the program that sets up, in a process that outlives this one. Blocks while a Python is looked for.

    Raises:
        AddonError: PYTHON_NOT_FOUND, FOLDER_NOT_WRITABLE, DISK_FULL, SETUP_FAILED.
    """
    folder = plan.folder
    if not folder.is_absolute():
        raise AddonError("SETUP_FAILED", tr("{folder} is not a whole path").format(folder=folder))
    python = plan.python or next((found.path for found in find_pythons()), "")
    if not python:
        raise AddonError("PYTHON_NOT_FOUND", tr("install one from 3.11 to 3.13, or name it in the preferences"))
    if plan.python and _probe_python(plan.python) is None:
        text = tr("{path} is not a Python from 3.11 to 3.13 that can make environments")
        raise AddonError("PYTHON_NOT_FOUND", text.format(path=plan.python))
    command = [python, "-I", str(folder / PROGRAM), "--folder", str(folder), "--package", plan.package]
    if plan.wheels is not None:
        command += ["--no-index", "--find-links", str(plan.wheels)]
    if plan.index_url:
        command += ["--index-url", plan.index_url]
    if plan.is_update:
        command.append("--upgrade")
    command += ["--min-free-mib", str(room_needed(plan))]
    try:
        _require_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CANCEL).unlink(missing_ok=True)
        # a copy, because an upgrade of the extension would take the original away under the process
        program = importlib.resources.files(__package__).joinpath(PROGRAM).read_text(encoding="utf-8")
        (folder / PROGRAM).write_text(program, encoding="utf-8")
        with (folder / LOG).open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")},
                start_new_session=sys.platform != "win32",
                creationflags=_DETACHED,
            )
    except OSError as error:
        raise folder_error(error, folder) from error
    _left_running.append(process)
    return process


_left_running: list["subprocess.Popen[bytes]"] = []
"""Kept, because Python complains about a process that is forgotten while it runs; here that is the point."""
_DETACHED = (
    getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    if sys.platform == "win32"
    else 0
)


def cancel_setup(folder: Path) -> None:
    """Ask a set-up to end; it says so in its state within a second. Whoever has started it."""
    with contextlib.suppress(OSError):
        (folder / CANCEL).touch()


def _require_ours(folder: Path) -> None:
    """Nothing is put among somebody's files. Raises: AddonError."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PROGRAM).exists():
        text = tr("{folder} holds other files; choose an empty folder")
        raise AddonError("FOLDER_NOT_WRITABLE", text.format(folder=folder))


def is_set_up_by_us(command: Iterable[str], folder: Path) -> bool:
    """Whether a backend's executable lies in the environment of a set-up."""
    first = next(iter(command), "")
    return bool(first) and Path(first).is_relative_to(folder / ENVIRONMENT)


def run_setup(
    plan: SetupPlan, *, report: Callable[[SetupProgress], None], should_stop: Callable[[], bool]
) -> SetupProgress:
    """Start a set-up and follow it to its end; how it ended. Blocks for minutes. It goes on when `should_stop` says to look away.

    Raises:
        AddonError: As `start_setup`.
    """
    process = start_setup(plan)
    found = SetupProgress(SetupState("check"), True)
    while not should_stop():
        time.sleep(POLL)
        code = process.poll()
        found = progress_of(plan.folder)
        if code is not None:
            if code not in (0, 1) and not found.was_broken_off:  # it ended before it could say why
                message = _last_line(plan.folder / LOG)
                found = SetupProgress(SetupState("failed", reason="SETUP_FAILED", message=message), False)
            break
        if found.is_running:  # else the state is still that of an earlier run
            report(found)
    return found


def watch_setup(
    folder: Path, *, report: Callable[[SetupProgress], None], should_stop: Callable[[], bool]
) -> SetupProgress:
    """Follow a set-up that somebody else has started to its end. Blocks."""
    while (found := progress_of(folder)).is_running and not should_stop():
        report(found)
        time.sleep(POLL)
    return found


class SetupRunner:
    """The set-up of one folder as the panel sees it. No method waits."""

    def __init__(self, run: Callable[..., int]) -> None:
        """
        Args:
            run: Has a function called elsewhere: `run(function, *arguments, on_answer=..., on_report=...)`, as `ClientProcess.run`.
        """
        self._run = run
        self.folder: Path | None = None
        self.progress = SetupProgress(SetupState(), False)
        self.machine: Machine | None = None
        """Filled after `examine`."""
        self.error: AddonError | None = None
        """Why the last start failed."""
        self.is_update = False
        self._changed = False
        self._is_news = False
        """Whether a set-up was begun or taken up whose end nobody has made use of."""
        self._is_examining = False

    @property
    def log_path(self) -> Path:
        """What the set-up said; there may be none yet."""
        assert self.folder is not None
        return self.folder / LOG

    def take_finished(self) -> tuple[str, ...] | None:
        """How the backend is started, once after a set-up has made it."""
        state = self.progress.state
        if not self._is_news or self.is_running or state.phase != "done" or not state.command:
            return None
        self._is_news = False
        return tuple(state.command)

    @property
    def is_running(self) -> bool:
        return self.progress.is_running

    def start(self, plan: SetupPlan) -> None:
        """Begin, or go on where an earlier run ended."""
        if self.is_running:
            return
        self.folder, self.is_update = plan.folder, plan.is_update
        self._is_news = True
        self._follow(run_setup, plan)

    def attach(self, folder: Path) -> None:
        """Take up what the files of this folder say, such as a set-up that outlived the last Blender."""
        self.folder = folder
        self.progress, self._changed = progress_of(folder), True
        if self.progress.is_running:
            self._is_news = True
            self._follow(watch_setup, folder)

    def examine(self, folder: Path) -> None:
        """Find out about this machine; `machine` is filled a moment later."""
        if not self._is_examining:
            self._is_examining = True
            try:
                self._run(detect_machine, folder, on_answer=self._examined)
            except AddonError as error:
                self._examined(None, error)

    def cancel(self) -> None:
        if self.folder is not None:
            cancel_setup(self.folder)

    def take_change(self) -> bool:
        """Whether anything has changed since this was asked last."""
        changed, self._changed = self._changed, False
        return changed

    def _follow(self, function: Callable[..., SetupProgress], argument: object) -> None:
        self.error = None
        self._set(SetupProgress(SetupState("check"), True) if function is run_setup else self.progress)
        try:
            self._run(function, argument, on_answer=self._ended, on_report=self._set)
        except AddonError as error:
            self._fail(error)

    def _ended(self, progress: SetupProgress | None, error: AddonError | None) -> None:
        if error is not None and error.reason == "CLIENT_FAILED" and self.folder is not None:
            self.attach(self.folder)  # the set-up itself goes on
        elif error is not None:
            self._fail(error)
        else:
            assert progress is not None
            self._set(progress)

    def _fail(self, error: AddonError) -> None:
        self.error = error
        self._set(SetupProgress(SetupState("failed", reason=error.reason, message=error.message), False))

    def _examined(self, machine: Machine | None, error: AddonError | None) -> None:
        if error is not None:
            log.warning("this machine could not be looked at: %s", error)
        self.machine, self._is_examining, self._changed = machine, False, True

    def _set(self, progress: SetupProgress) -> None:
        if progress != self.progress:
            self.progress, self._changed = progress, True


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


# ---------------------------------------------------------------- the machine


def detect_machine(folder: Path) -> Machine:
    """Blocks while programs are asked for their versions: not for the main thread."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return Machine(tuple(find_pythons()), shutil.disk_usage(existing).free, total_memory(), tuple(find_gpus()))


def find_pythons(candidates: Iterable[str] | None = None) -> list[FoundPython]:
    """Interpreters from 3.11 to 3.13 that can make environments, the best first: the newest, and Blender's own last."""
    found: dict[tuple[int, int], FoundPython] = {}
    for path in candidates if candidates is not None else _python_candidates():
        python = _probe_python(path)
        if python is None:
            continue
        known = found.get(python.version)
        if known is None or (known.is_blenders and not python.is_blenders):
            found[python.version] = python
    return sorted(found.values(), key=lambda python: (python.is_blenders, [-n for n in python.version]))


def _python_candidates() -> list[str]:
    versions = [f"3.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1)]
    paths = [shutil.which(name) for name in (*(f"python{v}" for v in versions), "python3", "python")]
    for folder in (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"):
        paths += [str(path) for v in versions for path in sorted(folder.glob(f"*{v}*/bin/python3"), reverse=True)[:1]]
    for folder in ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin"):
        paths += [str(Path(folder, f"python{v}")) for v in versions]
    if sys.platform == "win32":
        roots = [os.environ.get("LOCALAPPDATA", "") + r"\Programs\Python", os.environ.get("PROGRAMFILES", "")]
        paths += [str(Path(root, f"Python{v.replace('.', '')}", "python.exe")) for root in roots for v in versions]
    paths.append(sys.executable)
    unique = {os.path.realpath(path): path for path in reversed(paths) if path and Path(path).is_file()}
    return list(reversed(unique.values()))


_PROBE = "import ensurepip, sys, venv; sys.stdout.write('mvgamba %d %d %s' % (*sys.version_info[:2], sys.base_prefix))"


def _probe_python(path: str) -> FoundPython | None:
    try:
        # -I: neither the variables of Blender nor the folder that it was started in may change the answer
        run = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, timeout=PROBE_TIMEOUT, **_QUIET)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.match(r"mvgamba (\d+) (\d+) (.*)", run.stdout.decode("utf-8", errors="replace"))
    if run.returncode != 0 or said is None:
        return None
    version = int(said[1]), int(said[2])
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return None
    is_blenders = os.path.realpath(said[3].strip()) == os.path.realpath(sys.base_prefix) and _is_beside_blender()
    return FoundPython(path, version, is_blenders)


def _is_beside_blender() -> bool:
    """Whether this interpreter is Blender's, or that of the client's process, which is the same."""
    return importlib.util.find_spec("bpy") is not None


_QUIET: dict = {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)} if sys.platform == "win32" else {}


def find_gpus() -> list[str]:
    """NVIDIA GPUs as their driver names them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run([program, *query], capture_output=True, text=True, timeout=PROBE_TIMEOUT, **_QUIET)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in map(gpu_line, run.stdout.splitlines()) if line] if run.returncode == 0 else []


def gpu_line(line: str) -> str:
    """`NVIDIA H200, 143771, 550.54` -> a line for people; empty when it is something else."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 3 or not parts[1].isdecimal():
        return ""
    text = tr("{name}, {memory} GB, driver {driver}")
    return text.format(name=parts[0], memory=round(int(parts[1]) / 1024), driver=parts[2])


def total_memory() -> int:
    """Bytes of this machine; 0 when it cannot be told."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")
            ]

        status = Status()
        status.length = ctypes.sizeof(Status)
        found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total) if found else 0
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
