"""The real pipeline behind the extension: what is captured comes back in its place, at its size."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


def test_a_cube_at_an_odd_pose_returns_with_its_corners_within_a_hundredth(addon, scene):
    size = 2.7
    pose = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (1.0, 1.0, 1.0))
    cube = props.add_cube(size=size, matrix=pose)
    _, tree, output = props.new_material("red", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear((200, 60, 40))
    addon.api.generate(
        [cube],
        capture_settings=addon.capture.CaptureSettings(num_views=16),
        options=addon.request.JobOptions(quality="standard"),
        timeout=400,
    )
    result = next(obj for obj in bpy.data.objects if obj.mvgamba.kind == "CAPTURE")
    inverse = np.linalg.inv(np.array(pose))
    points = surface_points(result) @ inverse[:3, :3].T + inverse[:3, 3]
    corners = 0.5 * size * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    errors = np.linalg.norm(points[None] - corners[:, None], axis=-1).min(axis=1) / size
    assert errors.max() < 0.01, errors


def surface_points(obj, count=200_000):
    """Points spread over the surface, in the world."""
    vertices = props.world_vertices(obj)
    obj.data.calc_loop_triangles()
    triangles = vertices[np.array([t.vertices[:] for t in obj.data.loop_triangles])]
    edges = triangles[:, 1:] - triangles[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    rng = np.random.default_rng(0)
    chosen, weights = rng.choice(len(areas), count, p=areas / areas.sum()), rng.random((count, 2))
    weights = np.where(weights.sum(axis=1, keepdims=True) > 1, 1 - weights, weights)
    return triangles[chosen, 0] + (weights[:, :, None] * edges[chosen]).sum(axis=1)


def test_the_colour_of_a_result_is_that_of_its_source(addon, scene):
    cube = props.add_cube(size=0.3, matrix=Matrix.Translation((0.0, 5.0, 1.0)))
    _, tree, output = props.new_material("blue", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear((40, 90, 200))
    addon.api.generate(
        [cube],
        capture_settings=addon.capture.CaptureSettings(num_views=8, image_size=256),
        options=addon.request.JobOptions(quality="draft", texture_size=256),
        timeout=400,
    )
    result = next(obj for obj in bpy.data.objects if obj.mvgamba.kind == "CAPTURE")
    nodes = result.data.materials[0].node_tree.nodes
    image = next(node.image for node in nodes if node.type == "TEX_IMAGE")
    pixels = np.empty(4 * image.size[0] * image.size[1], dtype=np.float32)
    image.pixels.foreach_get(pixels)
    color = np.median(255 * pixels.reshape(-1, 4)[:, :3], axis=0)
    assert np.abs(color - (40, 90, 200)).max() < 4, color
