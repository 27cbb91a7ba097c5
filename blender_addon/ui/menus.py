"""Where else the extension is met: Blender's own menus, and a shortcut that the person may give it."""

import bpy

from ..core.i18n import tr


class MVGAMBA_MT_object(bpy.types.Menu):
    bl_idname = "MVGAMBA_MT_object"
    bl_label = "MVGamba"

    def draw(self, _context: bpy.types.Context) -> None:
        layout = self.layout
        layout.operator("mvgamba.generate_from_selection", icon="OUTLINER_OB_CAMERA")
        for name in OBJECT_OPERATORS:
            if hasattr(bpy.types, name):
                layout.operator(getattr(bpy.types, name).bl_idname)


OBJECT_OPERATORS = (
    "MVGAMBA_OT_replace_by_prop",
    "MVGAMBA_OT_regenerate",
    "MVGAMBA_OT_step_variant",
    "MVGAMBA_OT_mark_asset",
)


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


ENTRIES = (
    ("VIEW3D_MT_mesh_add", _add_mesh),
    ("VIEW3D_MT_object_context_menu", _object),
    ("OUTLINER_MT_object", _object),
    ("IMAGE_MT_image", _image),
)

CLASSES = (MVGAMBA_MT_object,)

_keymaps: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
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
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
