"""Captures from the cameras of the file, and from a rig made real."""

import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix, Vector  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def own(addon):
    return addon.module("scene.own_cameras")


@pytest.fixture
def take(addon, scene, tmp_path):
    def take(cameras, *objects, **settings):
        settings = {"image_size": 100, "samples": 1, "with_depth": False, **settings}
        settings = addon.capture.CaptureSettings(**settings)
        return addon.capture.capture(bpy.context, objects, settings, tmp_path, cameras=cameras)

    return take


def add_camera(name, location, *, target=(0, 0, 0), **data):
    """A camera object that looks at `target`."""
    obj = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    for key, value in data.items():
        setattr(obj.data, key, value)
    bpy.context.scene.collection.objects.link(obj)
    obj.location = location
    obj.rotation_euler = (Vector(target) - Vector(location)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.view_layer.update()
    return obj


def assert_seen_where_it_is(view, points):
    fx, fy, cx, cy = view.intrinsics
    local = (points - view.c2w[:3, 3]) @ view.c2w[:3, :3]
    x, y = cx + fx * local[:, 0] / -local[:, 2], cy - fy * local[:, 1] / -local[:, 2]
    rows, columns = np.nonzero(props.read(view.image_path)[..., 3] > 127)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, [x.min(), y.min(), x.max(), y.max()], atol=1.0)


@pytest.mark.parametrize("resolution", [(1920, 1080), (1080, 1920), (500, 500)])
@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
def test_pictures_are_those_of_the_camera_with_a_border(take, scene, resolution, fit):
    scene.render.resolution_x, scene.render.resolution_y = resolution
    cube = props.add_cube(matrix=ODD)
    camera = add_camera(
        "Mine", (6, -9, 4), target=(3, -2, 0.7), lens=50, sensor_fit=fit, sensor_width=36, sensor_height=24,
        shift_x=0.08, shift_y=-0.05,
    )  # fmt: skip
    points = props.world_vertices(cube)
    (view,) = take([camera], cube).views
    assert_seen_where_it_is(view, points)
    # The same as Blender itself says where a point is in its picture, once the border is taken off.
    from bpy_extras.object_utils import world_to_camera_view

    longer = max(resolution)
    scale = 100 / longer
    fx, fy, cx, cy = view.intrinsics
    for point in points:
        u, v, _depth = world_to_camera_view(scene, camera, Vector(point))
        local = (point - view.c2w[:3, 3]) @ view.c2w[:3, :3]
        theirs = [50 + scale * resolution[0] * (u - 0.5), 50 - scale * resolution[1] * (v - 0.5)]
        np.testing.assert_allclose([cx + fx * local[0] / -local[2], cy - fy * local[1] / -local[2]], theirs, atol=1e-2)


def test_a_scaled_parent_does_not_scale_the_camera(take, scene):
    parent = bpy.data.objects.new("Handle", None)
    scene.collection.objects.link(parent)
    parent.scale = (2.0, 2.0, 2.0)
    cube, camera = props.add_cube(), add_camera("Mine", (0, -2, 0))
    camera.parent = parent
    bpy.context.view_layer.update()
    (view,) = take([camera], cube).views
    np.testing.assert_allclose(view.c2w[:3, 3], [0, -4, 0], atol=1e-6)
    np.testing.assert_allclose(view.c2w[:3, :3] @ view.c2w[:3, :3].T, np.eye(3), atol=1e-6)
    assert_seen_where_it_is(view, props.world_vertices(cube))


def test_a_camera_inside_the_subject_sees_it(take):
    walls = props.add_cube("Walls", size=4.0)
    (view,) = take([add_camera("Inside", (0, 0, 0), target=(0, 1, 0))], walls, with_depth=True).views
    assert props.read(view.image_path)[..., 3].min() == 255
    assert np.load(view.depth_path)[50, 50] == pytest.approx(2.0, rel=1e-3)


def test_cameras_that_cannot_capture_are_refused_by_name(take, addon):
    cube = props.add_cube()
    good, flat = add_camera("Good", (0, -5, 0)), add_camera("Flat", (0, -5, 0), type="ORTHO")
    round_ = add_camera("Round", (0, -5, 0), type="PANO")
    away = add_camera("Away", (0, -5, 0), target=(0, -9, 0))
    with pytest.raises(addon.errors.AddonError, match="only perspective .*: Flat, Round"):
        take([good, flat, round_], cube)
    with pytest.raises(addon.errors.AddonError, match="look away from the subject: Away"):
        take([good, away], cube)
    with pytest.raises(addon.errors.AddonError, match="select cameras"):
        take([], cube)


def test_few_cameras_come_with_a_warning(own):
    assert "one side" in own.few_cameras_warning(1)
    assert "3 cameras" in own.few_cameras_warning(3)
    assert own.few_cameras_warning(4) == "" and own.few_cameras_warning(0) == ""


def test_cameras_come_from_the_collection_else_from_the_selection(own, scene):
    settings = scene.mvgamba
    selected, other, off = (add_camera(name, (0, -5, 0)) for name in ("B", "A", "Off"))
    chosen = bpy.data.collections.new("Chosen")
    for obj in (other, off, props.add_cube()):
        chosen.objects.link(obj)
    off.hide_viewport = True
    selected.select_set(True)
    assert own.chosen_cameras(bpy.context) is None  # the ring
    settings.capture_cameras = "OWN"
    assert [obj.name for obj in own.chosen_cameras(bpy.context)] == ["B"]
    settings.capture_collection = chosen
    assert [obj.name for obj in own.chosen_cameras(bpy.context)] == ["A"]


@pytest.fixture
def subject(scene):
    cube = props.add_cube("Barrel", matrix=ODD)
    cube.select_set(True)
    bpy.context.view_layer.objects.active = cube
    return cube


def only_select(*objects):
    for obj in bpy.context.scene.objects:
        obj.select_set(obj in objects)


def test_a_rig_stands_where_the_ring_would(addon, own, scene, subject, take, tmp_path):
    scene.mvgamba.capture_views = "8"
    ring = addon.capture.capture(
        bpy.context, [subject], addon.capture.CaptureSettings(num_views=8, image_size=32, samples=1), tmp_path / "ring"
    )
    assert bpy.ops.mvgamba.rig_add() == {"FINISHED"}
    rig = scene.objects["MVGamba Rig"]
    assert rig.select_get() and [c.name for c in rig.users_collection] == ["MVGamba Rig"]
    cameras = own.chosen_cameras(bpy.context)
    views = take(cameras, subject).views
    for a, b in zip(ring.views, views, strict=True):
        np.testing.assert_allclose(a.c2w, b.c2w, atol=1e-5)
        assert a.fovy == pytest.approx(b.fovy, rel=1e-5) and b.shift == pytest.approx((0, 0), abs=1e-6)


def test_generate_takes_what_the_rig_was_made_for(addon, own, scene, subject):
    other = props.add_cube("Other")
    bpy.ops.mvgamba.rig_add()
    captured = addon.module("scene.subject").captured_objects
    only_select(scene.objects["MVGamba Rig 03"])  # one camera of it
    assert captured(bpy.context) == [subject] and len(own.chosen_cameras(bpy.context)) == 8
    only_select(scene.objects["MVGamba Rig"], other)
    assert captured(bpy.context) == [other]
    only_select(other)
    assert own.chosen_cameras(bpy.context) is None


def test_a_rig_follows_its_subject_and_keeps_the_sides_it_looks_from(addon, own, scene, subject):
    bpy.ops.mvgamba.rig_add()
    moved = scene.objects["MVGamba Rig 02"]
    moved.location.z += 2.0  # a person nudges one
    bpy.context.view_layer.update()
    center = Vector(addon.capture.subject_sphere(bpy.context, [subject]).center)
    before = (moved.matrix_world.translation - center).normalized()
    subject.scale *= 3.0
    subject.location += Vector((1, 2, 3))
    bpy.context.view_layer.update()
    only_select(scene.objects["MVGamba Rig"])
    assert bpy.ops.mvgamba.rig_fit() == {"FINISHED"}
    bpy.context.view_layer.update()
    sphere = addon.capture.subject_sphere(bpy.context, [subject])
    offset = moved.matrix_world.translation - Vector(sphere.center)
    np.testing.assert_allclose(offset.normalized(), before, atol=1e-5)
    assert offset.length == pytest.approx(addon.cameras.orbit_distance(sphere.radius), rel=1e-5)
    np.testing.assert_allclose(moved.matrix_world.col[2].to_3d(), offset.normalized(), atol=1e-5)


def test_a_rig_is_gone_when_it_is_removed_and_nothing_else_is(scene, subject):
    before = props.state_of_file()
    bpy.ops.mvgamba.rig_add()
    keep = bpy.data.objects.new("Mine", None)
    scene.collection.objects.link(keep)
    keep.parent = scene.objects["MVGamba Rig"]
    assert bpy.ops.mvgamba.rig_remove() == {"FINISHED"}
    bpy.data.objects.remove(keep)
    bpy.context.view_layer.objects.active = subject
    only_select(subject)
    assert props.state_of_file() == before and "MVGamba Rig" not in bpy.data.collections


def test_a_rig_survives_saving(addon, own, scene, subject, tmp_path):
    bpy.ops.mvgamba.rig_add()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "rig.blend"))
    only_select(bpy.context.scene.objects["MVGamba Rig"])
    assert [obj.name for obj in addon.module("scene.subject").captured_objects(bpy.context)] == ["Barrel"]
    assert len(own.chosen_cameras(bpy.context)) == 8


def test_rig_buttons_say_why_they_are_grey(scene):
    for name, sentence in (
        ("rig_add", "Nothing to frame"),
        ("rig_fit", "Select a rig"),
        ("rig_remove", "Select a rig"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            getattr(bpy.ops.mvgamba, name)()


def test_angles_of_the_record_are_those_of_the_orbit(addon, take):
    camera = add_camera("Mine", (5 * math.sin(0.3), -5 * math.cos(0.3), 0))
    cube = props.add_cube()
    (made,) = addon.module("scene.own_cameras").own_cameras(
        bpy.context, [camera], addon.capture.subject_sphere(bpy.context, [cube])
    )
    assert made.azimuth == pytest.approx(0.3, abs=1e-5) and made.name == "Mine"
