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


@pytest.mark.parametrize("with_depth", [True, False])
def test_a_cube_at_an_odd_pose_returns_with_its_corners_within_a_hundredth(addon, scene, with_depth):
    size = 2.7
    pose = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (1.0, 1.0, 1.0))
    cube = props.add_cube(size=size, matrix=pose)
    _, tree, output = props.new_material("red", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear((200, 60, 40))
    addon.api.generate(
        [cube],
        capture_settings=addon.capture.CaptureSettings(num_views=8, with_depth=with_depth),
        options=addon.request.JobOptions(quality="draft"),
        timeout=400,
    )
    result = next(obj for obj in bpy.data.objects if obj.mvgamba.kind == "CAPTURE")
    inverse = np.linalg.inv(np.array(pose))
    points = props.world_vertices(result) @ inverse[:3, :3].T + inverse[:3, 3]
    corners = 0.5 * size * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    # The corner of a reconstruction is rounded by the width of a voxel; where its three sides meet is not. So each
    # corner is that of the planes through the middles of its sides.
    found = np.empty((3, 2))
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        middle = np.abs(points[:, others]).max(axis=1) < 0.4 * size
        for side, sign in enumerate((-1, 1)):
            found[axis, side] = np.median(points[middle & (sign * points[:, axis] > 0.25 * size), axis])
    measured = np.array([[x, y, z] for x in found[0] for y in found[1] for z in found[2]])
    errors = np.linalg.norm(measured - corners, axis=1) / size
    assert errors.max() < 0.01, errors
    nearest = np.linalg.norm(points[None] - corners[:, None], axis=-1).min(axis=1) / size
    assert nearest.max() < 0.03, nearest


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
