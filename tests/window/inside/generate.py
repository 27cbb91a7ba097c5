"""A cube is captured by a click on Generate, placed, undone and redone."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bpy
from harness import Window, until


def results() -> list[str]:
    return sorted(obj.name for obj in bpy.data.objects if obj.mvgamba.kind != "NONE")


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    settings = bpy.context.scene.mvgamba
    settings.source, settings.capture_views, settings.quality = "CAPTURE", "4", "DRAFT"
    bpy.context.view_layer.objects.active.name = "Cube #slow:4"
    with window.override():
        bpy.ops.ed.undo_push(message="Before")
    yield 1.0
    places: list[tuple[float, float]] = []
    yield from window.find("mvgamba.generate", found=places)
    assert places, "the Generate button was not found in the sidebar"
    began = time.monotonic()
    window.click(*places[0])
    board = window.module("scene.session").session().board
    yield from until(lambda: board.rows, 20, "a row in the list of jobs")
    row, texts, drawn = board.rows[0], [], []
    yield from until(lambda: row.state.value == "running" or not row.is_active, 120, "the begin of the job")
    window.report["seconds_until_it_runs"] = round(time.monotonic() - began, 1)
    handle = bpy.types.SpaceView3D.draw_handler_add(lambda: drawn.append(row.state.value), (), "WINDOW", "PRE_VIEW")
    while row.is_active:
        if row.text not in texts:
            texts.append(row.text)
        if len(texts) == 4:
            window.sidebar_picture("running")
        yield 0.1
    bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    yield 1.0
    window.report["views_drawn"] = drawn.count("running")
    window.report.update(state=row.state.value, text=row.text, texts=texts, placed=results())
    window.ask("screenshot", name="placed")
    left, top, right, bottom = window.box("WINDOW")
    for name, keys in (("undone", "ctrl+z"), ("redone", "ctrl+shift+z")):
        window.ask("move", x=(left + right) / 3, y=(top + bottom) / 2)
        window.ask("press", keys=keys)
        yield 1.5
        window.report[name] = results()
    window.ask("screenshot", name="redone")
    yield from captured_after_load(window)


def captured_after_load(window: Window) -> Iterator[float]:
    """A script that loads a file has no window in its context until the next event; Blender 4.3 then crashed in a capture."""
    path = str(Path(tempfile.mkdtemp()) / "loaded.blend")
    with window.override():
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
    cube = next(obj for obj in bpy.data.objects if obj.type == "MESH" and obj.mvgamba.kind == "NONE")
    row = window.module("api").generate([cube], wait=False)
    window.report["scenes_after_load"] = [scene.name for scene in bpy.data.scenes]
    yield 0.5
    bpy.ops.mvgamba.cancel(request_id=row.id)
    yield from until(lambda: not row.is_active, 60, "the end of the last job")
