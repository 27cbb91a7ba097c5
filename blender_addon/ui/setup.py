"""The first run: a card instead of the form, and the set-up of the backend that it starts."""

import importlib.resources
from pathlib import Path

import bpy
from bpy.props import StringProperty

from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.setup import SetupPlan, is_set_up_by_us
from ..scene.backend import check_online_access, own_preferences, setup_folder
from ..scene.classes import register_classes, unregister_classes
from ..scene.folders import ROOT_PACKAGE
from ..scene.session import session
from .backend import is_remote_chosen
from .preferences import found_command, is_backend_found
from .sidebar import Sidebar
from .uninstall import is_uninstalling
from .wrapped import draw_text


def needs_first_run(context: bpy.types.Context) -> bool:
    """Whether the panel should show the card instead of its form."""
    return not is_remote_chosen(context) and not is_backend_found()


class FormPanel(Sidebar):
    """Settings of the next job: closed at first, and not there while the card takes the place of the form."""

    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not needs_first_run(context)


def draw_first_run(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What is needed, what this machine has, and four ways on."""
    setup = session().setup
    box = layout.box()
    box.label(text=tr("MVGamba needs its backend"), icon="INFO")
    column = box.column(align=True)
    for line in needs():
        draw_text(column, line)
    column = box.column(align=True)
    if setup.machine is not None:
        for line in setup.machine.lines:
            draw_text(column, line, icon="DOT")
    if setup.is_running:
        box.progress(factor=setup.progress.fraction, text=setup.progress.text)
        box.operator("mvgamba.setup_cancel")
        return
    if is_uninstalling():
        box.label(text=tr("Uninstalling"), icon="SORTTIME")
    elif setup.progress.text:
        draw_text(box, setup.progress.text, icon="ERROR")
        box.operator("mvgamba.open_log")
    column = box.column()
    column.scale_y = 1.4
    column.operator("mvgamba.backend_setup", text=tr("Go On") if setup.progress.was_broken_off else tr("Set Up"))
    row = box.row(align=True)
    row.operator("mvgamba.use_remote")
    row.operator("mvgamba.locate_backend")
    box.operator("mvgamba.open_docs")


def needs() -> list[str]:
    """Sizes and licences, before anybody agrees to them."""
    return [
        tr("A program beside Blender, in Python 3.11 to 3.13"),
        tr("Linux: about 3 GB of download, 8 GB of disk; else 0.5 and 2 GB"),
        tr("8 GB of memory; no GPU is needed"),
        tr("MVGamba and its weights: Apache-2.0; PyTorch: BSD-3-Clause"),
    ]


def setup_plan(context: bpy.types.Context, *, is_update: bool = False) -> SetupPlan:
    """What the preferences say. Raises: AddonError, ONLINE_ACCESS_OFF."""
    own = own_preferences(context)
    if own is None:
        raise AddonError("SETUP_FAILED", tr("the extension has no preferences"))
    package = own.setup_package.strip()
    looks_like_path = "/" in package or "\\" in package or package.endswith(".whl")
    plan = SetupPlan(
        setup_folder(context),
        package=bpy.path.abspath(package) if looks_like_path else package,
        wheels=Path(bpy.path.abspath(own.setup_wheels)) if own.setup_wheels else None,
        index_url=own.setup_index.strip(),
        python=bpy.path.abspath(own.setup_python) if own.setup_python else "",
        is_update=is_update,
    )
    if plan.needs_network:
        check_online_access()
    return plan


class _SetupOperator(bpy.types.Operator):
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def begin(self, context: bpy.types.Context, *, is_update: bool) -> set[str]:
        try:
            plan = setup_plan(context, is_update=is_update)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        if is_update:
            session().stop_backend(wait=True)  # its files cannot be replaced while it runs, on Windows at least
        session().setup.start(plan)
        session().start_timer()
        return {"FINISHED"}


class MVGAMBA_OT_backend_setup(_SetupOperator):
    bl_idname = "mvgamba.backend_setup"
    bl_label = "Set Up"
    bl_description = "Install the backend into a folder of its own, or go on where that was broken off"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if session().setup.is_running:
            cls.poll_message_set(tr("A set-up is running"))
            return False
        if is_uninstalling():
            cls.poll_message_set(tr("The backend is being uninstalled"))
            return False
        return True

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        session().setup.examine(setup_folder(context))
        session().start_timer()
        own = own_preferences(context)
        if own is not None and not own.setup_folder:
            own.setup_folder = str(setup_folder(context))
        return context.window_manager.invoke_props_dialog(self, width=440)

    def draw(self, context: bpy.types.Context) -> None:
        layout, own, setup = self.layout, own_preferences(context), session().setup
        column = layout.column(align=True)
        for line in needs():
            draw_text(column, line)
        if setup.machine is not None:
            for line in setup.machine.lines:
                draw_text(column, line, icon="DOT")
        if own is not None:
            layout.use_property_split = True
            for name in ("setup_folder", "setup_package", "setup_wheels"):
                layout.prop(own, name)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(context, is_update=False)


class MVGAMBA_OT_backend_update(_SetupOperator):
    bl_idname = "mvgamba.backend_update"
    bl_label = "Update Backend"
    bl_description = "Install the newest version of the backend that Set Up has installed"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session().setup.is_running:
            cls.poll_message_set(tr("A set-up is running"))
            return False
        if not is_set_up_by_us(found_command(), setup_folder(context)):
            cls.poll_message_set(tr("This backend was not installed by Set Up: update it where it came from"))
            return False
        if session().board.num_active:
            cls.poll_message_set(tr("A job is running"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(context, is_update=True)


class MVGAMBA_OT_setup_cancel(bpy.types.Operator):
    bl_idname = "mvgamba.setup_cancel"
    bl_label = "Cancel Set-Up"
    bl_description = "End the set-up, Set Up goes on where it was"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if not session().setup.is_running:
            cls.poll_message_set(tr("No set-up is running"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        session().setup.cancel()
        return {"FINISHED"}


class MVGAMBA_OT_locate_backend(bpy.types.Operator):
    bl_idname = "mvgamba.locate_backend"
    bl_label = "Locate Existing"
    bl_description = "Choose a mvgamba-backend executable that is installed already"
    bl_options = {"INTERNAL"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        own = own_preferences(context)
        if own is None:
            return {"CANCELLED"}
        before = own.backend_path
        own.backend_path = self.filepath
        if not found_command():
            own.backend_path = before
            self.report({"ERROR"}, tr("{path} cannot be started").format(path=self.filepath))
            return {"CANCELLED"}
        return {"FINISHED"}


class MVGAMBA_OT_open_docs(bpy.types.Operator):
    bl_idname = "mvgamba.open_docs"
    bl_label = "Documentation"
    bl_description = "Open the manual that comes with the extension"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        with importlib.resources.as_file(importlib.resources.files(ROOT_PACKAGE) / "README.md") as path:
            bpy.ops.wm.path_open(filepath=str(path))
        return {"FINISHED"}


def adopt_backend(command: tuple[str, ...]) -> None:
    """Use what a set-up has made: its path goes into the preferences."""
    own = own_preferences(bpy.context)
    if own is not None and command:
        own.backend_path = command[0]
        bpy.context.preferences.is_dirty = True


def _take_up() -> None:
    """A set-up of an earlier Blender may have ended, or still run."""
    folder = setup_folder(bpy.context)
    setup = session().setup
    if folder.is_dir():
        setup.attach(folder)
    if needs_first_run(bpy.context):
        adopt_backend(tuple(setup.progress.state.command))  # it may have ended after Blender did
    if needs_first_run(bpy.context):
        setup.examine(folder)
    session().start_timer()


CLASSES = (
    MVGAMBA_OT_backend_setup,
    MVGAMBA_OT_backend_update,
    MVGAMBA_OT_setup_cancel,
    MVGAMBA_OT_locate_backend,
    MVGAMBA_OT_open_docs,
)


def register() -> None:
    register_classes(CLASSES)
    session().on_setup_done = adopt_backend
    if not bpy.app.background:
        bpy.app.timers.register(_take_up, first_interval=0.5, persistent=True)


def unregister() -> None:
    if bpy.app.timers.is_registered(_take_up):
        bpy.app.timers.unregister(_take_up)
    session().on_setup_done = None
    unregister_classes(CLASSES)
