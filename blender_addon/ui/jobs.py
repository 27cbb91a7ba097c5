"""The list of jobs, and what can be done with one."""

from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty

from .. import api
from ..core.cameras import VIEW_COUNTS
from ..core.i18n import tr
from ..core.jobs import JobRow, JobState
from ..scene.classes import register_classes, unregister_classes
from ..scene.session import session
from .acting import RowOperator
from .images import FILTER
from .previews import icon_of, refresh
from .remedies import draw_remedies
from .sidebar import Sidebar
from .wrapped import draw_text

MOST_ENDED = 5
"""Ended jobs that are shown: a list of hundreds takes milliseconds to draw, and results are in the history."""


class MVGAMBA_OT_cancel(RowOperator):
    bl_idname = "mvgamba.cancel"
    bl_label = "Cancel"
    bl_description = "Stop this job"
    bl_options = {"INTERNAL"}

    def act(self, _context: bpy.types.Context, row: JobRow) -> None:
        session().cancel(row)


class MVGAMBA_OT_retry(RowOperator):
    bl_idname = "mvgamba.retry"
    bl_label = "Retry"
    bl_description = "Send the same captures again"
    bl_options = {"INTERNAL"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.retry(row, context=context)


class MVGAMBA_OT_retry_more_views(RowOperator):
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


class MVGAMBA_OT_place_result(RowOperator):
    bl_idname = "mvgamba.place_result"
    bl_label = "Place Here"
    bl_description = "Import the result of this job into the open scene"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, row: JobRow) -> bool:
        return session().placer.place_here(context, row)


class MVGAMBA_OT_cancel_all(bpy.types.Operator):
    bl_idname = "mvgamba.cancel_all"
    bl_label = "Cancel All"
    bl_description = "Stop every job that runs or waits"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if not any(row.can_cancel for row in session().board.rows):
            cls.poll_message_set(tr("No job is running"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        for row in session().board.rows:
            session().cancel(row)
        return {"FINISHED"}


class MVGAMBA_OT_clear_finished(bpy.types.Operator):
    bl_idname = "mvgamba.clear_finished"
    bl_label = "Clear Finished"
    bl_description = "Remove ended jobs from the list, results stay in the history"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if all(row.is_active for row in session().board.rows):
            cls.poll_message_set(tr("No job has ended"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        session().forget_finished(api.jobs_folder())
        return {"FINISHED"}


class MVGAMBA_OT_approve_views(RowOperator):
    bl_idname = "mvgamba.approve_views"
    bl_label = "Reconstruct"
    bl_description = "Go on from these views to a textured mesh"
    bl_options = {"INTERNAL"}

    variant: IntProperty(name="Variant", description="Which set of views, from 0", min=0, options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.approve(row, variant=self.variant, context=context)


class MVGAMBA_OT_replace_view(RowOperator):
    bl_idname = "mvgamba.replace_view"
    bl_label = "Replace View"
    bl_description = "Use another picture for this view, cut out and framed as the one that it replaces"
    bl_options = {"INTERNAL"}

    variant: IntProperty(name="Variant", description="Which set of views, from 0", min=0, options={"SKIP_SAVE"})
    index: IntProperty(name="View", description="Which view of the set, from 0", min=0, options={"SKIP_SAVE"})
    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_glob: StringProperty(default=FILTER, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def act(self, _context: bpy.types.Context, row: JobRow) -> None:
        api.replace_view(row, Path(self.filepath), variant=self.variant, index=self.index)
        refresh()


class MVGAMBA_PT_jobs(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_jobs"
    bl_order = 0
    bl_label = "Jobs"
    bl_parent_id = "MVGAMBA_PT_main"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return bool(session().board.rows)

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        active = session().board.num_active
        if active:
            self.layout.label(text=tr("{count} active").format(count=active), translate=False)

    def draw(self, _context: bpy.types.Context) -> None:
        draw_rows(self.layout)


class MVGAMBA_PT_image_editor_jobs(bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_image_editor_jobs"
    bl_label = "Jobs"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = "MVGamba"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return bool(session().board.rows)

    def draw(self, _context: bpy.types.Context) -> None:
        draw_rows(self.layout)


def draw_rows(layout: bpy.types.UILayout) -> None:
    """All jobs that somebody waits for and the last that have ended, newest first."""
    num_ended = 0
    for row in session().board.rows:
        num_ended += row.can_clear
        if num_ended <= MOST_ENDED or not row.can_clear:
            draw_row(layout, row)
    if num_ended > MOST_ENDED:
        text = tr("{count} more have ended before").format(count=num_ended - MOST_ENDED)
        layout.label(text=text, translate=False)
    buttons = layout.row(align=True)
    buttons.operator("mvgamba.cancel_all")
    buttons.operator("mvgamba.clear_finished")


def draw_row(layout: bpy.types.UILayout, row: JobRow) -> None:
    """One job: its name, how far it is or what went wrong, what it shows, and the button that helps."""
    box = layout.box()
    line = box.row()
    line.label(text=row.request.label, icon=_ICONS.get(row.state, "SORTTIME"), translate=False)
    if row.can_cancel:
        line.operator("mvgamba.cancel", text="", icon="X", emboss=False).request_id = row.id
    if row.state in (JobState.RUNNING, JobState.DOWNLOADING):
        box.progress(factor=row.fraction, text=row.text)
    else:
        draw_text(box, row.text)
    if row.is_active or row.state is JobState.VIEWS_READY:
        draw_pictures(box, row)
    for text in row.log_lines[-2:]:
        draw_text(box, text, icon="INFO")
    if row.state is JobState.FAILED:
        draw_remedies(box, row)
    elif row.state is JobState.CANCELLED:
        # a row with a key only placed what was there: there is no job to be sent again
        box.operator("mvgamba.place_result" if row.key else "mvgamba.retry").request_id = row.id
    elif row.state is JobState.READY and row.note:
        on_surface = row.request.target.mode == "SURFACE"
        if session().placer.is_preparing(row) and not on_surface:
            return  # it comes by itself
        box.operator("mvgamba.place_on_surface" if on_surface else "mvgamba.place_result").request_id = row.id


def draw_pictures(layout: bpy.types.UILayout, row: JobRow) -> None:
    """The views that a job shows, a line for each variant; those of a review with their buttons."""
    shown = {(v, i) for v, views in enumerate(row.views) for i in range(len(views))} or set(row.previews)
    for variant in sorted({v for v, _ in shown}):
        line = layout.row(align=True)
        for index in sorted(i for v, i in shown if v == variant):
            column = line.column(align=True)
            column.template_icon(icon_value=icon_of(row, variant, index), scale=3.0)
            if row.state is JobState.VIEWS_READY:
                button = column.operator("mvgamba.replace_view", text="", icon="FILE_REFRESH")
                button.request_id, button.variant, button.index = row.id, variant, index
        if row.state is JobState.VIEWS_READY:
            button = layout.operator("mvgamba.approve_views")
            button.request_id, button.variant = row.id, variant


_ICONS = {
    JobState.VIEWS_READY: "IMAGE_REFERENCE",
    JobState.PLACED: "CHECKMARK",
    JobState.FAILED: "ERROR",
    JobState.LOST: "UNLINKED",
    JobState.CANCELLED: "CANCEL",
    JobState.READY: "IMPORT",
}

CLASSES = (
    MVGAMBA_OT_cancel,
    MVGAMBA_OT_retry,
    MVGAMBA_OT_retry_more_views,
    MVGAMBA_OT_place_result,
    MVGAMBA_OT_cancel_all,
    MVGAMBA_OT_clear_finished,
    MVGAMBA_OT_approve_views,
    MVGAMBA_OT_replace_view,
    MVGAMBA_PT_jobs,
    MVGAMBA_PT_image_editor_jobs,
)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
