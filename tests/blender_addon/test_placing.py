"""Where results stand, as matrices."""

import math

import numpy as np
import pytest

from blender_addon.core import placing


def transformed(matrix, points):
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


def bounds(points):
    return points.min(axis=0), points.max(axis=0)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(("axis", "extent"), [("MAX", 4.0), ("X", 2.0), ("Y", 4.0), ("Z", 1.0)])
def test_the_size_is_of_the_axis_that_was_asked_for(axis, extent):
    factor = placing.size_factor(np.array([2.0, 4.0, 1.0]), 3.0, axis)
    assert factor * extent == pytest.approx(3.0)


def test_no_size_leaves_a_result_as_it_was_made():
    assert placing.size_factor(np.array([2.0, 4.0, 1.0]), 0.0, "MAX") == 1.0


def test_a_flat_result_is_measured_by_its_longest_side():
    assert placing.size_factor(np.array([2.0, 4.0, 0.0]), 3.0, "Z") == 0.75
    assert placing.size_factor(np.zeros(3), 3.0, "MAX") == 1.0


@pytest.mark.parametrize("on_ground", [True, False])
def test_the_foot_or_the_middle_comes_to_the_origin(on_ground):
    low, high = np.array([1.0, 2.0, 3.0]), np.array([3.0, 6.0, 11.0])
    new_low, new_high = bounds(
        transformed(placing.own_frame(low, high, 0.5, on_ground=on_ground), placing.box_corners(low, high))
    )
    np.testing.assert_allclose(new_high - new_low, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(new_low, [-0.5, -1.0, 0.0 if on_ground else -2.0], atol=1e-12)


@pytest.mark.parametrize("turn", [-3.0, -1.0, 0.0, 0.5, 2.5])
def test_the_heading_of_a_turn_about_z_is_that_turn(turn):
    assert placing.heading(placing.stand_matrix(np.zeros(3), turn)[:3, :3]) == pytest.approx(turn)


def test_the_heading_is_known_for_an_upright_x_axis():
    # X up, Y to the right, as a cursor on a wall may stand
    axes = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert placing.heading(axes) == pytest.approx(-math.pi / 2)


def test_a_surface_matrix_is_a_rotation_with_z_along_the_normal(rng):
    normals = [*rng.normal(size=(50, 3)), [0, 0, 1], [0, 0, -1], [0, 0, -3], [1e-9, 0, -1], [1, 0, 0]]
    for normal in normals:
        turn = rng.uniform(-4, 4)
        matrix = placing.surface_matrix(np.array([1.0, 2.0, 3.0]), normal, turn, align=True)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(matrix[:3, 2], np.array(normal) / np.linalg.norm(normal), atol=1e-6)
        np.testing.assert_array_equal(matrix[:3, 3], [1, 2, 3])


def test_a_gentle_slope_hardly_turns_the_front():
    matrix = placing.surface_matrix(np.zeros(3), [0.1, 0.05, 1.0], 0.0, align=True)
    np.testing.assert_allclose(matrix[:2, 1], [0, 1], atol=0.01)


def test_a_turn_is_about_the_axis_of_the_result():
    still = placing.surface_matrix(np.zeros(3), [1.0, 0.0, 0.0], 0.0, align=True)
    turned = placing.surface_matrix(np.zeros(3), [1.0, 0.0, 0.0], placing.TURN, align=True)
    between = still[:3, :3].T @ turned[:3, :3]
    np.testing.assert_allclose(between, placing.stand_matrix(np.zeros(3), placing.TURN)[:3, :3], atol=1e-12)


@pytest.mark.parametrize("normal", [[0, 0, 1], [1, 0, 0], [0, 0, -1], [0, 0, 0]])
def test_upright_ignores_the_normal(normal):
    matrix = placing.surface_matrix(np.array([1.0, 2.0, 3.0]), normal, 0.3, align=False)
    np.testing.assert_array_equal(matrix, placing.stand_matrix(np.array([1.0, 2.0, 3.0]), 0.3))


def test_a_ray_meets_the_ground_before_it_only():
    np.testing.assert_allclose(placing.ground_hit([0, 0, 4], [1, 0, -2]), [2, 0, 0])
    np.testing.assert_allclose(placing.ground_hit([0, 0, 4], [1, 0, -2], 2.0), [1, 0, 2])
    assert placing.ground_hit([0, 0, 4], [1, 0, 2]) is None
    assert placing.ground_hit([0, 0, 4], [1, 0, 0]) is None


def test_box_edges_join_corners_that_differ_in_one_axis():
    corners = placing.box_corners(np.zeros(3), np.array([1.0, 2.0, 3.0]))
    lengths = sorted(np.linalg.norm(corners[a] - corners[b]) for a, b in placing.BOX_EDGES)
    assert lengths == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert len({frozenset(edge) for edge in placing.BOX_EDGES}) == 12


def test_the_preview_shows_the_box_and_its_front():
    low, high = np.array([-1.0, -2.0, 0.0]), np.array([1.0, 2.0, 4.0])
    matrix = placing.stand_matrix(np.array([10.0, 0.0, 0.0]), math.pi / 2)
    lines = placing.preview_lines(low, high, matrix)
    assert lines.shape == (26, 3)
    np.testing.assert_allclose([lines[:24].min(axis=0), lines[:24].max(axis=0)], [[8, -1, 0], [12, 1, 4]], atol=1e-12)
    np.testing.assert_allclose(lines[24:], [[10, 0, 0], [13, 0, 0]], atol=1e-12)  # the front, -Y, was turned to +X


@pytest.mark.parametrize("axis", placing.AXES)
@pytest.mark.parametrize("on_ground", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_fitted_mesh_takes_the_place_of_the_old_one(rng, axis, on_ground, mirrored):
    for _ in range(20):
        scale = rng.uniform(0.2, 3.0, 3)
        old, new = (bounds(rng.normal(size=(6, 3))) for _ in range(2))
        matrix = placing.fit_matrix(old, new, scale, axis=axis, on_ground=on_ground, mirrored=mirrored)
        assert bool(np.linalg.det(matrix[:3, :3]) < 0) == mirrored
        seen_old = bounds(scale * placing.box_corners(*old))
        low, high = bounds(scale * transformed(matrix, placing.box_corners(*new)))
        # as the world sees it the shape is what it was
        ratios = (high - low) / (new[1] - new[0])
        np.testing.assert_allclose(ratios, ratios[0])
        room = seen_old[1] - seen_old[0]
        if axis == "MAX":
            assert ((high - low) <= room * (1 + 1e-9)).all() and ((high - low) / room).max() == pytest.approx(1.0)
        else:
            assert (high - low)["XYZ".index(axis)] == pytest.approx(room["XYZ".index(axis)])
        np.testing.assert_allclose(0.5 * (low + high)[:2], 0.5 * (seen_old[0] + seen_old[1])[:2], atol=1e-9)
        foot = low[2] - seen_old[0][2] if on_ground else (low + high - seen_old[0] - seen_old[1])[2]
        assert foot == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("axis", placing.AXES)
def test_fitting_to_a_plane_or_to_nothing_gives_a_sound_size(axis):
    new = (np.array([-1.0, -1.0, -1.0]), np.array([1.0, 1.0, 1.0]))
    plane = (np.array([-2.0, -2.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    nothing = (np.zeros(3), np.zeros(3))
    assert placing.fit_matrix(plane, new, np.ones(3), axis=axis, on_ground=True)[0, 0] == pytest.approx(2.0)
    assert placing.fit_matrix(nothing, new, np.ones(3), axis=axis, on_ground=True)[0, 0] == pytest.approx(1.0)
