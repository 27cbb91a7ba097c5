"""What can be done about a job that failed, beside sending it again as it was."""

import random

import bpy

from .. import api
from ..core.jobs import JobRow
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


class MVGAMBA_OT_retry_low_memory(_FailedJob):
    bl_idname = "mvgamba.retry_low_memory"
    bl_label = "Retry Low Memory"
    bl_description = "Send the job again as a draft with a small texture and one variant, which needs least memory"

    def changes(self, row: JobRow) -> dict[str, object]:
        return {"quality": "draft", "texture_size": min(row.request.options.texture_size, 1024), "variants": 1}


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
    draw_buttons(layout, row.reason or "INTERNAL", kind=row.request.kind, request_id=row.id)


CLASSES = (MVGAMBA_OT_retry_low_memory, MVGAMBA_OT_new_seed, MVGAMBA_OT_retry_with_review)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
