"""Many jobs mixed with what a person and bad luck do in between. Played headless by test_soak.py and in a window by tests/window.

Everything is drawn from one seed; what the machine makes of it differs from run to run, and that is the point.
"""

import collections
import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy

MODULE = "bl_ext.user_default.mvgamba"
WORDS = ("", "#slow:0.2", "#slow:1", "#preview:2 #slow:0.5", "#fail:OUT_OF_MEMORY", "#crash", "#die:mesh", "#log")
"""What the fake pipeline is told."""
MOST_AT_ONCE = 4
_AS_CLICKED = "EXEC_DEFAULT"
"""With True behind it an operator makes its undo step, as a button does and a script does not. Without one the next undo may
leave objects whose data has been freed, in any Blender, with or without us: it takes over unchanged blocks as they are."""
PATIENCE = 300.0
"""Seconds until the last jobs must have ended; a killed backend costs a job some."""


class Soak:
    """`steps` yields the seconds to wait, in which somebody has to pump; afterwards `report` says what was left."""

    def __init__(self, module: Callable[[str], ModuleType], use_backend: Callable[[], None], *, jobs: int, seed: int):
        """
        Args:
            module: Gives a module of the extension by its name, such as `scene.session`.
            use_backend: Sets the preferences, which are lost when the extension is disabled.
        """
        self._module, self._use_backend = module, use_backend
        self._jobs, self._random = jobs, random.Random(seed)
        self._file = Path(tempfile.mkdtemp()) / "soak.blend"
        self._counts: collections.Counter[str] = collections.Counter()
        self._ended: collections.Counter[str] = collections.Counter()
        self._pids: set[int] = set()
        self.report: dict[str, Any] = {"jobs": jobs, "seed": seed}

    def steps(self) -> Iterator[float]:
        began = time.monotonic()
        with _window():
            bpy.ops.wm.save_as_mainfile(filepath=str(self._file))
        actions = {
            self._nothing: 30,
            self._undo: 15,
            self._redo: 10,
            self._cancel: 15,
            self._place_again: 5,
            self._clear: 5,
            self._edit: 4,
            self._load: 4,
            self._kill: 4,
            self._kill_client: 2,
            self._toggle: 2,
        }
        once = self._random.sample(list(actions), len(actions))  # each comes at least once
        for number in range(self._jobs):
            self._send(number)
            yield self._random.uniform(0.0, 0.3)
            (action,) = [once.pop()] if once else self._random.choices(list(actions), list(actions.values()))
            self._counts[action.__name__.strip("_")] += 1
            action()
            self._note_processes()
            while self._num_busy() >= MOST_AT_ONCE:
                yield 0.05
        yield from self._drain()
        self._count_rows(self._rows())
        self.report.update(
            actions=dict(self._counts),
            states=dict(self._ended),
            not_final=[f"{row.state.value}: {row.text}" for row in self._rows() if row.is_active],
            left_behind=left_behind(),
            seconds=round(time.monotonic() - began, 1),
        )
        self._leave()

    def _drain(self) -> Iterator[float]:
        """Wait for the last jobs; what was made for another file is placed as a person would ask for it."""
        end = time.monotonic() + PATIENCE
        while any(row.is_active for row in self._rows()) and time.monotonic() < end:
            for row in self._rows():
                if row.state.value == "ready" and row.note:
                    _place(row)
            yield 0.1

    def _leave(self) -> None:
        """Disable the extension: no thread and no backend may stay."""
        bpy.ops.preferences.addon_disable(module=MODULE)
        time.sleep(1.0)  # nobody can pump now
        self.report["threads_left"] = [t.name for t in threading.enumerate() if t.name.startswith("mvgamba")]
        self.report["processes_left"] = [pid for pid in self._pids if _runs(pid)]
        bpy.ops.preferences.addon_enable(module=MODULE)
        self._use_backend()

    def _send(self, number: int) -> None:
        api = self._module("api")
        self._module("scene.session").session().placer.makes_ready = True  # as in a window
        bpy.context.scene.mvgamba.lod_count = self._random.choice((0, 0, 0, 1))  # which another Blender makes
        word = self._random.choice(WORDS)
        meshes = [obj for obj in bpy.context.scene.objects if obj.type == "MESH" and obj.mvgamba.kind == "NONE"]
        if self._random.random() < 0.1 and meshes and bpy.context.mode == "OBJECT":
            meshes[0].name = f"Source {word}"
            with _window():
                bpy.ops.ed.undo_push(message="Rename")
            settings = self._module("scene.capture").CaptureSettings(
                num_views=4, image_size=128, with_depth=False, samples=1
            )
            api.generate([meshes[0]], capture_settings=settings, wait=False)
        else:
            at = (self._random.uniform(-5, 5), self._random.uniform(-5, 5), 0.0)
            text = self._module("core.request").TextInput(f"prop {number} {word}")
            api.generate_from(text, location=at, size=self._random.uniform(0.3, 2.0), wait=False)

    def _rows(self) -> list[Any]:
        return self._module("scene.session").session().board.rows

    def _num_busy(self) -> int:
        return sum(row.is_active and not (row.state.value == "ready" and row.note) for row in self._rows())

    def _count_rows(self, rows: list[Any]) -> None:
        self._ended.update(row.reason or row.state.value for row in rows)

    def _note_processes(self) -> None:
        session = self._module("scene.session").session()
        self._pids.update(pid for pid in (session.backend_pid, session.client.pid) if pid is not None)

    def _nothing(self) -> None:
        pass

    def _undo(self) -> None:
        with _window():
            if bpy.ops.ed.undo.poll():
                bpy.ops.ed.undo()

    def _redo(self) -> None:
        with _window():
            if bpy.ops.ed.redo.poll():
                bpy.ops.ed.redo()

    def _cancel(self) -> None:
        active = [row for row in self._rows() if row.can_cancel]
        if active:
            bpy.ops.mvgamba.cancel(request_id=self._random.choice(active).id)

    def _place_again(self) -> None:
        placed = [row for row in self._rows() if row.state.value == "placed"]
        if placed and bpy.context.mode == "OBJECT":
            _place(self._random.choice(placed))

    def _clear(self) -> None:
        self._count_rows([row for row in self._rows() if row.can_clear])
        if bpy.ops.mvgamba.clear_finished.poll():
            bpy.ops.mvgamba.clear_finished()

    def _edit(self) -> None:
        """Into or out of Edit Mode; nothing is placed meanwhile."""
        obj = next((obj for obj in bpy.context.scene.objects if obj.type == "MESH"), None)
        if obj is not None and not obj.hide_get():
            with _window():
                bpy.context.view_layer.objects.active = obj
                bpy.ops.object.mode_set(_AS_CLICKED, True, mode="EDIT")
                bpy.ops.object.mode_set(_AS_CLICKED, True, mode="OBJECT")

    def _load(self) -> None:
        with _window():
            bpy.ops.wm.open_mainfile(filepath=str(self._file), load_ui=False)

    def _kill(self) -> None:
        pid = self._module("scene.session").session().backend_pid
        if pid is not None and hasattr(signal, "SIGKILL"):
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the news has not come yet
                os.kill(pid, signal.SIGKILL)

    def _kill_client(self) -> None:
        """The process beside Blender's, and with it the backend."""
        pid = self._module("scene.session").session().client.pid
        if pid is not None and hasattr(signal, "SIGKILL"):
            os.kill(pid, signal.SIGKILL)

    def _toggle(self) -> None:
        """Disable and enable; the rows go, their jobs are left to the backend, which ends."""
        self._ended["left when disabled"] += sum(row.is_active for row in self._rows())
        self._count_rows([row for row in self._rows() if not row.is_active])
        bpy.ops.preferences.addon_disable(module=MODULE)
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("mvgamba")]
        if left:
            self.report.setdefault("threads_after_disable", []).extend(left)
        bpy.ops.preferences.addon_enable(module=MODULE)
        self._use_backend()


def left_behind() -> list[str]:
    """Datablocks of captures and imports that nothing uses, or that should never be seen."""
    found = []
    for name in ("scenes", "objects", "meshes", "materials", "images", "cameras", "node_groups", "collections"):
        for item in getattr(bpy.data, name):
            if "MVGamba Capture" in item.name or (item.users == 0 and item.library is None):
                found.append(f"{name}: {item.name}")
    return found


def problems(report: dict[str, Any]) -> list[str]:
    """What must not be in a report."""
    return [
        f"{name}: {report[name]}"
        for name in ("not_final", "left_behind", "threads_left", "processes_left", "threads_after_disable")
        if report.get(name)
    ]


def _place(row: Any) -> None:
    with _window(), contextlib.suppress(RuntimeError):  # which is how an operator reports what the row says too
        bpy.ops.mvgamba.place_result(_AS_CLICKED, True, request_id=row.id)


@contextlib.contextmanager
def _window() -> Iterator[None]:
    """Operators of files and undo want a window, which a timer does not have."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is not None or not windows:
        yield
        return
    with bpy.context.temp_override(window=windows[0]):
        yield


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
