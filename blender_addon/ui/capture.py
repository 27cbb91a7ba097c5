"""How the scene is captured."""

import bpy

from .sidebar import Sidebar


class MVGAMBA_PT_capture(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_capture"
    bl_order = 2
    bl_label = "Capture"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        for name in ("capture_size", "capture_depth", "capture_margin", "capture_azimuth"):
            layout.prop(settings, name)


CLASSES = (MVGAMBA_PT_capture,)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
