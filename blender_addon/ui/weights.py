"""The weights of the backend: what there is, what could be had. What the buttons do is in `weights_operators`."""

import bpy

from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.weights import WeightsEntry, WeightsState, size_text
from ..core.weights_book import WeightsBook
from ..scene.backend import own_preferences, weights_program
from ..scene.classes import register_classes, unregister_classes
from ..scene.session import session
from . import preferences, uninstall
from .backend import current_status, draw_buttons, is_remote_chosen
from .preferences import is_backend_found
from .sidebar import Sidebar
from .wrapped import draw_text

FIRST_READ = 1.5
"""Seconds after the start, so that the start does not wait."""

_ICONS = {
    WeightsState.PACKAGE: "PACKAGE",
    WeightsState.THERE: "CHECKMARK",
    WeightsState.PARTIAL: "SORTTIME",
    WeightsState.DAMAGED: "ERROR",
    WeightsState.ABSENT: "IMPORT",
}
"""Different in shape, not only in colour."""


def book() -> WeightsBook:
    return session().weights


def reading_obstacle(context: bpy.types.Context) -> str:
    """Why the list cannot be read just now; empty when it can. Only reads what is in memory."""
    if is_remote_chosen(context):
        text = tr("The weights are on {host}: whoever runs the backend there downloads them")
        return text.format(host=own_preferences(context).remote_address or "?")
    if not is_backend_found():
        return tr("Backend is not installed")
    if uninstall.is_uninstalling():
        return tr("The backend is being uninstalled")
    if session().setup.is_running:
        return tr("A set-up is running")
    return ""


def obstacle(context: bpy.types.Context) -> str:
    """Why nothing can be done with weights just now; empty when it can. Only reads what is in memory."""
    why, work = reading_obstacle(context), book().work
    if not why and work is not None:
        return {
            "download": tr("Weights are being downloaded"),
            "verify": tr("Weights are being checked"),
            "import": tr("Weights are being taken in"),
        }[work.kind]
    return why


def selected(context: bpy.types.Context) -> WeightsEntry | None:
    """Those that are selected in the list."""
    state = context.window_manager.mvgamba
    index = state.active_weights
    return book().find(state.weights[index].name) if index < len(state.weights) else None


def wanted_name(context: bpy.types.Context, request_id: str) -> str:
    """Which weights a click is about: those that a failed job missed, as far as its error names them, else those that are selected."""
    row = session().board.find(request_id)
    if row is not None:
        chosen = row.request.options.generator
        names = [entry.name for entry in book().entries]
        named = [name for name in names if name in row.message]
        if found := [*([chosen] if chosen in names else []), *named]:
            return str(found[0])
    entry = selected(context)
    if entry is not None and (entry.can_download or not request_id):
        return entry.name
    return next((each.name for each in book().entries if each.can_download and _is_lacking(each)), "")


def _is_lacking(entry: WeightsEntry) -> bool:
    return entry.state not in (WeightsState.PACKAGE, WeightsState.THERE)


# ---------------------------------------------------------------- drawing


class MVGAMBA_UL_weights(bpy.types.UIList):
    """What the backend has learned, or could have."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_property, _index) -> None:
        entry = book().find(item.name)
        if entry is None:
            layout.label(text=item.name, translate=False)
            return
        row = layout.row()
        row.label(text=entry.name, icon=_ICONS[entry.state], translate=False)
        side = row.row()
        side.alignment = "RIGHT"
        side.label(text=row_text(entry), translate=False)


def row_text(entry: WeightsEntry) -> str:
    """How they stand, in the list: what is being done with them comes first."""
    work = book().work
    if work is not None and work.name == entry.name:
        return work.text
    checked = book().checked(entry.name)
    if checked is not None and checked.is_whole:
        return tr("{size}, whole").format(size=entry.state_text) if entry.state is WeightsState.THERE else tr("Whole")
    return entry.state_text


def draw_weights(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The list, what is known of those that are selected, and the buttons."""
    if is_remote_chosen(context):
        draw_text(layout, reading_obstacle(context), icon="INFO")
        return
    state, work = context.window_manager.mvgamba, book().work
    row = layout.row()
    if state.weights:
        row.template_list("MVGAMBA_UL_weights", "", state, "weights", state, "active_weights", rows=4)
    else:
        draw_text(row, reading_obstacle(context) or tr("Not read yet"), icon="INFO")
    row.column().operator("mvgamba.weights_refresh", text="", icon="FILE_REFRESH")
    if state.weights:
        _draw_selected(layout, selected(context))
        if work is not None:
            title = f"{work.name}: {work.text}" if work.name else work.text
            layout.progress(factor=work.fraction, text=title)
        _draw_weights_buttons(layout, context)
    if book().error is not None:
        draw_text(layout, sentence(book().error.reason, book().error.message), icon="ERROR")
        draw_buttons(layout, book().error.reason)
    elif book().note:
        draw_text(layout, book().note, icon="INFO")


def _draw_selected(layout: bpy.types.UILayout, entry: WeightsEntry | None) -> None:
    if entry is None:
        return
    column = layout.column(align=True)
    for line in facts(entry):
        draw_text(column, line)
    checked = book().checked(entry.name)
    if checked is not None and not checked.is_whole:
        draw_text(layout, checked.said, icon="ERROR")


def _draw_weights_buttons(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    row, work = layout.row(align=True), book().work
    if work is not None:
        row.operator("mvgamba.weights_pause", text=tr("Pause") if work.kind == "download" else tr("Stop"))
    else:
        row.operator("mvgamba.weights_download", text=download_label(selected(context)))
    row.operator("mvgamba.weights_verify")
    row = layout.row(align=True)
    row.operator("mvgamba.weights_import")
    row.operator("mvgamba.weights_import_folder")


def facts(entry: WeightsEntry) -> list[str]:
    """What a person should know before downloading."""
    lines = [entry.purpose or entry.about, tr("Licence: {licence}").format(licence=entry.licence)]
    if _is_lacking(entry) and entry.size:
        lines.append(tr("Size: about {size}").format(size=size_text(entry.size)))
    if entry.missing:
        text = tr("Also needs {names}: install mvgamba[multiview] as Package (Preferences > Advanced)")
        lines.append(text.format(names=", ".join(entry.missing)))
    if entry.is_default:
        lines.append(tr("Used unless others are named"))
    return lines


def download_label(entry: WeightsEntry | None) -> str:
    match entry.state if entry is not None else None:
        case WeightsState.PARTIAL:
            return tr("Go On")
        case WeightsState.DAMAGED:
            return tr("Download Again")
        case _:
            return tr("Download")


class MVGAMBA_PT_weights(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_weights"
    bl_order = 0
    bl_label = "Weights"
    bl_parent_id = "MVGAMBA_PT_backend"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        draw_weights(self.layout, context)


def generator_note(context: bpy.types.Context, name: str) -> str:
    """Why a generator cannot be used, as far as its weights or the backend that runs tell; empty when it can."""
    if lacks_weights(context, name):
        return tr("The weights of {name} are not there").format(name=name)
    status = current_status(context)
    generators = status.info.generators if status.is_answering and status.info is not None else ()
    return next((each.why_not for each in generators if each.name == name and not each.is_available), "")


def lacks_weights(context: bpy.types.Context, name: str) -> bool:
    """Whether a generator of the local backend waits for weights that can be had."""
    entry = book().find(name)
    return not is_remote_chosen(context) and entry is not None and _is_lacking(entry)


def draw_generator_note(layout: bpy.types.UILayout, context: bpy.types.Context, name: str) -> None:
    """The note with the button that helps; nothing when the generator can be used."""
    note = generator_note(context, name)
    if note:
        draw_text(layout, note, icon="INFO")
    if lacks_weights(context, name):
        layout.operator("mvgamba.weights_download").name = name


# ---------------------------------------------------------------- keeping the list up


def show_weights() -> None:
    """Bring the list up to what was read. Main thread, not while drawing."""
    state = bpy.context.window_manager.mvgamba
    names = [entry.name for entry in book().entries]
    if [row.name for row in state.weights] == names:
        return
    entry = selected(bpy.context)
    state.weights.clear()
    for name in names:
        state.weights.add().name = name
    chosen = entry.name if entry is not None else ""
    state.active_weights = names.index(chosen) if chosen in names else 0


def _read() -> None:
    if not reading_obstacle(bpy.context):
        try:
            book().refresh(weights_program(bpy.context))
        except AddonError as error:
            book().fail(error)
    session().start_timer()


def _read_soon() -> None:
    """Not where no timer fires: scripts ask for the list."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_read):
        bpy.app.timers.register(_read, first_interval=FIRST_READ, persistent=True)


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    # What belongs to the window manager may go with the file.
    show_weights()


CLASSES = (
    MVGAMBA_UL_weights,
    MVGAMBA_PT_weights,
)


def register() -> None:
    register_classes(CLASSES)
    preferences.on_other_weights = _read_soon
    book().on_list = show_weights
    bpy.app.handlers.load_post.append(_on_load)
    _read_soon()


def unregister() -> None:
    if bpy.app.timers.is_registered(_read):
        bpy.app.timers.unregister(_read)
    bpy.app.handlers.load_post.remove(_on_load)
    preferences.on_other_weights = None
    book().on_list = None
    unregister_classes(CLASSES)
