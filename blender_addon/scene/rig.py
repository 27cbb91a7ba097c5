"""A camera rig made real: an empty with cameras below it, which a person can move before the pictures are taken."""

import math
from collections.abc import Iterable

import bpy
from bpy.props import BoolProperty, CollectionProperty, PointerProperty
from mathutils import Matrix

from ..core.cameras import CaptureCamera, orbit_c2w, orbit_distance
from .classes import register_classes, unregister_classes

NAME = "MVGamba Rig"


class MVGAMBA_PG_rig_subject(bpy.types.PropertyGroup):
    """One object that a rig was made for."""

    object: PointerProperty(type=bpy.types.Object, name="Object", description="What the rig was made for")


class MVGAMBA_PG_rig(bpy.types.PropertyGroup):
    """Marks the empty of a rig. Kept in the file, so that the rig works after it is opened again."""

    is_rig: BoolProperty(name="Is Rig", description="Whether this empty holds the cameras of a capture")
    subject: CollectionProperty(
        type=MVGAMBA_PG_rig_subject, name="Subject", description="What is captured when only the rig is selected"
    )


def rig_of(obj: bpy.types.Object) -> bpy.types.Object | None:
    """The empty of the rig that an object is or hangs below."""
    while obj is not None:
        if obj.mvgamba_rig.is_rig:
            return obj
        obj = obj.parent
    return None


def is_part_of_rig(obj: bpy.types.Object) -> bool:
    """Whether an object is a rig's empty or one of its cameras; what else a person hung below it is not."""
    return obj.mvgamba_rig.is_rig or (obj.type == "CAMERA" and rig_of(obj) is not None)


def selected_rig(context: bpy.types.Context) -> bpy.types.Object | None:
    """The rig of which a part is selected."""
    return next((rig_of(obj) for obj in context.selected_objects if is_part_of_rig(obj)), None)


def rig_cameras(rig: bpy.types.Object) -> list[bpy.types.Object]:
    """Its cameras in the order of their names, without those that are switched off."""
    cameras = [obj for obj in rig.children_recursive if obj.type == "CAMERA" and not obj.hide_viewport]
    return sorted(cameras, key=lambda obj: obj.name)


def rig_subject(rig: bpy.types.Object) -> list[bpy.types.Object]:
    """The objects that it was made for, as far as they still exist."""
    return [item.object for item in rig.mvgamba_rig.subject if item.object is not None]


def add_rig(
    context: bpy.types.Context,
    cameras: Iterable[CaptureCamera],
    center: Iterable[float],
    subject: Iterable[bpy.types.Object],
) -> bpy.types.Object:
    """Make a rig in a collection of its own. The caller makes the undo step."""
    collection = bpy.data.collections.new(NAME)
    collection.hide_render = True
    context.scene.collection.children.link(collection)
    rig = bpy.data.objects.new(NAME, None)
    rig.empty_display_type = "SPHERE"
    rig.mvgamba_rig.is_rig = True
    for obj in subject:
        rig.mvgamba_rig.subject.add().object = obj
    collection.objects.link(rig)
    rig.matrix_world = Matrix.Translation(tuple(center))
    for number, camera in enumerate(cameras, start=1):
        data = bpy.data.cameras.new(f"{NAME} {number:02d}")
        obj = bpy.data.objects.new(data.name, data)
        collection.objects.link(obj)
        obj.parent = rig
        obj.matrix_parent_inverse = rig.matrix_world.inverted()
        _aim(obj, camera)
    _size_up(rig)
    return rig


def fit_rig(rig: bpy.types.Object, center: Iterable[float], radius: float, *, margin: float) -> None:
    """Move a rig to a sphere: each camera keeps the side it looks from, takes its distance and looks at the middle."""
    middle = rig.matrix_world.translation.copy()
    center = tuple(center)
    cameras = rig_cameras(rig)
    offsets = [obj.matrix_world.translation - middle for obj in cameras]
    rig.matrix_world = Matrix.Translation(center)
    for obj, offset in zip(cameras, offsets, strict=True):
        fovy = min(obj.data.angle, 3.0)
        distance = orbit_distance(radius, margin=margin, fovy=fovy)
        azimuth = math.atan2(offset.x, -offset.y)
        elevation = math.atan2(offset.z, math.hypot(offset.x, offset.y))
        c2w = orbit_c2w(center, azimuth=azimuth, elevation=elevation, distance=distance)
        obj.matrix_parent_inverse = rig.matrix_world.inverted()
        _aim(obj, CaptureCamera(azimuth, elevation, c2w, fovy, distance))
    _size_up(rig)


def remove_rig(rig: bpy.types.Object) -> None:
    """Take away the empty and its cameras, and their collection when nothing else is in it."""
    collections = list(rig.users_collection)
    for obj in [*(child for child in rig.children_recursive if child.type == "CAMERA"), rig]:
        data = obj.data
        bpy.data.objects.remove(obj)
        if data is not None and data.users == 0:
            bpy.data.cameras.remove(data)
    for collection in collections:
        if collection.name.startswith(NAME) and not collection.all_objects:
            bpy.data.collections.remove(collection)


def _aim(obj: bpy.types.Object, camera: CaptureCamera) -> None:
    obj.matrix_basis = Matrix(camera.c2w.tolist())  # the parent inverse undoes the rig, so this is the world
    data = obj.data
    data.sensor_fit, data.angle = "AUTO", camera.fovy
    data.display_size = 0.1 * camera.distance
    data.clip_start, data.clip_end = 0.01 * camera.distance, 10.0 * camera.distance


def _size_up(rig: bpy.types.Object) -> None:
    cameras = rig_cameras(rig)
    rig.empty_display_size = 0.5 * cameras[0].data.display_size if cameras else 1.0


CLASSES = (MVGAMBA_PG_rig_subject, MVGAMBA_PG_rig)


def register() -> None:
    register_classes(CLASSES)
    bpy.types.Object.mvgamba_rig = PointerProperty(type=MVGAMBA_PG_rig)


def unregister() -> None:
    del bpy.types.Object.mvgamba_rig
    unregister_classes(CLASSES)
