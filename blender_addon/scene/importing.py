"""A GLB becomes one clean mesh, or nothing at all."""

import contextlib
import logging
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import bmesh
import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.mesh_file import LARGEST, WELD, MaterialFacts, UnusualFile, mesh_arrays, read_picture
from . import mesh_data, ready

log = logging.getLogger(__name__)

SHARP_ANGLE = math.radians(80.0)
"""Edges that are bent more than this stay sharp under smooth shading. Reconstructed surfaces are rough: Blender's usual 30
degrees would mark a quarter to half of the edges of real results (measured), 80 keeps the edges of boxes."""
FILE_MATRIX = "mvgamba_file_matrix"
"""Custom property of a mesh: from the world of its file, in Blender's axes, to the mesh as it was placed; 16 numbers, column by
column. Welding has changed the vertices, so it cannot be found out later."""
FILE_BOUNDS = "mvgamba_file_bounds"
"""Custom property of a mesh: lowest and highest corner in the world of its file, in Blender's axes; 6 numbers."""
_KINDS = (
    "objects",
    "meshes",
    "materials",
    "images",
    "collections",
    "cameras",
    "lights",
    "armatures",
    "actions",
    "scenes",
)
"""What an import of a glTF may make."""


def import_mesh(context: bpy.types.Context, path: Path, *, shade_smooth: bool) -> bpy.types.Mesh:
    """The meshes of a GLB as one mesh that no object shows yet, with the file's coordinates as Blender's axes have them.

    Closed over the seams of its texture, images packed. The scene, its selection and active object stay as they were. Files
    as the backend writes them take a few milliseconds when they were prepared (`core/mesh_file.py`), and any when it was made
    ready (`scene/ready.py`); all others go through Blender's importer.

    Raises:
        AddonError: PLACE_FAILED; then nothing of the file is left.
    """
    made = ready.take_mesh(path)
    if made is not None:
        return made
    _check_file(path)
    try:
        mesh = _made(path)
    except UnusualFile as why:
        log.info("Blender's importer reads the result: %s", why)
        with _all_or_nothing():
            mesh = _imported(context, path)
    mesh[FILE_MATRIX] = np.eye(4).reshape(-1).tolist()
    mesh[FILE_BOUNDS] = np.concatenate(mesh_bounds(mesh)).tolist()
    _shade(mesh, smooth=shade_smooth)
    return mesh


def images_of(mesh: bpy.types.Mesh) -> list[bpy.types.Image]:
    """The pictures that the materials of a mesh show, those of the base colour first."""
    nodes = _picture_nodes(mesh)
    return list(dict.fromkeys(node.image for node in sorted(nodes, key=lambda node: not _is_base_color(node))))


def name_after(mesh: bpy.types.Mesh, name: str) -> None:
    """Call a mesh, its materials and its images by one name. Base colours are sRGB, whatever the file's defaults say."""
    mesh.name = name
    for material in filter(None, mesh.materials):
        material.name = name
    for image in images_of(mesh):
        image.name = name
    for node in _picture_nodes(mesh):
        if _is_base_color(node):
            node.image.colorspace_settings.name = "sRGB"


def _picture_nodes(mesh: bpy.types.Mesh) -> list[bpy.types.Node]:
    trees = [material.node_tree for material in mesh.materials if material is not None and material.node_tree]
    return [node for tree in trees for node in tree.nodes if node.type == "TEX_IMAGE" and node.image is not None]


def _is_base_color(node: bpy.types.Node) -> bool:
    return any(link.to_socket.name == "Base Color" for link in node.outputs["Color"].links)


def transform(mesh: bpy.types.Mesh, matrix: np.ndarray) -> None:
    """Move the vertices of an imported mesh by a (4, 4) matrix; a mirrored surface still shows its outside."""
    mesh.transform(Matrix(matrix.tolist()))
    if np.linalg.det(matrix[:3, :3]) < 0:
        mesh.flip_normals()
    before = np.array(mesh[FILE_MATRIX]).reshape(4, 4).T
    mesh[FILE_MATRIX] = (matrix @ before).T.reshape(-1).tolist()
    mesh.update()


def mesh_bounds(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner in the mesh's own axes, (3,) each; zeros for a mesh without vertices."""
    return mesh_data.bounds(mesh_data.positions(mesh))


def _check_file(path: Path) -> None:
    """A file that was cut or is something else gets its sentence here: the importer would show a traceback."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
        size = path.stat().st_size
    except OSError as error:
        raise AddonError("PLACE_FAILED", tr("the result file cannot be read")) from error
    if size == 0:
        raise AddonError("PLACE_FAILED", tr("{name} is empty").format(name=path.name))
    if len(head) < 12 or head[:4] != b"glTF":
        raise AddonError("PLACE_FAILED", tr("{name} is not a GLB").format(name=path.name))
    expected = struct.unpack("<I", head[8:12])[0]
    if expected != size:
        raise AddonError(
            "PLACE_FAILED",
            tr("{name} is cut: {size} of {expected} bytes").format(name=path.name, size=size, expected=expected),
        )


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[None]:
    before = {kind: {item.session_uid for item in getattr(bpy.data, kind)} for kind in _KINDS}
    try:
        yield
    except BaseException:
        new = [item for kind in _KINDS for item in getattr(bpy.data, kind) if item.session_uid not in before[kind]]
        bpy.data.batch_remove(new)
        raise


def _made(path: Path) -> bpy.types.Mesh:
    """The mesh of a file of ours. All that may be wrong is found before anything is made. Raises: UnusualFile."""
    arrays = mesh_arrays(path)
    picture = b"" if arrays.material is None else read_picture(path, arrays.material)
    mesh = bpy.data.meshes.new(arrays.name)
    mesh_data.fill(mesh, arrays.vertices, arrays.corners, arrays.uvs)
    if arrays.material is not None:
        mesh.materials.append(_new_material(arrays.material, _new_image(arrays.material, picture)))
    return mesh


def _new_image(facts: MaterialFacts, picture: bytes) -> bpy.types.Image:
    """Packed, and decoded by Blender when it is first shown."""
    image = bpy.data.images.new(facts.image_name, 8, 8)  # the size of the file counts once it has one
    image.pack(data=picture, data_len=len(picture))
    image.source = "FILE"
    image.alpha_mode = "CHANNEL_PACKED"
    return image


def _new_material(facts: MaterialFacts, image: bpy.types.Image) -> bpy.types.Material:
    """As Blender's importer makes it, so that every exporter knows it again."""
    material = bpy.data.materials.new(facts.name)
    material.use_backface_culling = not facts.is_double_sided
    material.surface_render_method = "DITHERED"
    if material.node_tree is None:
        material.use_nodes = True  # Blender 5 says that it always does
    tree = material.node_tree
    tree.nodes.clear()
    shader, output = tree.nodes.new("ShaderNodeBsdfPrincipled"), tree.nodes.new("ShaderNodeOutputMaterial")
    shader.location, output.location = (10.0, 300.0), (300.0, 300.0)
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.location, texture.label = (-440.0, 210.0), "BASE COLOR"
    texture.image, texture.extension, texture.interpolation = image, facts.extension, facts.interpolation
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    shader.inputs["Metallic"].default_value = facts.metallic
    shader.inputs["Roughness"].default_value = facts.roughness
    shader.inputs["IOR"].default_value = 1.5  # of glTF
    return material


def _imported(context: bpy.types.Context, path: Path) -> bpy.types.Mesh:
    """The mesh of any GLB, by Blender's importer."""
    obj = _import_joined(context, path)
    mesh = obj.data
    bpy.data.objects.remove(obj)
    _check_mesh(mesh)
    _weld(mesh)
    _check_mesh(mesh)  # slivers may have been all there was
    for image in images_of(mesh):
        if 0 in image.size:
            raise AddonError("PLACE_FAILED", tr("a texture of the result is damaged"))
        if image.packed_file is None:
            image.pack()
    return mesh


def _import_joined(context: bpy.types.Context, path: Path) -> bpy.types.Object:
    before = {item.session_uid for item in (*bpy.data.objects, *bpy.data.meshes)}
    with _user_state_kept(context):
        try:
            # Normals of the file are left out: they would not fit the welded mesh, and hide whatever is edited later.
            bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=False, import_shading="SMOOTH")
        except AttributeError as error:
            raise AddonError("PLACE_FAILED", tr("enable glTF 2.0 format, an add-on that comes with Blender")) from error
        except RuntimeError as error:
            log.debug("importing %s: %s", path.name, error)
            raise AddonError("PLACE_FAILED", tr("{name} is damaged").format(name=path.name)) from error
        new = [obj for obj in bpy.data.objects if obj.session_uid not in before]
        meshes = [obj for obj in new if obj.type == "MESH"]
        context.view_layer.update()
        if not meshes:
            raise AddonError("PLACE_FAILED", tr("{name} holds no mesh").format(name=path.name))
        for obj in meshes:
            obj.data.transform(obj.matrix_world)
            obj.parent = None
            obj.matrix_world = Matrix.Identity(4)
        bpy.data.batch_remove([obj for obj in new if obj.type != "MESH"])
        if len(meshes) > 1:
            with context.temp_override(
                active_object=meshes[0], selected_editable_objects=meshes, selected_objects=meshes
            ):
                bpy.ops.object.join()
            joined = [mesh for mesh in bpy.data.meshes if mesh.session_uid not in before and mesh.users == 0]
            bpy.data.batch_remove(joined)
    return meshes[0]


@contextlib.contextmanager
def _user_state_kept(context: bpy.types.Context) -> Iterator[None]:
    """Selection, active object and active collection. The importer links to the last, which may be hidden, excluded or
    linked from a library: meanwhile it is the scene's own."""
    layer = context.view_layer
    selected, active, home = list(context.selected_objects), layer.objects.active, layer.active_layer_collection
    layer.active_layer_collection = layer.layer_collection
    try:
        yield
    finally:
        layer.active_layer_collection = home
        for obj in list(context.selected_objects):
            if obj not in selected:
                obj.select_set(False)
        for obj in selected:
            obj.select_set(True)
        layer.objects.active = active


def _check_mesh(mesh: bpy.types.Mesh) -> None:
    if not mesh.polygons:
        raise AddonError("PLACE_FAILED", tr("the result has no faces"))
    low, high = mesh_bounds(mesh)
    if not 0.0 < float((high - low).max()) < LARGEST:
        raise AddonError("PLACE_FAILED", tr("the result has no extent"))


def _weld(mesh: bpy.types.Mesh) -> None:
    low, high = mesh_bounds(mesh)
    work = bmesh.new()
    try:
        work.from_mesh(mesh)
        bmesh.ops.remove_doubles(work, verts=work.verts, dist=WELD * float((high - low).max()))
        work.to_mesh(mesh)
    finally:
        work.free()


def _shade(mesh: bpy.types.Mesh, *, smooth: bool) -> None:
    if smooth:
        mesh.shade_smooth()
        mesh.set_sharp_from_angle(angle=SHARP_ANGLE)
    else:
        mesh.shade_flat()
    mesh.update()
