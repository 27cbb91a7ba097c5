"""Operators that say in a sentence what went wrong, and those that act on a row of the jobs list."""

from collections.abc import Callable

import bpy
from bpy.props import StringProperty

from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.jobs import JobRow
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
