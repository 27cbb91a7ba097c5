"""A result is put on the cube by the mouse: left waiting once, then turned, aligned to the surface and placed.

Others wait while a tool has hold of the cube, and while the animation plays.
"""

from collections.abc import Iterator
from typing import Any

import bpy
from harness import Window, until


def results() -> list[bpy.types.Object]:
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    settings = bpy.context.scene.mvgamba
    settings.source, settings.prompt, settings.placement, settings.target_size = "TEXT", "a barrel", "SURFACE", 0.5
    with window.override():
        bpy.ops.view3d.view_axis(type="TOP")
        bpy.ops.view3d.view_selected()
        bpy.ops.ed.undo_push(message="Before")
        bpy.ops.mvgamba.generate()
    row = window.module("scene.session").session().board.rows[0]
    yield from until(lambda: row.state.value == "ready" and row.note, 60, "a result that waits for its surface")
    window.report["waits"] = row.text
    shown: list[Any] = window.module("ui.surface")._shown
    left, top, right, bottom = window.box("WINDOW")
    sidebar = window.box("UI")[0]
    x, y = (left + sidebar) / 2, (top + bottom) / 2
    yield from window.press_button("mvgamba.place_on_surface")
    window.ask("move", x=x, y=y)
    yield 1.0
    window.ask("screenshot", name="box")
    window.report["boxes"] = len(shown)
    window.ask("press", keys="Escape")
    yield 1.0
    window.report["left"] = {"text": row.text, "boxes": len(shown), "results": len(results())}
    yield from window.press_button("mvgamba.place_on_surface")
    window.ask("move", x=x, y=y)
    yield 0.5
    for _ in range(2):
        window.ask("click", x=x, y=y, button=4)
        yield 0.3
    window.ask("press", keys="n")
    yield 0.5
    window.ask("screenshot", name="turned")
    window.click(x, y)
    yield from until(lambda: row.state.value == "placed", 20, "the placed result")
    yield 0.5
    window.ask("screenshot", name="on_surface")
    (result,) = results()
    window.report["placed"] = {
        "boxes": len(shown),
        "foot": min((result.matrix_world @ vertex.co).z for vertex in result.data.vertices),
        "turn": result.matrix_world.to_euler().z,
    }
    window.ask("press", keys="ctrl+z")
    yield 1.5
    window.report["undone"] = len(results())
    settings = bpy.context.scene.mvgamba  # what was held before the undo is gone
    settings.placement, settings.prompt = "CURSOR", "a barrel #slow:5"
    for name, begin, end in (("tool", "g", "Escape"), ("playback", "space", "space")):
        with window.override():
            bpy.ops.mvgamba.generate()
        row = window.module("scene.session").session().board.rows[0]
        window.ask("move", x=x, y=y)
        yield 0.2
        window.ask("press", keys=begin)
        yield from until(lambda row=row: row.state.value == "ready" and row.note, 60, f"a result that waits for {name}")
        window.report[name] = row.text
        window.ask("move", x=x + 20, y=y)
        yield 0.5
        assert row.state.value == "ready", row.text
        window.ask("press", keys=end)
        yield from until(lambda row=row: row.state.value == "placed", 20, f"the result after {name}")
    window.report["cube_at"] = list(bpy.data.objects["Cube"].location)
