"""Small subjects and ways to look at what came back."""

import json
import struct
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from PIL import Image


def add_cube(name="Cube", *, size=1.0, matrix=None):
    """A cube of edge length `size` around its origin."""
    mesh = bpy.data.meshes.new(name)
    h = 0.5 * size
    corners = [(x, y, z) for x in (-h, h) for y in (-h, h) for z in (-h, h)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh.from_pydata(corners, [], faces)
    mesh.uv_layers.new(name="UVMap")
    obj = bpy.data.objects.new(name, mesh)
    obj.matrix_world = matrix or Matrix.Identity(4)
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    return obj


def new_material(name, obj=None):
    """A material with an output and nothing else."""
    material = bpy.data.materials.new(name)
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    material.node_tree.nodes.clear()
    output = material.node_tree.nodes.new("ShaderNodeOutputMaterial")
    if obj is not None:
        obj.data.materials.append(material)
    return material, material.node_tree, output


def principled(tree, output):
    node = tree.nodes.new("ShaderNodeBsdfPrincipled")
    tree.links.new(node.outputs[0], output.inputs["Surface"])
    return node


def srgb_to_linear(value):
    """Of one 8-bit channel."""
    c = value / 255
    return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4


def linear(color):
    """8-bit sRGB -> the RGBA that a color socket wants."""
    return (*(srgb_to_linear(value) for value in color), 1.0)


def solid_image(name, color, *, colorspace="sRGB"):
    image = bpy.data.images.new(name, 8, 8)
    image.colorspace_settings.name = colorspace
    image.pixels.foreach_set(np.tile([*(value / 255 for value in color), 1.0], 64).astype(np.float32))
    image.pack()
    return image


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        return np.array(image)


def colors_of(path: Path) -> np.ndarray:
    """(N, 3) of all pixels that the subject covers wholly."""
    pixels = read(path).reshape(-1, 4)
    return pixels[pixels[:, 3] == 255, :3].astype(int)


def write_glb(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    """The smallest GLB that holds a mesh: positions and triangles, in the axes of glTF."""
    positions = np.ascontiguousarray(vertices, dtype="<f4")
    indices = np.ascontiguousarray(faces, dtype="<u4")
    blob = positions.tobytes() + indices.tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "mesh"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 4}]}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(positions),
                "type": "VEC3",
                "min": positions.min(axis=0).tolist(),
                "max": positions.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": 5125, "count": indices.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": positions.nbytes},
            {"buffer": 0, "byteOffset": positions.nbytes, "byteLength": indices.nbytes},
        ],
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def glb_of(path: Path, obj) -> Path:
    """What a perfect backend would send: the vertices of `obj` where they are in the world, in the axes of glTF."""
    points = world_vertices(obj) @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    obj.data.calc_loop_triangles()
    triangles = np.array([t.vertices[:] for t in obj.data.loop_triangles])
    return write_glb(path, points, triangles if obj.matrix_world.determinant() > 0 else triangles[:, ::-1])


def box_glb(path: Path, low, high) -> Path:
    """A box between two corners of Blender's world, in the axes of glTF."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    corners = [
        [high[0] if i & 4 else low[0], high[1] if i & 2 else low[1], high[2] if i & 1 else low[2]] for i in range(8)
    ]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    points = np.array(corners) @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return write_glb(path, points, np.array(triangles))


def signed_volume(obj) -> float:
    """In the world; positive when the faces look outward."""
    points = world_vertices(obj)
    points -= points.mean(axis=0)
    obj.data.calc_loop_triangles()
    corners = points[np.array([t.vertices[:] for t in obj.data.loop_triangles])]
    volume = float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()) / 6
    return volume if obj.matrix_world.determinant() > 0 else -volume


def world_vertices(obj) -> np.ndarray:
    points = np.empty(3 * len(obj.data.vertices), dtype=np.float32)
    obj.data.vertices.foreach_get("co", points)
    matrix = np.array(obj.matrix_world, dtype=np.float64)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def state_of_file() -> dict:
    """What a capture must not change, in a form that can be compared."""
    scene = bpy.context.scene
    state = {
        "datablocks": {
            name: sorted(item.name for item in getattr(bpy.data, name))
            for name in ("scenes", "objects", "meshes", "materials", "node_groups", "images", "cameras", "worlds")
        },
        "users": {material.name: material.users for material in bpy.data.materials},
        "scene": bpy.context.scene.name,
        "active": bpy.context.view_layer.objects.active and bpy.context.view_layer.objects.active.name,
        "selected": sorted(obj.name for obj in bpy.context.selected_objects),
        "mode": bpy.context.mode,
        "frame": scene.frame_current,
        "camera": scene.camera and scene.camera.name,
        "dirty": bpy.data.is_dirty,
        "objects": {
            obj.name: (
                [list(row) for row in obj.matrix_world],
                obj.hide_render,
                obj.hide_get(),
                [slot.material and slot.material.name for slot in obj.material_slots],
                len(obj.modifiers),
            )
            for obj in scene.objects
        },
        "nodes": {
            material.name: sorted((node.name, node.type) for node in material.node_tree.nodes)
            for material in bpy.data.materials
            if material.node_tree
        },
    }
    for group in ("render", "view_settings", "display_settings", "cycles"):
        data = getattr(scene, group)
        state[group] = {
            prop.identifier: str(getattr(data, prop.identifier))
            for prop in data.bl_rna.properties
            if prop.type in ("BOOLEAN", "INT", "FLOAT", "ENUM", "STRING") and not prop.is_readonly
        }
    return state


def save_png(path, *, size=24):
    """A picture file: a red square on nothing."""
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[size // 4 : -size // 4, size // 4 : -size // 4] = (200, 40, 30, 255)
    Image.fromarray(pixels).save(path)
    return Path(path)
