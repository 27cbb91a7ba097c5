"""Results of own cameras, made again after their pictures were deleted."""

import json

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix, Vector  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.usefixtures("fake_backend"),
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]

COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (200, 30, 200), (30, 200, 200)]
SEEN_FROM = ((4.0, -5.0, 2.0), (-3.0, -4.0, 3.5), (1.0, 5.0, -2.0))
MOVES = {
    "moved": Matrix.Translation((30, -20, 7)),
    "turned": Matrix.LocRotScale((1, 2, 3), Euler((0.4, -0.9, 2.1)), None),
    "scaled": Matrix.LocRotScale((-3, 0, 1), Euler((0, 0, 1.0)), (2.5, 2.5, 2.5)),
}


@pytest.fixture
def barrel(scene):
    """A cube that is another colour on each side, so that a picture says from where it was taken."""
    cube = props.add_cube("Barrel")
    for number, color in enumerate(COLORS):
        _, tree, output = props.new_material(f"side {number}", cube)
        props.principled(tree, output).inputs["Base Color"].default_value = props.linear(color)
        cube.data.polygons[number].material_index = number
    return cube


@pytest.fixture
def cameras(scene):
    return [add_camera(f"Own {k}", location, lens=40 + 5 * k) for k, location in enumerate(SEEN_FROM)]


def add_camera(name, location, **data):
    """Looks at the origin, with a shifted lens."""
    obj = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    bpy.context.scene.collection.objects.link(obj)
    obj.location = location
    obj.rotation_euler = (-Vector(location)).to_track_quat("-Z", "Y").to_euler()
    obj.data.shift_x, obj.data.shift_y = 0.05, -0.03
    for key, value in data.items():
        setattr(obj.data, key, value)
    bpy.context.view_layer.update()
    return obj


@pytest.fixture
def make(addon):
    """Captures objects and gives the result and its row; rows are cleared afterwards."""

    def make(objects, cameras, **settings):
        settings = {"num_views": 4, "image_size": 64, "with_depth": False, **settings}
        row = addon.api.generate(
            objects,
            cameras=cameras,
            capture_settings=addon.capture.CaptureSettings(**settings),
            options=addon.request.JobOptions(quality="draft"),
        )
        return next(obj for obj in bpy.data.objects if obj.mvgamba.kind == "CAPTURE"), row

    yield make
    for row in addon.session().board.rows:
        addon.session().cancel(row)
    addon.session().board.rows.clear()


def delete_pictures(row):
    for path in row.request.files():
        path.unlink()


def pictures(row):
    return [props.read(view.image_path).astype(int) for view in row.request.views]


def assert_same_pictures(before, row):
    """Up to the edges between two colours, where rounding may decide."""
    after = pictures(row)
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert (np.abs(a - b).max(axis=-1) > 2).mean() < 0.01


def middle_and_length(obj):
    """Of the mesh, in the axes of the object, whichever way it is turned."""
    points = np.array([vertex.co for vertex in obj.data.vertices])
    middle = points.mean(axis=0)
    return [*middle, np.linalg.norm(points - middle, axis=1).max()]


@pytest.mark.parametrize("move", MOVES)
def test_own_cameras_follow_the_subject_and_need_not_be_there(addon, barrel, cameras, make, move):
    result, row = make([barrel], cameras)
    before = pictures(row)
    lies = middle_and_length(result)
    delete_pictures(row)
    for camera in cameras:
        bpy.data.objects.remove(camera)
    barrel.matrix_world = MOVES[move] @ barrel.matrix_world
    bpy.context.view_layer.update()
    again = addon.api.regenerate(result, wait=True)
    assert_same_pictures(before, again)
    assert again.request.capture["cameras"] == "own" and again.request.views[0].shift == row.request.views[0].shift
    assert result.mvgamba.request_id == again.id
    # The scripted mesh is a cube around the point that the cameras look at: it lies in the place of the first one.
    np.testing.assert_allclose(middle_and_length(result), lies, atol=1e-3)
    # And once more, from what the second one remembers.
    delete_pictures(again)
    barrel.matrix_world = MOVES["turned"] @ barrel.matrix_world
    bpy.context.view_layer.update()
    third = addon.api.regenerate(result, wait=True)
    assert_same_pictures(before, third)
    np.testing.assert_allclose(middle_and_length(result), lies, atol=1e-3)


def test_cameras_that_were_moved_count_as_they_were(addon, barrel, cameras, make):
    result, row = make([barrel], cameras)
    before = pictures(row)
    delete_pictures(row)
    for camera in cameras:
        camera.location += Vector((9, 9, 9))
    assert_same_pictures(before, addon.api.regenerate(result, wait=True))


def test_the_first_of_several_objects_leads(addon, barrel, cameras, make):
    other = props.add_cube("Lid", size=0.4, matrix=Matrix.Translation((0, 0, 0.8)))
    result, row = make([barrel, other], cameras)
    before = pictures(row)
    delete_pictures(row)
    for obj in (barrel, other):
        obj.matrix_world = MOVES["scaled"] @ obj.matrix_world
    bpy.context.view_layer.update()
    assert_same_pictures(before, addon.api.regenerate(result, wait=True))
    # When it is gone the sphere around the others leads.
    bpy.data.objects.remove(barrel)
    delete_pictures(addon.session().board.rows[0])
    again = addon.api.regenerate(result, wait=True)
    assert all((picture[..., 3] > 0).any() for picture in pictures(again))


def test_a_rig_is_taken_up_again_after_it_was_removed(addon, scene, barrel, make):
    barrel.select_set(True)
    scene.mvgamba.capture_views = "4"
    assert bpy.ops.mvgamba.rig_add() == {"FINISHED"}
    own = addon.module("scene.own_cameras")
    nudged = scene.objects["MVGamba Rig 01"]
    nudged.location.z += 1.0
    bpy.context.view_layer.update()
    result, row = make([barrel], own.chosen_cameras(bpy.context))
    before = pictures(row)
    bpy.context.view_layer.objects.active = scene.objects["MVGamba Rig"]
    scene.objects["MVGamba Rig"].select_set(True)
    assert bpy.ops.mvgamba.rig_remove() == {"FINISHED"}
    delete_pictures(row)
    barrel.matrix_world = MOVES["turned"]
    bpy.context.view_layer.update()
    assert_same_pictures(before, addon.api.regenerate(result, wait=True))


def test_words_change_what_the_own_cameras_see_of_the_result(addon, barrel, cameras, make):
    result, row = make([barrel], cameras)
    before = pictures(row)
    bpy.data.objects.remove(barrel)
    for corner in result.data.vertices:  # by hand, so it is captured as it stands
        corner.co *= 0.6
    result.matrix_world = MOVES["scaled"]
    bpy.context.view_layer.update()
    varied = addon.api.vary(result, "of stone", wait=True)
    assert varied.request.capture["rig"] == row.request.capture["rig"] and len(varied.request.views) == 3
    for there, here in zip(before, pictures(varied), strict=True):
        rows, columns = np.nonzero(there[..., 3] > 127)
        size = len(here) / len(there)
        middle = np.array([rows.min() + rows.max() + 1, columns.min() + columns.max() + 1]) * 0.5 * size
        rows, columns = np.nonzero(here[..., 3] > 127)
        np.testing.assert_allclose(
            [0.5 * (rows.min() + rows.max() + 1), 0.5 * (columns.min() + columns.max() + 1)],
            middle,
            atol=0.05 * len(here),
        )
    again = addon.api.vary(result, "of wood", wait=True)  # the backend has it now, and the cameras are still known
    assert again.request.source.job_id and again.request.capture["rig"] == row.request.capture["rig"]


def test_a_ring_is_laid_as_the_first_one_when_its_subject_was_turned(addon, barrel, make):
    result, row = make([barrel], None)
    lies = middle_and_length(result)
    assert "rig" not in row.request.capture
    delete_pictures(row)
    barrel.matrix_world = Matrix.LocRotScale((3, 1, 0), Euler((0, 0, 0.5)), (2, 2, 2))
    bpy.context.view_layer.update()
    again = addon.api.regenerate(result, wait=True)
    assert again.request.capture["cameras"] == "ring"
    np.testing.assert_allclose(middle_and_length(result)[:3], lies[:3], atol=1e-3)


def test_a_record_of_an_older_version_falls_back_to_the_ring_and_says_so(addon, barrel, cameras, make):
    result, row = make([barrel], cameras)
    delete_pictures(row)
    for key in ("rig", "subject"):
        record = json.loads(result.mvgamba.settings_json)
        del record["capture"][key]
        result.mvgamba.settings_json = json.dumps(record)
        path = row.result_path.parent / "request.json"
        table = json.loads(path.read_text())
        del table["capture"][key]
        path.write_text(json.dumps(table))
    again = addon.api.regenerate(result, wait=True)
    assert len(again.request.views) == 4 and again.request.capture["cameras"] == "ring"
    assert any("ring" in line for line in again.log_lines)


def test_cameras_that_cannot_be_read_are_a_sentence(addon, barrel, cameras, make):
    result, row = make([barrel], cameras)
    delete_pictures(row)
    (row.result_path.parent / "request.json").unlink()
    record = json.loads(result.mvgamba.settings_json)
    record["capture"]["rig"][0]["c2w"] = [1, 2]
    result.mvgamba.settings_json = json.dumps(record)
    with pytest.raises(addon.errors.AddonError, match="cannot be read"):
        addon.api.regenerate(result)
