"""From the zip to the first asset that is placed, as somebody does it who has never seen the extension.

What cannot be done by mouse here is the drop of the zip on the window; the operator behind it is called, and its dialog
counts as one click.
"""

import time
from collections.abc import Iterator

import bpy
from harness import Window, until

PROMPT = "a red wooden barrel"


def steps(window: Window) -> Iterator[float]:
    began = last = time.monotonic()
    took: dict[str, float] = {}

    def done(name: str) -> None:
        nonlocal last
        took[name], last = round(time.monotonic() - last, 1), time.monotonic()

    bpy.ops.extensions.package_install_files(filepath=window.zip_path, repo="user_default", enable_on_install=True)
    window.clicks += 1
    done("install and enable")
    yield 1.0
    left, top, right, bottom = window.box("WINDOW")
    window.ask("move", x=(left + right) / 3, y=(top + bottom) / 2)
    window.ask("press", keys="n")
    yield 1.0
    yield from window.click_tab()
    yield 0.5
    done("open the sidebar")
    for wanted, across in (("mvgamba.source", 0.16), ("mvgamba.prompt", 0.4)):
        places: list[tuple[float, float]] = []
        yield from window.find(wanted, across=across, found=places)
        assert places, f"{wanted} was not found in the sidebar"
        window.click(*places[0])
        yield 0.5
    window.ask("type", text=PROMPT)
    window.ask("press", keys="Return")
    yield 0.5
    settings = bpy.context.scene.mvgamba
    assert (settings.source, settings.prompt) == ("TEXT", PROMPT), (settings.source, settings.prompt)
    done("say what is wanted")
    places = []
    yield from window.find("mvgamba.generate", found=places)
    window.click(*places[0])
    board = window.module("scene.session").session().board
    yield from until(lambda: board.rows, 20, "a row in the list of jobs")
    row = board.rows[0]
    yield from until(lambda: not row.is_active, 500, "the result")
    done("wait for the result")
    results = [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]
    window.report.update(
        state=row.state.value,
        text=row.text,
        clicks=window.clicks,
        seconds=round(time.monotonic() - began, 1),
        steps=took,
        quality=settings.quality,
        faces=sum(len(obj.data.polygons) for obj in results),
    )
    window.ask("screenshot", name="as_it_is")
