"""The cameras of the file, for a capture that does not go around on a ring."""

from collections.abc import Iterable

import bpy
import numpy as np

from ..core.cameras import CaptureCamera, clip_range, own_camera
from ..core.errors import AddonError
from ..core.i18n import tr
from .rig import rig_cameras, selected_rig
from .subject import BoundingSphere


def chosen_cameras(context: bpy.types.Context) -> list[bpy.types.Object] | None:
    """The camera objects that a capture is taken from; None for the ring.

    Those of the collection that is set, else those that are selected; a rig of which a part is selected counts whole.
    """
    settings, rig = context.scene.mvgamba, selected_rig(context)
    if settings.capture_cameras == "RING":
        return rig_cameras(rig) if rig is not None else None
    if settings.capture_collection is not None:
        objects = list(settings.capture_collection.all_objects)
    elif rig is not None:
        return rig_cameras(rig)
    else:
        objects = list(context.selected_objects)
    return sorted((o for o in objects if o.type == "CAMERA" and not o.hide_viewport), key=lambda o: o.name)


def few_cameras_warning(count: int) -> str:
    """What to expect of so few pictures; empty when they are enough."""
    if count == 0 or count >= 4:
        return ""
    if count == 1:
        return tr("One camera sees one side: the backend makes up the rest")
    return tr("{n} cameras see too little of the surface: what none of them sees is made up").format(n=count)


def own_cameras(
    context: bpy.types.Context, objects: Iterable[bpy.types.Object], sphere: BoundingSphere
) -> tuple[CaptureCamera, ...]:
    """Camera objects as they stand at the current frame, each with the square picture that holds its own.

    Raises:
        AddonError: CAPTURE_FAILED, naming the cameras that are not perspective ones or look away from the subject.
    """
    depsgraph = context.evaluated_depsgraph_get()
    render = context.scene.render
    cameras, flat = [], []
    for obj in objects:
        if obj.data.type != "PERSP":
            flat.append(obj.name)
            continue
        evaluated = obj.evaluated_get(depsgraph)
        projection = evaluated.calc_matrix_camera(
            depsgraph,
            x=render.resolution_x,
            y=render.resolution_y,
            scale_x=render.pixel_aspect_x,
            scale_y=render.pixel_aspect_y,
        )
        location, rotation, _scale = evaluated.matrix_world.decompose()
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = np.array(rotation.to_matrix(), dtype=np.float64), location
        cameras.append(own_camera(c2w, np.array(projection, dtype=np.float64), sphere.center, name=obj.name))
    if flat:
        raise AddonError(
            "CAPTURE_FAILED",
            tr("only perspective cameras can capture, and these are not: {names}").format(names=", ".join(flat)),
        )
    if not cameras:
        raise AddonError("CAPTURE_FAILED", tr("select cameras, or a collection that holds some"))
    check_cameras(cameras, sphere)
    return tuple(cameras)


def check_cameras(cameras: Iterable[CaptureCamera], sphere: BoundingSphere) -> None:
    """Raises: AddonError, CAPTURE_FAILED, naming the cameras that look away from the subject."""
    away = []
    for camera in cameras:
        try:
            clip_range(camera, sphere.center, sphere.radius)
        except ValueError:
            away.append(camera.name)
    if away:
        raise AddonError(
            "CAPTURE_FAILED", tr("these cameras look away from the subject: {names}").format(names=", ".join(away))
        )
