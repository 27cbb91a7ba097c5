"""Numbers of a mesh as arrays. Attributes are copied as a block; positions and corners of `mesh.vertices`, `mesh.loops` one by one,
which takes ten times as long (measured in 4.2 to 5.2)."""

import bpy
import numpy as np


def positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(N, 3) float32. In Edit Mode as they were before."""
    return _read(mesh, "position", "vector", mesh.vertices, "co", width=3, kind=np.float32).reshape(-1, 3)


def bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of (N, 3) points, (3,) float64 each; zeros when there are none."""
    if not len(points):
        return np.zeros(3), np.zeros(3)
    # Column by column: along the first axis of such a narrow array numpy takes ten times as long.
    low, high = zip(*((column.min(), column.max()) for column in points.T), strict=True)
    return np.array(low, np.float64), np.array(high, np.float64)


def corner_vertices(mesh: bpy.types.Mesh) -> np.ndarray:
    """(C,) int32, which vertex each corner of the faces is."""
    return _read(mesh, ".corner_vert", "value", mesh.loops, "vertex_index", width=1, kind=np.int32)


def material_indices(mesh: bpy.types.Mesh) -> np.ndarray:
    """(F,) int32."""
    if "material_index" not in mesh.attributes:  # then all faces have the first material
        return np.zeros(len(mesh.polygons), np.int32)
    return _read(mesh, "material_index", "value", mesh.polygons, "material_index", width=1, kind=np.int32)


def loop_starts(mesh: bpy.types.Mesh) -> np.ndarray:
    """(F,) int32, the first corner of each face."""
    if len(mesh.loops) == 3 * len(mesh.polygons):  # triangles only, and Blender gives the starts one by one
        return np.arange(0, len(mesh.loops), 3, dtype=np.int32)
    values = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", values)
    return values


def uvs(layer: bpy.types.MeshUVLoopLayer) -> np.ndarray:
    """(C, 2) float32."""
    values = np.empty(2 * len(layer.uv), np.float32)
    layer.uv.foreach_get("vector", values)
    return values.reshape(-1, 2)


def fill(mesh: bpy.types.Mesh, vertices: np.ndarray, corners: np.ndarray, corner_uvs: np.ndarray | None) -> None:
    """Give an empty mesh triangles.

    Args:
        vertices: (N, 3) float32.
        corners: (F, 3) int32, none named twice by a face: nothing is checked any more.
        corner_uvs: (F, 3, 2) float32, which become the layer UVMap.
    """
    mesh.vertices.add(len(vertices))
    mesh.loops.add(corners.size)
    mesh.polygons.add(len(corners))
    mesh.attributes["position"].data.foreach_set("vector", vertices.reshape(-1))
    _corner_attribute(mesh).data.foreach_set("value", corners.reshape(-1))
    mesh.polygons.foreach_set("loop_start", np.arange(0, corners.size, 3, dtype=np.int32))
    if corner_uvs is not None:
        layer = mesh.uv_layers.new(name="UVMap", do_init=False)
        layer.uv.foreach_set("vector", corner_uvs.reshape(-1))
    mesh.update(calc_edges=True)


def _corner_attribute(mesh: bpy.types.Mesh) -> bpy.types.Attribute:
    name = ".corner_vert"
    return mesh.attributes[name] if name in mesh.attributes else mesh.attributes.new(name, "INT", "CORNER")


def _read(
    mesh: bpy.types.Mesh,
    name: str,
    field: str,
    sequence: bpy.types.bpy_prop_collection,
    sequence_field: str,
    *,
    width: int,
    kind: type[np.generic],
) -> np.ndarray:
    values = np.empty(width * len(sequence), kind)
    attribute = mesh.attributes.get(name)
    if attribute is not None and len(attribute.data) == len(sequence):  # else Edit Mode holds them
        attribute.data.foreach_get(field, values)
    else:
        sequence.foreach_get(sequence_field, values)
    return values
