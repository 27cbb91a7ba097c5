"""Results that are put on a surface: the ray, the box that is shown, and the operator as a script calls it."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender


@pytest.fixture
def row(addon, scene, tmp_path, request_for):
    """A result that waits for a click: a box 1 wide, 0.5 deep and 2 high, to be 4 high."""
    board = addon.session().board
    row = board.add(request_for(mode="SURFACE", size=4.0))
    row.state = addon.jobs.JobState.READY
    row.result_path = props.box_glb(tmp_path / "mesh.glb", (0.2, -0.1, -1.0), (1.2, 0.4, 1.0))
    yield row
    board.rows.clear()


def surface_under(addon, origin, direction):
    return addon.module("scene.surface").surface_under(bpy.context, np.array(origin), np.array(direction))


def test_a_ray_finds_the_surface_and_the_side_that_is_seen(addon, scene):
    props.add_cube(size=2.0, matrix=Matrix.Translation((0, 0, 5)))
    location, normal = surface_under(addon, (0.1, 0.2, 20.0), (0.0, 0.0, -1.0))
    np.testing.assert_allclose(location, (0.1, 0.2, 6.0), atol=1e-5)
    np.testing.assert_allclose(normal, (0, 0, 1), atol=1e-5)
    location, normal = surface_under(addon, (0.1, 0.2, 5.0), (0.0, 0.0, -1.0))  # from inside
    np.testing.assert_allclose(location, (0.1, 0.2, 4.0), atol=1e-5)
    np.testing.assert_allclose(normal, (0, 0, 1), atol=1e-5)


def test_a_ray_that_meets_nothing_finds_the_ground(addon, scene):
    hidden = props.add_cube(size=2.0, matrix=Matrix.Translation((0, 0, 5)))
    hidden.hide_set(True)
    location, normal = surface_under(addon, (1.0, 2.0, 20.0), (0.0, 0.5, -1.0))
    np.testing.assert_allclose(location, (1.0, 12.0, 0.0), atol=1e-5)
    np.testing.assert_allclose(normal, (0, 0, 1))
    assert surface_under(addon, (1.0, 2.0, 20.0), (0.0, 0.5, 1.0)) is None


def test_the_box_that_is_shown_is_the_one_that_is_placed(addon, row):
    preview = addon.module("ui.surface").preview_of(row)
    normal, turn = (0.3, -0.5, 0.8), 0.7
    assert bpy.ops.mvgamba.place_on_surface(
        request_id=row.id, location=(1, 2, 3), normal=normal, turn=turn, align=True
    ) == {"FINISHED"}
    (result,) = [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]
    matrix = addon.module("core.placing").surface_matrix(np.array([1, 2, 3]), np.array(normal), turn, align=True)
    corners = addon.module("core.placing").box_corners(preview.low, preview.high)
    shown = corners @ matrix[:3, :3].T + matrix[:3, 3]
    placed = props.world_vertices(result)
    assert np.linalg.norm(shown[:, None] - placed[None], axis=-1).min(axis=1).max() < 1e-5
    assert row.text == "Placed" and preview.high[2] == pytest.approx(4.0)


def test_upright_stays_upright_on_a_slope(row):
    bpy.ops.mvgamba.place_on_surface(request_id=row.id, location=(1, 2, 3), normal=(1, 0, 1), turn=0.5)
    (result,) = [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]
    np.testing.assert_allclose(result.rotation_euler, Euler((0, 0, 0.5)), atol=1e-6)
    np.testing.assert_allclose(result.location, (1, 2, 3), atol=1e-6)


def test_placing_on_a_surface_is_refused_while_the_user_is_busy(row):
    bpy.context.view_layer.objects.active = props.add_cube()
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Leave Edit Mode to place"):
        bpy.ops.mvgamba.place_on_surface(request_id=row.id)
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_result_that_cannot_be_read_fails_its_row(addon, row):
    row.result_path.write_bytes(row.result_path.read_bytes()[:100])
    with pytest.raises(RuntimeError, match="is cut"):
        bpy.ops.mvgamba.place_on_surface(request_id=row.id)
    assert row.state is addon.jobs.JobState.FAILED and row.reason == "PLACE_FAILED"


def test_a_job_that_waits_for_a_click_cannot_be_waited_for(addon, scene):
    cube = props.add_cube()
    with pytest.raises(addon.errors.AddonError, match="use wait=False"):
        addon.api.generate([cube], placement="SURFACE")
    with pytest.raises(addon.errors.AddonError, match="use wait=False"):
        addon.api.generate_from(addon.request.TextInput("a barrel"), placement="SURFACE")
    with pytest.raises(addon.errors.AddonError, match="only captures"):
        addon.api.generate_from(addon.request.TextInput("a barrel"), placement="MATCH")
