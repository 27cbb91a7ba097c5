"""What the cameras look at: objects as the viewport shows them, instances and modifiers included."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.strands import DEFAULT_RADIUS, balls, tubes
from .rig import is_part_of_rig, rig_subject, selected_rig

GEOMETRY_TYPES = frozenset({"MESH", "CURVE", "CURVES", "SURFACE", "FONT", "META", "POINTCLOUD"})
_MANY_VERTICES = 200_000
_TURNED_TO_MESH = frozenset({"CURVE", "SURFACE", "FONT", "META"})
_CARRIED = frozenset({"FLOAT", "FLOAT2", "FLOAT_VECTOR", "FLOAT_COLOR", "BYTE_COLOR"})


@dataclass(frozen=True)
class SubjectPart:
    """One piece of evaluated geometry. `mesh` and `materials` live in the file until the stage removes the mesh."""

    mesh: bpy.types.Mesh
    matrix_world: Matrix
    materials: tuple[bpy.types.Material | None, ...]
    color: tuple[float, float, float, float]
    pass_index: int


@dataclass(frozen=True)
class BoundingSphere:
    """In Blender's world, in scene units."""

    center: np.ndarray
    radius: float


def captured_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """What Generate would capture: as the setting Subject says, without the camera rig itself."""
    match context.scene.mvgamba.capture_subject:
        case "COLLECTION":
            objects = [obj for obj in context.collection.all_objects if obj.visible_get()]
        case "VIEW":
            objects = shown_objects(context)
        case _:
            objects = subject_objects(context)
            rig = selected_rig(context)
            if rig is not None and not objects:
                objects = [obj for obj in rig_subject(rig) if obj.name in context.view_layer.objects]
    return [obj for obj in objects if _can_hold_geometry(obj) and not is_part_of_rig(obj)]


def subject_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selection, with everything below the selected empties."""
    objects: dict[bpy.types.Object, None] = {}
    for obj in context.selected_objects:
        if is_part_of_rig(obj):
            continue
        objects[obj] = None
        if obj.type == "EMPTY":
            objects.update(dict.fromkeys(child for child in obj.children_recursive if child.visible_get()))
    return [obj for obj in objects if _can_hold_geometry(obj)]


def shown_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """What the 3D view shows: what is visible there and at least partly inside its frame.

    Without a 3D view (in scripts), all that is visible.
    """
    space = context.space_data if getattr(context.space_data, "type", "") == "VIEW_3D" else None
    region = context.region_data or getattr(space, "region_3d", None)
    objects = [
        obj
        for obj in context.view_layer.objects
        if _can_hold_geometry(obj) and (obj.visible_get(viewport=space) if space else obj.visible_get())
    ]
    if region is None:
        return objects
    matrix = region.perspective_matrix
    return [obj for obj in objects if obj.type == "EMPTY" or is_box_in_frame(obj.bound_box, matrix @ obj.matrix_world)]


def is_box_in_frame(corners: Iterable[Iterable[float]], matrix: Matrix) -> bool:
    """Whether any of a box may lie in the frame of a perspective matrix: not all of it beyond one of its planes."""
    points = [matrix @ Vector((*corner, 1.0)) for corner in corners]
    planes = [p for i in range(3) for p in (lambda q, i=i: q[i] > q.w, lambda q, i=i: q[i] < -q.w)]
    return not any(all(beyond(point) for point in points) for beyond in planes)


def left_out(objects: Iterable[bpy.types.Object]) -> tuple[str, ...]:
    """Names of those that have no surface to capture, whatever is done: volumes."""
    return tuple(obj.name for obj in objects if obj.type == "VOLUME")


def evaluated_parts(
    context: bpy.types.Context, objects: Iterable[bpy.types.Object], created: list[bpy.types.ID]
) -> list[SubjectPart]:
    """Copies of what the viewport shows of `objects`; every mesh that is made is also appended to `created`."""
    wanted = set(objects)
    return parts_where(context, lambda owner: owner in wanted, created)


def parts_where(
    context: bpy.types.Context, is_wanted: Callable[[bpy.types.Object], bool], created: list[bpy.types.ID]
) -> list[SubjectPart]:
    """Like `evaluated_parts`, of the objects (for instances: of those that make them) that a test picks."""
    depsgraph = context.evaluated_depsgraph_get()
    meshes: dict[tuple, bpy.types.Mesh | None] = {}
    pieces: list[tuple[tuple, bool, SubjectPart]] = []
    for instance in depsgraph.object_instances:
        evaluated = instance.object
        owner = instance.parent if instance.is_instance else evaluated
        if evaluated.type not in GEOMETRY_TYPES or owner is None or not instance.show_self:
            continue
        if not is_wanted(owner.original):
            continue
        # Geometry nodes hand out instances whose objects differ only in their data.
        data = evaluated.data
        key = (
            evaluated.original.session_uid,
            evaluated.type,
            data.session_uid if data else 0,
            data.as_pointer() if data else 0,
        )
        if key not in meshes:
            meshes[key] = _mesh_copy(evaluated, depsgraph, created)
        mesh = meshes[key]
        if mesh is None:
            continue
        matrix = instance.matrix_world.copy()
        part = SubjectPart(mesh, matrix, _materials(evaluated, mesh), tuple(evaluated.color), evaluated.pass_index)
        place = (evaluated.original.session_uid, tuple(value for row in matrix for value in row))
        pieces.append((place, evaluated.type in _TURNED_TO_MESH, part))
    # Curves, text and metaballs come twice: as what they are, and as the mesh they make. The mesh knows what geometry
    # nodes did; both would hide a transparent surface behind itself.
    meshed = {place for place, is_source, _ in pieces if not is_source}
    return [part for place, is_source, part in pieces if not (is_source and place in meshed)]


def bounding_sphere(parts: Iterable[SubjectPart]) -> BoundingSphere:
    """Around the middle of the bounding box of all vertices.

    Raises:
        AddonError: CAPTURE_FAILED, when there is no surface or it has no extent.
    """
    parts = list(parts)
    if not parts:
        raise AddonError("CAPTURE_FAILED", tr("the subject has no surface"))
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for points in _world_points(parts):
        if not np.isfinite(points).all():
            raise AddonError("CAPTURE_FAILED", tr("the subject has vertices that are not finite"))
        low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    center = 0.5 * (low + high)
    radius = float(np.sqrt(max(((points - center) ** 2).sum(axis=1).max() for points in _world_points(parts))))
    if radius <= 0.0:
        raise AddonError("CAPTURE_FAILED", tr("the subject has no extent"))
    return BoundingSphere(center, radius)


def shown_sphere(context: bpy.types.Context, objects: Iterable[bpy.types.Object]) -> BoundingSphere | None:
    """About the sphere of `bounding_sphere`, without making or copying anything: quick enough for an overlay.

    Meshes count with their vertices, up to a number; what is larger, or no mesh, with the corners of its box.
    """
    wanted, boxes = set(objects), []
    for instance in context.evaluated_depsgraph_get().object_instances:
        evaluated = instance.object
        owner = instance.parent if instance.is_instance else evaluated
        if evaluated.type not in GEOMETRY_TYPES or owner is None or owner.original not in wanted:
            continue
        data = evaluated.data
        if isinstance(data, bpy.types.Mesh) and len(data.vertices) <= _MANY_VERTICES:
            flat = np.empty(3 * len(data.vertices), dtype=np.float32)
            data.vertices.foreach_get("co", flat)
            local = flat.reshape(-1, 3).astype(np.float64)
        else:
            local = np.array(evaluated.bound_box, dtype=np.float64)
        if len(local):
            matrix = np.array(instance.matrix_world, dtype=np.float64)
            boxes.append(local @ matrix[:3, :3].T + matrix[:3, 3])
    if not boxes:
        return None
    low = np.min([points.min(axis=0) for points in boxes], axis=0)
    high = np.max([points.max(axis=0) for points in boxes], axis=0)
    center = 0.5 * (low + high)
    radius = math.sqrt(max(((points - center) ** 2).sum(axis=1).max() for points in boxes))
    return BoundingSphere(center, radius) if math.isfinite(radius) and radius > 0.0 else None


def _world_points(parts: list[SubjectPart]) -> Iterator[np.ndarray]:
    """(N, 3) float64 vertices of each part in the world."""
    local: dict[int, np.ndarray] = {}
    for part in parts:
        key = part.mesh.session_uid
        if key not in local:
            flat = np.empty(3 * len(part.mesh.vertices), dtype=np.float32)
            part.mesh.vertices.foreach_get("co", flat)
            local[key] = flat.reshape(-1, 3).astype(np.float64)
        matrix = np.array(part.matrix_world, dtype=np.float64)
        yield local[key] @ matrix[:3, :3].T + matrix[:3, 3]


def _can_hold_geometry(obj: bpy.types.Object) -> bool:
    return obj.type in GEOMETRY_TYPES or obj.type in ("EMPTY", "VOLUME")


def _mesh_copy(
    evaluated: bpy.types.Object, depsgraph: bpy.types.Depsgraph, created: list[bpy.types.ID]
) -> bpy.types.Mesh | None:
    if evaluated.type in ("CURVES", "POINTCLOUD"):
        mesh = _mesh_of_points(evaluated)
    elif isinstance(evaluated.data, bpy.types.Mesh) and not _is_own_data(evaluated, depsgraph):
        mesh = _copy_of(evaluated.data)
    else:
        try:
            mesh = bpy.data.meshes.new_from_object(evaluated, preserve_all_data_layers=True, depsgraph=depsgraph)
        except RuntimeError:  # an object without any data
            mesh = None
    if mesh is None:
        return None
    created.append(mesh)
    return mesh if len(mesh.polygons) else None


def _is_own_data(evaluated: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> bool:
    """Whether an instance shows the object itself; geometry nodes hand out other data under the name of their object."""
    own = evaluated.original.evaluated_get(depsgraph).data
    return own is not None and own.as_pointer() == evaluated.data.as_pointer()


def _copy_of(mesh: bpy.types.Mesh) -> bpy.types.Mesh:
    """Evaluated data as a datablock of the file, with the materials of the file."""
    copy = mesh.copy()
    for index, material in enumerate(copy.materials):  # one by one: to clear them would reset which face has which
        copy.materials[index] = None if material is None else material.original
    return copy


def _mesh_of_points(evaluated: bpy.types.Object) -> bpy.types.Mesh | None:
    """Strands of hair as tubes, points as balls, with the attributes that colour them."""
    data = evaluated.data
    attributes = {item.name: item for item in data.attributes if item.domain == "POINT"}
    if "position" not in attributes or not len(attributes["position"].data):
        return None
    positions = _values(attributes["position"], 3, "vector")
    radii = _values(attributes["radius"], 1, "value")[:, 0] if "radius" in attributes else None
    if radii is None:
        radii = np.full(len(positions), DEFAULT_RADIUS)
    if evaluated.type == "CURVES":
        offsets = np.empty(len(data.curve_offset_data), dtype=np.int32)
        data.curve_offset_data.foreach_get("value", offsets)
        vertices, faces, owners = tubes(positions, radii, offsets)
    else:
        vertices, faces, owners = balls(positions, radii)
    mesh = bpy.data.meshes.new("MVGamba Capture")
    mesh.from_pydata(vertices, [], faces.tolist(), shade_flat=False)
    for name, item in attributes.items():
        if item.data_type in _CARRIED and name not in ("position", "radius"):
            size, field = {
                "FLOAT": (1, "value"),
                "FLOAT2": (2, "vector"),
                "FLOAT_VECTOR": (3, "vector"),
            }.get(item.data_type, (4, "color"))
            copy = mesh.attributes.new(name, item.data_type, "POINT")
            copy.data.foreach_set(field, _values(item, size, field)[owners].astype(np.float32).ravel())
    for material in data.materials:
        mesh.materials.append(None if material is None else material.original)
    return mesh


def _values(attribute: bpy.types.Attribute, size: int, field: str) -> np.ndarray:
    """(N, size) float64."""
    flat = np.empty(size * len(attribute.data), dtype=np.float32)
    attribute.data.foreach_get(field, flat)
    return flat.reshape(-1, size).astype(np.float64)


def _materials(evaluated: bpy.types.Object, mesh: bpy.types.Mesh) -> tuple[bpy.types.Material | None, ...]:
    """The material of each slot: the mesh's own (geometry nodes may have set it) unless the object overrides it."""
    materials = list(mesh.materials)
    for index, slot in enumerate(evaluated.material_slots):
        if slot.link == "OBJECT" and slot.material is not None:
            materials.extend([None] * (index + 1 - len(materials)))
            materials[index] = slot.material
    return tuple(None if material is None else material.original for material in materials)
