"""Uninstall: what Set Up has installed goes, results stay."""

from pathlib import Path

import bpy
from bpy.props import StringProperty

from .. import api
from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.jobs import wait_until
from ..core.setup import is_set_up_by_us
from ..core.uninstall import installed_size, uninstall
from ..scene.backend import data_folder, own_preferences, setup_folder, weights_folder
from ..scene.classes import register_classes, unregister_classes
from ..scene.session import session
from .acting import attempt
from .preferences import check_backend, found_command
from .redraw import tag_panels
from .wrapped import draw_text

TIMEOUT = 600.0
"""Seconds that a script waits for the end."""

_is_running = False
_error: AddonError | None = None
"""Why the last one failed."""
_size = ""
"""What the question says of the size; measured before it is asked."""


def is_uninstalling() -> bool:
    return _is_running


def problem() -> str:
    """Why the last one failed; empty when it did not."""
    return sentence(_error.reason, _error.message) if _error is not None else ""


def question(context: bpy.types.Context) -> list[str]:
    """What a person agrees to."""
    return [
        tr("The backend in {folder} is removed").format(folder=setup_folder(context)),
        _size,
        tr("Results, history and captures stay, and so do objects in your files"),
        tr("Set Up installs it again"),
    ]


def size_text(size: int, is_all: bool) -> str:
    """The size of an installation, for the question."""
    text = tr("{size} are freed") if is_all else tr("More than {size} are freed")
    return text.format(size=f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB")


class MVGAMBA_OT_backend_uninstall(bpy.types.Operator):
    bl_idname = "mvgamba.backend_uninstall"
    bl_label = "Uninstall"
    bl_description = "Remove the backend that Set Up has installed, results stay"
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        global _size
        _size = size_text(*installed_size(setup_folder(context)))
        return context.window_manager.invoke_props_dialog(self, width=420, confirm_text=tr("Uninstall"))

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column(align=True)
        for line in question(context):
            draw_text(column, line)

    def execute(self, context: bpy.types.Context) -> set[str]:
        session().stop_backend(wait=True)  # its files cannot be removed while it runs, on Windows at least
        return attempt(self, lambda: begin(context, wait=bpy.app.background))


def begin(context: bpy.types.Context, *, wait: bool) -> None:
    """Have it removed beside Blender.

    Args:
        wait: Until it has ended, for scripts.
    Raises:
        AddonError: CLIENT_FAILED, FOLDER_NOT_WRITABLE; with `wait` UNINSTALL_FAILED.
    """
    global _is_running, _error
    folder, weights = setup_folder(context), weights_folder(context)
    keep = (api.jobs_folder(), data_folder(context), *([weights] if weights is not None else []))
    session().run(uninstall, folder, keep, on_answer=lambda _none, error: _ended(folder, error))
    _is_running, _error = True, None
    if wait:
        wait_until(lambda: session().pump(place=False), lambda: not _is_running, timeout=TIMEOUT)
        if _error is not None:
            raise _error


def _ended(folder: Path, error: AddonError | None) -> None:
    """Take over what has become of it."""
    global _is_running, _error
    _is_running, _error = False, error
    own = own_preferences(bpy.context)
    if own is not None and is_set_up_by_us((own.backend_path,), folder) and not Path(own.backend_path).exists():
        own.backend_path = ""
        bpy.context.preferences.is_dirty = True
    check_backend()
    session().setup.attach(folder)  # what its files say now: nothing, if all went well
    tag_panels()


def obstacle(context: bpy.types.Context) -> str:
    """Why nothing can be uninstalled just now; empty when it can. Only reads what is in memory."""
    setup, folder = session().setup, setup_folder(context)
    if setup.is_running:
        return tr("A set-up is running")
    if is_uninstalling():
        return tr("The backend is being uninstalled")
    state = setup.progress.state
    was_begun = setup.folder == folder and (state.phase != "" or state.is_installing)
    if not was_begun and not problem() and not is_set_up_by_us(found_command(), folder):
        return tr("This backend was not installed by Set Up: remove it where it came from")
    if session().board.num_active:
        return tr("A job is running")
    return ""


CLASSES = (MVGAMBA_OT_backend_uninstall,)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    global _is_running, _error
    _is_running, _error = False, None  # nobody will answer any more
    unregister_classes(CLASSES)
