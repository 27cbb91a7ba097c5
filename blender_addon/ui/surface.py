"""Put a result on the surface that is clicked: its box follows the mouse until then."""

import logging
from dataclasses import dataclass, field

import bpy
import gpu
import numpy as np
from bpy.props import BoolProperty, FloatProperty, FloatVectorProperty, StringProperty
from bpy_extras import view3d_utils
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix

from ..core import placing
from ..core.axes import points_y_up_to_z_up
from ..core.errors import AddonError, sentence
from ..core.glb import read_positions
from ..core.i18n import tr
from ..core.jobs import JobRow, JobState
from ..scene.classes import register_classes, unregister_classes
from ..scene.placer import busy_obstacle
from ..scene.session import session
from ..scene.surface import surface_under

log = logging.getLogger(__name__)

COLOR = (1.0, 0.6, 0.1, 1.0)
LINE_WIDTH = 2.0
"""Pixels."""
_PASSED_ON = ("MIDDLEMOUSE", "TRACKPADPAN", "TRACKPADZOOM", "MOUSEROTATE", "MOUSESMARTZOOM")
"""Events that move the view."""
_OWN = {"MVGAMBA_OT_place_on_surface"}


@dataclass
class Preview:
    """The box that is drawn; plain data, so that a draw never asks Blender for anything that may be gone."""

    low: np.ndarray
    high: np.ndarray
    """Of the box on its foot, in scene units, (3,) each."""
    matrix: np.ndarray | None = None
    """Where it stands; None while the mouse is over nothing."""
    handles: list[object] = field(default_factory=list)

    def show(self) -> None:
        self.handles.append(bpy.types.SpaceView3D.draw_handler_add(_draw, (self,), "WINDOW", "POST_VIEW"))
        _shown.append(self)

    def hide(self) -> None:
        while self.handles:
            bpy.types.SpaceView3D.draw_handler_remove(self.handles.pop(), "WINDOW")
        if self in _shown:
            _shown.remove(self)


_shown: list[Preview] = []


def preview_of(row: JobRow) -> Preview:
    """The box of a result as large as it will be placed. Raises: AddonError, PLACE_FAILED."""
    target = row.request.target
    if row.result_path is None or not row.result_path.is_file():
        raise AddonError("PLACE_FAILED", tr("the result file is missing"))
    points = points_y_up_to_z_up(read_positions(row.result_path))
    low, high = points.min(axis=0), points.max(axis=0)
    factor = placing.size_factor(high - low, target.size, target.size_axis)
    at = factor * placing.anchor(low, high, on_ground=target.use_ground)
    return Preview(factor * low - at, factor * high - at)


def _draw(preview: Preview) -> None:
    if preview.matrix is None:
        return
    lines = placing.preview_lines(preview.low, preview.high, preview.matrix)
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    batch = batch_for_shader(shader, "LINES", {"pos": lines.astype(np.float32).tolist()})
    _x, _y, width, height = gpu.state.viewport_get()
    shader.uniform_float("viewportSize", (width, height))
    shader.uniform_float("lineWidth", LINE_WIDTH)
    shader.uniform_float("color", COLOR)
    batch.draw(shader)


class MVGAMBA_OT_place_on_surface(bpy.types.Operator):
    bl_idname = "mvgamba.place_on_surface"
    bl_label = "Place on Surface"
    bl_description = "Click where the result shall stand; the wheel turns it, N aligns it to the surface"
    bl_options = {"REGISTER", "UNDO"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    location: FloatVectorProperty(
        name="Location",
        description="Where the foot of the result stands",
        subtype="TRANSLATION",
        options={"SKIP_SAVE"},
    )
    normal: FloatVectorProperty(
        name="Normal",
        description="Direction that the surface faces",
        subtype="XYZ",
        default=(0.0, 0.0, 1.0),
        options={"SKIP_SAVE"},
    )
    turn: FloatProperty(
        name="Turn", description="Turned about its own upright axis", subtype="ANGLE", options={"SKIP_SAVE"}
    )
    align: BoolProperty(name="Align to Surface", description="Stand off the surface instead of upright")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = busy_obstacle(context, tools=_OWN)
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        row = session().board.find(self.request_id)
        if row is None:
            self.report({"WARNING"}, tr("This job is no longer listed"))
            return {"CANCELLED"}
        try:
            is_placed = session().placer.place_here(context, row, frame=Matrix(self._matrix().tolist()))
        except AddonError as error:
            row.state, row.reason, row.message = JobState.FAILED, error.reason, error.message
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        return {"FINISHED"} if is_placed else {"CANCELLED"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        row = session().board.find(self.request_id)
        if row is None:
            self.report({"WARNING"}, tr("This job is no longer listed"))
            return {"CANCELLED"}
        if context.area is None or context.area.type != "VIEW_3D":
            self.report({"ERROR"}, tr("Use this in the sidebar of a 3D View"))
            return {"CANCELLED"}
        try:
            self._preview = preview_of(row)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        self.turn = 0.0
        self._preview.show()
        self._tell(context)
        context.window_manager.modal_handler_add(self)
        self._follow(context, event)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type in ("ESC", "RIGHTMOUSE") and event.value == "PRESS":
            self._end(context)
            return {"CANCELLED"}
        if event.type in ("LEFTMOUSE", "RET", "NUMPAD_ENTER") and event.value == "PRESS":
            return self._confirm(context, event)
        if event.type in _PASSED_ON or event.type.startswith(("NDOF", "NUMPAD")):
            return {"PASS_THROUGH"}
        if event.type in ("WHEELUPMOUSE", "WHEELDOWNMOUSE"):
            self.turn += placing.TURN if event.type == "WHEELUPMOUSE" else -placing.TURN
        elif event.type == "R" and event.value == "PRESS":
            self.turn += -placing.TURN if event.shift else placing.TURN
        elif event.type == "N" and event.value == "PRESS":
            self.align = not self.align
        self._follow(context, event)
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        # Blender ends the operator itself, such as when another file is opened.
        self._end(context)

    def _confirm(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._follow(context, event)
        if self._preview.matrix is None:
            self.report({"WARNING"}, tr("There is no surface here"))
            return {"RUNNING_MODAL"}
        why = busy_obstacle(context, tools=_OWN)
        if why:
            self.report({"WARNING"}, why)
            return {"RUNNING_MODAL"}
        self._end(context)
        return self.execute(context)

    def _follow(self, context: bpy.types.Context, event: bpy.types.Event) -> None:
        """Bring the box under the mouse."""
        view = _view_under(context, event)
        found = None
        if view is not None:
            region, region_3d = view
            at = (event.mouse_x - region.x, event.mouse_y - region.y)
            found = surface_under(
                context,
                np.array(view3d_utils.region_2d_to_origin_3d(region, region_3d, at)),
                np.array(view3d_utils.region_2d_to_vector_3d(region, region_3d, at)),
            )
        if found is None:
            self._preview.matrix = None
        else:
            self.location, self.normal = found
            self._preview.matrix = self._matrix()
        _redraw(context)

    def _matrix(self) -> np.ndarray:
        return placing.surface_matrix(np.array(self.location), np.array(self.normal), self.turn, align=self.align)

    def _tell(self, context: bpy.types.Context) -> None:
        context.workspace.status_text_set(
            tr("Click: place   Wheel or R: turn by 15°   N: upright or along the surface   Esc: leave it waiting")
        )

    def _end(self, context: bpy.types.Context) -> None:
        self._preview.hide()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        _redraw(context)


def _view_under(
    context: bpy.types.Context, event: bpy.types.Event
) -> tuple[bpy.types.Region, bpy.types.RegionView3D] | None:
    """The 3D View of the window that the mouse is over, and not over one of its sidebars."""
    for area in context.window.screen.areas:
        if area.type != "VIEW_3D" or not _contains(area, event):
            continue
        over = [region for region in area.regions if region.type != "WINDOW" and _contains(region, event)]
        if any(region.width > 1 and region.height > 1 for region in over):
            return None
        for region in area.regions:
            if region.type == "WINDOW" and _contains(region, event) and region.data is not None:
                return region, region.data
    return None


def _contains(part: bpy.types.Area | bpy.types.Region, event: bpy.types.Event) -> bool:
    return 0 <= event.mouse_x - part.x < part.width and 0 <= event.mouse_y - part.y < part.height


def _redraw(context: bpy.types.Context) -> None:
    if context.window is None:
        return
    for area in context.window.screen.areas:
        if area.type == "VIEW_3D":
            area.tag_redraw()


CLASSES = (MVGAMBA_OT_place_on_surface,)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    for preview in list(_shown):
        preview.hide()
    unregister_classes(CLASSES)
