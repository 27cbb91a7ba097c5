"""Where else the extension is met: Blender's own menus, and a shortcut that the person may give it."""

from pathlib import Path

import bpy
from bpy.props import StringProperty

from .. import api
from ..core.errors import AddonError, sentence
from ..core.history import read_entry
from ..core.i18n import tr
from ..scene.classes import register_classes, unregister_classes
from ..scene.result import is_result
from ..scene.session import session
from .main import general_obstacle


class MVGAMBA_MT_object(bpy.types.Menu):
    bl_idname = "MVGAMBA_MT_object"
    bl_label = "MVGamba"

    def draw(self, _context: bpy.types.Context) -> None:
        layout = self.layout
        layout.operator("mvgamba.generate_from_selection", icon="OUTLINER_OB_CAMERA")
        layout.operator("mvgamba.replace_by_prop")
        layout.separator()
        layout.operator("mvgamba.regenerate")
        layout.operator("mvgamba.step_variant")
        layout.operator("mvgamba.mark_asset")


class MVGAMBA_OT_regenerate_asset(bpy.types.Operator):
    bl_idname = "mvgamba.regenerate_asset"
    bl_label = "Regenerate"
    bl_description = "Make the chosen asset again from the settings that it remembers, with the next seed"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        obj = asset_object(context)
        why = tr("Choose an asset of this file that MVGamba has made") if obj is None else general_obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        obj = asset_object(context)
        try:
            row = api.regenerate(obj, seed=(obj.mvgamba.seed + 1) % 2**31, context=context)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        self.report({"INFO"}, tr("Sent {label}").format(label=row.request.label))
        return {"FINISHED"}


class MVGAMBA_OT_import_result(bpy.types.Operator):
    bl_idname = "mvgamba.import_result"
    bl_label = "Import MVGamba Result"
    bl_description = "Place a result that lies in a folder with its settings, so that one can go on from it"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_glob: StringProperty(default="*.glb;meta.json;request.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set(tr("Leave Edit Mode first"))
            return False
        return True

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = Path(self.filepath).parent
        try:
            is_placed = session().placer.place_here(context, api.row_of(read_entry(folder), context=context))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            text = tr("{name} lies in no folder of a result; Blender's own glTF import takes any GLB")
            self.report({"ERROR"}, text.format(name=Path(self.filepath).name))
            return {"CANCELLED"}
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        return {"FINISHED"} if is_placed else {"CANCELLED"}


def asset_object(context: bpy.types.Context) -> bpy.types.Object | None:
    """The asset that is chosen in an Asset Browser, if it is a result of ours in the open file."""
    asset = getattr(context, "asset", None)
    obj = asset.local_id if asset is not None else None
    return obj if isinstance(obj, bpy.types.Object) and is_result(obj) else None


def _add_mesh(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("mvgamba.add_asset", text=tr("MVGamba Asset..."), icon="SHADERFX")


def _object(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.menu(MVGAMBA_MT_object.bl_idname)


def _image(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator("mvgamba.generate_from_editor", icon="SHADERFX")


def _asset(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    if asset_object(context) is not None:
        self.layout.separator()
        self.layout.operator("mvgamba.regenerate_asset", text=tr("Regenerate With MVGamba"))


def _import(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("mvgamba.import_result", text=tr("MVGamba Result (.glb)"))


ENTRIES = (
    ("VIEW3D_MT_mesh_add", _add_mesh),
    ("VIEW3D_MT_object_context_menu", _object),
    ("OUTLINER_MT_object", _object),
    ("IMAGE_MT_image", _image),
    ("ASSETBROWSER_MT_context_menu", _asset),
    ("TOPBAR_MT_file_import", _import),
)

CLASSES = (MVGAMBA_MT_object, MVGAMBA_OT_regenerate_asset, MVGAMBA_OT_import_result)

_keymaps: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    register_classes(CLASSES)
    for menu, entry in ENTRIES:
        getattr(bpy.types, menu).append(entry)
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is not None:  # there is none without a window
        keymap = configuration.keymaps.new(name="Object Mode")
        # Without a key: an entry that the person may bind, no shortcut taken from anybody.
        _keymaps.append((keymap, keymap.keymap_items.new("mvgamba.generate", "NONE", "PRESS")))


def unregister() -> None:
    for keymap, item in _keymaps:
        keymap.keymap_items.remove(item)
    _keymaps.clear()
    for menu, entry in ENTRIES:
        getattr(bpy.types, menu).remove(entry)
    unregister_classes(CLASSES)
