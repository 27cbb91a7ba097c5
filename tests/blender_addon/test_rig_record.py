"""Cameras as plain numbers, and how they follow a subject that was moved."""

import json
import math

import numpy as np
import pytest

from blender_addon.core.cameras import CaptureCamera, seen_from
from blender_addon.core.rig_record import rig_from_record, rig_record, similarity, sphere_move

CENTER = np.array([1.0, -2.0, 0.5])


def rotation(*, seed=5):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def affine(linear, offset=(0.0, 0.0, 0.0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, offset
    return matrix


def camera() -> CaptureCamera:
    c2w = affine(rotation(seed=1), CENTER + (2.0, 3.0, 1.0))
    return seen_from(c2w, 0.7, CENTER, shift=(0.1, -0.2), name="Mine ☃")


def picture(made, points):
    """(N, 2) in units of the picture's edge, from its middle to the right and up."""
    local = (points - made.c2w[:3, 3]) @ made.c2w[:3, :3]
    half = math.tan(0.5 * made.fovy)
    return 0.5 * local[:, :2] / -local[:, 2:] / half - made.shift


POINTS = CENTER + np.random.default_rng(2).normal(size=(20, 3)) * 0.3


def test_cameras_come_back_as_they_were():
    rows = json.loads(json.dumps(rig_record([camera()])))
    (back,) = rig_from_record(rows, np.eye(4), CENTER)
    np.testing.assert_allclose(back.c2w, camera().c2w, atol=1e-12)
    assert (back.fovy, back.shift, back.name) == (0.7, (0.1, -0.2), "Mine ☃")
    assert (back.azimuth, back.distance) == pytest.approx((camera().azimuth, camera().distance))


@pytest.mark.parametrize("factor", [1.0, 0.01, 30.0])
def test_a_subject_that_was_moved_turned_and_scaled_looks_the_same(factor):
    move = affine(factor * rotation(), (5.0, 1.0, -9.0))
    np.testing.assert_allclose(similarity(move, CENTER), move, atol=1e-9)
    (after,) = rig_from_record(rig_record([camera()]), similarity(move, CENTER), CENTER)
    np.testing.assert_allclose(
        picture(after, POINTS @ move[:3, :3].T + move[:3, 3]), picture(camera(), POINTS), atol=1e-9
    )


def test_a_mirrored_subject_is_seen_in_the_mirror():
    move = affine(2.0 * rotation() @ np.diag([-1.0, 1.0, 1.0]), (5.0, 1.0, -9.0))
    (after,) = rig_from_record(rig_record([camera()]), similarity(move, CENTER), CENTER)
    assert np.linalg.det(after.c2w[:3, :3]) == pytest.approx(1.0)
    seen = picture(after, POINTS @ move[:3, :3].T + move[:3, 3])
    np.testing.assert_allclose(seen, picture(camera(), POINTS) * (-1.0, 1.0), atol=1e-9)


@pytest.mark.parametrize("stretch", [(3.0, 1.0, 1.0), (0.2, 1.0, 1.0), (0.5, 2.0, 0.1)])
def test_cameras_stand_back_from_a_subject_that_grew_in_one_direction(stretch):
    move = affine(np.diag(stretch), (1.0, 1.0, 1.0))
    follow = similarity(move, CENTER)
    np.testing.assert_allclose(follow[:3, :3], max(stretch) * np.eye(3), atol=1e-12)
    middle = (move @ (*CENTER, 1.0))[:3]
    np.testing.assert_allclose((follow @ (*CENTER, 1.0))[:3], middle, atol=1e-12)


def test_a_subject_scaled_flat_keeps_its_cameras_on_their_side():
    follow = similarity(affine(rotation() @ np.diag([1.0, 1.0, 0.0])), CENTER)
    assert np.isfinite(follow).all() and np.linalg.det(follow[:3, :3]) == pytest.approx(1.0)
    nothing = similarity(np.diag([0.0, 0.0, 0.0, 1.0]), CENTER)
    np.testing.assert_array_equal(nothing[:3, :3], np.eye(3))


def test_two_spheres_tell_place_and_size():
    move = sphere_move(CENTER, 2.0, CENTER + 7.0, 3.0)
    np.testing.assert_allclose((move @ (*CENTER, 1.0))[:3], CENTER + 7.0)
    np.testing.assert_allclose(move[:3, :3], 1.5 * np.eye(3))


@pytest.mark.parametrize(
    "row", [{}, {"c2w": [1, 2], "fovy": 1, "shift": [0, 0]}, {"c2w": "?", "fovy": 1, "shift": 3}, 7]
)
def test_a_damaged_record_is_said_to_be_one(row):
    with pytest.raises(ValueError):
        rig_from_record([row], np.eye(4), CENTER)
