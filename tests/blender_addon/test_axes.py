import numpy as np
import pytest

from blender_addon.core.axes import (
    c2w_y_up_to_z_up,
    c2w_z_up_to_y_up,
    points_y_up_to_z_up,
    points_z_up_to_y_up,
)
from blender_addon.core.cameras import orbit_c2w


def test_front_right_and_up_of_blender_become_those_of_gltf():
    front, right, up = [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    np.testing.assert_array_equal(
        points_z_up_to_y_up(np.array([front, right, up])), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    )


def test_points_and_cameras_return_from_the_round_trip():
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(points_y_up_to_z_up(points_z_up_to_y_up(points)), points)
    c2w = orbit_c2w(points[0], azimuth=0.7, elevation=-0.4, distance=3.0)
    np.testing.assert_array_equal(c2w_y_up_to_z_up(c2w_z_up_to_y_up(c2w)), c2w)


def test_a_camera_sees_a_point_at_the_same_place_in_both_worlds():
    c2w = orbit_c2w(np.array([1.0, 2.0, 3.0]), azimuth=0.7, elevation=-0.4, distance=3.0)
    point = np.array([0.5, 1.5, 3.5])
    in_blender = np.linalg.inv(c2w) @ [*point, 1.0]
    on_the_wire = np.linalg.inv(c2w_z_up_to_y_up(c2w)) @ [*points_z_up_to_y_up(point), 1.0]
    np.testing.assert_allclose(on_the_wire, in_blender, atol=1e-12)


def test_the_orbit_on_the_wire_is_that_of_the_library():
    cameras = pytest.importorskip("mvgamba.cameras", reason="the library needs torch, which Blender's Python lacks")
    for azimuth, elevation in [(0.0, 0.0), (1.2, 0.5), (-2.0, -1.1), (0.0, np.pi / 2)]:
        ours = c2w_z_up_to_y_up(orbit_c2w(np.zeros(3), azimuth=azimuth, elevation=elevation, distance=1.5))
        theirs = cameras.orbit_c2w(azimuth, elevation, 1.5).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
