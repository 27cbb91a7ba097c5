"""Four props of our own making: a staved bucket, a slatted chair, a globe and a bent horn."""

import bpy
import numpy as np
from mathutils import Euler, Matrix

from tests.demo.textures import globe_map, staves


def build_scene() -> list[bpy.types.Object]:
    """An empty file with the props at odd places, turned and scaled oddly, over a ground with a sun."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    poses = {
        bucket: ((1.35, -0.8, 0.31), (0.15, -0.2, 0.6), 0.42),
        chair: ((-1.2, 0.4, 0.62), (0.05, 0.03, -0.7), 1.25),
        globe: ((0.3, 1.9, 0.95), (0.3, 0.25, 2.2), 0.8),
        horn: ((0.1, -1.6, 0.22), (0.4, -0.5, 1.3), 0.3),
    }
    props = []
    for make, (location, rotation, size) in poses.items():
        prop = make()
        prop.matrix_world = Matrix.LocRotScale(location, Euler(rotation), (size, size, size))
        props.append(prop)
    props[0].scale.z *= 1.3  # not every prop is scaled evenly
    _ground_and_sun()
    bpy.context.view_layer.update()
    return props


def bucket() -> bpy.types.Object:
    """Open at the top, with a wall of some thickness: what a visual hull cannot see into."""
    profile = [
        (0.0, -1.0),
        (0.7, -1.0),
        (0.73, -0.96),
        (1.0, 0.95),
        (1.0, 1.0),
        (0.9, 1.0),
        (0.88, 0.95),
        (0.64, -0.82),
        (0.0, -0.82),
    ]
    obj = lathe("Bucket", profile, 48)
    _textured(obj, "Staves", staves(512))
    return obj


def globe() -> bpy.types.Object:
    """A ball with a map as fine as the captures can show."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 33)
    obj = lathe("Globe", [(max(0.0, float(np.cos(a))), float(np.sin(a))) for a in angles], 64)
    _textured(obj, "Globe Map", globe_map(1024))
    return obj


def chair() -> bpy.types.Object:
    """Thin legs and slats with air between them."""
    boxes = [((x, y, -0.5), (0.05, 0.05, 0.5)) for x in (-0.42, 0.42) for y in (-0.42, 0.42)]
    boxes += [((0.0, 0.0, 0.03), (0.5, 0.5, 0.04))]
    boxes += [((x, 0.45, 0.55), (0.05, 0.045, 0.5)) for x in (-0.42, 0.42)]
    boxes += [((0.0, 0.45, 0.98), (0.46, 0.04, 0.09))]
    boxes += [((x, 0.45, 0.5), (0.035, 0.03, 0.42)) for x in (-0.22, 0.0, 0.22)]
    boxes += [((x, 0.0, -0.62), (0.03, 0.4, 0.03)) for x in (-0.42, 0.42)]
    boxes += [((0.0, 0.0, 0.1), (0.44, 0.42, 0.05))]
    vertices: list[tuple[float, ...]] = []
    faces: list[tuple[int, ...]] = []
    materials: list[int] = []
    for index, (center, half) in enumerate(boxes):
        base = len(vertices)
        vertices += [
            tuple(c + s * h for c, s, h in zip(center, sign, half, strict=True))
            for sign in [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
        ]
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces += [tuple(base + k for k in quad) for quad in quads]
        materials += [1 if index == len(boxes) - 1 else 0] * 6
    obj = _object("Chair", vertices, faces)
    for name, color in (("Oak", (0.36, 0.19, 0.08)), ("Cushion", (0.55, 0.05, 0.07))):
        obj.data.materials.append(_plain(name, color))
    obj.data.polygons.foreach_set("material_index", materials)
    return obj


def horn() -> bpy.types.Object:
    """A tapering, winding tube, painted by a color attribute in rings."""
    steps, around = 72, 24
    t = np.linspace(0.0, 1.0, steps)
    angle = 1.6 * np.pi * t
    center = np.stack([(1.0 - 0.35 * t) * np.cos(angle), (1.0 - 0.35 * t) * np.sin(angle), 0.9 * t - 0.45], axis=1)
    tangent = np.gradient(center, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    radius = (0.34 * (1 - t) ** 0.8 + 0.03) * (1 + 0.08 * np.sin(40 * np.pi * t))
    phi = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ring = np.cos(phi)[None, :, None] * side[:, None] + np.sin(phi)[None, :, None] * up[:, None]
    vertices = (center[:, None] + radius[:, None, None] * ring).reshape(-1, 3)
    faces = _tube_faces(steps, around)
    faces += [tuple(reversed(range(around))), tuple(range((steps - 1) * around, steps * around))]
    obj = _object("Horn", vertices.tolist(), [face[::-1] for face in faces])
    colors = np.stack([0.75 - 0.55 * t, 0.6 - 0.5 * t, 0.38 - 0.3 * t, np.ones_like(t)], axis=1)
    colors[(np.arange(steps) // 6) % 2 == 1, :3] *= 0.55
    paint = obj.data.color_attributes.new("Paint", "FLOAT_COLOR", "POINT")
    paint.data.foreach_set("color", np.repeat(colors, around, axis=0).astype(np.float32).ravel())
    material, shader = _material("Horn")
    node = material.node_tree.nodes.new("ShaderNodeVertexColor")
    node.layer_name = "Paint"
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    obj.data.materials.append(material)
    obj.data.shade_smooth()
    return obj


def lathe(name: str, profile: list[tuple[float, float]], segments: int) -> bpy.types.Object:
    """Turn (radius, height) around the vertical axis, from the middle below to the middle above (or inside)."""
    rows = np.array(profile)
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    vertices = np.concatenate(
        [rows[:, None, :1] * ring[None], np.broadcast_to(rows[:, None, 1:], (len(rows), segments, 1))], axis=2
    )
    obj = _object(name, vertices.reshape(-1, 3).tolist(), _tube_faces(len(rows), segments))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rows, axis=0), axis=1))])
    v = length / length[-1]
    uvs = []
    for i in range(len(rows) - 1):
        for j in range(segments):
            u0, u1 = j / segments, (j + 1) / segments
            uvs += [(u0, v[i]), (u1, v[i]), (u1, v[i + 1]), (u0, v[i + 1])]
    layer = obj.data.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", np.array(uvs, dtype=np.float32).ravel())
    obj.data.shade_smooth()
    return obj


def _tube_faces(rows: int, around: int) -> list[tuple[int, ...]]:
    return [
        (i * around + j, i * around + (j + 1) % around, (i + 1) * around + (j + 1) % around, (i + 1) * around + j)
        for i in range(rows - 1)
        for j in range(around)
    ]


def _object(name: str, vertices: list, faces: list) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _material(name: str) -> tuple[bpy.types.Material, bpy.types.Node]:
    material = bpy.data.materials.new(name)
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.8
    return material, shader


def _plain(name: str, color: tuple[float, float, float]) -> bpy.types.Material:
    material, shader = _material(name)
    shader.inputs["Base Color"].default_value = (*color, 1.0)
    return material


def _textured(obj: bpy.types.Object, name: str, pixels: np.ndarray) -> None:
    height, width, _ = pixels.shape
    image = bpy.data.images.new(name, width, height)
    rgba = np.concatenate([pixels, np.ones((height, width, 1))], axis=2)[::-1]
    image.pixels.foreach_set(np.ascontiguousarray(rgba, dtype=np.float32).ravel())
    image.pack()
    material, shader = _material(name)
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    obj.data.materials.append(material)


def _ground_and_sun() -> None:
    ground = _object("Ground", [(-4, -4, -0.35), (4, -4, -0.35), (4, 4, -0.35), (-4, 4, -0.35)], [(0, 1, 2, 3)])
    ground.data.materials.append(_plain("Ground", (0.35, 0.34, 0.32)))
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3.0, (0.7, 0.2, 0.4)
    bpy.context.scene.collection.objects.link(sun)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0.0, -7.5, 4.2), (1.08, 0.0, 0.0)
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
