"""The camera rig made real: add, fit, remove."""

import bpy

from ..core.cameras import orbit_rig
from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..scene.capture import subject_sphere
from ..scene.classes import register_classes, unregister_classes
from ..scene.rig import add_rig, fit_rig, remove_rig, rig_subject, selected_rig
from ..scene.subject import captured_objects


class MVGAMBA_OT_rig_add(bpy.types.Operator):
    bl_idname = "mvgamba.rig_add"
    bl_label = "Add Camera Rig"
    bl_description = "Make the cameras of the capture real, so that they can be moved before the pictures are taken"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set(tr("Leave Edit Mode first"))
            return False
        if not captured_objects(context):
            cls.poll_message_set(tr("Nothing to frame: select an object"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        objects, settings = captured_objects(context), context.scene.mvgamba
        try:
            sphere = subject_sphere(context, objects)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        capture = settings.capture_settings()
        cameras = orbit_rig(
            sphere.center, sphere.radius, num_views=capture.num_views, azimuth=capture.azimuth, margin=capture.margin
        )
        rig = add_rig(context, cameras, sphere.center, objects)
        for obj in context.selected_objects:
            obj.select_set(False)
        rig.select_set(True)
        context.view_layer.objects.active = rig
        return {"FINISHED"}


class _OnRig(bpy.types.Operator):
    """Acts on the rig of which a part is selected."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set(tr("Leave Edit Mode first"))
            return False
        if selected_rig(context) is None:
            cls.poll_message_set(tr("Select a rig or one of its cameras"))
            return False
        return True


class MVGAMBA_OT_rig_fit(_OnRig):
    bl_idname = "mvgamba.rig_fit"
    bl_label = "Fit Camera Rig"
    bl_description = "Move the cameras to where the subject is now; each keeps the side from which it looks"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        rig = selected_rig(context)
        try:
            sphere = subject_sphere(context, captured_objects(context) or rig_subject(rig))
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        fit_rig(rig, sphere.center, sphere.radius, margin=context.scene.mvgamba.capture_settings().margin)
        return {"FINISHED"}


class MVGAMBA_OT_rig_remove(_OnRig):
    bl_idname = "mvgamba.rig_remove"
    bl_label = "Remove Camera Rig"
    bl_description = "Take away the rig and its cameras, and nothing else"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        remove_rig(selected_rig(context))
        return {"FINISHED"}


CLASSES = (MVGAMBA_OT_rig_add, MVGAMBA_OT_rig_fit, MVGAMBA_OT_rig_remove)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
