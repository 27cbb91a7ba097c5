"""GLBs made by a command given as a template, one process each, timed; what is there already is not made again.

A template is split as a shell would split it, and then each word has its `{name}` filled in, so that a prompt of several words stays one
argument and nothing is run by a shell. A first word `python` is the interpreter that runs this; the command runs in the current folder.
"""

import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import torch

import mvgamba
from mvgamba.errors import InvalidInput
from tests.benchmarks.run_bench import machine

LOOK_EVERY = 0.02
"""Seconds between looks at a running process."""


@dataclass(frozen=True)
class Made:
    """One GLB, or why there is none."""

    name: str
    glb: Path
    seconds: float | None
    """Wall time of the process, its start included; None where nobody wrote it down."""
    peak_memory_mib: float | None
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """The last JSON object that the command printed."""


def filled(template: str, values: dict[str, str]) -> list[str]:
    """The words of a command. Raises: InvalidInput for a name in braces that there is no value for, or no `{out}`."""
    words = shlex.split(template)
    if not any("{out}" in word for word in words):
        raise InvalidInput(f"The command {template!r} does not say where to write: it must name {{out}}.")
    try:
        words = [word.format(**values) for word in words]
    except (KeyError, IndexError, ValueError) as error:
        names = ", ".join(f"{{{name}}}" for name in values)
        raise InvalidInput(f"The command {template!r} has {error} in braces; it may have {names}.") from error
    return [sys.executable if words[0] == "python" else words[0], *words[1:]]


def make(
    jobs: dict[str, dict[str, str]],
    template: str,
    folder: Path,
    *,
    at_once: int = 1,
    timeout: float = 1800.0,
    tell: Callable[[Made], None] | None = None,
) -> list[Made]:
    """`NAME.glb` in the folder for each job, in their order, with `NAME.json` beside it for who looks later.

    Args:
        jobs: Name -> values for the template, without `out`.
        at_once: Processes side by side; with more than one, seconds are those of a shared machine.
        timeout: Seconds after which a process is ended and counts as failed.
    Raises: InvalidInput: the template cannot be filled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    commands = {
        name: filled(template, values | {"out": str(_unfinished(folder, name))}) for name, values in jobs.items()
    }

    def one(name: str) -> Made:
        made = _made_before(folder, name) or _run(name, commands[name], folder, timeout)
        if tell is not None:
            tell(made)
        return made

    with ThreadPoolExecutor(max(1, at_once)) as pool:
        return list(pool.map(one, jobs))


def _unfinished(folder: Path, name: str) -> Path:
    # named so until it is whole: a run that is stopped must not leave half a file that looks finished
    return folder / f"{name}.unfinished.glb"


def _made_before(folder: Path, name: str) -> Made | None:
    glb, record = folder / f"{name}.glb", folder / f"{name}.json"
    if not glb.is_file():
        return None
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return Made(name, glb, known.get("seconds"), known.get("peak_memory_mib"), None, known.get("facts", {}))


def _run(name: str, command: list[str], folder: Path, timeout: float) -> Made:
    glb = folder / f"{name}.glb"
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        status, peak = _wait(process, begin + timeout)
        seconds = time.perf_counter() - begin
        printed, complaint = _text(out), _text(errors).strip()
    if status is None or status != 0 or not _unfinished(folder, name).is_file():
        why = f"took more than {timeout:.0f} s" if status is None else f"ended with {status}"
        last = complaint.splitlines()[-1] if complaint else ""
        return Made(name, glb, seconds, peak, f"{why}: {last}" if last else why)
    os.replace(_unfinished(folder, name), glb)
    made = Made(name, glb, seconds, peak, None, _last_object(printed))
    record = {key: value for key, value in asdict(made).items() if key in ("seconds", "peak_memory_mib", "facts")}
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    return made


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int | None, float]:
    """Exit status of a child, None where it had to be ended, and the most MiB that it and its children had.

    Looked at and not asked for afterwards: what the system says of a child that has ended (`ru_maxrss`) holds the pages of the parent that
    it was forked from, and these are many where torch is loaded.
    """
    watched, peak, late = psutil.Process(process.pid), 0.0, False
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family) / 2**20)
        if time.perf_counter() > deadline and not late:
            late = True
            process.kill()
        time.sleep(LOOK_EVERY)
    return None if late else process.returncode, peak


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _last_object(printed: str) -> dict[str, Any]:
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                continue
    return {}


def spread_seconds(made: list[Made]) -> dict[str, float | None]:
    """Median and most seconds, and the most memory, of those that were made and written down."""
    seconds = [one.seconds for one in made if one.error is None and one.seconds is not None]
    memory = [one.peak_memory_mib for one in made if one.error is None and one.peak_memory_mib is not None]
    return {
        "seconds_median": statistics.median(seconds) if seconds else None,
        "seconds_max": max(seconds, default=None),
        "peak_memory_mib": max(memory, default=None),
    }


def circumstances() -> dict[str, Any]:
    """What figures belong to: processor, versions, load, GPU."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return machine() | {"mvgamba": mvgamba.__version__, "gpu": gpu}


def evenly(names: list[str], limit: int) -> list[str]:
    """`limit` of them spread over the whole list; all for 0."""
    if not 0 < limit < len(names):
        return names
    return [names[i * len(names) // limit] for i in range(limit)]
