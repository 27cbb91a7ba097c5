"""The backend, as far as a person has to do with it: how it is, and the buttons that change that."""

import bpy
from bpy.props import StringProperty

from ..core.backend_status import BackendState, BackendStatus
from ..core.errors import AddonError, remedy, sentence
from ..core.i18n import tr
from ..core.remote import parse_address
from ..scene.backend import (
    allow_host,
    backend_command,
    local_command,
    log_path,
    own_preferences,
    remote_command,
)
from ..scene.classes import register_classes, unregister_classes
from ..scene.folders import ROOT_PACKAGE
from ..scene.session import session
from . import uninstall
from .acting import FolderOperator
from .preferences import found_command, is_backend_found
from .sidebar import Sidebar
from .wrapped import draw_text

STATE_ICONS = {
    BackendState.NOT_INSTALLED: "IMPORT",
    BackendState.INSTALLING: "FILE_REFRESH",
    BackendState.UPDATING: "FILE_REFRESH",
    BackendState.STOPPED: "RADIOBUT_OFF",
    BackendState.STARTING: "SORTTIME",
    BackendState.LOADING: "SORTTIME",
    BackendState.READY: "CHECKMARK",
    BackendState.UNREACHABLE: "UNLINKED",
    BackendState.WRONG_VERSION: "ERROR",
    BackendState.FAILED: "CANCEL",
}
"""Different in shape, not only in colour."""


def is_remote_chosen(context: bpy.types.Context) -> bool:
    own = own_preferences(context)
    return own is not None and own.backend_mode == "REMOTE"


def current_status(context: bpy.types.Context) -> BackendStatus:
    """How the backend of the preferences is. Only reads what is in memory."""
    setup, status, is_remote = session().setup, session().backend_status, is_remote_chosen(context)
    if is_remote:
        if status.is_remote:
            return status
        return BackendStatus(BackendState.STOPPED, address=own_preferences(context).remote_address, is_remote=True)
    if setup.is_running:
        return BackendStatus(BackendState.UPDATING if setup.is_update else BackendState.INSTALLING)
    if not is_backend_found():
        return BackendStatus(BackendState.NOT_INSTALLED, "BACKEND_NOT_INSTALLED")
    return BackendStatus(BackendState.STOPPED) if status.is_remote else status


def obstacle(context: bpy.types.Context) -> str:
    """Why no job can be sent to the backend of the preferences; empty when one can. Only reads what is in memory."""
    if uninstall.is_uninstalling() and not is_remote_chosen(context):
        return tr("The backend is being uninstalled")
    error = _settings_error(context)
    return sentence(error.reason, error.message) if error is not None else ""


def _settings_error(context: bpy.types.Context) -> AddonError | None:
    if not is_remote_chosen(context):
        return None if is_backend_found() else AddonError("BACKEND_NOT_INSTALLED")
    try:
        backend_command(context)
    except AddonError as error:
        return error
    return None


def hint(context: bpy.types.Context) -> str:
    """What a person should know of the backend before a click; empty when there is nothing to say."""
    why = obstacle(context)
    if why:
        return why
    status, setup = current_status(context), session().setup
    match status.state:
        case BackendState.INSTALLING | BackendState.UPDATING:
            return setup.progress.text
        case BackendState.STARTING:
            return tr("The backend is starting, jobs wait for it")
        case BackendState.LOADING:
            return tr("The backend is loading, jobs start after that")
        case BackendState.UNREACHABLE | BackendState.WRONG_VERSION | BackendState.FAILED:
            return status.text
    device = context.scene.mvgamba.device
    if status.lacks(device):
        return tr("The backend has no device {device}, choose another one under Advanced").format(device=device)
    return ""


def problem_of(context: bpy.types.Context) -> str:
    """The reason of what is in the way, for its buttons; empty when nothing is."""
    error = _settings_error(context)
    return error.reason if error is not None else current_status(context).reason


# ---------------------------------------------------------------- drawing


def draw_status(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Icon and word, for the header of the tab: the one place where they stand."""
    status = current_status(context)
    icon = "RADIOBUT_ON" if status.state is BackendState.READY and status.is_busy else STATE_ICONS[status.state]
    layout.label(text=status.word, icon=icon, translate=False)


def draw_hint(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The hint with the buttons that help; nothing when there is nothing to say."""
    text = hint(context)
    if text:
        draw_text(layout, text, icon="INFO")
        draw_buttons(layout, problem_of(context))


def draw_buttons(layout: bpy.types.UILayout, reason: str, *, kind: str = "", request_id: str = "") -> None:
    """What a person can do about an error, in one row.

    Args:
        kind: Of the job that failed (`JobRequest.kind`); empty when it is no job's.
        request_id: Of that job.
    """
    if not reason:
        return
    row = layout.row(align=True)
    for button in remedy(reason).buttons_for(kind):
        if request_id or not button.needs_job:
            row.operator(button.operator, text=button.label).request_id = request_id


def draw_status_box(layout: bpy.types.UILayout, context: bpy.types.Context, *, with_uninstall: bool = False) -> None:
    """All that is known of the backend, with the buttons."""
    status, setup = current_status(context), session().setup
    box = layout.box()
    row = box.row()
    draw_text(row, status.text, icon=STATE_ICONS[status.state])
    for line in status.lines:
        draw_text(box, line)
    if setup.is_running:
        box.progress(factor=setup.progress.fraction, text=setup.progress.text)
        box.operator("mvgamba.setup_cancel")
    elif setup.progress.text and not is_remote_chosen(context):
        draw_text(box, setup.progress.text, icon="INFO")
    if uninstall.is_uninstalling():
        box.label(text=tr("Uninstalling"), icon="SORTTIME")
    elif uninstall.problem():
        draw_text(box, uninstall.problem(), icon="ERROR")
    draw_buttons(box, problem_of(context))
    row = box.row(align=True)
    if is_remote_chosen(context):
        row.operator("mvgamba.test_connection")
    elif status.state in (BackendState.STOPPED, BackendState.FAILED, BackendState.WRONG_VERSION):
        row.operator("mvgamba.backend_start")
    else:
        row.operator("mvgamba.backend_stop")
    row.operator("mvgamba.backend_unload")
    row = box.row(align=True)
    row.operator("mvgamba.open_log")
    row.operator("mvgamba.copy_diagnostics")
    if not is_remote_chosen(context):
        row = box.row(align=True)  # four in a row would be cut off
        row.operator("mvgamba.backend_setup")
        row.operator("mvgamba.backend_update")
        if with_uninstall:
            row.operator("mvgamba.backend_uninstall")


class MVGAMBA_PT_backend(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_backend"
    bl_order = 7
    bl_label = "Backend"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        draw_status_box(self.layout, context)
        self.layout.operator("mvgamba.open_preferences")


# ---------------------------------------------------------------- operators


class _Remedy(bpy.types.Operator):
    """Helps against an error, of a job or not."""

    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def fail(self, error: AddonError) -> set[str]:
        self.report({"ERROR"}, sentence(error.reason, error.message))
        return {"CANCELLED"}


class MVGAMBA_OT_open_preferences(_Remedy):
    bl_idname = "mvgamba.open_preferences"
    bl_label = "Open Preferences"
    bl_description = "Show the preferences of this extension"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return bpy.ops.preferences.addon_show(module=ROOT_PACKAGE)


class MVGAMBA_OT_open_system_preferences(_Remedy):
    bl_idname = "mvgamba.open_system_preferences"
    bl_label = "Open System Preferences"
    bl_description = "Show where Blender allows online access"

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.preferences.active_section = "SYSTEM"
        if not bpy.app.background:
            bpy.ops.screen.userpref_show(section="SYSTEM")
        return {"FINISHED"}


class MVGAMBA_OT_open_log(_Remedy):
    bl_idname = "mvgamba.open_log"
    bl_label = "Open Log"
    bl_description = "Show what the backend, or else its set-up, wrote to its log"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        paths = [log_path()]
        setup = session().setup
        if setup.folder is not None:
            paths.insert(0 if setup.progress.state.phase not in ("", "done") else 1, setup.log_path)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            self.report({"WARNING"}, tr("No log has been written yet"))
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(path))
        return {"FINISHED"}


class MVGAMBA_OT_backend_start(_Remedy):
    bl_idname = "mvgamba.backend_start"
    bl_label = "Start"
    bl_description = "Start the backend without waiting for a job"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if is_remote_chosen(context):
            cls.poll_message_set(tr("The backend runs elsewhere"))
            return False
        if not is_backend_found():
            cls.poll_message_set(tr("Backend is not installed"))
            return False
        if current_status(context).is_answering:
            cls.poll_message_set(tr("The backend is running"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            session().start_backend(local_command(context))
        except AddonError as error:
            return self.fail(error)
        return {"FINISHED"}


class MVGAMBA_OT_backend_stop(_Remedy):
    bl_idname = "mvgamba.backend_stop"
    bl_label = "Stop"
    bl_description = "End the local backend, jobs that it has wait and the next one starts it again"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session().backend_pid is None:
            cls.poll_message_set(tr("The backend is not running"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        session().stop_backend(wait=bpy.app.background)
        return {"FINISHED"}


class MVGAMBA_OT_backend_unload(_Remedy):
    bl_idname = "mvgamba.backend_unload"
    bl_label = "Unload"
    bl_description = "Free the memory of the local backend, the next job loads it again"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session().backend_pid is None:
            cls.poll_message_set(tr("No local backend holds memory"))
            return False
        if session().board.num_active:
            cls.poll_message_set(tr("A job is running"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        # the service itself is small; what it has loaded ends with it, wholly
        session().stop_backend(wait=bpy.app.background)
        return {"FINISHED"}


class MVGAMBA_OT_test_connection(_Remedy):
    bl_idname = "mvgamba.test_connection"
    bl_label = "Test Connection"
    bl_description = "Ask the remote backend what it is; nothing but the token is sent"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not is_remote_chosen(context):
            cls.poll_message_set(tr("The backend is on this machine"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            session().start_backend(remote_command(context))
        except AddonError as error:
            return self.fail(error)
        return {"FINISHED"}


class MVGAMBA_OT_use_remote(_Remedy):
    bl_idname = "mvgamba.use_remote"
    bl_label = "Use Remote"
    bl_description = "Use a backend that runs on another machine; its address is set in the preferences"

    def execute(self, context: bpy.types.Context) -> set[str]:
        own = own_preferences(context)
        if own is None:
            return {"CANCELLED"}
        own.backend_mode = "REMOTE"
        if not bpy.app.background:
            bpy.ops.mvgamba.open_preferences()
        return {"FINISHED"}


class MVGAMBA_OT_allow_remote(_Remedy):
    bl_idname = "mvgamba.allow_remote"
    bl_label = "Allow This Host"
    bl_description = "Agree that prompts, pictures and captures are sent to the remote backend"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if _remote_host(context) is None:
            cls.poll_message_set(tr("No remote backend is set"))
            return False
        return True

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=420)

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column(align=True)
        for line in remote_consent(_remote_host(context) or ""):
            column.label(text=line, translate=False)

    def execute(self, context: bpy.types.Context) -> set[str]:
        host = _remote_host(context)
        allow_host(context, host)
        self.report({"INFO"}, tr("Jobs may be sent to {host}").format(host=host))
        return {"FINISHED"}


def remote_consent(host: str) -> list[str]:
    """What a person agrees to."""
    return [
        tr("With every job, this leaves your machine for {host}:").format(host=host),
        tr("the prompt, the pictures, and what the cameras see of captured objects, with depth;"),
        tr("the name of the object or the first words of the prompt, and the settings."),
        tr("The file itself and its path are not sent."),
        tr("Whoever runs {host} can keep what arrives.").format(host=host),
    ]


def _remote_host(context: bpy.types.Context) -> str | None:
    own = own_preferences(context)
    if own is None:
        return None
    try:
        return parse_address(own.remote_address)[0]
    except AddonError:
        return None


class MVGAMBA_OT_use_automatic_port(_Remedy):
    bl_idname = "mvgamba.use_automatic_port"
    bl_label = "Use Automatic Port"
    bl_description = "Let the system choose the port of the local backend"

    def execute(self, context: bpy.types.Context) -> set[str]:
        own = own_preferences(context)
        if own is None:
            return {"CANCELLED"}
        own.port = 0
        return {"FINISHED"}


class MVGAMBA_OT_change_folder(FolderOperator):
    bl_idname = "mvgamba.change_folder"
    bl_label = "Change Folder"
    bl_description = "Choose another folder for the jobs and results of the local backend"
    preference = "data_folder"


CLASSES = (
    MVGAMBA_OT_open_preferences,
    MVGAMBA_OT_open_system_preferences,
    MVGAMBA_OT_open_log,
    MVGAMBA_OT_backend_start,
    MVGAMBA_OT_backend_stop,
    MVGAMBA_OT_backend_unload,
    MVGAMBA_OT_test_connection,
    MVGAMBA_OT_use_remote,
    MVGAMBA_OT_allow_remote,
    MVGAMBA_OT_use_automatic_port,
    MVGAMBA_OT_change_folder,
    MVGAMBA_PT_backend,
)


def _start_with_blender() -> None:
    """Once, after the start: registering must not wait for the disk."""
    own = own_preferences(bpy.context)
    if own is not None and own.start_mode == "BLENDER" and own.backend_mode == "LOCAL" and found_command():
        session().start_backend(local_command(bpy.context))


def register() -> None:
    register_classes(CLASSES)
    if not bpy.app.background:
        bpy.app.timers.register(_start_with_blender, first_interval=1.0, persistent=True)


def unregister() -> None:
    if bpy.app.timers.is_registered(_start_with_blender):
        bpy.app.timers.unregister(_start_with_blender)
    unregister_classes(CLASSES)
