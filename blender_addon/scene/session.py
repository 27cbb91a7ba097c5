"""The jobs of this Blender: workers and backend behind them, a timer that brings their news to the main thread."""

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import bpy
from mathutils import Matrix

from ..core.backend_process import BackendCommand, BackendProcess
from ..core.backend_status import Backend, BackendState, BackendStatus, BackendWatcher
from ..core.client import connect
from ..core.errors import AddonError
from ..core.history import remove_unfinished
from ..core.i18n import tr
from ..core.jobs import JobBoard, JobRow, JobState
from ..core.remote import RemoteBackend, RemoteConnection
from ..core.request import JobRequest
from ..core.setup import SetupRunner
from ..core.shots import StageRender
from ..core.word_book import WordBook
from ..core.worker import JobClient, JobWorker
from .place import place_result
from .target import find_scene

log = logging.getLogger(__name__)

ACTIVE_DELAY = 0.1
"""Seconds between two looks at the events while a job runs."""
WATCH_DELAY = 0.5
"""Seconds between two looks at the backend's status while it is there and no job runs."""

after_placing: list[Callable[[bpy.types.Context, bpy.types.Object, JobRow], None]] = []
"""Called with each placed result, in its undo step: variants, coarser copies, proxies. What one raises is noted on the row."""


class Session:
    """Everything that lives from `register` to `unregister`. Main thread only."""

    def __init__(self) -> None:
        self.board = JobBoard()
        self.words = WordBook()
        self._workers: dict[str, JobWorker] = {}
        self.setup = SetupRunner()
        self._backend: Backend | None = None
        self._old_backends: dict[str, Backend] = {}
        """Of jobs that were sent before the settings changed, by the row that needs it."""
        self._watcher = BackendWatcher()
        self._selection: dict[str, frozenset[int]] = {}
        """What was selected when a job was sent."""
        self._chosen_here: frozenset[int] = frozenset()
        """What was selected after the last result was placed: the choice of nobody."""
        self._stale: set[str] = set()
        self._tools: set[str] = set()
        self._tick = self.pump  # timers know a function by identity, and a bound method is a new object each time
        self.on_change: Callable[[], None] | None = None
        self.on_setup_done: Callable[[tuple[str, ...]], None] | None = None

    @property
    def backend_pid(self) -> int | None:
        """Process id of the local backend, or None when it does not run."""
        return None if self._backend is None else self._backend.pid

    @property
    def backend_status(self) -> BackendStatus:
        """How the backend of the last job (or of `start_backend`) is; never waits."""
        return self._watcher.status

    def start_backend(self, command: BackendCommand | RemoteBackend) -> None:
        """Start or reach the backend without a job; returns at once, the status says what comes of it."""
        backend = self._backend_for(command)
        backend.forgive()
        threading.Thread(target=_try_ensure, args=(backend,), name="mvgamba-backend-start", daemon=True).start()
        self._watcher.look_again()  # a remote one is only looked at
        self.start_timer()

    def submit(
        self,
        request: JobRequest,
        command: BackendCommand | RemoteBackend,
        folder: Path,
        *,
        render: StageRender | None = None,
    ) -> JobRow:
        """Send a job and return its row at once; with `render`, after its pictures have been taken."""
        backend = self._backend_for(command)

        def open_client() -> JobClient:
            return connect(backend.ensure())

        self._selection[request.request_id] = _selected()
        self._tools |= _running_tools()  # they let a click through to the button, so they will not mind a result
        row = self.board.add(request, render)
        worker = JobWorker(
            request, connect=open_client, post=self.board.post, result_path=folder / "mesh.glb", render=render
        )
        self._workers[row.id] = worker
        worker.start()
        self.start_timer()
        return row

    def look_up(self, prompt: str) -> None:
        """Find out what the generator knows of a prompt, if the backend runs; it is not started for that."""
        backend = self._backend
        if backend is not None and self._is_answering(backend) and prompt.strip():
            self.words.look_up(prompt, lambda: connect(backend.ensure()))
            self.start_timer()

    def _is_answering(self, backend: Backend) -> bool:
        return backend.pid is not None or self.backend_status.is_answering

    def knows_job(self, job_id: str) -> bool:
        """Whether the running backend still has the result of a job. Waits for its answer half a second at most."""
        backend = self._backend
        if not job_id or backend is None or (isinstance(backend, BackendProcess) and backend.pid is None):
            return False  # it is not started for a question
        client = connect(backend.ensure())
        try:
            return client.knows(job_id)
        finally:
            client.close()

    def cancel(self, row: JobRow) -> None:
        """Ask for the end of a job; the row says so at once. A result that waits to be placed is let go."""
        worker = self._workers.get(row.id)
        if row.state is JobState.READY:
            row.state, row.note = JobState.CANCELLED, ""
        elif worker is not None and row.can_cancel:
            row.state = JobState.CANCELLING
            worker.cancel()

    def place(
        self, context: bpy.types.Context, row: JobRow, *, select: bool = True, frame: Matrix | None = None
    ) -> bpy.types.Object:
        """Import the result of a row that is READY (or was placed before). The caller makes the undo step.

        Args:
            frame: Where a person has put it (`place_result`).
        Raises:
            AddonError: PLACE_FAILED.
        """
        if row.result_path is None or not row.result_path.is_file():
            raise AddonError("PLACE_FAILED", tr("the result file is missing"))
        notes: list[str] = []
        obj = place_result(
            context, row.result_path, row.request, job_id=row.job_id, select=select, frame=frame, notes=notes
        )
        for callback in after_placing:
            try:
                callback(context, obj, row)
            except Exception as error:  # noqa: BLE001 - the result is there; what should come on top must not take it away
                log.exception("after placing %s", row.id)
                notes.append(str(error))
        row.state, row.note = JobState.PLACED, ". ".join(notes)
        row.reason = row.message = ""
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
        for row_id, worker in list(self._workers.items()):
            row = self.board.find(row_id)
            if not worker.is_alive and (row is None or not row.is_active):
                del self._workers[row_id]
        self._stop_unneeded()
        made = self.setup.take_finished()
        if made is not None and self.on_setup_done is not None:
            self.on_setup_done(made)
        news = [self._watcher.take_change(), self.setup.take_change()]
        changed = changed or any(news)
        if changed and self.on_change is not None:
            self.on_change()
        if self.board.num_active or self.words.is_busy:
            return ACTIVE_DELAY
        is_there = self._backend is not None and self.backend_status.state is not BackendState.STOPPED
        return WATCH_DELAY if is_there or self.setup.needs_looks else None

    def close(self) -> None:
        """Stop threads, timer and backend."""
        if bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.unregister(self._tick)
        for worker in self._workers.values():
            worker.stop()
        self._watcher.stop()
        for backend in {*self._old_backends.values(), *([self._backend] if self._backend else [])}:
            backend.stop()
        self._backend = None
        self.setup.stop()
        for worker in self._workers.values():
            worker.join(2.0)
        self._workers.clear()

    def file_loaded(self) -> None:
        """What was made for another file waits to be asked for, until that file is opened again."""
        for row in self.board.rows:
            if row.request.target.filepath and row.request.target.filepath == bpy.data.filepath:
                self._stale.discard(row.id)
            else:
                self._stale.add(row.id)

    def file_saved(self) -> None:
        """The open file may have a new name; it is still the file that its jobs are for."""
        for row in self.board.rows:
            if row.id not in self._stale and row.request.target.filepath != bpy.data.filepath:
                target = dataclasses.replace(row.request.target, filepath=bpy.data.filepath)
                row.request = dataclasses.replace(row.request, target=target)

    def stop_backend(self, *, wait: bool = True) -> None:
        """End the local backend; the remote one is left alone. The next job starts it again, and those it had go on then.

        Args:
            wait: Until it has ended, which may take seconds.
        """
        backend = self._backend
        if backend is not None and wait:
            backend.stop()
        elif backend is not None:
            threading.Thread(target=backend.stop, name="mvgamba-backend-stop", daemon=True).start()

    def forget_finished(self, folder: Path) -> None:
        """Clear ended rows, and what the disk holds of jobs without a result. Results stay in the history."""
        used = {view.image_path.parent for row in self.board.rows if not row.can_clear for view in row.request.views}
        for row in self.board.rows:
            if row.can_clear and folder / row.id not in used:  # a retry sends the captures of the job before it
                remove_unfinished(folder / row.id)
        self.board.clear_finished()

    def _backend_for(self, command: BackendCommand | RemoteBackend) -> Backend:
        old = self._backend
        if old is not None and old.command != command:
            log.info("the backend's settings have changed, another one is used from now on")
            for row_id in self._workers:  # jobs that it has end with it
                self._old_backends.setdefault(row_id, old)
            if not self._workers:
                old.stop()
            self._backend = None
        if self._backend is None:
            is_remote = isinstance(command, RemoteBackend)
            self._backend = RemoteConnection(command) if is_remote else BackendProcess(command)
        self._backend.allow()
        self._watcher.watch(self._backend)
        return self._backend

    def _stop_unneeded(self) -> None:
        """End backends of earlier settings when their last job has ended."""
        for row_id in list(self._old_backends):
            if row_id in self._workers and self._workers[row_id].is_alive:
                continue
            backend = self._old_backends.pop(row_id)
            if backend not in self._old_backends.values() and backend is not self._backend:
                threading.Thread(target=backend.stop, name="mvgamba-backend-stop", daemon=True).start()

    def start_timer(self) -> None:
        """Look for news again: a thread may have some."""
        if not bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.register(self._tick, first_interval=ACTIVE_DELAY, persistent=True)

    def _is_selection_untouched(self, row: JobRow) -> bool:
        """Whether a person has selected nothing else since the job was sent."""
        selected, target = _selected(), row.request.target
        if selected in (self._selection.get(row.id), self._chosen_here):
            return True
        return {obj.name for obj in bpy.context.selected_objects} <= {*target.source_names, target.replaced_name}

    def _place_when_possible(self, row: JobRow) -> bool:
        """Place a finished result unless the user is busy, and say why not. Whether the row changed."""
        note = made_for(row) if row.id in self._stale else placing_obstacle(row, tools=self._tools)
        if note:
            changed, row.note = row.note != note, note
            return changed
        target = row.request.target
        try:
            with bpy.context.temp_override(**_window_override(find_scene(target))):
                select = self._is_selection_untouched(row)
                self.place(bpy.context, row, select=select)
                if select:
                    self._chosen_here = _selected()
                bpy.ops.ed.undo_push(message="Place MVGamba Result")
        except (AddonError, RuntimeError) as error:
            row.state, row.reason, row.message = JobState.FAILED, "PLACE_FAILED", str(error)
            log.warning("placing %s: %s", row.id, error)
        return True


def _try_ensure(backend: Backend) -> None:
    try:
        backend.ensure()
    except AddonError as error:
        log.info("the backend was not started: %s", error.reason)


def placing_obstacle(row: JobRow, *, tools: set[str] = frozenset()) -> str:
    """Why a result cannot be placed right now, as the row says it; empty when it can.

    Args:
        tools: Modal operators that may run meanwhile.
    """
    scene = find_scene(row.request.target)
    if scene is None:
        return tr("Ready, its scene is gone")
    if scene.library is not None:
        return tr("Ready, but scene {name} is linked").format(name=scene.name)
    override = _window_override(scene)
    with bpy.context.temp_override(**override):
        if bpy.context.scene != scene:
            return tr('Ready, made for scene "{name}"').format(name=scene.name)
        if row.request.target.mode == "SURFACE":
            return tr("Ready, choose a surface for it")
        return busy_obstacle(bpy.context, tools=tools)


def busy_obstacle(context: bpy.types.Context, *, tools: set[str] = frozenset()) -> str:
    """Why nothing may be put into the file just now, whatever it is; empty when it may."""
    if context.mode.startswith("EDIT"):
        return tr("Leave Edit Mode to place")
    if context.mode != "OBJECT":
        return tr("Return to Object Mode to place")
    if bpy.app.is_job_running("RENDER"):
        return tr("Waiting for the render to end")
    if bpy.app.is_job_running("OBJECT_BAKE"):
        return tr("Waiting for the bake to end")
    if any(window.screen.is_animation_playing for window in context.window_manager.windows):
        return tr("Stop playback to place")
    if _running_tools() - tools:
        return tr("Waiting for the tool in use to end")
    return ""


def made_for(row: JobRow) -> str:
    """What the row of a result says that was made for a file which is not open."""
    name = Path(row.request.target.filepath).name
    return tr("Ready, made for {name}").format(name=name) if name else tr("Ready, made for an unsaved file")


def _selected() -> frozenset[int]:
    """Identifiers of the selected objects."""
    view_layer = bpy.context.view_layer
    return frozenset() if view_layer is None else frozenset(obj.session_uid for obj in view_layer.objects.selected)


def _running_tools() -> set[str]:
    """Modal operators of all windows: to put something into the file while one of them holds on to it is not safe."""
    return {
        operator.bl_idname
        for window in bpy.context.window_manager.windows
        for operator in getattr(window, "modal_operators", ())
    }


def _window_override(scene: bpy.types.Scene | None) -> dict[str, object]:
    """A window that shows the scene: inside a timer the context has none."""
    for window in bpy.context.window_manager.windows:
        if window.scene == scene:
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
        _session.file_loaded()


@bpy.app.handlers.persistent
def _on_save(*_: object) -> None:
    if _session is not None:
        _session.file_saved()


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
