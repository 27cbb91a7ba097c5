"""What the overlay draws: frusta where the cameras are, and rings through them."""

import math

import numpy as np
import pytest

from blender_addon.core.cameras import orbit_rig
from blender_addon.core.rig_lines import frustum_lines, rig_lines

CENTER = np.array([1.0, -2.0, 0.5])


def test_a_frustum_begins_at_its_camera_and_ends_in_its_picture():
    (camera, *_) = orbit_rig(CENTER, 1.0, azimuth=0.7)
    lines = frustum_lines(camera, 0.5)
    np.testing.assert_allclose(lines[:4, 0], np.tile(camera.c2w[:3, 3], (4, 1)))
    local = (lines[:4, 1] - camera.c2w[:3, 3]) @ camera.c2w[:3, :3]
    np.testing.assert_allclose(-local[:, 2], 0.5)
    np.testing.assert_allclose(np.abs(local[:, :2]), 0.5 * math.tan(0.5 * camera.fovy))


@pytest.mark.parametrize(("num_views", "num_rings"), [(4, 1), (8, 3), (12, 4), (16, 4)])
def test_cameras_of_one_height_are_on_one_ring(num_views, num_rings):
    cameras = orbit_rig(CENTER, 1.0, num_views=num_views, azimuth=0.3)
    lines = rig_lines(cameras, CENTER)
    assert lines.dtype == np.float32 and lines.shape == (11 * num_views + 64 * num_rings, 2, 3)
    rings = lines[11 * num_views :].reshape(-1, 3)
    np.testing.assert_allclose(np.linalg.norm(rings - CENTER, axis=1), cameras[0].distance, rtol=1e-5)
    for camera in cameras:
        if abs(camera.elevation) < 1.5:  # the poles have no ring
            same = [c for c in cameras if abs(c.elevation - camera.elevation) < 0.01]
            gap = np.linalg.norm(rings - camera.c2w[:3, 3], axis=1).min()
            assert len(same) < 2 or gap < 0.06 * camera.distance  # half a segment of the ring at most


def test_no_cameras_give_no_lines():
    assert rig_lines([], CENTER).shape == (0, 2, 3)
