"""The mesh of an object is exchanged; all else about the object stays."""

import bpy
import numpy as np

from ..core import placing
from ..core.i18n import tr
from .importing import mesh_bounds, transform


def fit_to(mesh: bpy.types.Mesh, obj: bpy.types.Object, *, size_axis: str, on_ground: bool) -> None:
    """Bring a mesh that was made upright at any size into the place of the mesh of `obj` (`placing.fit_matrix`)."""
    matrix = obj.matrix_world
    mirrored = matrix.is_negative
    transform(
        mesh,
        placing.fit_matrix(
            mesh_bounds(obj.data),
            mesh_bounds(mesh),
            np.array(matrix.to_scale()),
            axis=size_axis,
            on_ground=on_ground,
            mirrored=mirrored,
        ),
    )


def exchange_mesh(obj: bpy.types.Object, mesh: bpy.types.Mesh) -> list[str]:
    """Give `obj` another mesh with its materials. Nothing is lost: what nobody else uses gets a fake user.

    Matrix, parent, modifiers, constraints, collections, custom properties, animation and drivers are the object's own and
    stay. Gives sentences about what no longer fits.
    """
    old = obj.data
    kept = [slot.material for slot in obj.material_slots if slot.link == "OBJECT" and slot.material is not None]
    for slot in obj.material_slots:
        slot.link = "DATA"
    groups = {group.name for group in obj.vertex_groups}
    obj.data = mesh
    for left in (old, *kept):
        if left.users == 0 and left.library is None:
            left.use_fake_user = True
    return _misfits(obj, old, groups)


def _misfits(obj: bpy.types.Object, old: bpy.types.Mesh, groups: set[str]) -> list[str]:
    misfits = []
    for modifier in obj.modifiers:
        by_group = modifier.type == "ARMATURE" and groups and modifier.use_vertex_groups
        if by_group or any(
            prop.type == "STRING" and "vertex_group" in prop.identifier and getattr(modifier, prop.identifier) in groups
            for prop in modifier.bl_rna.properties
        ):
            misfits.append(modifier.name)
    notes = []
    if misfits:
        notes.append(
            tr("{names} needs vertex groups, which are on the old mesh {mesh}").format(
                names=", ".join(misfits), mesh=old.name
            )
        )
    if old.shape_keys is not None:
        notes.append(tr("The shape keys are on the old mesh {mesh}").format(mesh=old.name))
    return notes
