"""What Blender's process and that of the client say to each other. What happens to a job are the events of core/jobs.py."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend import BackendCommand
from .backend_status import BackendStatus
from .errors import AddonError
from .remote import RemoteBackend
from .request import JobRequest
from .shots import StageRender

# ---------------------------------------------------------------- to the client


@dataclass(frozen=True)
class UseLanguage:
    """Say everything in this language from now on."""

    catalog: Path | None
    """JSON, English sentence to translated one; None for English."""


@dataclass(frozen=True)
class StartBackend:
    """Start or reach it; the status says what comes of it."""

    command: BackendCommand | RemoteBackend


@dataclass(frozen=True)
class StopBackend:
    """End the local backend; a remote one is left alone."""


@dataclass(frozen=True)
class Submit:
    """Carry a job to its end, with what the request says and, where it is to be rendered, after that."""

    request: JobRequest
    command: BackendCommand | RemoteBackend
    result_path: Path
    render: StageRender | None = None


@dataclass(frozen=True)
class Cancel:
    """Ask for the end of a job."""

    request_id: str


@dataclass(frozen=True)
class Question:
    """Something that is answered once."""

    number: int


@dataclass(frozen=True)
class LookUp(Question):
    """What the generator knows of a prompt (`WordsFound`); None when the backend does not run."""

    prompt: str
    list_all: bool


@dataclass(frozen=True)
class KnowsJob(Question):
    """Whether the running backend still has the result of a job; None when the backend does not run."""

    job_id: str


@dataclass(frozen=True)
class Run(Question):
    """What a function of the core gives: for what takes too long for Blender's main thread."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    reports: bool
    """Whether it also takes `report` (called with what `Reported` is to carry) and `should_stop`."""


@dataclass(frozen=True)
class StopRun:
    """Ask a `Run` that reports to end early; it still answers."""

    number: int


@dataclass(frozen=True)
class Leave:
    """End everything and go."""

    finish_jobs: bool = False
    """Go when the jobs have ended; nobody listens any more, their results lie in their folders."""


# ---------------------------------------------------------------- from the client


@dataclass(frozen=True)
class StatusSeen:
    """How the backend of the last `Submit` or `StartBackend` is now."""

    status: BackendStatus


@dataclass(frozen=True)
class WorkEnded:
    """Nobody works for this job any more; its last event has been sent before."""

    request_id: str


@dataclass(frozen=True)
class Reported:
    """How far a `Run` is."""

    number: int
    value: Any


@dataclass(frozen=True)
class Answer:
    """To a question; `error` instead of a value when it could not be answered."""

    number: int
    value: Any = None
    error: AddonError | None = None


@dataclass(frozen=True)
class Logged:
    """What the client's process has to say in the log."""

    record: logging.LogRecord


# ---------------------------------------------------------------- seen from outside


@dataclass(frozen=True)
class ClientEnded:
    """The client's process has ended by itself; what it was told is forgotten, and the next message starts it anew."""

    message: str
