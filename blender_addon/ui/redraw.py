"""Panels are drawn anew when a job has news, and the history takes up what has arrived."""

import bpy

from ..scene.history import book
from ..scene.session import session
from .previews import refresh


def tag_panels() -> None:
    """Ask for a redraw of every sidebar that may show panels of ours, not of the view beside it, which may cost much more."""
    refresh()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
            elif area.type in ("VIEW_3D", "IMAGE_EDITOR"):
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


def take_up_news() -> None:
    """What is done when the session has changed."""
    book().note_arrived(session().board.rows)
    tag_panels()


def register() -> None:
    session().on_change = take_up_news


def unregister() -> None:
    session().on_change = None
