"""Where results go."""

import bpy

from .sidebar import Sidebar


class MVGAMBA_PT_placement(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_placement"
    bl_order = 3
    bl_label = "Placement"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        layout.prop(settings, "source_after", expand=True)
        layout.prop(settings, "collection")


CLASSES = (MVGAMBA_PT_placement,)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
