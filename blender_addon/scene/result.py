"""What a placed result remembers about how it was made, and its own size and orientation.

All of it is saved with the file and kept by append, link and a Blender without the extension. A mesh of ours carries a mark,
the custom property "mvgamba": the job, the variant, the SHA-256 of its geometry as we left it (so that an edit by the user
shows), and the adjustment (turns, size) that is already in its vertices.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator

import bpy
import numpy as np
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from mathutils import Matrix, Vector

from ..core.errors import AddonError
from ..core.facts import ResultFacts
from ..core.i18n import tr
from ..core.jobs import JobRow
from . import mesh_data
from .classes import register_classes, unregister_classes
from .importing import FILE_BOUNDS, FILE_MATRIX, mesh_bounds, transform

MARK = "mvgamba"
TO_RESULT = "to_result"
"""In the record of a capture of a result: see `recapture.result_record`."""
IDENTITY = tuple(float(i % 5 == 0) for i in range(16))
PART = "mvgamba_part"
"""Custom property of the objects that belong to a result: lod or collision."""


class _Provenance:
    """How one variant was made."""

    request_id: StringProperty(
        name="Request", description="Identity of the request, and name of its folder on the disk"
    )
    job_id: StringProperty(name="Job", description="Name of the job on the backend that made this")
    asset_name: StringProperty(name="Asset", description="Name of the mesh among the results of the job")
    variant: IntProperty(name="Variant", description="Which result of the job this is, from 0", min=0)
    kind: EnumProperty(
        name="Kind",
        description="What the asset was made from",
        items=(
            ("NONE", "None", "Not made by MVGamba"),
            ("CAPTURE", "Capture", "Camera-posed captures of the scene"),
            ("TEXT", "Text", "Words"),
            ("IMAGE", "Image", "One picture"),
            ("VARIATION", "Variation", "An object and words"),
        ),
        default="NONE",
    )
    prompt: StringProperty(name="Prompt", description="The words that this was made from")
    seed: IntProperty(name="Seed", description="What the chance of this result began with")
    generator: StringProperty(name="Generator", description="The model that made the views")
    reconstructor: StringProperty(name="Reconstructor", description="What made a surface of the views")
    weights: StringProperty(name="Weights", description="Name and hash of the generator's weights")
    backend_version: StringProperty(name="Backend Version", description="Version of the backend that made this")
    created: StringProperty(name="Created", description="When the result was placed, in UTC")
    settings_json: StringProperty(name="Settings", description="The request that made this, as JSON")


PROVENANCE = tuple(_Provenance.__annotations__)


class MVGAMBA_PG_variant(_Provenance, bpy.types.PropertyGroup):
    """One mesh that the object can show."""

    mesh: PointerProperty(type=bpy.types.Mesh, name="Mesh", description="The mesh of this variant")
    material: PointerProperty(
        type=bpy.types.Material, name="Material", description="The material that this variant came with"
    )
    is_edited: BoolProperty(name="Edited", description="The mesh was changed by hand")


class MVGAMBA_PG_result(_Provenance, bpy.types.PropertyGroup):
    """Provenance of one result object; the fields of `_Provenance` are those of the variant that it shows."""

    def _get_size(self) -> float:
        return max(self.id_data.dimensions)

    def _set_size(self, value: float) -> None:
        obj = self.id_data
        bpy.context.view_layer.update()  # a script may have changed the mesh just before
        now = max(obj.dimensions)
        if now > 0.0 and not obstacle(obj):
            adjust(obj, Matrix.Scale(value / now, 4))

    group_id: StringProperty(name="Group", description="Identity that all variants of one object share")
    base_matrix: FloatVectorProperty(
        name="Base Matrix",
        description="World matrix at which the result was delivered",
        size=16,
        subtype="MATRIX",
    )
    size_at_import: FloatProperty(
        name="Delivered Size", description="Longest side when the result was placed", subtype="DISTANCE"
    )
    adjusted: FloatVectorProperty(
        name="Adjustment",
        description="Turns and size that were given to the mesh after it was delivered",
        size=16,
        subtype="MATRIX",
        default=IDENTITY,
    )
    file_matrix: FloatVectorProperty(
        name="File Matrix",
        description="From the world of the result's file to the axes of the object as delivered",
        size=16,
        subtype="MATRIX",
        default=IDENTITY,
    )
    file_low: FloatVectorProperty(name="File Bounds From", description="Lower corner of the file's mesh", size=3)
    file_high: FloatVectorProperty(name="File Bounds To", description="Upper corner of the file's mesh", size=3)
    variants: CollectionProperty(type=MVGAMBA_PG_variant, name="Variants", description="Meshes that can be shown")
    size: FloatProperty(
        name="Size",
        description="Length of the longest side, changed in the mesh and not in the scale of the object",
        min=1e-6,
        soft_min=0.001,
        subtype="DISTANCE",
        get=_get_size,
        set=_set_size,
    )


def is_result(obj: bpy.types.Object | None) -> bool:
    """Whether an object was made by us."""
    return obj is not None and obj.type == "MESH" and obj.mvgamba.kind != "NONE"


def selected_results(context: bpy.types.Context) -> list[bpy.types.Object]:
    """Results among the selection, the active object first, which counts even when it is not selected."""
    objects = [context.object, *context.selected_objects]
    return list(dict.fromkeys(obj for obj in objects if is_result(obj)))


def obstacle(obj: bpy.types.Object) -> str:
    """Why a result cannot be changed, as a sentence; empty when it can."""
    if obj.library is not None:
        return tr('"{name}" is linked from another file: make it local to change it').format(name=obj.name)
    if obj.override_library is not None:
        return tr('"{name}" is a library override: make it local to change it').format(name=obj.name)
    if obj.mode != "OBJECT":
        return tr("Leave Edit Mode to change the result")
    return ""


def request_record(obj: bpy.types.Object) -> dict:
    """The stored request. Raises: AddonError, INVALID_INPUT, when somebody has damaged it."""
    try:
        record = json.loads(obj.mvgamba.settings_json)
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise AddonError(
            "INVALID_INPUT", tr('the settings of "{name}" cannot be read').format(name=obj.name)
        ) from error
    return record


def remember(obj: bpy.types.Object, row: JobRow) -> None:
    """Write on a placed result all that its row knows. The record of placing itself is there already."""
    result, request = obj.mvgamba, row.request
    fact = row.facts[0] if row.facts else ResultFacts()
    _write_provenance(result, row, fact, 0)
    result.kind = request.kind.upper()
    result.settings_json = settings_with_facts(result.settings_json, row, fact)
    if result.variants:  # the mesh of a result was replaced: it stays the same object
        _join_frame(obj, row)
    else:
        result.group_id = request.request_id
        result.adjusted = IDENTITY
        low, high = mesh_bounds(obj.data)
        result.size_at_import = float(((high - low) * np.abs(obj.scale)).max())
        _find_frame(obj, row)
    mark_mesh(obj.data, request.request_id, 0, adjusted(obj))


def _write_provenance(target: "MVGAMBA_PG_result | MVGAMBA_PG_variant", row: JobRow, fact: ResultFacts, k: int) -> None:
    request = row.request
    target.request_id = request.request_id
    target.job_id = row.job_id
    target.variant = k
    target.asset_name = fact.asset_name or ("mesh.glb" if k == 0 else f"mesh_{k + 1}.glb")
    target.prompt = getattr(request.source, "prompt", "")
    target.seed = fact.seed if fact.seed is not None else request.options.seed + k
    target.generator, target.reconstructor, target.weights = fact.generator, fact.reconstructor, fact.weights
    target.backend_version = fact.backend_version


def write_provenance(item: MVGAMBA_PG_variant, obj: bpy.types.Object, row: JobRow, k: int) -> None:
    """The record of the further variant `k` of a row, for an object that `remember` has seen."""
    fact = row.facts[k] if k < len(row.facts) else ResultFacts()
    _write_provenance(item, row, fact, k)
    item.kind, item.created = obj.mvgamba.kind, obj.mvgamba.created
    item.settings_json = settings_with_facts(obj.mvgamba.settings_json, row, fact)


def settings_with_facts(settings_json: str, row: JobRow, fact: ResultFacts) -> str:
    """What placing has recorded, with what the server told about this variant; its seed is the one to ask for again."""
    record = json.loads(settings_json or row.request.settings_json())
    seed = fact.seed if fact.seed is not None else record["options"]["seed"]
    record["facts"] = {
        "seed": seed,
        "generator": fact.generator,
        "reconstructor": fact.reconstructor,
        "weights": fact.weights,
        "backend": fact.backend_version,
        "asset": fact.asset_name,
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def mark_mesh(mesh: bpy.types.Mesh, request_id: str, variant: int, matrix: Matrix) -> None:
    """Say on the mesh whose it is, how it looks now, and which adjustment is in it."""
    mesh[MARK] = {
        "request_id": request_id,
        "variant": variant,
        "asset_sha256": fingerprint(mesh),
        "adjusted": to_floats(matrix),
    }


def fingerprint(mesh: bpy.types.Mesh) -> str:
    """SHA-256 of the geometry: positions, corners, faces, material indices and UVs."""
    digest = hashlib.sha256()
    parts = [
        mesh_data.positions(mesh),
        mesh_data.corner_vertices(mesh),
        mesh_data.loop_starts(mesh),
        mesh_data.material_indices(mesh),
        *(mesh_data.uvs(layer) for layer in mesh.uv_layers),
    ]
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def is_edited(mesh: bpy.types.Mesh) -> bool:
    """Whether a mesh of ours was changed by hand. Our own turns and sizes do not count."""
    mark = mesh.get(MARK)
    return mark is None or fingerprint(mesh) != mark["asset_sha256"]


def adjusted(obj: bpy.types.Object) -> Matrix:
    """Turns and size since delivery, in the axes of the object."""
    return from_floats(obj.mvgamba.adjusted)


def adjust(obj: bpy.types.Object, delta: Matrix) -> None:
    """Turn or scale the mesh of a result about the object's own origin and axes; the object itself stays as it is.

    Another object that shows the same mesh keeps it as it was. What belongs to the result (LODs, collision) goes along.
    """
    mesh = own_mesh(obj)
    transform_marked(mesh, delta, delta @ adjusted(obj))
    obj.mvgamba.adjusted = to_floats(delta @ adjusted(obj))
    for part in parts_of(obj):
        part.data.transform(delta)
        part.data.update()


def reset(obj: bpy.types.Object) -> None:
    """Size and orientation as delivered. Where the object stands, and edits of the mesh, stay."""
    adjust(obj, adjusted(obj).inverted_safe())
    obj.mvgamba.adjusted = IDENTITY
    mark = obj.data.get(MARK)
    if mark is not None:
        mark["adjusted"] = list(IDENTITY)  # free of what rounding has left
    location, _, _ = obj.matrix_world.decompose()
    _, rotation, scale = from_floats(obj.mvgamba.base_matrix).decompose()
    obj.matrix_world = Matrix.LocRotScale(location, rotation, scale)


def own_mesh(obj: bpy.types.Object) -> bpy.types.Mesh:
    """The mesh of an object, made its own if another object shows it too or it lies in a library."""
    mesh = obj.data
    if mesh.library is None and not any(other.data == mesh for other in bpy.data.objects if other != obj):
        return mesh
    copy = mesh.copy()
    for item in obj.mvgamba.variants:
        if item.mesh == mesh:
            item.mesh = copy
    obj.data = copy
    return copy


@contextlib.contextmanager
def without_modifiers(context: bpy.types.Context, obj: bpy.types.Object) -> Iterator[None]:
    """The viewport shows the bare mesh meanwhile: what is made of it comes under the same modifiers again."""
    shown = [modifier for modifier in obj.modifiers if modifier.show_viewport]
    try:
        for modifier in shown:
            modifier.show_viewport = False
        context.view_layer.update()
        yield
    finally:
        for modifier in shown:
            modifier.show_viewport = True
        context.view_layer.update()


def transform_marked(mesh: bpy.types.Mesh, delta: Matrix, total: Matrix) -> None:
    """Transform the vertices (normals and shape keys with them) without making it an edit of the user."""
    edited = is_edited(mesh)
    mesh.transform(delta, shape_keys=True)
    mesh.update()
    mark = mesh.get(MARK)
    if mark is not None:
        mark["adjusted"] = to_floats(total)
        if not edited:
            mark["asset_sha256"] = fingerprint(mesh)


def parts_of(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """LODs and collision of a result, by name."""
    return sorted((child for child in obj.children if PART in child), key=lambda child: child.name)


def to_floats(matrix: Matrix) -> list[float]:
    """Column by column, as Blender's own matrix properties."""
    return [value for column in matrix.col for value in column]


def from_floats(values: Iterable[float] | Matrix) -> Matrix:
    """A matrix property comes back as a matrix or as rows of numbers, according to the version of Blender."""
    if isinstance(values, Matrix):
        return values.copy()
    flat = np.array([list(v) if hasattr(v, "__iter__") else v for v in values], dtype=float).reshape(4, 4)
    return Matrix(flat.T.tolist())


def coordinates(mesh: bpy.types.Mesh) -> np.ndarray:
    """(N, 3) float64."""
    return mesh_data.positions(mesh).astype(np.float64)


def _find_frame(obj: bpy.types.Object, row: JobRow) -> None:
    """How the file came to lie in the mesh, so that further variants can be laid the same way."""
    result, moved = obj.mvgamba, moved_since(row)
    total = file_matrix(obj.data) @ moved
    result.file_matrix = to_floats(total)
    if moved == Matrix.Identity(4):
        result.file_low, result.file_high = _file_bounds(obj.data)
        return
    back = np.array(total.inverted_safe())
    points = coordinates(obj.data) @ back[:3, :3].T + back[:3, 3]
    result.file_low, result.file_high = points.min(axis=0), points.max(axis=0)


def _join_frame(obj: bpy.types.Object, row: JobRow) -> None:
    """Lay the mesh that has replaced another exactly as that one, turns included."""
    capture = row.request.capture
    if row.request.kind == "variation" and row.request.views:
        # views of the object as it stood then
        wanted = adjusted(obj) @ Matrix(capture[TO_RESULT]) if TO_RESULT in capture else file_matrix(obj.data)
        _lay(own_mesh(obj), wanted)
        return
    # Since its first capture the source may have moved; where nobody knows how, only size and foot are the same.
    is_capture = bool(row.request.views) and ("moved" in capture or not capture.get("anew"))
    wanted = lay_matrix(obj, *_file_bounds(obj.data), is_capture=is_capture, moved=moved_since(row))
    _lay(own_mesh(obj), wanted)


def _lay(mesh: bpy.types.Mesh, wanted: Matrix) -> None:
    """Have a mesh lie by `wanted`, from its file's coordinates, instead of how it was placed."""
    transform(mesh, np.array(wanted @ file_matrix(mesh).inverted_safe()))


def file_matrix(mesh: bpy.types.Mesh) -> Matrix:
    """From the file's own coordinates, in Blender's axes, to those of the mesh: importing and placing have noted it."""
    return from_floats(mesh[FILE_MATRIX])


def moved_since(row: JobRow) -> Matrix:
    """How the cameras of a capture that was taken again have followed their subject since the first one."""
    return Matrix(row.request.capture.get("moved", Matrix.Identity(4)))


def lay_matrix(
    obj: bpy.types.Object, low: np.ndarray, high: np.ndarray, *, is_capture: bool, moved: Matrix | None = None
) -> Matrix:
    """From the world of another file of the same object, whose bounds these are, to the axes of the object as it is now.

    Captures share a world, but for what was `moved_since`. Made-up objects do not: they stand on the same spot and are as
    long along their longest side.
    """
    fit = moved.inverted_safe() if moved is not None else Matrix.Identity(4)
    if not is_capture:
        first_low, first_high = np.array(obj.mvgamba.file_low), np.array(obj.mvgamba.file_high)
        longest = float((high - low).max())
        factor = float((first_high - first_low).max()) / longest if longest > 0 else 1.0
        fit = (
            Matrix.Translation(underside(first_low, first_high))
            @ Matrix.Scale(factor, 4)
            @ Matrix.Translation(-underside(low, high))
        )
    return adjusted(obj) @ from_floats(obj.mvgamba.file_matrix) @ fit


def capture_move(obj: bpy.types.Object) -> np.ndarray:
    """(4, 4) from the world of the capture that a result was made from first to where its surface is now."""
    return np.array(obj.matrix_world @ adjusted(obj) @ from_floats(obj.mvgamba.file_matrix), dtype=np.float64)


def _file_bounds(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of the file that a mesh was just read from, in Blender's axes."""
    low, high = np.array(mesh[FILE_BOUNDS]).reshape(2, 3)
    return low, high


def underside(low: np.ndarray, high: np.ndarray) -> Vector:
    """The middle of the underside of a box."""
    return Vector((0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1]), low[2]))


CLASSES = (MVGAMBA_PG_variant, MVGAMBA_PG_result)


def register() -> None:
    register_classes(CLASSES)
    bpy.types.Object.mvgamba = PointerProperty(type=MVGAMBA_PG_result)


def unregister() -> None:
    del bpy.types.Object.mvgamba
    unregister_classes(CLASSES)
