"""The jobs of this Blender: the client's process that carries them, and a timer that brings its news."""

import dataclasses
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from mathutils import Matrix

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
from ..core.ready import ReadyFile, ReadyPlan, make_ready
from ..core.remote import RemoteBackend
from ..core.request import JobRequest
from ..core.setup import SetupRunner
from ..core.shots import StageRender
from ..core.weights_book import WeightsBook
from ..core.word_book import WordBook
from ..translations import current_catalog
from . import make_ready as make_ready_script
from . import ready
from .capture import blender_command
from .place import place_result
from .target import find_scene

log = logging.getLogger(__name__)

ACTIVE_DELAY = 0.1
"""Seconds between two looks at the events while a job runs."""
WATCH_DELAY = 0.5
"""Seconds between two looks at the backend's status while it is there and no job runs."""
MOMENT = 1.0
"""Seconds that a person may be kept waiting by a question that is asked where they click."""
STOP_TIMEOUT = 10.0
"""Seconds that a backend may take to end."""
MOST_FACES = 60_000
"""Of all variants of a result together; as many are copied from arrays in two dozen milliseconds, more are made by another Blender."""
CRASH_MEMORY, MAX_CRASHES = 120.0, 3
"""The client's process is started anew unless it has ended by itself more often than this within so many seconds."""

after_placing: list[Callable[[bpy.types.Context, bpy.types.Object, JobRow], None]] = []
"""Called with each placed result, in its undo step: variants, coarser copies, proxies. What one raises is noted on the row."""

wanted_parts: list[Callable[[bpy.types.Context, JobRow], tuple[int, str]]] = []
"""Asked what will come on top of a result: how many coarser copies, and which shape for collisions (NONE, BOX or CONVEX)."""


@dataclasses.dataclass
class _Ahead:
    """What is made ready for a row before it is placed."""

    plan: ReadyPlan
    number: int | None = None
    """Of the question that makes it; None when it was answered."""
    file: ReadyFile | None = None


@dataclasses.dataclass(frozen=True)
class _Here:
    """A row that a person wants placed in a scene, whatever it was made for."""

    scene_uid: int
    frame: Matrix | None


class Session:
    """Everything that lives from `register` to `unregister`. Main thread only."""

    def __init__(self) -> None:
        self.board = JobBoard()
        self.client = ClientProcess()
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
        self._selection: dict[str, frozenset[int]] = {}
        """What was selected when a job was sent."""
        self._chosen_here: frozenset[int] = frozenset()
        """What was selected after the last result was placed: the choice of nobody."""
        self._stale: set[str] = set()
        self.makes_ready = not bpy.app.background
        """Whether what takes long is made beside Blender before a result is placed. Scripts without a window wait instead."""
        self._ahead: dict[str, _Ahead] = {}
        """By the row."""
        self._here: dict[str, _Here] = {}
        """By the row."""
        self._tools: set[str] = set()
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
        self._selection[request.request_id] = _selected()
        self._tools |= _running_tools()  # they let a click through to the button, so they will not mind a result
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
        ahead = self._ahead.get(row.id)
        with ready.at_hand(ahead.file if ahead else None, ahead.plan.paths if ahead else ()):
            obj = place_result(
                context, row.result_path, row.request, job_id=row.job_id, select=select, frame=frame, notes=notes
            )
            for callback in after_placing:
                try:
                    callback(context, obj, row)
                except Exception as error:  # noqa: BLE001 - the result is there; what should come on top must not take it away
                    log.exception("after placing %s", row.id)
                    notes.append(str(error))
        self._forget_ahead(row.id)
        row.state, row.note = JobState.PLACED, ". ".join(notes)
        row.reason = row.message = ""
        return obj

    def place_here(self, context: bpy.types.Context, row: JobRow, *, frame: Matrix | None = None) -> bool:
        """As `place`, when a person asks for it; what takes long is made beside Blender before, and the timer places it then.

        A row that is not on the board yet comes there when it has to wait.

        Returns:
            Whether it has been placed, and the caller makes the undo step.
        Raises:
            AddonError: PLACE_FAILED.
        """
        is_listed = any(other is row for other in self.board.rows)
        if not is_listed:
            row.key = uuid.uuid4().hex  # the job of its request may be on the board, too
        if self._make_ready(context, row):
            self.place(context, row, frame=frame)
            return True
        if not is_listed:
            self.board.rows.insert(0, row)
        self._here[row.id] = _Here(context.scene.session_uid, frame)
        row.state, row.note, row.reason, row.message = JobState.READY, tr("Preparing"), "", ""
        self.start_timer()
        return False

    def is_preparing(self, row: JobRow) -> bool:
        """Whether what takes long is being made for a row."""
        return row.id in self._ahead and self._ahead[row.id].number is not None

    def pump(self, *, place: bool = True) -> float | None:
        """Apply the news, place a result that is ready, and say when to look again (None: when a job is sent).

        The timer calls this; where no timer fires (background, tests), scripts do.
        """
        changed = self._hear()
        changed = self.board.pump() or self.words.is_changed or changed
        self.words.is_changed = False
        for row_id in set(self._ahead) - {row.id for row in self.board.rows if row.state is JobState.READY}:
            self._forget_ahead(row_id)
        if place:
            for row in reversed(self.board.rows):  # the newest stands first
                if row.state is JobState.READY:
                    changed = self._place_when_possible(row) or changed
                    if row.state is not JobState.READY:
                        break  # the next one with the next tick: each stops the main loop for a moment
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
        for row_id in list(self._ahead):
            self._forget_ahead(row_id)
        is_working = any(row.id in self._sent and row.state is not JobState.CANCELLING for row in self.board.rows)
        self.client.close(wait=not (self.finish_jobs and is_working))
        self._sent.clear()

    def file_loaded(self) -> None:
        """What was made for another file waits to be asked for, until that file is opened again."""
        self._here.clear()
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

    def _is_selection_untouched(self, row: JobRow) -> bool:
        """Whether a person has selected nothing else since the job was sent."""
        selected, target = _selected(), row.request.target
        if selected in (self._selection.get(row.id), self._chosen_here):
            return True
        return {obj.name for obj in bpy.context.selected_objects} <= {*target.source_names, target.replaced_name}

    def _place_when_possible(self, row: JobRow) -> bool:
        """Place a finished result unless the user is busy, and say why not. Whether the row changed."""
        here = self._here.get(row.id)
        scene = find_scene(row.request.target) if here is None else _scene_of(here)
        if here is None and row.id in self._stale:
            note = made_for(row)
        else:
            needs_click = here is None and row.request.target.mode == "SURFACE"
            note = placing_obstacle(scene, needs_click=needs_click, tools=self._tools)
            if scene is not None and (not note or needs_click):  # so that the click has it at once
                with bpy.context.temp_override(**_window_override(scene)):
                    is_ready = self._make_ready(bpy.context, row)
                note = note or ("" if is_ready else tr("Preparing"))
        if note:
            changed, row.note = row.note != note, note
            return changed
        try:
            with bpy.context.temp_override(**_window_override(scene)):
                select = here is not None or self._is_selection_untouched(row)
                self.place(bpy.context, row, select=select, frame=here.frame if here else None)
                if select:
                    self._chosen_here = _selected()
                bpy.ops.ed.undo_push(message="Place MVGamba Result")
        except (AddonError, RuntimeError) as error:
            row.state, row.reason, row.message = JobState.FAILED, "PLACE_FAILED", str(error)
            log.warning("placing %s: %s", row.id, error)
        self._here.pop(row.id, None)
        return True

    def _make_ready(self, context: bpy.types.Context, row: JobRow) -> bool:
        """Whether a row can be placed in a moment; else what takes long is made for it beside Blender."""
        if not self.makes_ready or row.result_path is None:
            return True
        lods, collision = 0, "NONE"
        for ask in wanted_parts:
            lods, collision = ask(context, row)
        plan = ReadyPlan(
            blender_command(make_ready_script.__file__),
            Path(bpy.app.tempdir) / "mvgamba",
            (row.result_path, *row.more_result_paths),
            MOST_FACES,
            row.request.target.shade_smooth,
            lods,
            collision,
        )
        ahead = self._ahead.get(row.id)
        if ahead is not None and ahead.plan == plan:
            return ahead.number is None
        self._forget_ahead(row.id)
        ahead = self._ahead[row.id] = _Ahead(plan)
        if not plan.is_needed:
            return True

        def take(file: ReadyFile | None, error: AddonError | None) -> None:
            ahead.number, ahead.file = None, file
            if error is not None:
                log.warning("%s is placed as it is, nothing was made ready: %s", row.id, error)
            if file is not None and self._ahead.get(row.id) is not ahead:
                file.remove()  # nobody waits for it any more

        try:
            ahead.number = self.run(make_ready, plan, on_answer=take, on_report=lambda _: None)
        except AddonError as error:
            log.warning("%s is placed as it is, nothing was made ready: %s", row.id, error)
            return True
        return False

    def _forget_ahead(self, row_id: str) -> None:
        ahead = self._ahead.pop(row_id, None)
        if ahead is None:
            return
        if ahead.number is not None:
            self.client.stop_run(ahead.number)
        if ahead.file is not None:
            ahead.file.remove()


def placing_obstacle(scene: bpy.types.Scene | None, *, needs_click: bool = False, tools: set[str] = frozenset()) -> str:
    """Why a result cannot be placed in a scene right now, as the row says it; empty when it can.

    Args:
        scene: None for one that is gone.
        needs_click: Whether a person has to say where.
        tools: Modal operators that may run meanwhile.
    """
    if scene is None:
        return tr("Ready, its scene is gone")
    if scene.library is not None:
        return tr("Ready, but scene {name} is linked").format(name=scene.name)
    override = _window_override(scene)
    with bpy.context.temp_override(**override):
        if bpy.context.scene != scene:
            return tr('Ready, made for scene "{name}"').format(name=scene.name)
        if needs_click:
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


def _scene_of(here: _Here) -> bpy.types.Scene | None:
    return next((scene for scene in bpy.data.scenes if scene.session_uid == here.scene_uid), None)


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
