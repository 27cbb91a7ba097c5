"""Where results go."""

import bpy

from ..core.i18n import tr
from ..scene.classes import register_classes, unregister_classes
from ..scene.target import replacing_obstacle
from .setup import FormPanel
from .sidebar import as_form


class MVGAMBA_PT_placement(FormPanel, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_placement"
    bl_order = 3
    bl_label = "Placement"

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        settings = context.scene.mvgamba
        is_capture = settings.source == "CAPTURE"
        mode = settings.capture_placement if is_capture else settings.placement
        layout.prop(settings, "capture_placement" if is_capture else "placement")
        if mode == "REPLACE":
            obj = context.view_layer.objects.active
            why = replacing_obstacle(obj)
            text = why if why else tr("Replaces the mesh of {name}").format(name=obj.name)
            layout.label(text=text, icon="ERROR" if why else "INFO", translate=False)
            layout.prop(settings, "size_axis")
        elif mode != "MATCH" and not is_capture:
            layout.prop(settings, "target_size")
            layout.prop(settings, "size_axis")
        if mode != "MATCH":
            layout.prop(settings, "use_ground")
        if mode != "REPLACE":
            layout.prop(settings, "collection")
        if is_capture:
            layout.prop(settings, "source_after", expand=True)


CLASSES = (MVGAMBA_PT_placement,)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
