"""The overlay: lines of the right cameras, and nothing at all without a window."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def overlay(addon):
    return addon.module("ui.rig_overlay")


def test_lines_begin_where_a_capture_would_be_taken_from(addon, overlay, scene, tmp_path):
    cube = props.add_cube(matrix=ODD)
    cube.select_set(True)
    settings = scene.mvgamba
    settings.capture_views, settings.capture_azimuth = "8", 0.4
    before = props.state_of_file()
    lines = overlay.lines_now(bpy.context)
    assert props.state_of_file() == before
    capture = addon.capture.capture(bpy.context, [cube], settings.capture_settings(), tmp_path, apart=True)
    positions = np.stack([view.c2w[:3, 3] for view in capture.views])
    np.testing.assert_allclose(lines[: 8 * 11 : 11, 0], positions, atol=1e-4)


def test_the_quick_sphere_is_that_of_the_capture(addon, scene):
    subject = addon.module("scene.subject")
    cube = props.add_cube(matrix=ODD)
    cube.modifiers.new("Array", "ARRAY").count = 4
    bpy.context.view_layer.update()
    quick = subject.shown_sphere(bpy.context, [cube])
    exact = addon.capture.subject_sphere(bpy.context, [cube])
    np.testing.assert_allclose(quick.center, exact.center, atol=1e-5)
    assert quick.radius == pytest.approx(exact.radius, rel=1e-5)


def test_nothing_to_capture_gives_no_lines(overlay, scene):
    assert overlay.lines_now(bpy.context).shape == (0, 2, 3)


def test_without_a_window_nothing_is_begun(overlay, scene):
    bpy.context.window_manager.mvgamba.show_cameras = True
    try:
        assert overlay._handle is None and not bpy.app.timers.is_registered(overlay._look)
    finally:
        bpy.context.window_manager.mvgamba.show_cameras = False


def test_a_look_computes_only_what_has_changed(overlay, scene):
    cube = props.add_cube()
    cube.select_set(True)
    state = bpy.context.window_manager.mvgamba
    state.show_cameras = True
    try:
        assert overlay._look() == overlay._INTERVAL
        first = overlay._lines
        assert len(first) and overlay._look() == overlay._INTERVAL and overlay._lines is first
        cube.location.x = 2.0
        bpy.context.view_layer.update()
        overlay._look()
        np.testing.assert_allclose(overlay._lines[:, :, 0] - first[:, :, 0], 2.0, atol=1e-4)
    finally:
        state.show_cameras = False
    assert overlay._look() is None


def test_a_draw_that_fails_does_not_raise(overlay, scene):
    overlay._lines = np.zeros((1, 2, 3), dtype=np.float32)
    overlay._draw()  # there is no 3D view to draw in
    overlay._lines = np.empty((0, 2, 3), dtype=np.float32)
