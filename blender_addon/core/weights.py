"""Weights of the backend: what there is and how it stands, and having them fetched, checked and taken in.

All of it is done by the program `mvgamba` that lies beside the backend's, in the environment that the weights are for. The functions that
call it block, for minutes: they are run beside Blender.
"""

import contextlib
import enum
import json
import logging
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .errors import AddonError
from .i18n import tr

log = logging.getLogger(__name__)

VARIABLE = "MVGAMBA_WEIGHTS"
"""What the backend and its programs are told their folder of weights by."""
GRACE = 4.0
"""Seconds that the program may take to end once it was told to."""
POLL = 0.1
_USAGE = 2
"""Exit state of a program that does not know an argument."""


class WeightsState(enum.StrEnum):
    """As the program says."""

    PACKAGE = "package"
    THERE = "there"
    PARTIAL = "partial"
    DAMAGED = "damaged"
    ABSENT = "absent"


@dataclass(frozen=True)
class WeightsProgram:
    """How the program is started that knows the weights of a backend."""

    command: tuple[str, ...]
    folder: Path | None = None
    """Of weights; None for the usual one of this user."""


@dataclass(frozen=True)
class WeightsEntry:
    """One file of weights, or one model of many files."""

    name: str
    kind: str
    """reconstructor, generator or memory."""
    model: str
    about: str
    """What they are, in the backend's words."""
    licence: str
    state: WeightsState
    size: int
    """Bytes, 0 where it is not known; of what nobody has asked for yet about."""
    fetched: int
    """Bytes that lie there."""
    can_download: bool
    is_accepted: bool
    """Whether the licence was accepted before."""
    is_default: bool
    path: str
    missing: tuple[str, ...] = ()
    """Python packages that the backend's environment lacks for them."""

    @property
    def purpose(self) -> str:
        """What they are for, for people; empty when it is not known here."""
        purposes = {
            ("reconstructor", "ray"): lambda: tr("Captures and views to a mesh"),
            ("reconstructor", "mvgamba"): lambda: tr("Four views to a mesh"),
            ("generator", "starter"): lambda: tr("Words and pictures to views"),
            ("generator", "mvdream"): lambda: tr("Words to views, with a GPU"),
            ("generator", "imagedream"): lambda: tr("Pictures to views, with a GPU"),
            ("memory", "starter"): lambda: tr("Objects that the starter model remembers"),
        }
        purpose = purposes.get((self.kind, self.model))
        return purpose() if purpose is not None else ""

    @property
    def state_text(self) -> str:
        """A few words."""
        match self.state:
            case WeightsState.PACKAGE:
                return tr("Included")
            case WeightsState.THERE:
                return size_text(self.fetched)
            case WeightsState.PARTIAL:
                return part_text(self.fetched, self.size)
            case WeightsState.DAMAGED:
                return tr("Damaged")
            case WeightsState.ABSENT:
                return tr("Not there")


@dataclass(frozen=True)
class Transfer:
    """How far a download is, in bytes."""

    done: int
    of: int
    """0 where nobody has said."""


@dataclass(frozen=True)
class Checked:
    """What a look through all bytes found."""

    name: str
    is_whole: bool
    said: str
    """What is wrong, in the backend's words."""


def size_text(size: int) -> str:
    """Of a file, in the units that file browsers use."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def part_text(done: int, of: int) -> str:
    """How much of a download is there."""
    if not of:
        return size_text(done)
    return tr("{done} of {all}").format(done=size_text(done), all=size_text(of))


def find_program(backend: Sequence[str], folder: Path | None = None) -> WeightsProgram:
    """The program beside a backend's executable. Looks at the disk.

    Raises:
        AddonError: VERSION_MISMATCH, when there is none: the backend is older than its weights.
    """
    if list(backend[-2:]) == ["-m", "mvgamba_backend"]:
        return WeightsProgram((*backend[:-1], "mvgamba"), folder)
    name = "mvgamba.exe" if sys.platform == "win32" else "mvgamba"
    first = Path(shutil.which(backend[0]) or backend[0])
    for executable in (first, first.resolve()):  # what is on the search path may be a link to it
        if (beside := executable.with_name(name)).is_file():
            return WeightsProgram((str(beside),), folder)
    text = tr("there is no program {name} beside {backend}, so its weights cannot be changed from here")
    raise AddonError("VERSION_MISMATCH", text.format(name=name, backend=first))


def list_weights(program: WeightsProgram) -> tuple[WeightsEntry, ...]:
    """All that there are or could be. Raises: AddonError."""
    with _Call(program, "list") as call:
        return tuple(_entry(event) for event in call.events())


def download(
    program: WeightsProgram, name: str, *, report: Callable[[Transfer], None], should_stop: Callable[[], bool]
) -> bool:
    """Fetch weights whose licence the person has accepted, or what is missing of them. Whether they are whole; not when it was stopped.

    What was fetched is kept, however it ends, and the next call goes on with it.

    Raises:
        AddonError: WEIGHTS_NOT_FETCHED, WEIGHTS_CORRUPT, WEIGHTS_DISK_FULL, WEIGHTS_FOLDER, VERSION_MISMATCH.
    """
    with _Call(program, "pull", name, "--accept-licence", "--die-with-stdin", should_stop=should_stop) as call:
        for event in call.events():
            if event["event"] == "progress":
                report(Transfer(int(event["bytes"]), int(event["of"] or 0)))
    return not call.was_stopped


def verify(
    program: WeightsProgram,
    names: Sequence[str],
    *,
    report: Callable[[Checked], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Read weights through and compare their hashes; each is reported. Whether it came to the end. Raises: AddonError."""
    with _Call(program, "verify", *names, "--die-with-stdin", should_stop=should_stop) as call:
        for event in call.events():
            if event["event"] == "verified" and event["state"] in ("whole", "damaged"):
                report(Checked(event["name"], event["state"] == "whole", event["said"]))
    return not call.was_stopped


def take_in(
    program: WeightsProgram,
    path: Path,
    name: str,
    licence: str,
    is_default: bool,
    *,
    report: Callable[[object], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Keep a file of weights, or a folder of a model whose licence the person has accepted. Whether it came to the end; nothing is reported.

    Args:
        name: Of a file, from now on (`plain_name`).
    Raises:
        AddonError: WEIGHTS_REFUSED, WEIGHTS_DISK_FULL, WEIGHTS_FOLDER, VERSION_MISMATCH.
    """
    arguments = ["import-generator", str(path), "--accept-licence"]
    if not path.is_dir():
        arguments = ["import", str(path), "--name", name, f"--licence={licence}", *["--default"] * is_default]
    with _Call(program, *arguments, "--die-with-stdin", should_stop=should_stop) as call:
        for _ in call.events():
            pass
    return not call.was_stopped


def plain_name(stem: str, taken: Sequence[str] = ()) -> str:
    """What weights may be called, out of the name of a file: Latin letters, digits, '.', '_' and '-'; not one of those that are taken."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:90] or "weights"
    names = [plain, *(f"{plain}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


# ---------------------------------------------------------------- the program


_REASONS = {
    "pull": {"UNAVAILABLE": "WEIGHTS_NOT_FETCHED", "INVALID_INPUT": "WEIGHTS_NOT_FETCHED"},
    "import": {
        reason: "WEIGHTS_REFUSED" for reason in ("INVALID_INPUT", "UNAVAILABLE", "WEIGHTS_MISSING", "WEIGHTS_CORRUPT")
    },
}
_REASONS["import-generator"] = _REASONS["import"]


class _Call:
    """One run of the program. Leaving the context ends it, whatever has happened."""

    def __init__(
        self, program: WeightsProgram, action: str, *arguments: str, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._program, self._action = program, action
        self._command = [*program.command, "weights", action, *arguments, "--json"]
        self._should_stop = should_stop
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.was_stopped = False

    def __enter__(self) -> "_Call":
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
        if self._program.folder is not None:
            environment[VARIABLE] = str(self._program.folder)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        try:
            # its stdin is closed by the system, whoever ends this process and how: it ends with that
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
            )
        except OSError as error:
            self._errors.close()
            raise AddonError("BACKEND_START_FAILED", f"{self._command[0]}: {error.strerror or error}") from error
        threading.Thread(target=self._read, name="mvgamba-weights", daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            log.warning("mvgamba weights %s did not end and was ended", self._action)
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def events(self) -> Iterator[dict[str, Any]]:
        """What it says, until it has ended or was to stop. Raises: AddonError, out of its last word."""
        problem: AddonError | None = None
        while True:
            if self._should_stop():
                self.was_stopped = True
                return
            try:
                line = self._lines.get(timeout=POLL)
            except queue.Empty:
                continue
            if line is None:
                break
            event = self._parsed(line)
            if event.get("event") == "error":
                problem = self._error_of(event)
            else:
                yield event
        code = self._process.wait()
        if problem is not None:
            raise problem
        if code == _USAGE:
            text = tr("this backend is too old to have its weights changed from here ({said})")
            raise AddonError("VERSION_MISMATCH", text.format(said=self._last_words()))
        if code != 0 and self._action != "verify":
            raise AddonError("INTERNAL", f"{self._command[0]}: {self._last_words()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError(type(event).__name__)
        except ValueError as error:
            raise AddonError("INTERNAL", f"{self._command[0]}: {line[:200]!r}") from error
        return event

    def _error_of(self, event: dict[str, Any]) -> AddonError:
        reason, message = str(event.get("reason", "INTERNAL")), str(event.get("message", ""))
        reason = {"OUTPUT_FAILED": "WEIGHTS_FOLDER", "DISK_FULL": "WEIGHTS_DISK_FULL"}.get(reason, reason)
        return AddonError(_REASONS.get(self._action, {}).get(reason, reason), message)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), tr("it said nothing"))


def _entry(event: dict[str, Any]) -> WeightsEntry:
    """Raises: AddonError, VERSION_MISMATCH, for a line of an older program."""
    try:
        return WeightsEntry(
            name=event["name"],
            kind=event["kind"],
            model=event["model"],
            about=event["about"],
            licence=event["licence"],
            state=WeightsState(event["state"]),
            size=event["bytes"] or 0,
            fetched=event["fetched"],
            can_download=event["can_pull"],
            is_accepted=event["is_accepted"],
            is_default=event["is_default"],
            path=event["path"],
            missing=tuple(event["missing"]),
        )
    except (KeyError, ValueError) as error:
        text = tr("this backend is too old to have its weights changed from here ({said})")
        raise AddonError("VERSION_MISMATCH", text.format(said=error)) from error
