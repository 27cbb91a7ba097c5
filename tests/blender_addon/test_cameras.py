import math

import numpy as np
import pytest

from blender_addon.core.cameras import FOVY, VIEW_COUNTS, orbit_angles, orbit_distance, orbit_rig


def test_the_ring_stands_front_right_back_left():
    center = np.array([1.0, 2.0, 3.0])
    positions = [camera.c2w[:3, 3] - center for camera in orbit_rig(center, 1.0)]
    distance = orbit_distance(1.0)
    expected = distance * np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(positions, expected, atol=1e-12)


def test_the_front_camera_is_the_one_that_blender_calls_front():
    # Golden: numpad 1 looks along +Y with +Z up and +X to the right.
    c2w = orbit_rig(np.zeros(3), 1.0)[0].c2w
    np.testing.assert_allclose(c2w[:3, :3], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)


def test_the_distance_is_that_of_the_blueprint():
    assert math.degrees(FOVY) == pytest.approx(49.1)
    assert orbit_distance(1.0) == pytest.approx(2.527, abs=1e-3)


@pytest.mark.parametrize("num_views", VIEW_COUNTS)
def test_every_camera_sees_the_whole_sphere(num_views):
    radius = 0.37
    for camera in orbit_rig(np.array([5.0, -1.0, 0.2]), radius, num_views=num_views, azimuth=0.3):
        assert math.asin(radius / camera.distance) < 0.5 * camera.fovy


@pytest.mark.parametrize("num_views", VIEW_COUNTS)
def test_cameras_are_rigid_look_at_the_centre_and_differ(num_views):
    center = np.array([5.0, -1.0, 0.2])
    rig = orbit_rig(center, 2.0, num_views=num_views, azimuth=0.3)
    for camera in rig:
        rotation = camera.c2w[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        np.testing.assert_allclose(camera.c2w[:3, 3] - camera.distance * rotation[:, 2], center, atol=1e-12)
    positions = np.stack([camera.c2w[:3, 3] for camera in rig])
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + 1e3 * np.eye(num_views)
    assert gaps.min() > 0.3 * rig[0].distance


def test_a_longer_rig_begins_with_the_shorter():
    assert orbit_angles(16)[:8] == orbit_angles(8)
    assert orbit_angles(8)[:4] == ((0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (270.0, 0.0))
    assert orbit_angles(8)[4:] == ((45.0, 40.0), (135.0, -40.0), (225.0, 40.0), (315.0, -40.0))
    assert {e for _, e in orbit_angles(12)} >= {90.0, -90.0}


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_radius_that_is_no_length_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be a positive length"):
        orbit_rig(np.zeros(3), radius)


def test_a_number_of_views_without_a_rig_is_refused():
    with pytest.raises(ValueError, match="num_views must be one of"):
        orbit_angles(5)
