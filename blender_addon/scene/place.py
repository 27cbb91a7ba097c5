"""A downloaded result becomes an object where it belongs.

The GLB of a capture job is in the world of its cameras, so to lie over its source it needs no fitting: only its origin is
moved, without moving a vertex in the world, to that of the source, turned as the source is, so that the result behaves in
the user's hands as the source does. All other results are scaled to the size that was asked for and stood on their foot.
"""

import logging
import time
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core import placing
from ..core.i18n import tr
from ..core.request import JobRequest, Target
from . import collections
from .importing import import_mesh, mesh_bounds, name_after, transform
from .replace import exchange_mesh, fit_to
from .target import find_collection, find_replaced, find_sources

log = logging.getLogger(__name__)

__all__ = ["find_sources", "place_result"]


def place_result(
    context: bpy.types.Context,
    path: Path,
    request: JobRequest,
    *,
    job_id: str,
    select: bool = True,
    frame: Matrix | None = None,
    notes: list[str] | None = None,
) -> bpy.types.Object:
    """Import `path` and put it where the request says. The caller makes the undo step.

    Args:
        frame: Where a person has put it, instead: position and rotation of its foot.
        notes: Sentences are added about what could not be done as it was asked for.
    Raises:
        AddonError: PLACE_FAILED; the file is then as it was.
    """
    target = request.target
    notes = notes if notes is not None else []
    sources = find_sources(target)
    replaced = find_replaced(target, context.scene) if target.mode == "REPLACE" and frame is None else None
    if target.mode == "REPLACE" and frame is None and replaced is None:
        notes.append(
            tr("{name} cannot be replaced any more: at the 3D cursor instead").format(name=target.replaced_name)
        )
    mesh = import_mesh(context, path, shade_smooth=target.shade_smooth)
    if replaced is not None:
        obj = _replace(replaced, mesh, sources, target, notes)
    else:
        obj = bpy.data.objects.new(f"{sources[0].name if sources else request.label} MVGamba", mesh)
        _stand(context, obj, sources, target, frame)
        name_after(mesh, obj.name)
        _link(context, obj, sources, target, notes)
        if target.mode == "MATCH" and frame is None:
            _adopt_parent(context, obj, sources)
    _record(obj, request, job_id)
    _put_away(context, [source for source in sources if source != obj], target.source_after, notes)
    _show_in_local_views(context, obj)
    if select and collections.has_object(context.view_layer, obj):
        for other in list(context.selected_objects):
            other.select_set(False)
        obj.select_set(True)
        context.view_layer.objects.active = obj
    return obj


def _replace(
    replaced: bpy.types.Object,
    mesh: bpy.types.Mesh,
    sources: list[bpy.types.Object],
    target: Target,
    notes: list[str],
) -> bpy.types.Object:
    if replaced in sources:  # the result is its capture, and lies where it stands
        transform(mesh, np.linalg.inv(np.array(_regular(replaced.matrix_world))))
    else:
        fit_to(mesh, replaced, size_axis=target.size_axis, on_ground=target.use_ground)
    name_after(mesh, f"{replaced.name} MVGamba")
    notes += exchange_mesh(replaced, mesh)
    return replaced


def _stand(
    context: bpy.types.Context,
    obj: bpy.types.Object,
    sources: list[bpy.types.Object],
    target: Target,
    frame: Matrix | None,
) -> None:
    """Move the mesh into a frame of its own, and the object to where that belongs; the object has no scale."""
    if frame is None and target.mode == "MATCH":
        frame = _origin_frame(sources, obj)
        transform(obj.data, np.linalg.inv(np.array(frame)))
    else:
        low, high = mesh_bounds(obj.data)
        factor = placing.size_factor(high - low, target.size, target.size_axis)
        transform(obj.data, placing.own_frame(low, high, factor, on_ground=target.use_ground))
        frame = frame if frame is not None else _frame_of(context, target)
    obj.matrix_world = frame


def _origin_frame(sources: list[bpy.types.Object], obj: bpy.types.Object) -> Matrix:
    """Where the result's own axes stand: as those of a single source, else upright in the middle of the result."""
    if len(sources) == 1 and sources[0].type != "EMPTY":
        location, rotation, _scale = sources[0].matrix_world.decompose()
        return Matrix.LocRotScale(location, rotation, None)
    low, high = mesh_bounds(obj.data)
    return Matrix.Translation(0.5 * (low + high))


def _frame_of(context: bpy.types.Context, target: Target) -> Matrix:
    """Of the modes that need no object: the world's origin, else the 3D cursor, as it was unless this is another scene."""
    if target.mode == "ORIGIN":
        return Matrix.Identity(4)
    location, heading = target.location, target.heading
    if location is None or target.scene_uid not in (0, context.scene.session_uid):
        cursor = context.scene.cursor.matrix
        location, heading = tuple(cursor.translation), placing.heading(np.array(cursor))
    return Matrix(placing.stand_matrix(np.array(location), heading).tolist())


def _regular(matrix: Matrix) -> Matrix:
    """A matrix that can be inverted: an axis that is scaled to nothing gets a tiny length."""
    if abs(matrix.determinant()) > 1e-30:
        return matrix
    location, rotation, scale = matrix.decompose()
    return Matrix.LocRotScale(location, rotation, Vector([value if abs(value) > 1e-6 else 1e-6 for value in scale]))


def _link(
    context: bpy.types.Context,
    obj: bpy.types.Object,
    sources: list[bpy.types.Object],
    target: Target,
    notes: list[str],
) -> None:
    scene, layer = context.scene, context.view_layer
    chosen = find_collection(target)
    if target.collection_name and (chosen is None or not collections.can_hold(chosen)):
        notes.append(tr("Collection {name} cannot be used").format(name=target.collection_name))
        chosen = None
    if chosen is not None:
        homes = [collections.in_scene(scene, chosen)]
    else:
        homes = [home for home in collections.homes(scene, sources[:1]) if collections.is_in_layer(layer, home)]
    homes = homes or [collections.results(scene)]
    for home in homes:
        if home not in obj.users_collection:
            home.objects.link(obj)
    for collection in list(obj.users_collection):
        if collection not in homes:
            collection.objects.unlink(obj)
    if not collections.has_object(layer, obj):
        notes.append(tr("Collection {name} is excluded from the view layer").format(name=homes[0].name))


def _adopt_parent(context: bpy.types.Context, obj: bpy.types.Object, sources: list[bpy.types.Object]) -> None:
    """Follow what the source follows, so that a moving rig moves the result too."""
    if len(sources) != 1 or sources[0].parent is None:
        return
    source, world = sources[0], obj.matrix_world.copy()
    obj.parent, obj.parent_type = source.parent, source.parent_type
    obj.parent_bone, obj.parent_vertices = source.parent_bone, source.parent_vertices
    obj.matrix_parent_inverse = Matrix.Identity(4)
    obj.matrix_basis = Matrix.Identity(4)
    context.view_layer.update()
    followed = obj.matrix_world.copy()
    if abs(followed.determinant()) < 1e-30:  # flattened to nothing: there is no place in it for a result
        obj.parent = None
        obj.matrix_world = world
        return
    obj.matrix_parent_inverse = followed.inverted()
    obj.matrix_basis = world
    context.view_layer.update()


def _put_away(context: bpy.types.Context, sources: list[bpy.types.Object], source_after: str, notes: list[str]) -> None:
    if source_after == "KEEP" or not sources:
        return
    if source_after == "STORE":
        left = collections.store(context, sources)
        if left:
            notes.append(tr("{names} could not be stored").format(names=", ".join(obj.name for obj in left)))
        return
    for source in sources:
        if source.library is None:
            source.hide_render = True
        else:
            notes.append(tr("{name} is linked and stays visible in renders").format(name=source.name))
        if collections.has_object(context.view_layer, source):
            source.hide_set(True)


def _show_in_local_views(context: bpy.types.Context, obj: bpy.types.Object) -> None:
    """What is new would be invisible in a view that shows a few objects only."""
    if not collections.has_object(context.view_layer, obj):
        return
    for window in context.window_manager.windows:
        if window.scene != context.scene or window.view_layer != context.view_layer:
            continue
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and area.spaces.active.local_view is not None:
                obj.local_view_set(area.spaces.active, True)


def _record(obj: bpy.types.Object, request: JobRequest, job_id: str) -> None:
    result = obj.mvgamba
    result.job_id = job_id
    result.kind = request.kind.upper()
    result.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result.settings_json = request.settings_json(
        job_id=job_id, sources=list(request.target.source_names), blender=bpy.app.version_string
    )
    result.base_matrix = [value for column in obj.matrix_world.col for value in column]
