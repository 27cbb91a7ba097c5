"""The sixteen numbers, against values worked out by hand from the released `get_camera`."""

import math

import pytest
import torch

from mvgamba.cameras import orbit_c2w, orbit_cameras
from mvgamba.errors import InvalidCameras
from mvgamba.multiview.mvdream.camera_code import (
    c2w_to_camera_code,
    camera_code_to_c2w,
    check_looks_at_origin,
)

QUARTER = math.pi / 2
THEIR_POSITIONS = {0: (0.0, -1.0, 0.0), 90: (1.0, 0.0, 0.0), 180: (0.0, 1.0, 0.0), 270: (-1.0, 0.0, 0.0)}
"""By their azimuth, elevation 0, in Blender's axes."""


def code_of(azimuth_deg, elevation_deg=0.0, radius=2.53):
    c2w = orbit_c2w(math.radians(azimuth_deg), math.radians(elevation_deg), radius)
    return c2w_to_camera_code(c2w[None])[0].view(4, 4)


@pytest.mark.parametrize("theirs", THEIR_POSITIONS)
def test_our_azimuth_is_theirs_less_a_quarter_turn(theirs):
    position = code_of(theirs - 90)[:3, 3]
    torch.testing.assert_close(position, torch.tensor(THEIR_POSITIONS[theirs]), atol=1e-6, rtol=0)


def test_the_whole_matrix_of_the_front_is_known():
    """Their azimuth 90, elevation 0: stands on +X of Blender, its right is +Y, its up +Z, and it looks along -X."""
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(code_of(0), expected, atol=1e-6, rtol=0)


def test_the_whole_matrix_of_a_raised_side_is_known():
    """Their azimuth 0, elevation 30: at (0, -cos, sin), right +X, up (0, sin, cos), view axis from the camera's back."""
    s, c = 0.5, math.sqrt(0.75)
    expected = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, s, -c, -c], [0.0, c, s, s], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(code_of(-90, 30), expected, atol=1e-6, rtol=0)


def test_distance_is_not_told_and_the_sixteen_numbers_go_by_rows():
    near, far = code_of(40, 15, 1.2), code_of(40, 15, 9.0)
    torch.testing.assert_close(near, far)
    assert float(near[:3, 3].norm()) == pytest.approx(1.0, abs=1e-6)
    flat = c2w_to_camera_code(orbit_c2w(0.7, 0.2, 2.0)[None])[0]
    assert flat.shape == (16,) and flat.dtype == torch.float32
    assert float(flat[3] ** 2 + flat[7] ** 2 + flat[11] ** 2) == pytest.approx(1.0, abs=1e-6)
    assert flat[12:].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_a_turn_to_the_right_of_the_object_is_one_in_their_world_too():
    """A mirrored world would swap the two sides: azimuth grows towards +X here, and from +X to +Y there."""
    side = code_of(90)[:3, 3]
    torch.testing.assert_close(side, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(code_of(33, 12)[:3, :3])) == pytest.approx(1.0, abs=1e-6)


def test_there_and_back_is_the_same_camera():
    c2w = torch.stack([orbit_c2w(a, e, 2.53) for a, e in ((0.0, 0.0), (1.1, 0.3), (-2.0, -0.4), (3.0, 1.2))])
    back = camera_code_to_c2w(c2w_to_camera_code(c2w), radius=2.53)
    torch.testing.assert_close(back, c2w, atol=1e-6, rtol=0)


def test_what_is_given_is_not_changed():
    c2w = orbit_c2w(0.4, 0.1, 2.53)[None]
    before = c2w.clone()
    c2w_to_camera_code(c2w)
    assert torch.equal(c2w, before)


def wrong(change):
    c2w = orbit_c2w(0.4, 0.1, 2.53)
    change(c2w)
    return c2w[None]


def mirror(c):
    c[:3, 0] *= -1


def scale(c):
    c[:3, :3] *= 2


def at_origin(c):
    c[:3, 3] = 0


def not_finite(c):
    c[0, 0] = math.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (mirror, "mirrored"),
        (scale, "not unit vectors"),
        (lambda c: c.copy_(c.T.clone()), "transposed"),
        (at_origin, "at the origin"),
        (not_finite, "not finite"),
    ],
)
def test_wrong_matrices_are_refused(change, said):
    with pytest.raises(InvalidCameras, match=said):
        c2w_to_camera_code(wrong(change))


def test_only_upright_cameras_that_look_at_the_origin_are_taken():
    cameras = orbit_cameras([0.0, 1.0], [0.2, -0.3], radius=2.0, fovy=0.8, height=64, width=64)
    check_looks_at_origin(cameras)
    for change in (lambda c: c[1, :3, 3].mul_(0.4), lambda c: c[1, :3, 3].add_(0.5), _roll):
        c2w = cameras.c2w.clone()
        change(c2w)
        with pytest.raises(InvalidCameras, match="Camera 1 stands"):
            check_looks_at_origin(type(cameras)(c2w, cameras.intrinsics, 64, 64))


def _roll(c2w):
    right, up = c2w[1, :3, 0].clone(), c2w[1, :3, 1].clone()
    c2w[1, :3, 0], c2w[1, :3, 1] = 0.8 * right + 0.6 * up, 0.8 * up - 0.6 * right
