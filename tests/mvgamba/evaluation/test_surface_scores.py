"""Distances between surfaces, what of them can be seen, and topology."""

import numpy as np
import pytest
import trimesh

from mvgamba.evaluation.drawable import Drawable, Material
from mvgamba.evaluation.surface_scores import mesh_facts, surface_scores


def drawable(mesh: trimesh.Trimesh) -> Drawable:
    count = len(mesh.vertices)
    return Drawable(
        np.asarray(mesh.vertices, np.float64),
        np.asarray(mesh.faces, np.int64),
        np.zeros((count, 2)),
        np.ones((count, 3)),
        np.zeros(len(mesh.faces), np.int64),
        [Material(np.ones(3))],
    )


SPHERE = trimesh.creation.icosphere(subdivisions=4, radius=1.0)


def test_a_surface_is_at_no_distance_from_itself():
    scores = surface_scores(drawable(SPHERE), drawable(SPHERE))
    assert scores["chamfer"] < 1e-5
    assert scores["f_score_0.02"] == 1.0
    assert scores["normal_consistency"] > 0.999


@pytest.mark.parametrize("scale", [1.0, 0.01, 100.0])
def test_a_larger_sphere_is_its_difference_in_radius_away(scale):
    inner, outer = SPHERE.copy().apply_scale(scale), SPHERE.copy().apply_scale(1.03 * scale)
    scores = surface_scores(drawable(inner), drawable(outer))
    # the truth is 2 long; the facets of the sphere are flat to 1e-3
    assert scores["chamfer"] == pytest.approx(0.03, abs=2e-3)
    assert scores["f_score_0.02"] == 0.0
    assert scores["f_score_0.05"] == 1.0


def test_a_shift_is_not_forgiven():
    moved = SPHERE.copy().apply_translation((0.5, 0, 0))
    assert surface_scores(drawable(SPHERE), drawable(moved))["f_score_0.05"] < 0.3


def test_what_nobody_can_see_does_not_count():
    hidden = trimesh.util.concatenate([SPHERE, SPHERE.copy().apply_scale(0.5)])
    scores = surface_scores(drawable(hidden), drawable(SPHERE))
    assert scores["hidden_share_truth"] == pytest.approx(0.2, abs=0.02)  # a quarter of the area, of five quarters
    assert scores["f_score_0.02"] == 1.0


def test_the_inside_of_an_open_bucket_counts():
    bucket = trimesh.creation.box((1, 1, 1))
    top = bucket.face_normals[:, 1] > 0.9
    bucket.update_faces(~top)
    assert surface_scores(drawable(bucket), drawable(bucket))["hidden_share_truth"] == 0.0


def test_no_result_is_at_distance_one():
    scores = surface_scores(drawable(SPHERE), None)
    assert scores["chamfer"] == 1.0
    assert scores["f_score_0.05"] == 0.0


def test_seams_of_a_texture_do_not_open_a_mesh():
    split = SPHERE.vertices[SPHERE.faces].reshape(-1, 3)
    facts = mesh_facts(split, np.arange(len(split)).reshape(-1, 3))
    assert facts["watertight"]
    assert facts["consistent_winding"]
    assert facts["components"] == 1
    assert facts["boundary_edges"] == 0


def test_holes_strays_and_flips_are_found():
    faces = np.asarray(SPHERE.faces)
    open_sphere = mesh_facts(SPHERE.vertices, faces[1:])
    assert (open_sphere["watertight"], open_sphere["boundary_edges"]) == (False, 3)
    flipped = faces.copy()
    flipped[0] = flipped[0, ::-1]
    facts = mesh_facts(SPHERE.vertices, flipped)
    assert facts["watertight"]
    assert not facts["consistent_winding"]
    two = trimesh.util.concatenate([SPHERE, SPHERE.copy().apply_translation((5, 0, 0))])
    assert mesh_facts(two.vertices, two.faces)["components"] == 2
    with_line = np.concatenate([faces, [[0, 0, 1]]])
    assert mesh_facts(SPHERE.vertices, with_line)["degenerate_faces"] == 1
