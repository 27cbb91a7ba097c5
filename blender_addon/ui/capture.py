"""How the scene is captured: cameras, light, pictures."""

import bpy

from ..core.i18n import tr
from ..scene.classes import register_classes, unregister_classes
from ..scene.own_cameras import chosen_cameras, few_cameras_warning
from ..scene.rig import selected_rig
from . import capture_preview
from .main import obstacle, run
from .setup import FormPanel
from .sidebar import as_form

PROP_FACES = 5_000
PROP_TEXTURE = "1024"


class MVGAMBA_OT_replace_by_prop(bpy.types.Operator):
    bl_idname = "mvgamba.replace_by_prop"
    bl_label = "Replace With Light Prop"
    bl_description = "Capture the subject and put a light textured mesh exactly in its place; the subject goes to a hidden collection"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = obstacle(context, "CAPTURE")
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.mvgamba
        settings.source, settings.capture_placement, settings.source_after = "CAPTURE", "MATCH", "STORE"
        settings.target_faces, settings.texture_size = PROP_FACES, PROP_TEXTURE
        return run(self, context, "CAPTURE")


class MVGAMBA_PT_capture(FormPanel, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_capture"
    bl_order = 2
    bl_label = "Capture"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.mvgamba.source == "CAPTURE" and super().poll(context)

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        settings = context.scene.mvgamba
        layout.prop(settings, "capture_shading")
        if settings.capture_shading == "SCENE":
            layout.prop(settings, "capture_isolate")
        draw_cameras(layout, context)
        for name in ("capture_size", "capture_depth", "capture_margin"):
            layout.prop(settings, name)
        layout.operator("mvgamba.capture_preview", icon="IMAGE_DATA")
        capture_preview.draw(layout)
        layout.operator("mvgamba.replace_by_prop", icon="MOD_DECIM")


def draw_cameras(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Where the pictures are taken from, and the rig."""
    settings = context.scene.mvgamba
    layout.prop(settings, "capture_cameras")
    if settings.capture_cameras == "OWN":
        layout.prop(settings, "capture_collection")
    else:
        layout.prop(settings, "capture_azimuth")
    chosen = chosen_cameras(context)
    if chosen is not None:
        count = len(chosen)
        layout.label(
            text=tr("From {n} cameras").format(n=count) if count else tr("Select cameras, or choose a collection"),
            icon="OUTLINER_OB_CAMERA" if count else "ERROR",
            translate=False,
        )
        warning = few_cameras_warning(count)
        if warning:
            layout.label(text=warning, icon="ERROR", translate=False)
    row = layout.row(align=True)
    row.use_property_split = False  # the label would leave too little room for the buttons
    row.prop(context.window_manager.mvgamba, "show_cameras", toggle=True)
    if selected_rig(context) is None:
        row.operator("mvgamba.rig_add")
    else:
        row = layout.row(align=True)
        row.operator("mvgamba.rig_fit")
        row.operator("mvgamba.rig_remove")


CLASSES = (MVGAMBA_OT_replace_by_prop, MVGAMBA_PT_capture)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
