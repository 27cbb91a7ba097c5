"""A small scene in which everything was made by the real pipeline, while one more thing is made: the first picture of the README."""

from collections.abc import Iterator

import bpy
from harness import Window, until

PROPS = (
    ("a rounded fir tree", 3.2, (-2.2, 2.4, 0.0), 0.0),
    ("a red park bench", 1.7, (0.6, 0.9, 0.0), -0.35),
    ("a small storage trunk", 0.9, (-1.3, -0.9, 0.0), 0.5),
    ("a grey boulder", 1.5, (2.6, 2.3, 0.0), 0.9),
    ("a fire hydrant", 0.95, (1.9, -0.5, 0.0), -0.6),
)
"""Prompt, size in metres, place, turn about Z in radians."""
LAST = "a long brown dining table"


def steps(window: Window) -> Iterator[float]:
    board = window.module("scene.session").session().board
    settings = bpy.context.scene.mvgamba
    settings.source, settings.seed_mode = "TEXT", "FIXED"
    for name in ("Cube", "Light"):
        bpy.data.objects.remove(bpy.data.objects[name])
    for prompt, size, place, turn in PROPS:
        settings.prompt, settings.target_size = prompt, size
        bpy.context.scene.cursor.location = place
        bpy.context.scene.cursor.rotation_euler = (0.0, 0.0, turn)
        with window.override():
            bpy.ops.mvgamba.generate()
    yield from until(lambda: not board.num_active, 500, "what was asked for")
    window.report["states"] = [row.state.value for row in board.rows]
    bpy.context.scene.cursor.location = (0.0, -2.0, 0.0)
    look(window)
    settings.prompt, settings.target_size = LAST, 2.0
    with window.override():
        bpy.ops.mvgamba.generate()
    row = board.rows[0]
    # every view has been seen sharp when the next stage begins
    yield from until(lambda: row.stage not in ("", "prepare", "multiview") or not row.is_active, 200, "its views")
    yield from window.open_sidebar()
    for theme in ("Blender_Dark", "Blender_Light"):
        window.use_theme(theme)
        window.view.tag_redraw()
        yield 2.0
        name = theme.removeprefix("Blender_").lower()
        window.ask("screenshot", name=f"showcase_{name}")
    window.report["stage"] = row.stage
    bpy.ops.mvgamba.cancel_all()
    yield from until(lambda: not board.num_active, 60, "the end of the last job")


def look(window: Window) -> None:
    """The scene from the front, with its textures, on a ground."""
    bpy.ops.mesh.primitive_plane_add(size=40.0)
    ground = bpy.context.active_object
    ground.name = "Ground"
    material = bpy.data.materials.new("Ground")
    material.use_nodes = True
    material.diffuse_color = (0.16, 0.21, 0.12, 1.0)
    ground.data.materials.append(material)
    for obj in bpy.context.scene.objects:
        obj.select_set(obj.mvgamba.prompt.endswith("bench"))
        if obj.select_get():
            bpy.context.view_layer.objects.active = obj
    space = window.view.spaces.active
    space.shading.color_type, space.shading.show_cavity = "TEXTURE", True
    space.shading.show_specular_highlight = False
    space.overlay.show_floor = space.overlay.show_axis_x = space.overlay.show_axis_y = False
    space.overlay.show_cursor = False
    view = space.region_3d
    view.view_location, view.view_distance = (1.25, 0.9, 0.95), 7.2  # the sidebar covers the right
    view.view_rotation = (0.79, 0.6, -0.077, -0.105)
    view.view_perspective = "PERSP"
