"""Tubes and balls are closed surfaces of the right size, whose faces look outwards."""

import numpy as np
import pytest

from blender_addon.core.strands import balls, tubes


def volume_and_open_edges(vertices, faces):
    """Signed volume (positive: faces look outwards), and the number of edges without their opposite."""
    triangles = []
    for corners in faces.tolist():
        triangles += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    t = np.array(triangles)
    edges = {(int(a), int(b)) for i, j in ((0, 1), (1, 2), (2, 0)) for a, b in zip(t[:, i], t[:, j], strict=True)}
    volume = np.einsum("ij,ij->i", vertices[t[:, 0]], np.cross(vertices[t[:, 1]], vertices[t[:, 2]])).sum() / 6
    return volume, sum((b, a) not in edges for a, b in edges)


def test_a_straight_strand_is_a_closed_prism():
    positions = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 3]], dtype=float)
    vertices, faces, owner = tubes(positions, np.full(3, 0.2), np.array([0, 3]))
    volume, num_open = volume_and_open_edges(vertices, faces)
    assert num_open == 0
    assert volume == pytest.approx(3.0 * 1.5 * np.sqrt(3) * 0.2**2)  # a regular hexagon of circumradius 0.2
    np.testing.assert_allclose(np.linalg.norm((vertices - positions[owner])[:, :2], axis=1), 0.2)


def test_strands_are_not_joined_and_short_ones_left_out():
    positions = np.array([[0, 0, 0], [1, 0, 0], [5, 5, 5], [0, 2, 0], [0, 2, 1]], dtype=float)
    vertices, faces, owner = tubes(positions, np.full(5, 0.1), np.array([0, 2, 3, 3, 5]))
    volume, num_open = volume_and_open_edges(vertices, faces)
    assert num_open == 0 and volume == pytest.approx(2.0 * 1.5 * np.sqrt(3) * 0.1**2)
    assert set(owner[faces].ravel()) == {0, 1, 3, 4}


def test_many_strands_get_fewer_sides():
    positions = np.random.default_rng(0).normal(size=(30_000, 3))
    vertices, faces, _ = tubes(positions, np.full(30_000, 0.1), np.arange(0, 30_001, 10))
    assert len(vertices) == 4 * 30_000 and faces.max() < len(vertices)
    assert volume_and_open_edges(vertices[:40], faces[(faces < 40).all(axis=1)])[1] == 0


def test_balls_are_round_and_closed():
    centers = np.array([[0, 0, 0], [3, 0, 0]], dtype=float)
    vertices, faces, owner = balls(centers, np.array([1.0, 0.5]))
    volume, num_open = volume_and_open_edges(vertices, faces)
    assert num_open == 0 and volume == pytest.approx(4.19 * (1 + 0.125), rel=0.12)
    np.testing.assert_allclose(np.linalg.norm(vertices - centers[owner], axis=1), np.array([1.0, 0.5])[owner])
