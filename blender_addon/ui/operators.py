"""The buttons. A button that is grey says why."""

import json
import logging
import platform
import random

import bpy
from bpy.props import StringProperty

from .. import api
from ..core.cameras import VIEW_COUNTS
from ..core.errors import AddonError, sentence
from ..core.jobs import JobRow
from ..scene.session import session
from ..scene.subject import GEOMETRY_TYPES, subject_objects
from .preferences import ROOT_PACKAGE, backend_status, is_backend_found

log = logging.getLogger(__name__)


def captured_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """What Generate would capture."""
    if context.scene.mvgamba.capture_subject == "SELECTION":
        return subject_objects(context)
    return [obj for obj in context.collection.all_objects if obj.type in GEOMETRY_TYPES and obj.visible_get()]


class MVGAMBA_OT_generate(bpy.types.Operator):
    bl_idname = "mvgamba.generate"
    bl_label = "Generate"
    bl_description = "Capture the subject and reconstruct it as a textured mesh in its place"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave Edit Mode to capture")
            return False
        if not captured_objects(context):
            cls.poll_message_set("Select an object to capture")
            return False
        if not is_backend_found():
            cls.poll_message_set("Backend is not installed: set its path in the preferences")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.mvgamba
        if settings.seed_mode == "RANDOM":
            settings.seed = random.randrange(2**31)
        elif settings.seed_mode == "INCREMENT":
            settings.seed = (settings.seed + 1) % 2**31
        try:
            row = api.generate(
                captured_objects(context),
                context=context,
                capture_settings=settings.capture_settings(),
                options=settings.job_options(),
                hide_source=settings.source_after == "HIDE",
                collection_name=settings.collection.name if settings.collection else "",
                wait=False,
            )
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Sent {row.request.label}")
        return {"FINISHED"}


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


class MVGAMBA_OT_open_preferences(bpy.types.Operator):
    bl_idname = "mvgamba.open_preferences"
    bl_label = "Open Preferences"
    bl_description = "Show the preferences of this extension"
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return bpy.ops.preferences.addon_show(module=ROOT_PACKAGE)


class MVGAMBA_OT_open_log(bpy.types.Operator):
    bl_idname = "mvgamba.open_log"
    bl_label = "Open Log"
    bl_description = "Show what the backend wrote to its log"
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, _context: bpy.types.Context) -> set[str]:
        path = api.log_path()
        if not path.is_file():
            self.report({"WARNING"}, "The backend has not written a log yet")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(path))
        return {"FINISHED"}


class MVGAMBA_OT_copy_diagnostics(bpy.types.Operator):
    bl_idname = "mvgamba.copy_diagnostics"
    bl_label = "Copy Diagnostics"
    bl_description = "Put versions and the end of the log on the clipboard, without prompts or pictures"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.clipboard = diagnostics()
        self.report({"INFO"}, "Diagnostics are on the clipboard")
        return {"FINISHED"}


class MVGAMBA_OT_backend_stop(bpy.types.Operator):
    bl_idname = "mvgamba.backend_stop"
    bl_label = "Stop Backend"
    bl_description = "End the local backend, the next job starts it again"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session().backend_pid is None:
            cls.poll_message_set("The backend is not running")
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        session().stop_backend()
        return {"FINISHED"}


def diagnostics() -> str:
    """What a bug report needs; nothing of what the user made."""
    path = api.log_path()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-200:] if path.is_file() else []
    report = {
        "blender": bpy.app.version_string,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "backend": backend_status(),
        "backend_pid": session().backend_pid,
        "jobs": [
            {"state": row.state.value, "stage": row.stage, "reason": row.reason, "message": row.message}
            for row in session().board.rows
        ],
        "log": lines,
    }
    return json.dumps(report, indent=2)


CLASSES = (
    MVGAMBA_OT_generate,
    MVGAMBA_OT_cancel,
    MVGAMBA_OT_retry,
    MVGAMBA_OT_retry_draft,
    MVGAMBA_OT_retry_more_views,
    MVGAMBA_OT_place_result,
    MVGAMBA_OT_cancel_all,
    MVGAMBA_OT_clear_finished,
    MVGAMBA_OT_open_preferences,
    MVGAMBA_OT_open_log,
    MVGAMBA_OT_copy_diagnostics,
    MVGAMBA_OT_backend_stop,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
