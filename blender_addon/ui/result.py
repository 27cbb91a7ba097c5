"""The active object, if it is a result of ours."""

import bpy

from .sidebar import Sidebar


class MVGAMBA_PT_result(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_result"
    bl_order = 1
    bl_label = "Result"
    bl_parent_id = "MVGAMBA_PT_main"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.object is not None and context.object.mvgamba.kind != "NONE"

    def draw(self, context: bpy.types.Context) -> None:
        result = context.object.mvgamba
        column = self.layout.column(align=True)
        column.label(text=context.object.name, icon="MESH_DATA")
        column.label(text=f"Placed {result.created}")
        column.label(text=result.job_id)


CLASSES = (MVGAMBA_PT_result,)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
