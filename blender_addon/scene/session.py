"""The jobs of this Blender: the client's process that carries them, and a timer that brings its news."""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..core.backend import BackendCommand
from ..core.backend_status import BackendState, BackendStatus
from ..core.client_process import ClientProcess
from ..core.errors import AddonError
from ..core.history import remove_unfinished
from ..core.i18n import tr
from ..core.jobs import Event, Failed, JobBoard, JobRow, JobState, wait_until
from ..core.messages import (
    Cancel,
    ClientEnded,
    KnowsJob,
    LookUp,
    StartBackend,
    StatusSeen,
    StopBackend,
    Submit,
    UseLanguage,
    WorkEnded,
)
from ..core.remote import RemoteBackend
from ..core.request import JobRequest
from ..core.setup import SetupRunner
from ..core.shots import StageRender
from ..core.weights_book import WeightsBook
from ..core.word_book import WordBook
from ..translations import current_catalog
from .placer import Placer

log = logging.getLogger(__name__)

ACTIVE_DELAY = 0.1
"""Seconds between two looks at the events while a job runs."""
WATCH_DELAY = 0.5
"""Seconds between two looks at the backend's status while it is there and no job runs."""
MOMENT = 1.0
"""Seconds that a person may be kept waiting by a question that is asked where they click."""
STOP_TIMEOUT = 10.0
"""Seconds that a backend may take to end."""
CRASH_MEMORY, MAX_CRASHES = 120.0, 3
"""The client's process is started anew unless it has ended by itself more often than this within so many seconds."""


class Session:
    """Everything that lives from `register` to `unregister`. Main thread only."""

    def __init__(self) -> None:
        self.board = JobBoard()
        self.client = ClientProcess()
        self.placer = Placer(self.board, self.run, self.client.stop_run)
        self.words = WordBook(self._ask_for_words)
        self.setup = SetupRunner(self.run)
        self.weights = WeightsBook(self.run, self.client.stop_run)
        self.backend_status = BackendStatus(BackendState.STOPPED)
        """How the backend of the last job (or of `start_backend`) was when it was looked at last."""
        self.finish_jobs = False
        """Whether jobs go on when this ends; their results are in the history then."""
        self._command: BackendCommand | RemoteBackend | None = None
        """Of the last job (or of `start_backend`)."""
        self._sent: dict[str, Submit] = {}
        """What the client's process works for, by the row."""
        self._crashes: list[float] = []
        self._catalog: Path | None = None
        """Of the language that the client's process speaks."""
        self._tick = self.pump  # timers know a function by identity, and a bound method is a new object each time
        self.on_change: Callable[[], None] | None = None
        self.on_setup_done: Callable[[tuple[str, ...]], None] | None = None

    @property
    def backend_pid(self) -> int | None:
        """Process id of the local backend, or None when it does not run."""
        return self.backend_status.pid

    def start_backend(self, command: BackendCommand | RemoteBackend) -> None:
        """Start or reach the backend without a job; returns at once, the status says what comes of it.

        Raises:
            AddonError: CLIENT_FAILED.
        """
        self._send(StartBackend(command))
        self._use(command)
        self.start_timer()

    def submit(
        self,
        request: JobRequest,
        command: BackendCommand | RemoteBackend,
        folder: Path,
        *,
        render: StageRender | None = None,
    ) -> JobRow:
        """Send a job and return its row at once; with `render`, after its pictures have been taken.

        Raises:
            AddonError: CLIENT_FAILED.
        """
        message = Submit(request, command, folder / "mesh.glb", render)
        self._send(message)
        self._use(command)
        self.placer.note_sent(request)
        row = self.board.add(request, render)
        device = request.options.device
        if self.backend_status.lacks(device):
            row.log_lines.append(tr("The backend has no device {device}").format(device=device))
        self._sent[row.id] = message
        self.start_timer()
        return row

    def look_up(self, prompt: str) -> None:
        """Find out what the generator knows of a prompt, if the backend runs; it is not started for that."""
        if self._can_ask and prompt.strip():
            self.words.look_up(prompt)
            self.start_timer()

    @property
    def _can_ask(self) -> bool:
        """Whether a question needs nothing to be started."""
        return self._command is not None and (self.backend_pid is not None or self.backend_status.is_answering)

    def knows_job(self, job_id: str) -> bool:
        """Whether the running backend still has the result of a job. Waits for its answer a moment at most."""
        if not job_id or not self._can_ask:
            return False
        answers: list[bool] = []
        self.client.ask(lambda n: KnowsJob(n, job_id), lambda value, _error: answers.append(bool(value)))
        wait_until(self._hear, lambda: bool(answers), timeout=MOMENT)
        return any(answers)

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        on_answer: Callable[[Any, AddonError | None], None],
        on_report: Callable[[Any], None] | None = None,
    ) -> int:
        """Have a function of the core called in the client's process (`ClientProcess.run`), and hear of it with the timer.

        Raises:
            AddonError: CLIENT_FAILED.
        """
        self._tell_language()
        number = self.client.run(function, *arguments, on_answer=on_answer, on_report=on_report)
        self.start_timer()
        return number

    def cancel(self, row: JobRow) -> None:
        """Ask for the end of a job; the row says so at once. A result that waits to be placed is let go."""
        if row.state is JobState.READY:
            row.state, row.note = JobState.CANCELLED, ""
        elif row.id in self._sent and row.can_cancel:
            row.state = JobState.CANCELLING
            self._send(Cancel(row.id))

    def pump(self, *, place: bool = True) -> float | None:
        """Apply the news, place a result that is ready, and say when to look again (None: when a job is sent).

        The timer calls this; where no timer fires (background, tests), scripts do.
        """
        changed = self._hear()
        changed = self.board.pump() or self.words.is_changed or changed
        self.words.is_changed = False
        changed = self.placer.tend(place=place) or changed
        made = self.setup.take_finished()
        if made is not None and self.on_setup_done is not None:
            self.on_setup_done(made)
        changed = self.setup.take_change() or changed
        changed = self.weights.take_change() or changed
        if changed and self.on_change is not None:
            self.on_change()
        if self.board.num_active or self.client.is_busy:
            return ACTIVE_DELAY
        if self._command is None and self.client.pid is not None:
            self.client.close(wait=False)  # it was asked something, and nobody works with a backend
        is_there = self._command is not None and self.backend_status.state is not BackendState.STOPPED
        return WATCH_DELAY if is_there else None

    def close(self) -> None:
        """Stop the timer, the client's process and with it the backend."""
        if bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.unregister(self._tick)
        self.placer.close()
        is_working = any(row.id in self._sent and row.state is not JobState.CANCELLING for row in self.board.rows)
        self.client.close(wait=not (self.finish_jobs and is_working))
        self._sent.clear()

    def stop_backend(self, *, wait: bool = True) -> None:
        """End the local backend; the remote one is left alone. The next job starts it again, and those it had go on then.

        Args:
            wait: Until it has ended, which may take seconds.
        """
        if self.client.pid is None:
            return
        self._send(StopBackend())
        if wait:
            wait_until(self._hear, lambda: self.backend_pid is None, timeout=STOP_TIMEOUT)

    def forget_finished(self, folder: Path) -> None:
        """Clear ended rows, and what the disk holds of jobs without a result. Results stay in the history."""
        used = {view.image_path.parent for row in self.board.rows if not row.can_clear for view in row.request.views}
        for row in self.board.rows:
            if row.can_clear and folder / row.id not in used:  # a retry sends the captures of the job before it
                remove_unfinished(folder / row.id)
        self.board.clear_finished()

    def _use(self, command: BackendCommand | RemoteBackend) -> None:
        if command != self._command:  # nothing is known of another one
            self._command, self.backend_status = command, BackendStatus(BackendState.STOPPED)
            self.words.forget()

    def _send(self, message: object) -> None:
        self._tell_language()
        self.client.send(message)

    def _tell_language(self) -> None:
        catalog = current_catalog()
        if self.client.pid is None:
            self._catalog = None  # how it begins
        if catalog != self._catalog:
            self.client.send(UseLanguage(catalog))
            self._catalog = catalog

    def _ask_for_words(self, prompt: str, list_all: bool) -> None:
        try:
            self.client.ask(lambda n: LookUp(n, prompt, list_all), lambda found, _error: self.words.take(prompt, found))
        except AddonError as error:
            log.info("no word on the words: %s", error)
            self.words.take(prompt, None)

    def _hear(self) -> bool:
        """Take in what the client's process says; whether that is worth a redraw."""
        changed = False
        for message in self.client.receive():
            match message:
                case Event():
                    self.board.post(message)
                case StatusSeen(status):
                    self.backend_status, changed = status, True
                case WorkEnded(request_id):
                    self._sent.pop(request_id, None)
                case ClientEnded(why):
                    self._client_ended(why)
                    changed = True
        return changed

    def _client_ended(self, why: str) -> None:
        """Give the jobs to a new process: under the name of their request the server goes on with what it has."""
        self.backend_status = BackendStatus(BackendState.STOPPED)
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if now - at < CRASH_MEMORY] + [now]
        waiting, self._sent = self._sent, {}
        for row_id, message in waiting.items():
            row = self.board.find(row_id)
            if row is None or not row.is_active:
                continue
            try:
                if len(self._crashes) > MAX_CRASHES:
                    raise AddonError("CLIENT_FAILED", why)
                if message.render is not None and not message.render.is_pending:
                    message = dataclasses.replace(message, render=None)
                self._send(message)
                self._sent[row_id] = message
                if row.state is JobState.CANCELLING:
                    self._send(Cancel(row_id))
            except AddonError as error:
                self.board.post(Failed(row_id, error.reason, error.message))

    def start_timer(self) -> None:
        """Look for news again: a thread may have some."""
        if not bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.register(self._tick, first_interval=ACTIVE_DELAY, persistent=True)


_session: Session | None = None


def session() -> Session:
    """The one session while the extension is registered."""
    assert _session is not None, "the extension is not registered"
    return _session


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    if _session is not None:
        _session.placer.file_loaded()


@bpy.app.handlers.persistent
def _on_save(*_: object) -> None:
    if _session is not None:
        _session.placer.file_saved()


def register() -> None:
    global _session
    _session = Session()
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_post.append(_on_save)


def unregister() -> None:
    global _session
    bpy.app.handlers.save_post.remove(_on_save)
    bpy.app.handlers.load_post.remove(_on_load)
    if _session is not None:
        _session.close()
        _session = None
