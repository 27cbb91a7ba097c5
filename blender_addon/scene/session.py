"""The jobs of this Blender: workers and backend behind them, a timer that brings their news to the main thread."""

import logging
from collections.abc import Callable
from pathlib import Path

import bpy

from ..core.backend_process import BackendCommand, BackendProcess
from ..core.client import connect
from ..core.errors import AddonError
from ..core.history import remove_unfinished
from ..core.jobs import JobBoard, JobRow, JobState
from ..core.request import JobRequest
from ..core.word_book import WordBook
from ..core.worker import JobClient, JobWorker
from .place import place_result

log = logging.getLogger(__name__)

ACTIVE_DELAY = 0.1
"""Seconds between two looks at the events while a job runs."""


class Session:
    """Everything that lives from `register` to `unregister`. Main thread only."""

    def __init__(self) -> None:
        self.board = JobBoard()
        self.words = WordBook()
        self._workers: dict[str, JobWorker] = {}
        self._backend: BackendProcess | None = None
        self._stale: set[str] = set()
        self._tick = self.pump  # timers know a function by identity, and a bound method is a new object each time
        self.on_change: Callable[[], None] | None = None

    @property
    def backend_pid(self) -> int | None:
        """Process id of the local backend, or None when it does not run."""
        return None if self._backend is None else self._backend.pid

    def submit(self, request: JobRequest, command: BackendCommand, folder: Path) -> JobRow:
        """Send a job and return its row at once."""
        backend = self._backend_for(command)

        def open_client() -> JobClient:
            return connect(backend.ensure())

        row = self.board.add(request)
        worker = JobWorker(request, connect=open_client, post=self.board.post, result_path=folder / "mesh.glb")
        self._workers[row.id] = worker
        worker.start()
        self._start_timer()
        return row

    def look_up(self, prompt: str) -> None:
        """Find out what the generator knows of a prompt, if the backend runs; it is not started for that."""
        backend = self._backend
        if backend is not None and backend.pid is not None and prompt.strip():
            self.words.look_up(prompt, lambda: connect(backend.ensure()))
            self._start_timer()

    def cancel(self, row: JobRow) -> None:
        """Ask for the end of a job; the row says so at once."""
        worker = self._workers.get(row.id)
        if worker is not None and row.can_cancel:
            row.state = JobState.CANCELLING
            worker.cancel()

    def place(self, context: bpy.types.Context, row: JobRow, *, select: bool = True) -> bpy.types.Object:
        """Import the result of a row that is READY (or was placed before). Raises: AddonError."""
        if row.result_path is None or not row.result_path.is_file():
            raise AddonError("PLACE_FAILED", "the result file is missing")
        obj = place_result(context, row.result_path, row.request, job_id=row.job_id, select=select)
        row.state, row.note = JobState.PLACED, ""
        return obj

    def pump(self, *, place: bool = True) -> float | None:
        """Apply the news, place what is ready, and say when to look again (None: when a job is sent).

        The timer calls this; where no timer fires (background, tests), scripts do.
        """
        changed = self.board.pump() or self.words.is_changed
        self.words.is_changed = False
        if place:
            for row in self.board.rows:
                if row.state is JobState.READY:
                    changed = self._place_when_possible(row) or changed
        for row in self.board.rows:
            worker = self._workers.get(row.id)
            if worker is not None and not row.is_active and not worker.is_alive:
                del self._workers[row.id]
        if changed and self.on_change is not None:
            self.on_change()
        return ACTIVE_DELAY if self.board.num_active or self.words.is_busy else None

    def close(self) -> None:
        """Stop threads, timer and backend."""
        if bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.unregister(self._tick)
        for worker in self._workers.values():
            worker.stop()
        if self._backend is not None:
            self._backend.stop()
            self._backend = None
        for worker in self._workers.values():
            worker.join(2.0)
        self._workers.clear()

    def file_changed(self) -> None:
        """Another file is open: what was made for the old one waits to be asked for."""
        self._stale.update(row.id for row in self.board.rows)

    def stop_backend(self) -> None:
        """End the local backend; the next job starts it again."""
        if self._backend is not None:
            self._backend.stop()
            self._backend = None

    def forget_finished(self, folder: Path) -> None:
        """Clear ended rows, and what the disk holds of jobs without a result. Results stay in the history."""
        used = {view.image_path.parent for row in self.board.rows if not row.can_clear for view in row.request.views}
        for row in self.board.rows:
            if row.can_clear and folder / row.id not in used:  # a retry sends the captures of the job before it
                remove_unfinished(folder / row.id)
        self.board.clear_finished()

    def _backend_for(self, command: BackendCommand) -> BackendProcess:
        if self._backend is not None and self._backend.command != command:
            log.info("the backend's settings have changed, starting it anew")
            self._backend.stop()
            self._backend = None
        if self._backend is None:
            self._backend = BackendProcess(command)
        return self._backend

    def _start_timer(self) -> None:
        if not bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.register(self._tick, first_interval=ACTIVE_DELAY, persistent=True)

    def _place_when_possible(self, row: JobRow) -> bool:
        """Place a finished result unless the user is busy, and say why not. Whether the row changed."""
        note = _made_for(row) if row.id in self._stale else placing_obstacle(row)
        if note:
            changed, row.note = row.note != note, note
            return changed
        selected = {obj.name for obj in bpy.context.selected_objects}
        untouched = selected <= set(row.request.target.source_names)
        try:
            with bpy.context.temp_override(**_window_override(row.request.target.scene_name)):
                self.place(bpy.context, row, select=untouched)
                bpy.ops.ed.undo_push(message="Place MVGamba Result")
        except (AddonError, RuntimeError) as error:
            row.state, row.reason, row.message = JobState.FAILED, "PLACE_FAILED", str(error)
            log.warning("placing %s: %s", row.request.label, error)
        return True


def placing_obstacle(row: JobRow) -> str:
    """Why a result cannot be placed right now, as the row says it; empty when it can."""
    target = row.request.target
    if target.scene_name not in bpy.data.scenes:
        return _made_for(row)
    if bpy.context.scene is not None and bpy.context.scene.name != target.scene_name:
        return f'Ready, made for scene "{target.scene_name}"'
    if bpy.context.mode != "OBJECT":
        return "Leave Edit Mode to place"
    if bpy.app.is_job_running("RENDER"):
        return "Waiting for the render to end"
    screen = bpy.context.screen
    if screen is not None and screen.is_animation_playing:
        return "Stop playback to place"
    return ""


def _made_for(row: JobRow) -> str:
    target = row.request.target
    return f"Ready, made for {Path(target.filepath).name or 'an unsaved file'}"


def _window_override(scene_name: str) -> dict[str, object]:
    """A window that shows the scene: inside a timer the context has none."""
    for window in bpy.context.window_manager.windows:
        if window.scene.name == scene_name:
            return {"window": window}
    return {}


_session: Session | None = None


def session() -> Session:
    """The one session while the extension is registered."""
    assert _session is not None, "the extension is not registered"
    return _session


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    if _session is not None:
        _session.file_changed()


def register() -> None:
    global _session
    _session = Session()
    bpy.app.handlers.load_post.append(_on_load)


def unregister() -> None:
    global _session
    bpy.app.handlers.load_post.remove(_on_load)
    if _session is not None:
        _session.close()
        _session = None
