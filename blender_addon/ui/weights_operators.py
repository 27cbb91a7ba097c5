"""The buttons beside the list of weights: they fetch, check and take in."""

from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.jobs import wait_until
from ..core.weights import WeightsEntry, WeightsState, plain_name, size_text
from ..scene.backend import check_online_access, weights_program
from ..scene.classes import register_classes, unregister_classes
from ..scene.session import session
from .acting import FolderOperator, attempt
from .redraw import tag_panels
from .weights import book, facts, obstacle, reading_obstacle, wanted_name
from .wrapped import draw_text

TIMEOUT = 7200.0
"""Seconds that a script waits for the end of a download."""


class _WeightsOperator(bpy.types.Operator):
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def begin(self, action: Callable[[], None]) -> set[str]:
        """Do it, and where no timer fires wait for its end. What goes wrong is said, and stays in the panel."""

        def act() -> None:
            try:
                action()
            except AddonError as error:
                book().fail(error)
                raise
            finally:
                session().start_timer()
                tag_panels()
            if bpy.app.background:
                wait_until(lambda: session().pump(place=False), lambda: not book().is_busy, timeout=TIMEOUT)
                if book().error is not None:
                    raise book().error

        return attempt(self, act)


class MVGAMBA_OT_weights_refresh(_WeightsOperator):
    bl_idname = "mvgamba.weights_refresh"
    bl_label = "Refresh"
    bl_description = "Read the list of weights again"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = reading_obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(lambda: book().refresh(weights_program(context)))


class MVGAMBA_OT_weights_download(_WeightsOperator):
    bl_idname = "mvgamba.weights_download"
    bl_label = "Download"
    bl_description = "Fetch these weights, or what is missing of them, after their licence and size were shown"

    name: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    accept: BoolProperty(
        name="I Accept the Licence",
        description="Agree to the licence of these weights",
        default=False,
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        self.name = self.name or wanted_name(context, self.request_id)
        if attempt(self, self._require) != {"FINISHED"}:
            return {"CANCELLED"}
        entry = book().find(self.name)
        self.accept = entry is not None and entry.is_accepted
        return context.window_manager.invoke_props_dialog(self, width=420, confirm_text=tr("Download"))

    def draw(self, _context: bpy.types.Context) -> None:
        entry = book().find(self.name)
        if entry is not None:
            column = self.layout.column(align=True)
            column.label(text=entry.name, translate=False)
            for line in download_question(entry):
                draw_text(column, line)
        self.layout.prop(self, "accept")

    def execute(self, context: bpy.types.Context) -> set[str]:
        self.name = self.name or wanted_name(context, self.request_id)
        return self.begin(lambda: self._fetch(context))

    def _fetch(self, context: bpy.types.Context) -> None:
        entry = self._require()
        if not self.accept and not entry.is_accepted:
            raise AddonError("LICENCE_NOT_ACCEPTED", entry.licence)
        book().download(weights_program(context), entry.name)

    def _require(self) -> WeightsEntry:
        """Raises: AddonError, when there is nothing to ask about."""
        entry = book().find(self.name)
        if entry is None:
            raise AddonError("WEIGHTS_NOT_FETCHED", tr("choose some in the list of weights"))
        if entry.state is WeightsState.PACKAGE:
            raise AddonError("WEIGHTS_NOT_FETCHED", tr("{name} come with the backend").format(name=entry.name))
        if not entry.can_download:
            text = tr("{name} are published nowhere: import the file from somebody who has it")
            raise AddonError("WEIGHTS_NOT_FETCHED", text.format(name=entry.name))
        check_online_access()
        return entry


def download_question(entry: WeightsEntry) -> list[str]:
    """What a person agrees to."""
    lines = [*facts(entry)]
    if entry.fetched and entry.state is WeightsState.PARTIAL:
        lines.append(tr("{size} are there already").format(size=size_text(entry.fetched)))
    lines.append(tr("Kept in {folder}").format(folder=Path(entry.path).parent))
    return lines


class MVGAMBA_OT_weights_pause(bpy.types.Operator):
    bl_idname = "mvgamba.weights_pause"
    bl_label = "Pause"
    bl_description = "End what is being done with weights; what was fetched is kept, and Download goes on with it"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        work = book().work
        if work is None or work.is_stopping:
            cls.poll_message_set(tr("Nothing is being done with weights"))
            return False
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        book().stop()
        return {"FINISHED"}


class MVGAMBA_OT_weights_verify(_WeightsOperator):
    bl_idname = "mvgamba.weights_verify"
    bl_label = "Verify"
    bl_description = "Read all weights through and find out which are damaged"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(lambda: book().verify(weights_program(context)))


class MVGAMBA_OT_weights_import(_WeightsOperator):
    bl_idname = "mvgamba.weights_import"
    bl_label = "Import File"
    bl_description = "Check a file of weights and keep a copy of it for the backend, without any network"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_glob: StringProperty(default="*.safetensors;*.pth;*.pt", options={"HIDDEN"})
    licence: StringProperty(name="Licence", description="What the weights may be used for", default="unknown")
    is_default: BoolProperty(
        name="Use by Default", description="Use them before those that come with the backend", default=False
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(lambda: self._take_in(context))

    def _take_in(self, context: bpy.types.Context) -> None:
        path = Path(bpy.path.abspath(self.filepath))
        if not path.is_file():
            raise AddonError("WEIGHTS_REFUSED", tr("{path} is not a file").format(path=path))
        program, licence = weights_program(context), self.licence or "unknown"
        book().take_in(program, path, unused_name(path), licence, is_default=self.is_default)


def unused_name(path: Path) -> str:
    """What weights of a file are called, so that none that are whole are replaced."""
    return plain_name(path.stem, [entry.name for entry in book().entries if entry.state is not WeightsState.DAMAGED])


class MVGAMBA_OT_weights_import_folder(_WeightsOperator):
    bl_idname = "mvgamba.weights_import_folder"
    bl_label = "Import Folder"
    bl_description = (
        "Check a folder of MVDream or ImageDream and keep a copy of it for the backend, without any network"
    )

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})
    accept: BoolProperty(
        name="I Accept the Licence",
        description="Agree to the licence of these weights",
        default=False,
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "accept")
        for entry in book().entries:
            if entry.kind == "generator" and entry.can_download:
                self.layout.label(text=f"{entry.name}: {entry.licence}", translate=False)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(lambda: self._take_in(context))

    def _take_in(self, context: bpy.types.Context) -> None:
        path = Path(bpy.path.abspath(self.directory))
        if not self.directory or not path.is_dir():
            raise AddonError("WEIGHTS_REFUSED", tr("{path} is not a folder").format(path=self.directory))
        if not self.accept:
            raise AddonError("LICENCE_NOT_ACCEPTED")
        book().take_in(weights_program(context), path, "", "", is_default=False)


class MVGAMBA_OT_change_weights_folder(FolderOperator):
    bl_idname = "mvgamba.change_weights_folder"
    bl_label = "Change Folder"
    bl_description = "Choose another folder for downloaded weights; those in the old one stay there"
    preference = "weights_folder"


CLASSES = (
    MVGAMBA_OT_weights_refresh,
    MVGAMBA_OT_weights_download,
    MVGAMBA_OT_weights_pause,
    MVGAMBA_OT_weights_verify,
    MVGAMBA_OT_weights_import,
    MVGAMBA_OT_weights_import_folder,
    MVGAMBA_OT_change_weights_folder,
)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
