"""The list of jobs, and what can be done with one."""

import bpy
from bpy.props import StringProperty

from .. import api
from ..core.cameras import VIEW_COUNTS
from ..core.errors import AddonError, remedy, sentence
from ..core.jobs import JobRow, JobState
from ..scene.session import session
from .sidebar import Sidebar


class _RowOperator(bpy.types.Operator):
    """Acts on the row whose request it names."""

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        row = session().board.find(self.request_id)
        if row is None:
            self.report({"WARNING"}, "This job is no longer listed")
            return {"CANCELLED"}
        try:
            self.act(context, row)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        return {"FINISHED"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        raise NotImplementedError


class MVGAMBA_OT_cancel(_RowOperator):
    bl_idname = "mvgamba.cancel"
    bl_label = "Cancel"
    bl_description = "Stop this job"
    bl_options = {"INTERNAL"}

    def act(self, _context: bpy.types.Context, row: JobRow) -> None:
        session().cancel(row)


class MVGAMBA_OT_retry(_RowOperator):
    bl_idname = "mvgamba.retry"
    bl_label = "Retry"
    bl_description = "Send the same captures again"
    bl_options = {"INTERNAL"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.retry(row, context=context)


class MVGAMBA_OT_retry_draft(_RowOperator):
    bl_idname = "mvgamba.retry_draft"
    bl_label = "Retry as Draft"
    bl_description = "Send the same captures again with the quality that needs least memory"
    bl_options = {"INTERNAL"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.retry(row, context=context, quality="draft")


class MVGAMBA_OT_retry_more_views(_RowOperator):
    bl_idname = "mvgamba.retry_more_views"
    bl_label = "Retry With More Views"
    bl_description = "Capture the subject again with the next larger number of cameras"
    bl_options = {"INTERNAL"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.recapture(row, num_views=next_view_count(row), context=context)


def next_view_count(row: JobRow) -> int:
    """One step up from what a job was captured with."""
    now = len(row.request.views)
    return next((count for count in VIEW_COUNTS if count > now), VIEW_COUNTS[-1])


class MVGAMBA_OT_place_result(_RowOperator):
    bl_idname = "mvgamba.place_result"
    bl_label = "Place Here"
    bl_description = "Import the result of this job into the open scene"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        session().place(context, row)


class MVGAMBA_OT_cancel_all(bpy.types.Operator):
    bl_idname = "mvgamba.cancel_all"
    bl_label = "Cancel All"
    bl_description = "Stop every job that runs or waits"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if not any(row.can_cancel for row in session().board.rows):
            cls.poll_message_set("No job is running")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        for row in session().board.rows:
            session().cancel(row)
        return {"FINISHED"}


class MVGAMBA_OT_clear_finished(bpy.types.Operator):
    bl_idname = "mvgamba.clear_finished"
    bl_label = "Clear Finished"
    bl_description = "Remove ended jobs from the list, and their captures from the disk"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if all(row.is_active for row in session().board.rows):
            cls.poll_message_set("No job has ended")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        session().forget_finished(api.jobs_folder())
        return {"FINISHED"}


class MVGAMBA_PT_jobs(Sidebar, bpy.types.Panel):
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
    MVGAMBA_OT_cancel,
    MVGAMBA_OT_retry,
    MVGAMBA_OT_retry_draft,
    MVGAMBA_OT_retry_more_views,
    MVGAMBA_OT_place_result,
    MVGAMBA_OT_cancel_all,
    MVGAMBA_OT_clear_finished,
    MVGAMBA_PT_jobs,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
