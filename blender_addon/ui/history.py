"""The results on the disk, to be placed again or gone on from."""

import logging

import bpy
import bpy.utils.previews
from bpy.props import StringProperty

from .. import api
from ..core.errors import AddonError
from ..core.history import HistoryEntry
from ..core.i18n import tr
from ..scene.classes import register_classes, unregister_classes
from ..scene.history import book
from ..scene.session import session
from .acting import attempt
from .load_settings import load_request
from .redraw import tag_panels
from .sidebar import Sidebar
from .wrapped import draw_text

log = logging.getLogger(__name__)

FIRST_READ = 1.0
"""Seconds after the start, so that the start does not wait."""

_icons: "bpy.utils.previews.ImagePreviewCollection | None" = None


class MVGAMBA_UL_history(bpy.types.UIList):
    """Results, newest first; the filter of the list looks at the prompt."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_property, _index) -> None:
        row = layout.row()
        row.label(text=item.name, icon_value=icon_of(item.request_id), translate=False)
        side = row.row()
        side.alignment = "RIGHT"
        side.label(text=item.detail, translate=False)


class _EntryOperator(bpy.types.Operator):
    """Acts on the result that it names, else on the one that is selected in the list."""

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.window_manager.mvgamba.history:
            cls.poll_message_set(tr("No result is on the disk"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        entry = book().history.find(self.request_id or selected(context))
        if entry is None:
            self.report({"WARNING"}, tr("This result is no longer listed"))
            return {"CANCELLED"}
        return attempt(self, lambda: self.act(context, entry))

    def act(self, context: bpy.types.Context, entry: HistoryEntry) -> bool | None:
        raise NotImplementedError


class MVGAMBA_OT_history_place(_EntryOperator):
    bl_idname = "mvgamba.history_place"
    bl_label = "Place"
    bl_description = "Import this result: a capture where it was taken, all else at the 3D cursor"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, entry: HistoryEntry) -> bool:
        if context.mode != "OBJECT":
            raise AddonError("PLACE_FAILED", tr("leave Edit Mode to place"))
        return session().placer.place_here(context, api.row_of(entry, context=context))


class MVGAMBA_OT_history_load(_EntryOperator):
    bl_idname = "mvgamba.history_load"
    bl_label = "Load Settings"
    bl_description = "Put the settings that this result was made from into the panel"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, entry: HistoryEntry) -> None:
        try:
            request = entry.request()
        except (ValueError, OSError) as error:
            raise AddonError("INVALID_INPUT", tr("its request cannot be read: {why}").format(why=error)) from error
        for path in load_request(context.scene.mvgamba, request, seed=entry.seed):
            self.report({"WARNING"}, tr("The picture {name} is no longer on the disk").format(name=path.name))


class MVGAMBA_OT_history_reveal(_EntryOperator):
    bl_idname = "mvgamba.history_reveal"
    bl_label = "Reveal"
    bl_description = "Show the folder of this result in the file browser of the system"
    bl_options = {"INTERNAL"}

    def act(self, _context: bpy.types.Context, entry: HistoryEntry) -> None:
        bpy.ops.wm.path_open(filepath=str(entry.folder))


class MVGAMBA_OT_history_delete(_EntryOperator):
    bl_idname = "mvgamba.history_delete"
    bl_label = "Delete"
    bl_description = "Delete this result from the disk for good, what was placed of it stays"
    bl_options = {"INTERNAL"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def act(self, _context: bpy.types.Context, entry: HistoryEntry) -> None:
        try:
            book().remove(entry)
        except OSError as error:
            raise AddonError("OUTPUT_FAILED", str(error)) from error


class MVGAMBA_OT_history_refresh(bpy.types.Operator):
    bl_idname = "mvgamba.history_refresh"
    bl_label = "Refresh"
    bl_description = "Read the results on the disk again"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        api.refresh_history(context)
        return {"FINISHED"}


class MVGAMBA_PT_history(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_history"
    bl_order = 6
    bl_label = "History"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, state = self.layout, context.window_manager.mvgamba
        row = layout.row()
        if state.history:
            row.template_list("MVGAMBA_UL_history", "", state, "history", state, "active_history", rows=4)
        elif book().is_busy:
            row.label(text=tr("Reading"), icon="SORTTIME")
        else:
            draw_text(row, tr("Results that you make are listed here"), icon="INFO")
        row.column().operator("mvgamba.history_refresh", text="", icon="FILE_REFRESH")
        if state.history:
            row = layout.row(align=True)
            row.operator("mvgamba.history_place")
            row.operator("mvgamba.history_load")
            row = layout.row(align=True)
            row.operator("mvgamba.history_reveal")
            row.operator("mvgamba.history_delete", icon="TRASH")
        skipped = book().history.num_skipped
        if skipped:
            text = tr("{count} results on the disk cannot be read")
            layout.label(text=text.format(count=skipped), icon="ERROR", translate=False)


def selected(context: bpy.types.Context) -> str:
    """Identity of the result that is selected in the list; empty when none is."""
    state = context.window_manager.mvgamba
    return state.history[state.active_history].request_id if state.active_history < len(state.history) else ""


def icon_of(request_id: str) -> int:
    """The small picture of a result, 0 when there is none. Quick enough for drawing: Blender reads the file later."""
    preview = None if _icons is None else _icons.get(request_id)
    return 0 if preview is None else preview.icon_id


def show_history() -> None:
    """Bring the list up to what was read. Main thread, not while drawing."""
    state, entries = bpy.context.window_manager.mvgamba, book().history.entries
    chosen = selected(bpy.context)
    state.history.clear()
    for index, entry in enumerate(entries):
        row = state.history.add()
        row.name, row.request_id = entry.title, entry.request_id
        row.detail = entry.created[:16].replace("T", " ")
        if entry.request_id == chosen:
            state.active_history = index
    state.active_history = max(0, min(state.active_history, len(entries) - 1))
    if _icons is not None and not bpy.app.background:
        known = {entry.request_id: entry.preview for entry in entries if entry.preview is not None}
        for name in set(_icons) - set(known):
            del _icons[name]
        for name in set(known) - set(_icons):
            _icons.load(name, str(known[name]), "IMAGE")
    tag_panels()


def _first_read() -> None:
    api.refresh_history()


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    # What belongs to the window manager may go with the file.
    show_history()


CLASSES = (
    MVGAMBA_UL_history,
    MVGAMBA_OT_history_place,
    MVGAMBA_OT_history_load,
    MVGAMBA_OT_history_reveal,
    MVGAMBA_OT_history_delete,
    MVGAMBA_OT_history_refresh,
    MVGAMBA_PT_history,
)


def register() -> None:
    global _icons
    register_classes(CLASSES)
    _icons = bpy.utils.previews.new()
    book().on_change = show_history
    bpy.app.handlers.load_post.append(_on_load)
    # Persistent, for Blender 4.5 does not end cleanly after a load has dropped a timer.
    bpy.app.timers.register(_first_read, first_interval=FIRST_READ, persistent=True)


def unregister() -> None:
    global _icons
    if bpy.app.timers.is_registered(_first_read):
        bpy.app.timers.unregister(_first_read)
    bpy.app.handlers.load_post.remove(_on_load)
    book().on_change = None
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    _icons = None
    unregister_classes(CLASSES)
