"""The backend, as far as a person has to do with it."""

import json
import platform

import bpy
from bpy.props import StringProperty

from .. import api
from ..scene.session import session
from .preferences import ROOT_PACKAGE, backend_status


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
