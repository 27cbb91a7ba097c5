"""The head of the tab: what to make it from, and the button."""

import logging
import random

import bpy

from .. import api
from ..core.errors import AddonError, sentence
from ..scene.subject import GEOMETRY_TYPES, subject_objects
from .preferences import is_backend_found
from .sidebar import Sidebar

log = logging.getLogger(__name__)


def captured_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """What Generate would capture."""
    if context.scene.mvgamba.capture_subject == "SELECTION":
        return subject_objects(context)
    return [obj for obj in context.collection.all_objects if obj.type in GEOMETRY_TYPES and obj.visible_get()]


class MVGAMBA_OT_generate(bpy.types.Operator):
    bl_idname = "mvgamba.generate"
    bl_label = "Generate"
    bl_description = "Capture the subject and reconstruct it as a textured mesh in its place"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave Edit Mode to capture")
            return False
        if not captured_objects(context):
            cls.poll_message_set("Select an object to capture")
            return False
        if not is_backend_found():
            cls.poll_message_set("Backend is not installed: set its path in the preferences")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.mvgamba
        if settings.seed_mode == "RANDOM":
            settings.seed = random.randrange(2**31)
        elif settings.seed_mode == "INCREMENT":
            settings.seed = (settings.seed + 1) % 2**31
        try:
            row = api.generate(
                captured_objects(context),
                context=context,
                capture_settings=settings.capture_settings(),
                options=settings.job_options(),
                hide_source=settings.source_after == "HIDE",
                collection_name=settings.collection.name if settings.collection else "",
                wait=False,
            )
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Sent {row.request.label}")
        return {"FINISHED"}


class MVGAMBA_PT_main(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_main"
    bl_label = "MVGamba"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        if not is_backend_found():
            box = layout.box()
            box.label(text="MVGamba needs its backend", icon="INFO")
            box.operator("mvgamba.open_preferences", text="Set Path")
        layout.prop(settings, "capture_subject")
        layout.prop(settings, "capture_views", expand=True)
        layout.prop(settings, "quality", expand=True)
        row = layout.row(align=True)
        row.prop(settings, "seed")
        row.prop(settings, "seed_mode", text="", icon_only=True)
        column = layout.column()
        column.scale_y = 1.4
        count = len(captured_objects(context))
        noun = "Object" if count == 1 else "Objects"
        column.operator("mvgamba.generate", text=f"Generate From {count} {noun}" if count else "Generate")


class MVGAMBA_PT_mesh(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_mesh"
    bl_label = "Mesh & Texture"
    bl_parent_id = "MVGAMBA_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.mvgamba
        for name in ("target_faces", "texture_size", "use_refine"):
            layout.prop(settings, name)


CLASSES = (
    MVGAMBA_OT_generate,
    MVGAMBA_PT_main,
    MVGAMBA_PT_mesh,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
