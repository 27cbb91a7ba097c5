"""Every panel in the states that a person meets, with a picture of each."""

from collections.abc import Iterator
from typing import Any

import bpy
from harness import EXTENSION, Window, until
from probe import Probe

PROBE = Probe()


def steps(window: Window) -> Iterator[float]:
    window.use_theme(window.options.get("theme", "Blender_Dark"))
    if window.options.get("open"):
        window.open_panels()
    PROBE.start()
    window.view.spaces.active.overlay.show_overlays = False  # one colour below the panels, for trimming
    yield from window.open_sidebar()
    if window.options.get("open"):
        book = window.module("scene.session").session().weights
        yield from until(lambda: book.is_read and not book.is_busy, 60, "the list of weights")
        window.report["weights"] = {entry.name: entry.state.value for entry in book.entries}
        yield from sources(window, "open")
        yield from cameras(window)
        yield from preferences(window)
    else:
        yield from sources(window, "source")
        yield from obstacles(window)
        yield from jobs(window)
        yield from image_editor(window)
    PROBE.stop()
    window.report["panels"] = sorted(cls.__name__ for cls in window.panel_classes())
    window.report["drawn"] = sorted(PROBE.draws)
    window.report["panel_draw_ms"] = PROBE.figures()["panel_draw_ms"]


def sources(window: Window, name: str) -> Iterator[float]:
    """Words, pictures, a capture: empty and filled in."""
    settings = bpy.context.scene.mvgamba
    for source in ("TEXT", "IMAGE", "CAPTURE"):
        settings.source = source
        yield from shown(window, f"{name}_{source.lower()}_empty" if source != "CAPTURE" else f"{name}_capture")
    settings.prompt = "a weathered oak barrel with iron hoops"
    for side in ("FRONT", "BACK"):
        item = settings.images.add()
        item.image = bpy.data.images.new(f"barrel_{side.lower()}.png", 128, 128)
        item.image.generated_type = "COLOR_GRID"
        item.side = side
    for source in ("TEXT", "IMAGE"):
        settings.source = source
        yield from shown(window, f"{name}_{source.lower()}")
    settings.source = "TEXT"


def obstacles(window: Window) -> Iterator[float]:
    """Why nothing can be made just now."""
    settings = bpy.context.scene.mvgamba
    settings.source = "CAPTURE"
    cube = bpy.context.view_layer.objects.active
    cube.select_set(False)
    yield from shown(window, "nothing_selected")
    cube.select_set(True)
    with window.override():
        bpy.ops.object.mode_set(mode="EDIT")
    yield from shown(window, "edit_mode")
    with window.override():
        bpy.ops.object.mode_set(mode="OBJECT")
    preferences = bpy.context.preferences.addons[EXTENSION].preferences
    preferences.backend_path = "/nowhere/mvgamba-backend"
    yield from shown(window, "first_run")
    preferences.backend_path = ""
    settings.source = "TEXT"


def jobs(window: Window) -> Iterator[float]:
    """Jobs as they run, wait, end well and badly; views to be looked at; a result."""
    session = window.module("scene.session").session()
    settings = bpy.context.scene.mvgamba
    settings.source, settings.variants = "TEXT", 2
    placed = send(window, "a weathered oak barrel")
    yield from until(lambda: not placed.is_active, 60, "a placed result")
    settings.variants = 1
    window.report["placed"] = placed.state.value
    for obj in bpy.context.scene.objects:
        obj.select_set(obj.mvgamba.kind != "NONE")
        if obj.mvgamba.kind != "NONE":
            bpy.context.view_layer.objects.active = obj
    yield from shown(window, "result")
    settings.review_views = True
    review = send(window, "a red garden chair")
    yield from until(lambda: not review.is_active, 60, "views to look at")
    settings.review_views = False
    window.report["review"] = review.state.value
    yield from shown(window, "review")
    bpy.ops.mvgamba.clear_finished()
    session.board.rows.remove(review)
    failed = send(window, "a brass lamp", "#fail:OUT_OF_MEMORY:11.2_GB_are_needed,_7.9_are_free")
    yield from until(lambda: not failed.is_active, 60, "a failure")
    running = send(window, "a stone well with a roof", "#hold:refine #preview:4")
    yield from until(lambda: running.stage == "refine", 60, "a job that is held")
    cancelled = send(window, "a wooden crate")
    waiting = send(window, "a market stall with a striped awning and baskets of fruit")
    yield from until(lambda: waiting.state.value == "queued", 30, "a job that waits")
    bpy.ops.mvgamba.cancel(request_id=cancelled.id)
    yield from until(lambda: not cancelled.is_active, 30, "a cancelled job")
    yield from shown(window, "jobs")
    bpy.ops.mvgamba.cancel_all()
    yield from until(lambda: not session.board.num_active, 30, "the end of all jobs")


def send(window: Window, prompt: str, script: str = "") -> Any:
    """A job of words by the panel's own button; what directs the pipeline stands where the row does not show it."""
    settings = bpy.context.scene.mvgamba
    settings.prompt, settings.negative_prompt = prompt, script
    with window.override():
        bpy.ops.mvgamba.generate()
    settings.negative_prompt = ""
    return window.module("scene.session").session().board.rows[0]


def cameras(window: Window) -> Iterator[float]:
    """The cameras of a capture over the view, their small pictures, and the rig made real."""
    bpy.context.scene.mvgamba.source = "CAPTURE"
    window.view.spaces.active.overlay.show_overlays = True
    bpy.context.window_manager.mvgamba.show_cameras = True
    with window.override():
        bpy.ops.mvgamba.capture_preview()
    window.view.spaces.active.region_3d.view_distance = 22.0
    window.view.spaces.active.region_3d.view_location = (2.0, 2.0, 0.0)  # the sidebar covers the right
    yield 12.0
    window.ask("screenshot", name="cameras", box=window.box("WINDOW"))
    with window.override():
        bpy.ops.mvgamba.rig_add()
    yield 2.0
    window.ask("screenshot", name="rig", box=window.box("WINDOW"))


def preferences(window: Window) -> Iterator[float]:
    """The page of the extension in Blender's preferences."""
    area = window.view
    area.type = "PREFERENCES"
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "MVGamba"
    with bpy.context.temp_override(window=window.main, area=area):
        bpy.ops.preferences.addon_expand(module=EXTENSION)
    area.tag_redraw()
    yield 2.0
    height = window.main.height
    window.ask(
        "screenshot",
        name="preferences",
        box=(area.x, height - area.y - area.height, area.x + area.width, height - area.y),
        trim=True,
    )
    area.type = "VIEW_3D"


def image_editor(window: Window) -> Iterator[float]:
    area = window.view
    area.type = "IMAGE_EDITOR"
    area.spaces.active.image = bpy.data.images["barrel_front.png"]
    area.spaces.active.show_region_ui = True
    yield 0.5
    region = next(region for region in area.regions if region.type == "UI")
    region.active_panel_category = "MVGamba"
    area.tag_redraw()
    yield 2.0
    height = window.main.height
    box = (region.x, height - region.y - region.height, region.x + region.width, height - region.y)
    window.ask("screenshot", name="image_editor", box=box)
    area.type = "VIEW_3D"


def shown(window: Window, name: str) -> Iterator[float]:
    """A picture of the sidebar as soon as it has been drawn, and how long its panels took at most."""
    before = {panel: len(draws) for panel, draws in PROBE.draws.items()}
    window.view.tag_redraw()
    yield 1.5
    window.sidebar_picture(name)
    new = [(1e3 * max(draws[before.get(panel, 0) :], default=0.0), panel) for panel, draws in PROBE.draws.items()]
    window.report.setdefault("slowest_draw_ms", {})[name] = max((f"{ms:.2f} {panel}" for ms, panel in new), default="")
