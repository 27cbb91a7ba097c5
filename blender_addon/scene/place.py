"""A downloaded result becomes an object exactly over its source.

The GLB of a capture job is in the world of its cameras, so it needs no fitting: it is imported as it is. Only its origin
is moved, without moving a vertex in the world: to that of the source, turned as the source is, so that the result behaves
in the user's hands as the source does.
"""

import logging
import time
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from ..core.errors import AddonError
from ..core.request import JobRequest, Target

log = logging.getLogger(__name__)


def find_sources(target: Target) -> list[bpy.types.Object]:
    """The source objects that still exist, by identity of the session and then by name."""
    by_uid = {obj.session_uid: obj for obj in bpy.data.objects}
    found = []
    for uid, name in zip(target.source_uids, target.source_names, strict=True):
        obj = by_uid.get(uid) or bpy.data.objects.get(name)
        if obj is not None:
            found.append(obj)
    return found


def place_result(
    context: bpy.types.Context, path: Path, request: JobRequest, *, job_id: str, select: bool = True
) -> bpy.types.Object:
    """Import `path` and put it over its source. The caller makes the undo step.

    Raises:
        AddonError: PLACE_FAILED.
    """
    target = request.target
    sources = find_sources(target)
    obj = _import_mesh(context, path)
    if target.location is not None:
        _move_origin(obj, _stand(obj, Vector(target.location), target.size))
    else:
        _move_origin(obj, _origin_frame(sources, obj))
    obj.name = f"{sources[0].name if sources else request.label} MVGamba"
    obj.data.name = obj.name
    _link(context, obj, sources, target)
    _adopt_parent(obj, sources)
    _record(obj, request, job_id)
    if target.hide_source:
        for source in sources:
            source.hide_render = True
            if source.name in context.view_layer.objects:
                source.hide_set(True)
    if select:
        for other in list(context.selected_objects):
            other.select_set(False)
        obj.select_set(True)
        context.view_layer.objects.active = obj
    return obj


def _import_mesh(context: bpy.types.Context, path: Path) -> bpy.types.Object:
    """The one mesh of the file in world coordinates; selection and active object stay as they were."""
    before = set(bpy.data.objects)
    selected, active = list(context.selected_objects), context.view_layer.objects.active
    try:
        bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=False)
    except (RuntimeError, AttributeError) as error:
        raise AddonError("PLACE_FAILED", _first_line(error)) from error
    new = [obj for obj in bpy.data.objects if obj not in before]
    meshes = [obj for obj in new if obj.type == "MESH"]
    context.view_layer.update()
    if not meshes:
        for obj in new:
            bpy.data.objects.remove(obj)
        raise AddonError("PLACE_FAILED", f"{path.name} holds no mesh")
    for obj in meshes:
        obj.data.transform(obj.matrix_world)
        obj.parent = None
        obj.matrix_world = Matrix.Identity(4)
    if len(meshes) > 1:
        with context.temp_override(active_object=meshes[0], selected_editable_objects=meshes, selected_objects=meshes):
            bpy.ops.object.join()
    for obj in new:
        if obj.type != "MESH":
            bpy.data.objects.remove(obj)
    result = meshes[0]
    result.select_set(False)
    for other in selected:
        other.select_set(True)
    context.view_layer.objects.active = active
    return result


def _origin_frame(sources: list[bpy.types.Object], obj: bpy.types.Object) -> Matrix:
    """Where the result's own axes stand: as those of a single source, else upright in the middle of the result."""
    if len(sources) == 1 and sources[0].type != "EMPTY":
        location, rotation, _scale = sources[0].matrix_world.decompose()
        return Matrix.LocRotScale(location, rotation, None)
    corners = [Vector(corner) for corner in obj.bound_box]
    return Matrix.Translation(0.5 * (corners[0] + corners[6]))


def _stand(obj: bpy.types.Object, location: Vector, size: float) -> Matrix:
    """Scale the mesh to its longest edge and put it down; gives where its own axes then stand, under its middle."""
    corners = [Vector(corner) for corner in obj.bound_box]
    low, high = corners[0], corners[6]
    longest = max(high - low)
    factor = size / longest if size > 0 and longest > 0 else 1.0
    under = Vector((0.5 * (low.x + high.x), 0.5 * (low.y + high.y), low.z))
    obj.data.transform(Matrix.Translation(location) @ Matrix.Scale(factor, 4) @ Matrix.Translation(-under))
    return Matrix.Translation(location)


def _move_origin(obj: bpy.types.Object, frame: Matrix) -> None:
    obj.data.transform(frame.inverted())
    obj.rotation_mode = "XYZ"  # the importer leaves quaternions, which the N panel shows awkwardly
    obj.matrix_world = frame
    obj.data.update()


def _link(context: bpy.types.Context, obj: bpy.types.Object, sources: list[bpy.types.Object], target: Target) -> None:
    chosen = bpy.data.collections.get(target.collection_name) if target.collection_name else None
    if chosen is not None:
        homes = [chosen]
    elif sources:
        homes = [c for c in sources[0].users_collection if context.scene in _scenes_of(c)]
    else:
        homes = []
    if not homes:
        return  # stays where the importer put it: in the active collection
    for collection in list(obj.users_collection):
        if collection not in homes:
            collection.objects.unlink(obj)
    for collection in homes:
        if obj.name not in collection.objects:
            collection.objects.link(obj)
    context.view_layer.update()


def _scenes_of(collection: bpy.types.Collection) -> list[bpy.types.Scene]:
    return [
        scene
        for scene in bpy.data.scenes
        if collection == scene.collection or collection in set(scene.collection.children_recursive)
    ]


def _adopt_parent(obj: bpy.types.Object, sources: list[bpy.types.Object]) -> None:
    """Follow what the source follows, so that a moving rig moves the result too."""
    if len(sources) != 1 or sources[0].parent is None or sources[0].parent_type != "OBJECT":
        return
    world = obj.matrix_world.copy()
    obj.parent = sources[0].parent
    obj.matrix_parent_inverse = sources[0].parent.matrix_world.inverted_safe()
    obj.matrix_world = world


def _record(obj: bpy.types.Object, request: JobRequest, job_id: str) -> None:
    result = obj.mvgamba
    result.job_id = job_id
    result.kind = request.kind.upper()
    result.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result.settings_json = request.settings_json(
        job_id=job_id, sources=list(request.target.source_names), blender=bpy.app.version_string
    )
    result.base_matrix = [value for column in obj.matrix_world.col for value in column]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
