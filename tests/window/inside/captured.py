"""A cube at an odd pose: cameras drawn around it, small pictures of it, and its reconstruction over it, until an undo."""

from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d
from harness import Window, until
from mathutils import Euler, Matrix, Vector

COLOR = (40, 200, 60)
"""sRGB of the cube, which nothing else on the screen has."""


def steps(window: Window) -> Iterator[float]:
    window.use_theme("Blender_Dark")
    window.open_panels("MVGAMBA_PT_capture")
    yield from window.open_sidebar()
    cube = prepare(window)
    bpy.ops.mvgamba.backend_start()  # it loads while the cameras are looked at
    yield from overlay(window)
    yield from pictures(window)
    window.report["before"] = state(cube)
    yield from window.press_button("mvgamba.generate")
    board = window.module("scene.session").session().board
    yield from until(lambda: board.rows, 20, "a row in the list of jobs")
    row = board.rows[0]
    yield from until(lambda: not row.is_active, 200, "the result")
    yield 1.0
    window.ask("screenshot", name="result")
    window.report.update(state=row.state.value, text=row.text, placed=state(bpy.data.objects["Subject"]))
    window.report["result"] = [bounds(obj) for obj in results()]
    left, top, _right, bottom = window.box("WINDOW")
    window.ask("move", x=left + 200, y=(top + bottom) / 2)
    window.ask("press", keys="ctrl+z")
    yield 1.5
    window.ask("screenshot", name="undone")
    window.report.update(undone=state(bpy.data.objects["Subject"]), results_after_undo=len(results()))


def prepare(window: Window) -> bpy.types.Object:
    """The cube of the start-up file as the subject, alone in a view that shows the cameras around it."""
    settings, space = bpy.context.scene.mvgamba, window.view.spaces.active
    settings.source, settings.quality, settings.source_after = "CAPTURE", "DRAFT", "STORE"
    settings.capture_views, settings.capture_size, settings.texture_size = "8", "256", "512"
    for obj in list(bpy.data.objects):
        if obj.type != "MESH":
            bpy.data.objects.remove(obj)
    (cube,) = bpy.data.objects
    cube.name = "Subject"
    cube.matrix_world = Matrix.LocRotScale((0.4, -0.3, 0.7), Euler((0.4, -0.9, 2.1)), (1.0, 0.7, 1.2))
    material = cube.data.materials[0]
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*(linear(value / 255) for value in COLOR), 1.0)
    space.overlay.show_floor = space.overlay.show_axis_x = space.overlay.show_axis_y = False
    space.region_3d.view_distance = 22.0
    space.region_3d.view_location = (2.0, 2.0, 0.0)  # the sidebar covers the right
    with window.override():
        bpy.ops.ed.undo_push(message="Before")
    return cube


def linear(value: float) -> float:
    """Of one channel of sRGB."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def overlay(window: Window) -> Iterator[float]:
    """Pictures of the screen without the cameras, with them, and without them again; where they must be on it."""
    manager = bpy.context.window_manager
    for name, is_shown in (("before", False), ("cameras", True), ("off", False)):
        manager.mvgamba.show_cameras = is_shown
        yield 2.0
        window.ask("screenshot", name=name)
        if is_shown:
            lines = window.module("ui.rig_overlay").lines_now(bpy.context)
    region, view = window.region("WINDOW"), window.view.spaces.active.region_3d
    at = [location_3d_to_region_2d(region, view, Vector(line[0])) for line in lines[: 8 * 11 : 11]]
    left, _top, _right, bottom = window.box("WINDOW")
    window.report["cameras"] = [[left + point.x, bottom - point.y] for point in at]
    window.report["free_to"] = window.box("UI")[0]
    color = bpy.context.preferences.themes[0].view_3d.object_active
    window.report["overlay_color"] = [round(255 * value) for value in color]


def pictures(window: Window) -> Iterator[float]:
    """The sidebar before and after a click on Preview Views."""
    window.sidebar_picture("no_pictures")
    yield from window.press_button("mvgamba.capture_preview")
    preview = window.module("ui.capture_preview")
    yield from until(lambda: not preview.is_running() and preview._paths, 60, "small pictures")
    yield 1.0
    window.sidebar_picture("pictures")
    window.report.update(problem=preview._problem, color=COLOR)


def results() -> list[bpy.types.Object]:
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def state(obj: bpy.types.Object) -> dict[str, Any]:
    """Of the subject, as far as a result could change it."""
    return {
        "visible": obj.visible_get(),
        "collections": [collection.name for collection in obj.users_collection],
        "bounds": bounds(obj),
    }


def bounds(obj: bpy.types.Object) -> list[list[float]]:
    """Lowest and highest corner in the world."""
    points = np.array([obj.matrix_world @ vertex.co for vertex in obj.data.vertices])
    return [points.min(axis=0).tolist(), points.max(axis=0).tolist()]
