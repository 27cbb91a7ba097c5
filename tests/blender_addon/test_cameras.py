import dataclasses
import math

import numpy as np
import pytest

from blender_addon.core.cameras import (
    FOVY,
    VIEW_COUNTS,
    clip_range,
    orbit_angles,
    orbit_c2w,
    orbit_distance,
    orbit_rig,
    own_camera,
)


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


def perspective(half_x, half_y, *, shift_x=0.0, shift_y=0.0):
    """OpenGL's matrix of a picture that reaches `half` to each side one unit ahead, moved by parts of its size."""
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = 1 / half_x, 1 / half_y
    projection[0, 2], projection[1, 2] = 2 * shift_x, 2 * shift_y
    projection[2, 2], projection[2, 3], projection[3, 2] = -1.0, -0.2, -1.0
    return projection


def test_a_wide_picture_becomes_a_square_of_its_longer_side():
    c2w = orbit_c2w(np.zeros(3), azimuth=0.4, elevation=0.2, distance=3.0)
    camera = own_camera(c2w, perspective(0.8, 0.45), np.zeros(3), name="Mine")
    assert math.tan(0.5 * camera.fovy) == pytest.approx(0.8)
    assert camera.shift == (0.0, 0.0) and camera.distance == pytest.approx(3.0)
    assert (camera.azimuth, camera.elevation) == pytest.approx((0.4, 0.2))


def test_lens_shift_is_that_of_the_square():
    projection = perspective(0.4, 0.8, shift_x=0.25, shift_y=-0.1)
    camera = own_camera(np.eye(4), projection, np.array([0, 0, -5.0]))
    # A point in the middle of the shifted picture is in the middle of the square.
    assert camera.shift == pytest.approx((0.25 * 0.5, -0.1))
    x = 2 * math.tan(0.5 * camera.fovy) * camera.shift[0]
    assert (projection @ [x, 0.0, -1.0, 1.0])[0] == pytest.approx(0.0)


def test_clip_distances_hold_the_sphere_also_from_inside():
    (camera, *_) = orbit_rig(np.zeros(3), 1.0)
    near, far = clip_range(camera, np.zeros(3), 1.0)
    assert 0 < near < camera.distance - 1.0 and far > camera.distance + 1.0
    assert clip_range(dataclasses.replace(camera, c2w=np.eye(4)), np.zeros(3), 1.0) == pytest.approx((1e-3, 1.1))


def test_a_camera_that_looks_away_is_refused():
    c2w = np.eye(4)
    c2w[2, 3] = -5.0  # looks along -Z, away from what is at the origin
    camera = own_camera(c2w, perspective(0.5, 0.5), np.zeros(3), name="Mine")
    with pytest.raises(ValueError, match="Mine looks away"):
        clip_range(camera, np.zeros(3), 1.0)
