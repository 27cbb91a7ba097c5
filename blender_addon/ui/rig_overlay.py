"""Lines in the 3D View where the capture cameras would stand: nothing of it is in the file.

A timer looks twice a second whether the subject or the settings have changed, and computes the lines then; a draw only
draws them.
"""

import logging

import bpy
import numpy as np

from ..core.cameras import CaptureCamera, orbit_rig
from ..core.errors import AddonError
from ..core.rig_lines import rig_lines
from ..scene.own_cameras import chosen_cameras, own_cameras
from ..scene.subject import captured_objects, shown_sphere

log = logging.getLogger(__name__)

_INTERVAL = 0.5
"""Seconds between two looks at the scene."""

_handle: object | None = None
_lines = np.empty((0, 2, 3), dtype=np.float32)
_key: object = None
_batch: object | None = None
"""For the GPU, of `_lines`; made in the first draw that shows them."""


def refresh() -> None:
    """Begin or end to draw, as the setting says. Does nothing without a window."""
    if bpy.app.background:
        return
    if is_shown():
        _begin()
    else:
        _end()
    _redraw()


def is_shown() -> bool:
    return bool(bpy.context.window_manager.mvgamba.show_cameras)


def lines_now(context: bpy.types.Context) -> np.ndarray:
    """(N, 2, 3) segments for the subject and the settings of this moment; none where there is nothing to capture."""
    objects = captured_objects(context)
    sphere = shown_sphere(context, objects) if objects else None
    if sphere is None:
        return rig_lines([], np.zeros(3))
    return rig_lines(_cameras(context, sphere), sphere.center)


def _cameras(context: bpy.types.Context, sphere) -> tuple[CaptureCamera, ...]:
    chosen = chosen_cameras(context)
    if chosen is not None:
        try:
            return own_cameras(context, chosen, sphere)
        except AddonError:
            return ()  # the button says why
    settings = context.scene.mvgamba.capture_settings()
    return orbit_rig(
        sphere.center, sphere.radius, num_views=settings.num_views, azimuth=settings.azimuth, margin=settings.margin
    )


def _begin() -> None:
    global _handle, _key
    _key = None
    if _handle is None:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")
    if not bpy.app.timers.is_registered(_look):
        bpy.app.timers.register(_look, first_interval=0.0, persistent=True)


def _end() -> None:
    global _handle, _batch, _key
    if bpy.app.timers.is_registered(_look):
        bpy.app.timers.unregister(_look)
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = _batch = _key = None


def _look() -> float | None:
    """Compute the lines anew if anything that they depend on has changed. The timer calls it."""
    global _lines, _batch, _key
    try:
        if not is_shown():
            _end()
            return None
        key = _state(bpy.context)
        if key != _key:
            _key = key
            _lines, _batch = lines_now(bpy.context), None
            _redraw()
    except Exception:
        log.exception("the overlay of the cameras is switched off")
        _end()
        return None
    return _INTERVAL


def _state(context: bpy.types.Context) -> tuple:
    """What the lines depend on, as far as it is cheap to ask for."""
    if context.scene.mvgamba.source != "CAPTURE":
        return ("other source",)
    settings = context.scene.mvgamba.capture_settings()
    objects = [*captured_objects(context), *(chosen_cameras(context) or ())]
    boxes = [(obj.session_uid, _values(obj.matrix_world), _values(obj.bound_box)) for obj in objects]
    return settings, context.scene.frame_current, tuple(boxes)


def _values(rows) -> tuple[float, ...]:
    return tuple(value for row in rows for value in row)


def _draw() -> None:
    """Never raises: what a draw handler raises comes back sixty times a second."""
    global _batch
    try:
        context = bpy.context
        if not len(_lines) or not context.space_data.overlay.show_overlays:
            return
        if context.scene.mvgamba.source != "CAPTURE":
            return
        import gpu
        from gpu_extras.batch import batch_for_shader

        shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
        if _batch is None:
            _batch = batch_for_shader(shader, "LINES", {"pos": _lines.reshape(-1, 3)})
        region = context.region
        shader.bind()
        shader.uniform_float("viewportSize", (region.width, region.height))
        shader.uniform_float("lineWidth", 1.5 * context.preferences.system.ui_scale)
        shader.uniform_float("color", (*context.preferences.themes[0].view_3d.object_active, 0.8))
        gpu.state.blend_set("ALPHA")
        gpu.state.depth_test_set("LESS_EQUAL")
        _batch.draw(shader)
    except Exception:
        log.exception("the overlay of the cameras is switched off")
        bpy.app.timers.register(_end, first_interval=0.0, persistent=True)
    else:
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("NONE")


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def register() -> None:
    pass


def unregister() -> None:
    if bpy.app.timers.is_registered(_end):
        bpy.app.timers.unregister(_end)
    _end()
