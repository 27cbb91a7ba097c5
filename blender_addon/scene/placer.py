"""Results come into the open file: when nothing is in the way, one a tick, and what takes long is made beside Blender before."""

import dataclasses
import logging
import uuid
from collections.abc import Callable
from pathlib import Path

import bpy
from mathutils import Matrix

from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.jobs import JobBoard, JobRow, JobState
from ..core.ready import ReadyFile, ReadyPlan, make_ready
from ..core.request import JobRequest
from . import make_ready as make_ready_script
from . import ready
from .capture import blender_command
from .place import place_result
from .target import find_scene

log = logging.getLogger(__name__)

MOST_FACES = 60_000
"""Of all variants of a result together; as many are copied from arrays in two dozen milliseconds, more are made by another Blender."""

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


class Placer:
    """Main thread only; the session has the one that there is."""

    def __init__(self, board: JobBoard, run: Callable[..., int], stop: Callable[[int], None]) -> None:
        """
        Args:
            run: As `Session.run`.
            stop: As `ClientProcess.stop_run`.
        """
        self._board, self._run, self._stop = board, run, stop
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

    def note_sent(self, request: JobRequest) -> None:
        """A job is sent: what is selected now, and which tools run."""
        self._selection[request.request_id] = _selected()
        self._tools |= _running_tools()  # they let a click through to the button, so they will not mind a result

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
        is_listed = any(other is row for other in self._board.rows)
        if not is_listed:
            row.key = uuid.uuid4().hex  # the job of its request may be on the board, too
        if self._make_ready(context, row):
            self.place(context, row, frame=frame)
            return True
        if not is_listed:
            self._board.rows.insert(0, row)
        self._here[row.id] = _Here(context.scene.session_uid, frame)
        row.state, row.note, row.reason, row.message = JobState.READY, tr("Preparing"), "", ""
        return False

    def is_preparing(self, row: JobRow) -> bool:
        """Whether what takes long is being made for a row."""
        return row.id in self._ahead and self._ahead[row.id].number is not None

    def tend(self, *, place: bool = True) -> bool:
        """Place the oldest result that can be placed, and say of all others why not; whether a row has changed.

        Args:
            place: Else only what nobody waits for is let go.
        """
        for row_id in set(self._ahead) - {row.id for row in self._board.rows if row.state is JobState.READY}:
            self._forget_ahead(row_id)
        changed = False
        for row in reversed(self._board.rows) if place else ():  # the newest stands first
            if row.state is JobState.READY:
                changed = self._place_when_possible(row) or changed
                if row.state is not JobState.READY:
                    break  # the next one with the next tick: each stops the main loop for a moment
        return changed

    def close(self) -> None:
        """Let go of what was made ready."""
        for row_id in list(self._ahead):
            self._forget_ahead(row_id)

    def file_loaded(self) -> None:
        """What was made for another file waits to be asked for, until that file is opened again."""
        self._here.clear()
        for row in self._board.rows:
            if row.request.target.filepath and row.request.target.filepath == bpy.data.filepath:
                self._stale.discard(row.id)
            else:
                self._stale.add(row.id)

    def file_saved(self) -> None:
        """The open file may have a new name; it is still the file that its jobs are for."""
        for row in self._board.rows:
            if row.id not in self._stale and row.request.target.filepath != bpy.data.filepath:
                target = dataclasses.replace(row.request.target, filepath=bpy.data.filepath)
                row.request = dataclasses.replace(row.request, target=target)

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
            ahead.number = self._run(make_ready, plan, on_answer=take, on_report=lambda _: None)
        except AddonError as error:
            log.warning("%s is placed as it is, nothing was made ready: %s", row.id, error)
            return True
        return False

    def _forget_ahead(self, row_id: str) -> None:
        ahead = self._ahead.pop(row_id, None)
        if ahead is None:
            return
        if ahead.number is not None:
            self._stop(ahead.number)
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
