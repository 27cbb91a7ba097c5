"""The sidebar tab. Drawing only reads; what it shows is kept ready by the session."""

import bpy

from ..core.errors import remedy
from ..core.jobs import JobRow, JobState
from ..scene.session import session
from .operators import captured_objects
from .preferences import is_backend_found


class _Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "MVGamba"


class MVGAMBA_PT_main(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_main"
    bl_label = "MVGamba"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        if not is_backend_found():
            box = layout.box()
            box.label(text="MVGamba needs its backend", icon="INFO")
            box.operator("mvgamba.open_preferences", text="Set Path")
        layout.prop(settings, "capture_subject")
        layout.prop(settings, "capture_views", expand=True)
        layout.prop(settings, "quality", expand=True)
        row = layout.row(align=True)
        row.prop(settings, "seed")
        row.prop(settings, "seed_mode", text="", icon_only=True)
        column = layout.column()
        column.scale_y = 1.4
        count = len(captured_objects(context))
        noun = "Object" if count == 1 else "Objects"
        column.operator("mvgamba.generate", text=f"Generate From {count} {noun}" if count else "Generate")


class MVGAMBA_PT_capture(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_capture"
    bl_label = "Capture"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        for name in ("capture_size", "capture_depth", "capture_margin", "capture_azimuth"):
            layout.prop(settings, name)


class MVGAMBA_PT_placement(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_placement"
    bl_label = "Placement"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        layout.prop(settings, "source_after", expand=True)
        layout.prop(settings, "collection")


class MVGAMBA_PT_mesh(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_mesh"
    bl_label = "Mesh & Texture"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        for name in ("target_faces", "texture_size", "use_refine"):
            layout.prop(settings, name)


class MVGAMBA_PT_jobs(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_jobs"
    bl_label = "Jobs"
    bl_parent_id = "MVGAMBA_PT_main"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return bool(session().board.rows)

    def draw(self, _context: bpy.types.Context) -> None:
        for row in session().board.rows:
            draw_row(self.layout, row)
        buttons = self.layout.row(align=True)
        buttons.operator("mvgamba.cancel_all")
        buttons.operator("mvgamba.clear_finished")


class MVGAMBA_PT_result(_Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_result"
    bl_label = "Result"
    bl_parent_id = "MVGAMBA_PT_main"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.object is not None and context.object.mvgamba.kind != "NONE"

    def draw(self, context: bpy.types.Context) -> None:
        result = context.object.mvgamba
        column = self.layout.column(align=True)
        column.label(text=context.object.name, icon="MESH_DATA")
        column.label(text=f"Placed {result.created}")
        column.label(text=result.job_id)


def draw_row(layout: bpy.types.UILayout, row: JobRow) -> None:
    """One job: its name, how far it is or what went wrong, and the button that helps."""
    box = layout.box()
    line = box.row()
    line.label(text=row.request.label, icon=_ICONS.get(row.state, "SORTTIME"))
    if row.can_cancel:
        line.operator("mvgamba.cancel", text="", icon="X", emboss=False).request_id = row.id
    if row.state is JobState.RUNNING:
        box.progress(factor=row.fraction, text=row.text)
    else:
        box.label(text=row.text)
    if row.state is JobState.FAILED:
        help_ = remedy(row.reason)
        box.operator(help_.operator, text=help_.button).request_id = row.id
    elif row.state is JobState.CANCELLED:
        box.operator("mvgamba.retry").request_id = row.id
    elif row.state is JobState.READY and row.note:
        box.operator("mvgamba.place_result").request_id = row.id


_ICONS = {
    JobState.PLACED: "CHECKMARK",
    JobState.FAILED: "ERROR",
    JobState.LOST: "UNLINKED",
    JobState.CANCELLED: "CANCEL",
    JobState.READY: "IMPORT",
}

CLASSES = (
    MVGAMBA_PT_main,
    MVGAMBA_PT_jobs,
    MVGAMBA_PT_result,
    MVGAMBA_PT_capture,
    MVGAMBA_PT_placement,
    MVGAMBA_PT_mesh,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
