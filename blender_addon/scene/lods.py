"""Coarser copies of a result, and a simple shape for physics.

Names are those that engines look for: `<name>_LOD1`, `_LOD2`, ... beside the result, which is LOD 0 (Unity and Unreal group
meshes by this suffix), and `UCX_<name>`, a closed convex shape (Unreal). They hang on the result, so they move with it, and
are hidden in the viewport and in renders.
"""

import math

import bmesh
import bpy
import numpy as np

from ..core.errors import AddonError
from ..core.i18n import tr
from . import collections, mesh_data, ready
from .result import PART, file_matrix, parts_of

MOST_LODS = 6
MOST_HULL_VERTICES = 255
"""What physics engines take of a convex shape."""
COLLISIONS = ("BOX", "CONVEX")


def add_lods(context: bpy.types.Context, obj: bpy.types.Object, count: int) -> list[bpy.types.Object]:
    """`count` copies, each with half the faces of the one before, in place of those that there are.

    Modifiers are applied; UVs and materials are kept.

    Raises:
        AddonError: INVALID_INPUT.
    """
    if not 0 <= count <= MOST_LODS:
        raise AddonError(
            "INVALID_INPUT", tr("{count} LODs; 0 to {most} can be made").format(count=count, most=MOST_LODS)
        )
    remove_parts(obj, "LOD")
    meshes = ready.take_lods(count) if is_as_stored(obj) else []
    for mesh in meshes:
        _follow(mesh, obj)
    if not meshes and count:
        finest = _evaluated(context, obj)
        try:
            meshes = coarser(finest, count)
        finally:
            bpy.data.meshes.remove(finest)
    return [
        _add_part(context.view_layer, obj, f"{obj.name}_LOD{level}", mesh, f"LOD{level}")
        for level, mesh in enumerate(meshes, start=1)
    ]


def coarser(mesh: bpy.types.Mesh, count: int) -> list[bpy.types.Mesh]:
    """`count` meshes, each with half the faces of the one before; the first is made of `mesh`."""
    made: list[bpy.types.Mesh] = []
    for _ in range(count):
        made.append(_halved(made[-1] if made else mesh))
    return made


def add_collision(context: bpy.types.Context, obj: bpy.types.Object, shape: str) -> bpy.types.Object:
    """A BOX, or a CONVEX hull of at most 255 vertices, in place of the one that there is.

    Raises:
        AddonError: INVALID_INPUT, when the result has no extent.
    """
    if shape not in COLLISIONS:
        raise AddonError("INVALID_INPUT", tr("{shape} is no shape for a collision").format(shape=shape))
    proxy = ready.take_hull() if shape == "CONVEX" and is_as_stored(obj) else None
    if proxy is not None:
        _follow(proxy, obj)
    elif is_as_stored(obj):
        proxy = collision_mesh(obj.data, shape)
    else:
        shown = _evaluated(context, obj)
        try:
            proxy = collision_mesh(shown, shape)
        finally:
            bpy.data.meshes.remove(shown)
    if proxy is None:
        raise AddonError("INVALID_INPUT", tr('"{name}" has no extent').format(name=obj.name))
    remove_parts(obj, *COLLISIONS)
    part = _add_part(context.view_layer, obj, f"UCX_{obj.name}", proxy, shape)
    part.display_type = "WIRE"
    return part


def collision_mesh(mesh: bpy.types.Mesh, shape: str) -> bpy.types.Mesh | None:
    """A BOX or CONVEX hull around a mesh; None when that has no extent."""
    points = mesh_data.positions(mesh)
    low, high = mesh_data.bounds(points)
    if not float((high - low).max()) > 0.0:
        return None
    if shape == "CONVEX":
        points = points.astype(np.float64)
        if not _is_flat(points):
            return _hull(points)
    return _hull(box_corners(np.stack([low, high])))


def remove_parts(obj: bpy.types.Object, *kinds: str) -> None:
    """Take away the LODs (kind LOD) or the collision (BOX, CONVEX) of a result; without kinds, all."""
    for part in parts_of(obj):
        if not kinds or any(str(part[PART]).startswith(kind) for kind in kinds):
            mesh = part.data
            bpy.data.objects.remove(part)
            if mesh.users == 0:
                bpy.data.meshes.remove(mesh)


def renew_parts(context: bpy.types.Context, obj: bpy.types.Object) -> None:
    """Make LODs and collision anew, as many as there are: the mesh has changed."""
    kinds = [str(part[PART]) for part in parts_of(obj)]
    levels = sum(kind.startswith("LOD") for kind in kinds)
    if levels:
        add_lods(context, obj, levels)
    for shape in COLLISIONS:
        if shape in kinds:
            add_collision(context, obj, shape)


def box_corners(points: np.ndarray) -> np.ndarray:
    """(8, 3) corners of the bounding box, which is never quite flat."""
    low, high = points.min(axis=0), points.max(axis=0)
    thin = 1e-3 * float((high - low).max())
    grow = np.where(high - low < thin, 0.5 * thin, 0.0)
    low, high = low - grow, high + grow
    return np.array([[(low, high)[(k >> axis) & 1][axis] for axis in range(3)] for k in range(8)])


def support_points(points: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of (N, 3) points: the outermost along directions spread evenly over the sphere (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * k / count, math.pi * (1.0 + math.sqrt(5.0)) * k
    ring = np.sqrt(1.0 - z * z)
    directions = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    # In blocks of directions, each a row: memory stays small, and the largest of a row is found in one sweep.
    centered = np.ascontiguousarray((points - points.mean(axis=0)).T, dtype=np.float32)
    directions = directions.astype(np.float32)
    found = [(directions[at : at + 32] @ centered).argmax(axis=1) for at in range(0, count, 32)]
    return points[np.unique(np.concatenate(found))]


def _hull(points: np.ndarray) -> bpy.types.Mesh:
    """The convex hull, of few enough vertices; it may lie a little inside that of all points."""
    outermost = support_points(points, 2 * MOST_HULL_VERTICES)
    if len(outermost) <= MOST_HULL_VERTICES:  # else the hull of all points has more vertices, too
        mesh = _hull_of(outermost)
        outside = _outside(mesh, points)
        if len(outside):  # what lies inside is no part of the hull, and takes the longest
            bpy.data.meshes.remove(mesh)
            mesh = _hull_of(np.concatenate([outermost, outside]))
        if len(mesh.vertices) <= MOST_HULL_VERTICES:
            return mesh
        bpy.data.meshes.remove(mesh)
    return _hull_of(support_points(points, MOST_HULL_VERTICES))


def _outside(hull: bpy.types.Mesh, points: np.ndarray) -> np.ndarray:
    """Those of (N, 3) points that are not within a closed convex mesh, rounding aside."""
    corners = mesh_data.positions(hull).astype(np.float64)
    faces = mesh_data.corner_vertices(hull)[mesh_data.loop_starts(hull)[:, None] + np.arange(3)]
    a, b, c = (corners[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    sound = lengths > 0.0
    normals, a = normals[sound] / lengths[sound, None], a[sound]
    slack = 1e-6 * float(np.ptp(corners, axis=0).max())
    return points[(points @ normals.T - (a * normals).sum(axis=1)).max(axis=1) > slack]


def _hull_of(points: np.ndarray) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new("UCX")
    work = bmesh.new()
    try:
        for point in points:
            work.verts.new(point)
        made = bmesh.ops.convex_hull(work, input=work.verts, use_existing_faces=False)
        inside = [item for item in made["geom_interior"] if isinstance(item, bmesh.types.BMVert)]
        bmesh.ops.delete(work, geom=inside, context="VERTS")
        loose = [vert for vert in work.verts if not vert.link_faces]
        bmesh.ops.delete(work, geom=loose, context="VERTS")
        bmesh.ops.recalc_face_normals(work, faces=work.faces)
        work.to_mesh(mesh)
    finally:
        work.free()
    return mesh


def _is_flat(points: np.ndarray) -> bool:
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[2] < 1e-4 * spread[0])


def is_as_stored(obj: bpy.types.Object) -> bool:
    """Whether an object shows its mesh as it is: then the scene need not be evaluated, which takes long in large ones."""
    return obj.data.shape_keys is None and not any(modifier.show_viewport for modifier in obj.modifiers)


def _follow(mesh: bpy.types.Mesh, obj: bpy.types.Object) -> None:
    """Lay a mesh that is in the axes of a file where the mesh lies that an object was given of that file."""
    matrix = file_matrix(obj.data)
    mesh.transform(matrix)
    if matrix.is_negative:
        mesh.flip_normals()
    mesh.update()


def _evaluated(context: bpy.types.Context, obj: bpy.types.Object) -> bpy.types.Mesh:
    """A mesh of what the object shows, its modifiers applied, in its own axes."""
    if is_as_stored(obj):
        return obj.data.copy()
    copy = obj.copy()  # it can be seen, whatever hides the object
    copy.hide_viewport = False
    context.scene.collection.objects.link(copy)
    try:
        depsgraph = context.evaluated_depsgraph_get()
        return bpy.data.meshes.new_from_object(
            copy.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
        )
    finally:
        bpy.data.objects.remove(copy)


def _halved(mesh: bpy.types.Mesh) -> bpy.types.Mesh:
    """With half the faces. In a scene of its own, so that the user's is not evaluated for it."""
    work = bpy.data.objects.new("MVGamba LOD", mesh)
    modifier = work.modifiers.new("Halve", "DECIMATE")
    modifier.ratio = 0.5
    scene = bpy.data.scenes.new("MVGamba LOD")
    try:
        scene.collection.objects.link(work)
        layer = scene.view_layers[0]
        layer.update()
        # To preserve all layers would decimate once more; UVs, colors and attributes are kept anyway.
        return bpy.data.meshes.new_from_object(work.evaluated_get(layer.depsgraph))
    finally:
        bpy.data.objects.remove(work)
        bpy.data.scenes.remove(scene)


def _add_part(
    layer: bpy.types.ViewLayer, obj: bpy.types.Object, name: str, mesh: bpy.types.Mesh, kind: str
) -> bpy.types.Object:
    mesh.name = name
    part = bpy.data.objects.new(name, mesh)
    part[PART] = kind
    part.parent = obj  # with no inverse: in the axes of the result
    for collection in obj.users_collection:
        collection.objects.link(part)
    part.hide_render = True
    if collections.has_object(layer, part):
        part.hide_set(True)
    return part
