"""The entry of the keymap does nothing until a person gives it a key; then the key works, and where
Blender remembers it (4.5 and later) still does after the extension was disabled and enabled twice."""

from collections.abc import Iterator
from typing import Any

import bpy
from harness import EXTENSION, Window, until

KEYS = "ctrl+alt+j"


def entries(kind: str) -> list[bpy.types.KeyMapItem]:
    """Ours in the extensions' or the person's configuration of keys."""
    keymaps = getattr(bpy.context.window_manager.keyconfigs, kind).keymaps
    return [item for keymap in keymaps for item in keymap.keymap_items if "mvgamba" in item.idname]


def state() -> dict[str, Any]:
    return {kind: [[item.idname, item.type] for item in entries(kind)] for kind in ("addon", "user")}


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    report = window.report
    report["fresh"] = state()
    prepare()
    yield from press(window)
    yield 1.0
    report["rows_without_a_key"] = len(rows(window))
    (item,) = entries("user")
    item.type, item.value, item.ctrl, item.alt = "J", "PRESS", True, True
    yield 1.0
    yield from press(window)
    yield from until(lambda: rows(window), 20, "a row in the list of jobs")
    (row,) = rows(window)
    yield from until(lambda: not row.is_active, 60, "the result")
    report["sent"] = {"label": row.request.label, "state": row.state.value}
    report["disabled"], report["enabled"] = [], []
    for _ in range(2):
        bpy.ops.preferences.addon_disable(module=EXTENSION)
        yield 0.5
        report["disabled"].append(state())
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        yield 0.5
        report["enabled"].append(state())
    window.use_pipeline()
    prepare()
    (item,) = entries("user")
    report["kept"] = item.type == "J" and bool(item.ctrl) and bool(item.alt)
    if report["kept"]:
        yield from press(window)
        yield from until(lambda: rows(window), 20, "a row after the extension was enabled again")
        (row,) = rows(window)
        yield from until(lambda: not row.is_active, 60, "the second result")
        report["again"] = row.state.value


def prepare() -> None:
    settings = bpy.context.scene.mvgamba
    settings.source, settings.prompt, settings.quality = "TEXT", "a keyed barrel", "DRAFT"


def press(window: Window) -> Iterator[float]:
    """The keys over the 3D View, which has the focus."""
    left, top, right, bottom = window.box("WINDOW")
    window.ask("move", x=(left + right) / 3, y=(top + bottom) / 2)
    yield 0.3
    window.ask("press", keys=KEYS)
    yield 0.3


def rows(window: Window) -> list[Any]:
    return window.module("scene.session").session().board.rows
