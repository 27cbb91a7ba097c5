"""Panels that show jobs are drawn anew when a job has news."""

import bpy

from ..scene.session import session


def tag_panels() -> None:
    """Ask every 3D View for a redraw of its sidebar."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def register() -> None:
    session().on_change = tag_panels


def unregister() -> None:
    session().on_change = None
