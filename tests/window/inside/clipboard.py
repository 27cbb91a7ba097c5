"""Text of Blender on the clipboard is no input; a picture that another program has put there is pasted, sent and saved."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from harness import Window, until

COLORS = [[200, 40, 30, 255], [30, 60, 200, 128]]
"""sRGB and straight alpha, left and right."""


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    settings = bpy.context.scene.mvgamba
    settings.source = "IMAGE"
    yield 1.0
    button = yield from window.place_of("mvgamba.image_paste", across=0.85)
    window.click(*button)  # what lies there is text of this Blender, which cannot answer while it asks
    yield 2.0
    window.ask("press", keys="Escape")  # the message lies over the button
    yield 0.5
    window.report["after_text"] = state(window)
    window.ask("copy", colors=COLORS)
    yield 1.0
    window.click(*button)
    yield from until(lambda: settings.images, 5, "a picture in the list")
    window.report["after_picture"] = state(window)
    image = settings.images[0].image
    window.report["pasted"] = {"size": list(image.size), "colors": columns(image)}
    window.ask("screenshot", name="pasted")
    yield from window.press_button("mvgamba.generate")
    board = window.module("scene.session").session().board
    yield from until(lambda: board.rows, 20, "a row in the list of jobs")
    row = board.rows[0]
    sent = bpy.data.images.load(str(row.request.source.image_path))
    window.report["sent"] = {"size": list(sent.size), "colors": columns(sent)}
    bpy.data.images.remove(sent)
    yield from until(lambda: not row.is_active, 60, "the result")
    window.report.update(copied=COLORS, state=row.state.value)
    path = str(Path(tempfile.mkdtemp()) / "pasted.blend")
    with window.override():
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
    image = bpy.context.scene.mvgamba.images[0].image
    window.report["opened"] = {"size": list(image.size), "colors": columns(image)}


def state(window: Window) -> dict[str, Any]:
    """What a paste may change, and what it must leave alone."""
    settings = bpy.context.scene.mvgamba
    return {
        "images": [item.image.name for item in settings.images],
        "areas": sorted(area.type for area in window.main.screen.areas),
        "tab": window.region("UI").active_panel_category,
    }


def columns(image: bpy.types.Image) -> list[list[int]]:
    """The first and the last pixel of the middle row."""
    pixels = np.empty(4 * image.size[0] * image.size[1], dtype=np.float32)
    image.pixels.foreach_get(pixels)
    row = pixels.reshape(image.size[1], image.size[0], 4)[image.size[1] // 2]
    return [[round(255 * float(value)) for value in row[at]] for at in (0, -1)]
