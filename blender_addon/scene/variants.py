"""Several meshes of one object: all results of its jobs, shown one at a time.

Only `obj.data` changes, so everything that belongs to the object stays: transform, modifiers, constraints, parents,
drivers, animation, collections. Vertex groups and shape keys belong to a mesh in Blender, so they stay with the variant.
"""

import logging

import bpy
from mathutils import Matrix

from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.jobs import JobRow
from . import placer
from . import result as results
from .importing import import_mesh, mesh_bounds, name_after
from .result import MARK, PROVENANCE, MVGAMBA_PG_variant, adjusted, is_edited

log = logging.getLogger(__name__)


def keep_variants(context: bpy.types.Context, obj: bpy.types.Object, row: JobRow) -> None:
    """Remember a result that was just placed, and keep the further results of its job as meshes to step through.

    Has the form of what is called after placing.
    """
    results.remember(obj, row)
    for item in obj.mvgamba.variants:
        if item.mesh is not None and item.mesh != obj.data and item.mesh.library is None:
            item.mesh.use_fake_user = True
            item.is_edited = is_edited(item.mesh)
    _add_shown(obj, is_edited=False)
    for k, path in enumerate(row.more_result_paths, start=1):
        try:
            mesh = import_mesh(context, path, shade_smooth=row.request.target.shade_smooth)
        except AddonError as error:
            log.warning("variant %d of %s is left out: %s", k + 1, row.request.label, error.message)
            continue
        name_after(mesh, f"{obj.name} {k + 1}")
        is_capture, moved = bool(row.request.views), results.moved_since(row)
        mesh.transform(results.lay_matrix(obj, *mesh_bounds(mesh), is_capture=is_capture, moved=moved))
        mesh.update()
        item = obj.mvgamba.variants.add()
        results.write_provenance(item, obj, row, k)
        item.mesh, item.material = mesh, mesh.materials[0] if mesh.materials else None
        results.mark_mesh(mesh, row.request.request_id, k, adjusted(obj))
        mesh.use_fake_user = True


def step(obj: bpy.types.Object, direction: int) -> int:
    """Show the next (1) or the previous (-1) variant; its number, from 0.

    Raises:
        AddonError: INVALID_INPUT, when the object cannot be changed or has one variant only.
    """
    why = results.obstacle(obj)
    if why:
        raise AddonError("INVALID_INPUT", why)
    at = note_shown(obj)
    if count(obj) < 2:
        raise AddonError("INVALID_INPUT", tr("Only one variant"))
    items = obj.mvgamba.variants
    while True:
        at = (at + direction) % len(items)
        if items[at].mesh is not None:
            break
    _show(obj, items[at])
    return at


def count(obj: bpy.types.Object) -> int:
    """Variants that can be shown; quick enough for drawing."""
    return sum(item.mesh is not None for item in obj.mvgamba.variants)


def position(obj: bpy.types.Object) -> int:
    """Which of them is shown, from 0; -1 when it is none of them. Quick enough for drawing."""
    shown = [item.mesh for item in obj.mvgamba.variants if item.mesh is not None]
    return shown.index(obj.data) if obj.data in shown else -1


def note_shown(obj: bpy.types.Object) -> int:
    """Make sure that the mesh on show is on the list, as it is now; its place there."""
    items = obj.mvgamba.variants
    for index, item in enumerate(items):
        if item.mesh == obj.data:
            item.is_edited = is_edited(obj.data)
            return index
    # Another mesh than we gave it: a copy of ours, as Shift+D makes one, or something of the user.
    mark = obj.data.get(MARK)
    if mark is not None and not is_edited(obj.data):
        for index, item in enumerate(items):
            known = item.mesh.get(MARK) if item.mesh is not None else None
            if known is not None and (known["request_id"], known["variant"]) == (mark["request_id"], mark["variant"]):
                item.mesh = obj.data
                return index
    return _add_shown(obj, is_edited=True)


def clear(obj: bpy.types.Object) -> int:
    """Forget all variants but the one on show, and give how many; meshes that nothing else uses leave the file."""
    keep = note_shown(obj)
    items = obj.mvgamba.variants
    meshes = [item.mesh for item in items if item.mesh is not None and item.mesh != obj.data]
    for index in reversed(range(len(items))):
        if index != keep:
            items.remove(index)
    materials = {material for mesh in meshes for material in mesh.materials if material is not None}
    for mesh in meshes:
        if mesh.library is None:
            mesh.use_fake_user = False
            if mesh.users == 0:
                bpy.data.meshes.remove(mesh)
    for material in materials:
        _remove_unused(material)
    return len(meshes)


def _add_shown(obj: bpy.types.Object, *, is_edited: bool) -> int:
    item = obj.mvgamba.variants.add()
    for name in PROVENANCE:
        setattr(item, name, getattr(obj.mvgamba, name))
    item.mesh, item.is_edited = obj.data, is_edited
    item.material = obj.data.materials[0] if obj.data.materials and not is_edited else None
    if MARK not in obj.data and obj.data.library is None:
        results.mark_mesh(obj.data, obj.mvgamba.request_id, -1, adjusted(obj))
        obj.data[MARK]["asset_sha256"] = ""  # it never was ours, so it counts as edited
    return len(obj.mvgamba.variants) - 1


def _show(obj: bpy.types.Object, item: MVGAMBA_PG_variant) -> None:
    old = obj.data
    shown = next((other for other in obj.mvgamba.variants if other.mesh == old), None)
    if old.library is None:
        old.use_fake_user = True
    slots = [(slot.link, slot.material) for slot in obj.material_slots]
    mesh = obj.data = item.mesh
    mark = mesh.get(MARK)
    there = results.from_floats(mark["adjusted"]) if mark is not None else adjusted(obj)
    delta = adjusted(obj) @ there.inverted_safe()
    if not _is_identity(delta):
        mesh = results.own_mesh(obj)
        results.transform_marked(mesh, delta, adjusted(obj))
    if mesh.library is None:
        mesh.use_fake_user = False
    _dress(obj, slots, shown)
    for name in PROVENANCE:
        setattr(obj.mvgamba, name, getattr(item, name))


def _dress(
    obj: bpy.types.Object,
    slots: list[tuple[str, bpy.types.Material | None]],
    shown: MVGAMBA_PG_variant | None,
) -> None:
    """Carry over materials that the user has put on, in place of that with which a variant came."""
    delivered = shown.material if shown is not None else None
    for index, (link, material) in enumerate(slots):
        if index >= len(obj.data.materials):
            obj.data.materials.append(material if link == "DATA" else None)
        elif link == "DATA" and material is not None and material != delivered and delivered is not None:
            obj.data.materials[index] = material
        if link == "OBJECT":
            obj.material_slots[index].link = "OBJECT"
            obj.material_slots[index].material = material


def _is_identity(matrix: Matrix) -> bool:
    return all(abs(matrix[i][j] - (i == j)) < 1e-6 for i in range(4) for j in range(4))


def _remove_unused(material: bpy.types.Material) -> None:
    """A material and its pictures, when nothing else shows them."""
    if material.users or material.library is not None:
        return
    nodes = material.node_tree.nodes if material.node_tree else ()
    images = {node.image for node in nodes if node.type == "TEX_IMAGE" and node.image is not None}
    bpy.data.materials.remove(material)
    for image in images:
        if image.users == 0 and image.library is None:
            bpy.data.images.remove(image)


def register() -> None:
    placer.after_placing.append(keep_variants)


def unregister() -> None:
    placer.after_placing.remove(keep_variants)
