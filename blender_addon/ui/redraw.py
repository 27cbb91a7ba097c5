"""Panels that show jobs are drawn anew when a job has news."""

import bpy

from ..scene.session import session
from .previews import refresh


def tag_panels() -> None:
    """Ask every editor with panels of ours for a redraw."""
    refresh()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "IMAGE_EDITOR", "PREFERENCES"):
                area.tag_redraw()


def register() -> None:
    session().on_change = tag_panels


def unregister() -> None:
    session().on_change = None
