"""Where the backend is and how it is run, for all files."""

import logging
import os
from collections.abc import Callable

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from ..core.backend import find_backend
from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.remote import TOKEN_VARIABLE, is_loopback, parse_address
from ..core.setup import PACKAGE
from ..scene.backend import DEFAULT_IDLE_MINUTES, allowed_hosts, own_preferences
from ..scene.classes import register_classes, unregister_classes
from ..scene.folders import ROOT_PACKAGE
from ..scene.session import session
from .sidebar import as_form
from .wrapped import draw_text


class MVGAMBA_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = ROOT_PACKAGE

    def _path_changed(self, _context: bpy.types.Context) -> None:
        check_backend()
        forget_weights()

    def _weights_changed(self, _context: bpy.types.Context) -> None:
        forget_weights()

    def _level_changed(self, _context: bpy.types.Context) -> None:
        apply_log_level()

    def _finish_changed(self, _context: bpy.types.Context) -> None:
        session().finish_jobs = self.finish_jobs  # which still knows it when these preferences are gone

    backend_mode: EnumProperty(
        name="Backend",
        description="Where meshes are made",
        items=(
            ("LOCAL", "Local", "A backend on this machine, started when it is needed"),
            ("REMOTE", "Remote", "A backend that somebody runs on another machine"),
        ),
        update=_weights_changed,
    )
    backend_path: StringProperty(
        name="Program",
        description="The mvgamba-backend executable, empty to look for it on the search path",
        subtype="FILE_PATH",
        update=_path_changed,
    )
    backend_arguments: StringProperty(
        name="Extra Arguments", description="Added to the command line when the backend is started"
    )
    start_mode: EnumProperty(
        name="Start",
        description="When the local backend is started",
        items=(
            ("JOB", "With First Job", "Uses no memory until something is made"),
            ("BLENDER", "With Blender", "The first job does not wait for it"),
        ),
    )
    idle_minutes: IntProperty(
        name="Idle Minutes",
        description="Minutes without a job after which the backend frees its memory, 0 for never",
        default=DEFAULT_IDLE_MINUTES,
        min=0,
        max=24 * 60,
    )
    finish_jobs: BoolProperty(
        name="Finish Jobs After Closing",
        description="Let jobs end when Blender is closed before them; their results are in the history then",
        default=False,
        update=_finish_changed,
    )
    port: IntProperty(
        name="Port",
        description="Port that the local backend listens on, 0 for any free one",
        default=0,
        min=0,
        max=65535,
    )
    data_folder: StringProperty(
        name="Data Folder",
        description="Where the local backend keeps jobs and results, empty for the extension's own folder",
        subtype="DIR_PATH",
    )
    weights_folder: StringProperty(
        name="Weights Folder",
        description="Where downloaded weights are kept, empty for the backend's usual place",
        subtype="DIR_PATH",
        update=_weights_changed,
    )
    remote_address: StringProperty(
        name="Address",
        description="Machine and port of the remote backend, such as gpu.lan:50051",
        maxlen=300,
    )
    remote_tls: BoolProperty(
        name="TLS",
        description="Encrypt the connection; only a backend on this machine can be used without",
        default=True,
    )
    remote_ca_file: StringProperty(
        name="CA File",
        description="PEM file of the authority that signed the backend's certificate, empty for public ones",
        subtype="FILE_PATH",
    )
    remote_token: StringProperty(
        name="Token",
        description="What the backend asks for; Blender keeps it readable in its preferences file",
        subtype="PASSWORD",
        maxlen=1000,
    )
    remote_hosts: StringProperty(
        name="Allowed Hosts",
        description="Machines to which prompts, pictures and captures may be sent, separated by blanks",
    )
    setup_folder: StringProperty(
        name="Folder",
        description="Where Set Up installs the backend, an empty folder of its own",
        subtype="DIR_PATH",
    )
    setup_package: StringProperty(
        name="Package",
        description="What is installed: a name of the package index, a wheel, or a source tree",
        default=PACKAGE,
    )
    setup_wheels: StringProperty(
        name="Wheels",
        description="Folder of wheels to install from without a network, empty for the package index",
        subtype="DIR_PATH",
    )
    setup_index: StringProperty(
        name="Package Index", description="Address of another package index, empty for the usual one"
    )
    setup_python: StringProperty(
        name="Python",
        description="Interpreter from 3.11 to 3.13 for the backend, empty for the best that is found",
        subtype="FILE_PATH",
    )
    log_level: EnumProperty(
        name="Log Level",
        description="How much the extension and the backend write to their logs",
        items=(
            ("WARNING", "Warnings", "Only what went wrong"),
            ("INFO", "Info", "A line for each step"),
            ("DEBUG", "Debug", "Everything, for a bug report"),
        ),
        default="INFO",
        update=_level_changed,
    )
    use_drop: BoolProperty(
        name="Drop Images",
        description="Offer to generate when a picture is dropped on a 3D View, beside what Blender itself offers",
        default=False,
    )
    keep_days: IntProperty(
        name="Days to Keep Captures",
        description="Days after which captures of old jobs are deleted at the start, results stay, 0 keeps all",
        default=30,
        min=0,
        max=3650,
    )
    show_weights: BoolProperty(
        name="Weights", description="Show what the backend has learned, and what could be downloaded", default=False
    )
    show_advanced: BoolProperty(name="Advanced", description="Show settings that are rarely needed", default=False)

    def draw(self, context: bpy.types.Context) -> None:
        from .backend import draw_status_box
        from .weights import draw_weights

        layout = as_form(self.layout)
        layout.row().prop(self, "backend_mode", expand=True)
        if self.backend_mode == "LOCAL":
            self._draw_local(layout)
        else:
            self._draw_remote(layout, context)
        draw_status_box(layout, context, with_uninstall=True)
        if self.backend_mode == "LOCAL":
            layout.prop(self, "show_weights")
            if self.show_weights:
                draw_weights(layout.column(), context)
        layout.prop(self, "finish_jobs")
        layout.prop(self, "keep_days")
        layout.prop(self, "use_drop")
        layout.prop(self, "log_level")
        layout.prop(self, "show_advanced")
        if self.show_advanced:
            if self.backend_mode == "LOCAL":
                for name in (
                    "port",
                    "backend_arguments",
                    "setup_package",
                    "setup_wheels",
                    "setup_index",
                    "setup_python",
                ):
                    layout.prop(self, name)
            else:
                layout.prop(self, "remote_hosts")

    def _draw_local(self, layout: bpy.types.UILayout) -> None:
        layout.prop(self, "backend_path")
        layout.label(text=backend_status(), icon="CHECKMARK" if _found is not None else "ERROR", translate=False)
        for name in ("data_folder", "weights_folder", "start_mode", "idle_minutes"):
            layout.prop(self, name)

    def _draw_remote(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        for name in ("remote_address", "remote_tls"):
            layout.prop(self, name)
        column = layout.column()
        column.active = self.remote_tls
        column.prop(self, "remote_ca_file")
        layout.prop(self, "remote_token")
        if has_token_variable():
            text = tr("{name} of the environment is used instead of the token").format(name=TOKEN_VARIABLE)
            draw_text(layout, text, icon="INFO")
        notice = remote_notice(context)
        if notice:
            draw_text(layout, notice, icon="ERROR")


# Drawing must not look at the disk, so what was found is kept until the path changes.
_found: tuple[str, ...] | None = None
_has_token_variable = False
on_other_weights: Callable[[], None] | None = None
"""Called when the weights that are listed are not those of the backend any more."""


def preferences(context: bpy.types.Context) -> MVGAMBA_AP_preferences | None:
    """Ours, or None when the extension was registered by hand."""
    return own_preferences(context)


def check_backend() -> None:
    """Look for the backend again."""
    global _found, _has_token_variable
    own = preferences(bpy.context)
    _found = find_backend(bpy.path.abspath(own.backend_path) if own is not None and own.backend_path else "")
    _has_token_variable = bool(os.environ.get(TOKEN_VARIABLE))


def forget_weights() -> None:
    """They are those of another backend, or of another folder, from now on."""
    session().weights.forget()
    if on_other_weights is not None:
        on_other_weights()


def has_token_variable() -> bool:
    return _has_token_variable


def found_command() -> tuple[str, ...]:
    """How the local backend would be started; empty when there is none."""
    return _found or ()


def is_backend_found() -> bool:
    """Whether there is a backend to send jobs to: one on this machine, or the address of another."""
    own = preferences(bpy.context)
    if own is not None and own.backend_mode == "REMOTE":
        return bool(own.remote_address.strip())
    return _found is not None


def backend_status() -> str:
    """One line about the backend that would be started."""
    if _found is not None:
        return tr("Uses {command}").format(command=" ".join(_found))
    return tr("Not found: set the path of mvgamba-backend")


def remote_notice(context: bpy.types.Context) -> str:
    """What leaves this machine with the settings as they are; empty when nothing does."""
    own = preferences(context)
    if own is None or own.backend_mode != "REMOTE":
        return ""
    try:
        host, _ = parse_address(own.remote_address)
    except AddonError as error:
        return sentence(error.reason, error.message)
    if is_loopback(host):
        return ""
    if host in allowed_hosts(context):
        return tr("Prompts, pictures and captures are sent to {host}").format(host=host)
    return tr("Prompts, pictures and captures will be sent to {host}, once you have allowed it").format(host=host)


def apply_log_level() -> None:
    """The extension's own loggers write as the preferences say."""
    own = preferences(bpy.context)
    logging.getLogger(ROOT_PACKAGE).setLevel(own.log_level if own is not None else "INFO")


CLASSES = (MVGAMBA_AP_preferences,)


def register() -> None:
    register_classes(CLASSES)
    check_backend()
    apply_log_level()
    own = preferences(bpy.context)
    session().finish_jobs = own is not None and own.finish_jobs


def unregister() -> None:
    unregister_classes(CLASSES)
