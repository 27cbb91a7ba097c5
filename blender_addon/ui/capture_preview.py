"""Small pictures of what a capture would show, before anything is sent."""

import logging
import shutil
import uuid
from pathlib import Path

import bpy
import bpy.utils.previews

from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.shots import StageRender
from ..scene.capture import CaptureSettings, capture
from ..scene.classes import register_classes, unregister_classes
from ..scene.folders import user_folder
from ..scene.own_cameras import chosen_cameras
from ..scene.session import session
from ..scene.subject import captured_objects
from .acting import attempt
from .redraw import tag_panels

log = logging.getLogger(__name__)

COUNT = 4
"""Pictures that are shown."""
SIZE = 128
"""Edge length in pixels."""

_icons: "bpy.utils.previews.ImagePreviewCollection | None" = None
_render: int | None = None
"""Of the call that renders (`Session.run`)."""
_num_done = 0
_paths: tuple[Path, ...] = ()
_problem = ""


def begin(context: bpy.types.Context, *, apart: bool | None = None) -> tuple[Path, ...]:
    """Take the pictures, in a window by another Blender; gives where they (will) lie.

    Raises:
        AddonError: As `capture`.
    """
    global _render, _num_done, _paths, _problem
    _stop()
    folder = _new_folder()
    wanted = context.scene.mvgamba.capture_settings()
    cameras = chosen_cameras(context)
    settings = CaptureSettings(
        num_views=COUNT,
        image_size=SIZE,
        azimuth=wanted.azimuth,
        margin=wanted.margin,
        with_depth=False,
        samples=2,
        shading=wanted.shading,
        isolate=wanted.isolate,
        lit_samples=16,
    )
    apart = not bpy.app.background if apart is None else apart
    taken = capture(
        context,
        captured_objects(context),
        settings,
        folder,
        cameras=None if cameras is None else cameras[:COUNT],
        apart=apart,
    )
    _paths, _problem = tuple(view.image_path for view in taken.views), ""
    if taken.render is not None:
        number = 0

        def ended(_value: object, error: AddonError | None) -> None:
            if number == _render:  # else somebody has begun anew
                _take(error)

        def reported(done: int) -> None:
            if number == _render:
                _count(done)

        _num_done = 0
        _render = number = session().run(StageRender.run, taken.render, on_answer=ended, on_report=reported)
    else:
        _load()
    return _paths


def is_running() -> bool:
    """Whether another Blender takes the pictures."""
    return _render is not None


def _count(done: int) -> None:
    global _num_done
    _num_done = done
    tag_panels()


def _take(error: AddonError | None) -> None:
    """Show the pictures, or why there are none."""
    global _render, _paths, _problem
    _render = None
    if error is None:
        _load()
    else:
        _paths, _problem = (), sentence(error.reason, error.message)
    tag_panels()


def draw(layout: bpy.types.UILayout) -> None:
    """The pictures, or how far they are."""
    if _render is not None:
        layout.label(text=tr("Capturing {done}/{total}").format(done=_num_done, total=len(_paths)), translate=False)
    elif _problem:
        layout.label(text=_problem, icon="ERROR", translate=False)
    elif _icons is not None and len(_icons):
        row = layout.row(align=True)
        for path in _paths:
            if path.name in _icons:
                row.template_icon(icon_value=_icons[path.name].icon_id, scale=4.0)


class MVGAMBA_OT_capture_preview(bpy.types.Operator):
    bl_idname = "mvgamba.capture_preview"
    bl_label = "Preview Views"
    bl_description = "Show small pictures of the first four views, without sending anything"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set(tr("Leave Edit Mode first"))
            return False
        if not captured_objects(context):
            cls.poll_message_set(tr("Select an object to capture"))
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, lambda: begin(context))


def _new_folder() -> Path:
    """One of its own: the Blender of an earlier request may not have ended yet."""
    home = user_folder("preview")
    shutil.rmtree(home, ignore_errors=True)
    if _icons is not None:
        _icons.clear()
    return home / uuid.uuid4().hex


def _load() -> None:
    if _icons is None or bpy.app.background:
        return
    _icons.clear()
    for path in _paths:
        _icons.load(path.name, str(path), "IMAGE", force_reload=True)


def _stop() -> None:
    global _render
    if _render is not None:
        session().client.stop_run(_render)
        _render = None


CLASSES = (MVGAMBA_OT_capture_preview,)


def register() -> None:
    global _icons
    _icons = bpy.utils.previews.new()
    register_classes(CLASSES)


def unregister() -> None:
    global _icons, _paths, _problem
    _stop()
    unregister_classes(CLASSES)
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    _icons, _paths, _problem = None, (), ""
