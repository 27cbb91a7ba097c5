"""What can be done about a job that failed, beside sending it again as it was."""

import random

import bpy

from .. import api
from ..core.jobs import JobRow
from ..core.request import MEMORY_MIB
from ..scene.classes import register_classes, unregister_classes
from .acting import RowOperator
from .backend import draw_buttons


class _FailedJob(RowOperator):
    """Sends a job again, changed."""

    bl_options = {"INTERNAL"}

    def act(self, context: bpy.types.Context, row: JobRow) -> None:
        api.retry(row, context=context, **self.changes(row))

    def changes(self, row: JobRow) -> dict[str, object]:
        """Fields of JobOptions that are not as they were."""
        raise NotImplementedError


class MVGAMBA_OT_retry_any_device(_FailedJob):
    bl_idname = "mvgamba.retry_any_device"
    bl_label = "Retry On Any Device"
    bl_description = "Send the job again to whichever device the backend takes"

    def changes(self, row: JobRow) -> dict[str, object]:
        return {"device": "auto"}


class MVGAMBA_OT_retry_low_memory(_FailedJob):
    bl_idname = "mvgamba.retry_low_memory"
    bl_label = "Retry Low Memory"
    bl_description = "Send the job again as a draft with a small texture, one variant and the Low memory limit"

    def changes(self, row: JobRow) -> dict[str, object]:
        options, low = row.request.options, MEMORY_MIB["LOW"]
        return {
            "quality": "draft",
            "texture_size": min(options.texture_size, 1024),
            "variants": 1,
            "memory_mib": min(options.memory_mib or low, low),
        }


class MVGAMBA_OT_new_seed(_FailedJob):
    bl_idname = "mvgamba.new_seed"
    bl_label = "New Seed"
    bl_description = "Send the job again with another seed"

    def changes(self, row: JobRow) -> dict[str, object]:
        return {"seed": random.randrange(2**31)}


class MVGAMBA_OT_retry_with_review(_FailedJob):
    bl_idname = "mvgamba.retry_with_review"
    bl_label = "Approve Views"
    bl_description = "Send the job again and stop after its views, to look at them before they become a mesh"

    def changes(self, row: JobRow) -> dict[str, object]:
        return {"review_views": True}


def draw_remedies(layout: bpy.types.UILayout, row: JobRow) -> None:
    """The buttons of a job that failed."""
    if row.reason == "UNAVAILABLE" and row.request.options.device != "auto":
        layout.operator("mvgamba.retry_any_device").request_id = row.id
    draw_buttons(layout, row.reason or "INTERNAL", kind=row.request.kind, request_id=row.id)


CLASSES = (MVGAMBA_OT_retry_any_device, MVGAMBA_OT_retry_low_memory, MVGAMBA_OT_new_seed, MVGAMBA_OT_retry_with_review)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
