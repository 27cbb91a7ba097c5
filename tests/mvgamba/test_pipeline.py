"""Views to a textured mesh: in its place, whole, and stopped when asked to."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.errors import Cancelled, InvalidInput, Unavailable, WeightsMissing
from mvgamba.meshing import mesh_report
from mvgamba.pipeline import PRESETS, _with_scaffold, generate
from mvgamba.progress import CancelToken, Progress
from mvgamba.reconstructor.hull import HullReconstructor
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.types import GenerateOptions, GenerateRequest, Mesh, PosedViews, TextPrompt
from tests.mvgamba.conftest import BOX_CENTER, BOX_HALF, SIDE_COLORS

DRAFT = GenerateOptions(quality="draft", target_faces=3000, texture_size=256)


@pytest.fixture(scope="module")
def draft(box_views):
    reports: list[Progress] = []
    return generate(GenerateRequest(box_views, DRAFT), reports.append), reports


def test_the_mesh_stands_where_the_object_stood(draft):
    result, _ = draft
    low, high = result.mesh.vertices.min(0), result.mesh.vertices.max(0)
    center, half = BOX_CENTER.numpy(), BOX_HALF.numpy()
    np.testing.assert_allclose((low + high) / 2, center, atol=0.03)  # a hull bulges where no camera looks along a side
    np.testing.assert_allclose((high - low) / 2, half, atol=0.05)


def test_the_mesh_is_one_closed_surface_within_the_budget(draft):
    result, _ = draft
    mesh = Mesh(result.mesh.vertices, result.mesh.faces)
    assert len(mesh.faces) <= DRAFT.target_faces
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True, merge_tex=True, merge_norm=True)
    report = mesh_report(Mesh(np.asarray(welded.vertices), np.asarray(welded.faces)))
    assert report.is_sound and report.is_watertight
    assert report.volume == pytest.approx(8 * float(BOX_HALF.prod()), rel=0.06)


def test_each_side_has_its_colour(draft):
    mesh = draft[0].mesh
    size = mesh.albedo.shape[0]
    centers = mesh.vertices[mesh.faces].mean(1)
    at = mesh.uvs[mesh.faces].mean(1)
    colors = (
        mesh.albedo[(at[:, 1] * size).astype(int).clip(0, size - 1), (at[:, 0] * size).astype(int).clip(0, size - 1)]
        / 255
    )
    local = (centers - BOX_CENTER.numpy()) / BOX_HALF.numpy()
    for axis in range(3):
        for side, sign in enumerate((-1, 1)):
            others = [i for i in range(3) if i != axis]
            on_side = (local[:, axis] * sign > 0.9) & (np.abs(local[:, others]) < 0.6).all(1)
            assert on_side.sum() > 3
            np.testing.assert_allclose(np.median(colors[on_side], 0), SIDE_COLORS[2 * axis + side].numpy(), atol=0.03)


def test_progress_never_falls_and_ends_at_one(draft):
    fractions = [r.fraction for r in draft[1]]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert [s for s in dict.fromkeys(r.stage for r in draft[1])] == [
        "prepare",
        "reconstruct",
        "refine",
        "mesh",
        "texture",
        "export",
    ]


def test_the_same_seed_gives_the_same_mesh(box_views, draft):
    again = generate(GenerateRequest(box_views, DRAFT)).mesh
    np.testing.assert_array_equal(again.vertices, draft[0].mesh.vertices)
    np.testing.assert_array_equal(again.albedo, draft[0].mesh.albedo)


def test_without_refinement_the_hull_is_meshed_as_it_is(box_views):
    stages: list[str] = []
    result = generate(
        GenerateRequest(box_views, dataclasses.replace(DRAFT, refine=False)), lambda p: stages.append(p.stage)
    )
    assert "refine" not in stages and "input_psnr" not in result.facts
    assert len(result.mesh.faces) > 100


@pytest.mark.parametrize("stage", ["prepare", "reconstruct", "refine", "mesh", "texture"])
def test_a_job_stops_in_the_stage_in_which_it_is_cancelled(box_views, stage):
    token = CancelToken()
    seen: list[str] = []

    def stop_there(progress: Progress) -> None:
        seen.append(progress.stage)
        if progress.stage == stage:
            token.cancel()

    with pytest.raises(Cancelled):
        generate(GenerateRequest(box_views, DRAFT), stop_there, token)
    assert seen[-1] == stage


def test_depth_opens_a_hollow_that_silhouettes_cannot_show(box_views):
    normalised = normalise_views(box_views)
    hull = HullReconstructor(resolution=48, faces=6000).reconstruct(normalised)
    # what every camera sees through a wall is unknown, what it sees in front of a surface is not: push the surface back
    posed = normalised.views
    depth = torch.where(posed.alpha > 0.5, torch.full_like(posed.alpha, 10.0), torch.zeros(()))
    deep = dataclasses.replace(normalised, views=dataclasses.replace(posed, depth=depth))
    assert hull.scaffold is not None
    with pytest.raises(Exception, match="no volume|no surface"):
        HullReconstructor(resolution=48, faces=6000).reconstruct(deep)


def test_surfels_without_a_mesh_are_given_one(box_views):
    normalised = normalise_views(box_views)
    free = HullReconstructor(resolution=48, faces=6000).reconstruct(normalised).surfels
    made = _with_scaffold(free, normalised, PRESETS["draft"])
    assert made.scaffold is not None and made.surfels.num_surfels == len(made.scaffold.faces)
    assert mesh_report(made.scaffold).is_watertight


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_faces": 3}, "target_faces is 3"),
        ({"texture_size": 100_000}, "texture_size"),
        ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_an_option_out_of_range_is_refused(box_views, change, words):
    with pytest.raises(InvalidInput, match=words):
        generate(GenerateRequest(box_views, dataclasses.replace(DRAFT, **change)))


def test_an_unknown_reconstructor_names_those_there_are(box_views):
    with pytest.raises(Unavailable, match="hull, mvgamba"):
        generate(GenerateRequest(box_views, dataclasses.replace(DRAFT, reconstructor="magic")))


def test_the_network_without_weights_says_so(box_views):
    with pytest.raises(WeightsMissing, match="weights"):
        generate(GenerateRequest(box_views, dataclasses.replace(DRAFT, reconstructor="mvgamba")))


def test_a_prompt_says_what_is_missing():
    with pytest.raises(Unavailable, match="multi-view generator"):
        generate(GenerateRequest(TextPrompt("a barrel"), DRAFT))


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_views_give_a_mesh_too(box_views, count):
    few = PosedViews(box_views.rgb[:count], box_views.alpha[:count], box_views.cameras[slice(count)])
    assert len(generate(GenerateRequest(few, DRAFT)).mesh.faces) > 100
