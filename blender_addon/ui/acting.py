"""Operators that say in a sentence what went wrong, those that act on a row of the jobs list, and those that choose a folder."""

from collections.abc import Callable

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.jobs import JobRow
from ..scene.backend import own_preferences
from ..scene.session import session


def attempt(operator: bpy.types.Operator, action: Callable[[], object]) -> set[str]:
    """Do it for an operator; an AddonError is reported, and the answer is what `execute` returns.

    An action that gives False has changed nothing yet, so there is no undo step to be made.
    """
    try:
        is_done = action() is not False
    except AddonError as error:
        operator.report({"ERROR"}, sentence(error.reason, error.message))
        return {"CANCELLED"}
    return {"FINISHED"} if is_done else {"CANCELLED"}


class RowOperator(bpy.types.Operator):
    """Acts on the row whose request it names."""

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        row = session().board.find(self.request_id)
        if row is None:
            self.report({"WARNING"}, tr("This job is no longer listed"))
            return {"CANCELLED"}
        return attempt(self, lambda: self.act(context, row))

    def act(self, context: bpy.types.Context, row: JobRow) -> bool | None:
        raise NotImplementedError


class FolderOperator(bpy.types.Operator):
    """Has a person choose the folder that a preference names."""

    bl_options = {"INTERNAL"}
    preference = ""
    """Its name, given by each operator."""

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        own = own_preferences(context)
        if own is None or not self.directory:
            return {"CANCELLED"}
        setattr(own, self.preference, self.directory)
        return {"FINISHED"}
