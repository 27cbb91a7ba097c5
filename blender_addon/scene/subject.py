"""What the cameras look at: the selected objects as the viewport shows them, instances and modifiers included."""

from collections.abc import Iterable
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import AddonError

GEOMETRY_TYPES = frozenset({"MESH", "CURVE", "CURVES", "SURFACE", "FONT", "META", "POINTCLOUD"})


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


def subject_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selection, with everything below the selected empties."""
    objects: dict[bpy.types.Object, None] = {}
    for obj in context.selected_objects:
        objects[obj] = None
        if obj.type == "EMPTY":
            objects.update(dict.fromkeys(child for child in obj.children_recursive if child.visible_get()))
    return [obj for obj in objects if obj.type in GEOMETRY_TYPES or obj.type == "EMPTY"]


def evaluated_parts(
    context: bpy.types.Context, objects: Iterable[bpy.types.Object], created: list[bpy.types.ID]
) -> list[SubjectPart]:
    """Copies of what the viewport shows of `objects`; every mesh that is made is also appended to `created`."""
    wanted = set(objects)
    depsgraph = context.evaluated_depsgraph_get()
    meshes: dict[tuple, bpy.types.Mesh | None] = {}
    parts = []
    for instance in depsgraph.object_instances:
        evaluated = instance.object
        owner = instance.parent if instance.is_instance else evaluated
        if owner is None or owner.original not in wanted or not instance.show_self:
            continue
        if evaluated.type not in GEOMETRY_TYPES:
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
        if mesh is not None:
            parts.append(
                SubjectPart(
                    mesh,
                    instance.matrix_world.copy(),
                    _materials(evaluated, mesh),
                    tuple(evaluated.color),
                    evaluated.pass_index,
                )
            )
    return parts


def bounding_sphere(parts: Iterable[SubjectPart]) -> BoundingSphere:
    """Around the middle of the bounding box of all vertices.

    Raises:
        AddonError: CAPTURE_FAILED, when there is no surface or it has no extent.
    """
    points = []
    for part in parts:
        local = np.empty(3 * len(part.mesh.vertices), dtype=np.float32)
        part.mesh.vertices.foreach_get("co", local)
        matrix = np.array(part.matrix_world, dtype=np.float64)
        points.append(local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
    if not points:
        raise AddonError("CAPTURE_FAILED", "the selection has no surface")
    cloud = np.concatenate(points)
    if not np.isfinite(cloud).all():
        raise AddonError("CAPTURE_FAILED", "the subject has vertices that are not finite")
    center = 0.5 * (cloud.min(axis=0) + cloud.max(axis=0))
    radius = float(np.sqrt(((cloud - center) ** 2).sum(axis=1).max()))
    if radius <= 0.0:
        raise AddonError("CAPTURE_FAILED", "the subject has no extent")
    return BoundingSphere(center, radius)


def _mesh_copy(
    evaluated: bpy.types.Object, depsgraph: bpy.types.Depsgraph, created: list[bpy.types.ID]
) -> bpy.types.Mesh | None:
    mesh = bpy.data.meshes.new_from_object(evaluated, preserve_all_data_layers=True, depsgraph=depsgraph)
    if mesh is None:
        return None
    created.append(mesh)
    return mesh if len(mesh.polygons) else None


def _materials(evaluated: bpy.types.Object, mesh: bpy.types.Mesh) -> tuple[bpy.types.Material | None, ...]:
    """The material of each slot: the mesh's own (geometry nodes may have set it) unless the object overrides it."""
    materials = list(mesh.materials)
    for index, slot in enumerate(evaluated.material_slots):
        if slot.link == "OBJECT" and slot.material is not None:
            materials.extend([None] * (index + 1 - len(materials)))
            materials[index] = slot.material
    return tuple(None if material is None else material.original for material in materials)
