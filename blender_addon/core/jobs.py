"""The life of a job as the panel shows it: rows, the events that change them, and the board that holds both.

Worker threads only `post` events. The main thread calls `pump`, which applies them; nothing else changes a row.
"""

import dataclasses
import enum
import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import sentence
from .facts import ResultFacts
from .i18n import tr
from .request import CapturedView, JobRequest
from .shots import StageRender

log = logging.getLogger(__name__)


class JobState(enum.StrEnum):
    """Where a row stands. The server's own states are a part of these."""

    CAPTURING = "capturing"
    """Its pictures are being taken, by another Blender on this machine."""
    SUBMITTING = "submitting"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DOWNLOADING = "downloading"
    READY = "ready"
    VIEWS_READY = "views_ready"
    """Made and downloaded, for a person to look at; what comes next is a new job (`request.approved_request`)."""
    PLACED = "placed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"


FINAL = frozenset({JobState.VIEWS_READY, JobState.PLACED, JobState.CANCELLED, JobState.FAILED})
_CANCELLABLE = frozenset(
    {
        JobState.CAPTURING,
        JobState.SUBMITTING,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.DOWNLOADING,
        JobState.READY,
        JobState.LOST,
    }
)

STAGE_LABELS = {
    "prepare": "Preparing",
    "multiview": "Making views",
    "reconstruct": "Reconstructing",
    "refine": "Refining",
    "mesh": "Extracting mesh",
    "texture": "Baking texture",
    "export": "Writing result",
}
WORKING = "Working"
"""Of a stage that this version does not know."""


@dataclass(frozen=True)
class AssetInfo:
    """A file that the server holds for a job."""

    id: str
    media_type: str
    size_bytes: int
    sha256: str
    """Hexadecimal."""
    name: str = ""
    """Of the file, such as mesh.glb."""
    kind: str = ""
    """mesh, preview, view, cameras or facts."""


@dataclass(frozen=True)
class PreviewPicture:
    """A small picture of a view that the job is making."""

    data: bytes
    media_type: str
    index: int
    """Of `count` views."""
    count: int
    variant: int = 0


@dataclass(frozen=True)
class JobUpdate:
    """What one message of a watch says; fields that it does not touch are None."""

    sequence: int
    state: str | None = None
    """queued, running, cancelling, succeeded, failed or cancelled."""
    stage: str | None = None
    fraction: float | None = None
    message: str | None = None
    seconds_left: float | None = None
    queue_position: int | None = None
    reason: str | None = None
    error_message: str | None = None
    assets: tuple[AssetInfo, ...] | None = None
    log_line: str | None = None
    preview: PreviewPicture | None = None


@dataclass(frozen=True)
class Event:
    """Something a worker saw. `request_id` names the row."""

    request_id: str
    at: float = field(default_factory=time.monotonic, kw_only=True)
    """When, by the clock of this process; the main thread may come to it much later."""


@dataclass(frozen=True)
class Captured(Event):
    """One more picture of the subject is there."""

    done: int
    total: int


@dataclass(frozen=True)
class Accepted(Event):
    """The server has the job."""

    job_id: str


@dataclass(frozen=True)
class Updated(Event):
    """The server reported on the job."""

    update: JobUpdate


@dataclass(frozen=True)
class Downloading(Event):
    """Bytes of the result arrived."""

    received: int
    total: int


@dataclass(frozen=True)
class Downloaded(Event):
    """The result lies on this machine, whole and verified."""

    path: Path
    more: tuple[Path, ...] = ()
    """Of the further variants, in their order."""
    facts: tuple[ResultFacts, ...] = ()
    """Of each variant; empty when the server told none."""


@dataclass(frozen=True)
class ViewsReady(Event):
    """The views of a review lie on this machine."""

    views: tuple[tuple[CapturedView, ...], ...]
    """One set for each variant."""


@dataclass(frozen=True)
class ConnectionLost(Event):
    """The server does not answer; the worker goes on trying."""


@dataclass(frozen=True)
class Failed(Event):
    """The job ended without a result."""

    reason: str
    message: str


@dataclass(frozen=True)
class WasCancelled(Event):
    """The job ended because somebody asked for it."""


@dataclass
class JobRow:
    """One line of the jobs list. Belongs to the main thread."""

    request: JobRequest
    state: JobState = JobState.SUBMITTING
    render: StageRender | None = None
    """What takes the pictures of the request, if they were not there when it was made."""
    captured: int = 0
    """Of the views of the request."""
    job_id: str = ""
    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    queue_position: int = 0
    received: int = 0
    total: int = 0
    reason: str = ""
    message: str = ""
    result_path: Path | None = None
    more_result_paths: tuple[Path, ...] = ()
    """Of the further variants."""
    facts: tuple[ResultFacts, ...] = ()
    """What each variant was made with; empty when the server told nothing."""
    previews: dict[tuple[int, int], PreviewPicture] = field(default_factory=dict)
    """The latest picture by (variant, view)."""
    views: tuple[tuple[CapturedView, ...], ...] = ()
    """Of a review, one set for each variant."""
    log_lines: list[str] = field(default_factory=list)
    """What the server wanted the person to know, such as a word that it did not understand."""
    note: str = ""
    """Why a finished result waits, e.g. for Edit Mode to end."""
    key: str = ""
    """Identity of a row that is not the job of its request but places the result of that once more."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    _stage_began: float = field(default=0.0, repr=False)

    @property
    def id(self) -> str:
        return self.key or self.request.request_id

    @property
    def is_active(self) -> bool:
        """Whether somebody still has to do something for it."""
        return self.state not in FINAL

    @property
    def can_clear(self) -> bool:
        """Whether nobody needs it any more: views that were made wait for a person."""
        return not self.is_active and self.state is not JobState.VIEWS_READY

    @property
    def can_cancel(self) -> bool:
        return self.state in _CANCELLABLE

    @property
    def text(self) -> str:
        """What the row says."""
        match self.state:
            case JobState.CAPTURING:
                return tr("Capturing {done}/{total}").format(done=self.captured, total=len(self.request.views))
            case JobState.SUBMITTING:
                return tr("Sending")
            case JobState.QUEUED:
                return (
                    tr("Queued, {count} ahead").format(count=self.queue_position)
                    if self.queue_position
                    else tr("Queued")
                )
            case JobState.RUNNING:
                left = f"  {self.seconds_left:.0f} s" if self.seconds_left and self.seconds_left >= 0.5 else ""
                return f"{tr(STAGE_LABELS.get(self.stage, WORKING))} {100 * self.fraction:.0f} %{left}"
            case JobState.CANCELLING:
                return tr("Cancelling")
            case JobState.DOWNLOADING:
                return tr("Downloading {megabytes:.1f} MB").format(megabytes=self.total / 1e6)
            case JobState.READY:
                return self.note or tr("Importing")
            case JobState.VIEWS_READY:
                return tr("Views are ready")
            case JobState.PLACED:
                return f"{tr('Placed')}. {self.note}" if self.note else tr("Placed")
            case JobState.CANCELLED:
                return tr("Cancelled")
            case JobState.LOST:
                return tr("Connection lost, reconnecting")
            case JobState.FAILED:
                return sentence(self.reason, self.message)

    def enter_stage(self, stage: str, at: float) -> None:
        """Begin a stage and close the clock of the one before; the clock is ours, so the way here is in it."""
        if self.stage:
            self.stage_seconds[self.stage] = self.stage_seconds.get(self.stage, 0.0) + at - self._stage_began
        self.stage, self._stage_began = stage, at


class JobBoard:
    """All rows of this run of Blender, newest first."""

    def __init__(self) -> None:
        self.rows: list[JobRow] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def add(self, request: JobRequest, render: StageRender | None = None) -> JobRow:
        row = JobRow(request, JobState.SUBMITTING if render is None else JobState.CAPTURING, render)
        self.rows.insert(0, row)
        return row

    def find(self, request_id: str) -> JobRow | None:
        return next((row for row in self.rows if row.id == request_id), None)

    @property
    def num_active(self) -> int:
        return sum(row.is_active for row in self.rows)

    def post(self, event: Event) -> None:
        """Hand an event over, from any thread."""
        self._events.put(event)

    def pump(self, *, limit: int = 1000) -> bool:
        """Apply what has arrived; whether any row changed. At most `limit` events, so that a redraw never waits."""
        changed = False
        for _ in range(limit):
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
            row = self.find(event.request_id)
            if row is not None:
                apply(row, event)
                changed = True
        return changed

    def clear_finished(self) -> None:
        self.rows = [row for row in self.rows if not row.can_clear]


def apply(row: JobRow, event: Event) -> None:
    """Change a row as an event says. A row that has ended stays as it is, whatever still arrives."""
    if not row.is_active or row.state is JobState.READY:
        return
    match event:
        case Captured(done=done, total=total):
            row.captured = done
            if done == total:
                _enter(row, JobState.SUBMITTING)
        case Accepted(job_id=job_id):
            row.job_id = job_id
            _enter(row, JobState.QUEUED)
        case Updated(update=update):
            _apply_update(row, update, event.at)
        case Downloading(received=received, total=total):
            row.enter_stage("", event.at)
            row.received, row.total = received, total
            _enter(row, JobState.DOWNLOADING)
        case Downloaded(path=path, more=more, facts=facts):
            row.enter_stage("", event.at)
            row.result_path, row.more_result_paths, row.facts = path, more, facts
            row.fraction = 1.0
            row.state = JobState.READY
        case ViewsReady(views=views):
            row.enter_stage("", event.at)
            row.views = views
            row.fraction = 1.0
            row.state = JobState.VIEWS_READY
        case ConnectionLost():
            _enter(row, JobState.LOST)
        case Failed(reason=reason, message=message):
            row.enter_stage("", event.at)
            row.reason, row.message = reason, message
            row.state = JobState.FAILED
        case WasCancelled():
            row.enter_stage("", event.at)
            row.state = JobState.CANCELLED


def _enter(row: JobRow, state: JobState) -> None:
    # Once a person has clicked Cancel the row says so until the server has answered.
    if row.state is not JobState.CANCELLING:
        row.state = state


def _apply_update(row: JobRow, update: JobUpdate, at: float) -> None:
    if update.state in ("queued", "running", "cancelling"):
        _enter(row, JobState(update.state))
    elif row.state is JobState.LOST and update.state is None:
        _enter(row, JobState.RUNNING)
    if update.stage and update.stage != row.stage:
        row.enter_stage(update.stage, at)
    if update.fraction is not None:  # a report, not a heartbeat
        row.fraction = max(row.fraction, update.fraction)
        row.seconds_left = update.seconds_left
    if update.queue_position is not None:
        row.queue_position = update.queue_position
    if update.preview is not None:
        row.previews[update.preview.variant, update.preview.index] = update.preview
    if update.log_line and update.log_line not in row.log_lines:
        row.log_lines.append(update.log_line)
        log.debug("%s: %s", row.id, update.log_line)


def retry_request(request: JobRequest, **changes: Any) -> JobRequest:
    """The same job again under a new identity, with some options changed."""
    fresh = JobRequest(
        request.label, request.views, request.options, request.target, request.capture, source=request.source
    )
    return dataclasses.replace(fresh, options=dataclasses.replace(fresh.options, **changes))


def wait_until(pump: Callable[[], object], done: Callable[[], bool], *, timeout: float, interval: float = 0.05) -> bool:
    """Pump until `done`; False when `timeout` seconds have passed. For scripts, where no timer fires."""
    deadline = time.monotonic() + timeout
    while True:
        pump()
        if done():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
