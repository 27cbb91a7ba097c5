"""Views to a textured mesh: in its place, whole, and stopped when asked to."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mvgamba import pipeline, surfacing
from mvgamba.errors import Cancelled, InvalidInput, OutOfMemory, Unavailable, WeightsMissing
from mvgamba.kernels.rasterize_surfels import DEPTH_MEANS, rasterize_surfels
from mvgamba.meshing import Grid, mesh_report
from mvgamba.pipeline import check_options, generate, seconds_for_refinement
from mvgamba.planning import PRESETS, Memory, job_of, plan
from mvgamba.progress import CancelToken, Progress
from mvgamba.reconstructor.hull import HullReconstructor
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.refinement.refine import Refined
from mvgamba.surfacing import with_scaffold
from mvgamba.types import (
    GenerateOptions,
    GenerateRequest,
    Mesh,
    PosedViews,
    RenderOutput,
    TexturedMesh,
)
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


def test_a_budget_of_seconds_shortens_refinement_and_says_so(box_views):
    budget = dataclasses.replace(DRAFT, quality="standard", seconds=0.5)
    result = generate(GenerateRequest(box_views, budget))
    assert result.facts["stopped"] == "seconds" and 1 <= result.facts["steps"] < PRESETS["standard"].refine.steps
    assert len(result.mesh.faces) > 100


def test_refinement_gets_what_the_other_stages_leave():
    preset = PRESETS["standard"]
    expected = {s: preset.weights[s] for s in ("prepare", "reconstruct")}
    after = sum(preset.weights[s] for s in ("mesh", "texture", "export"))
    assert seconds_for_refinement(60.0, 2.0, expected, preset) == pytest.approx(58 - after)
    slow = {s: 2 * seconds for s, seconds in expected.items()}
    assert seconds_for_refinement(60.0, 4.0, slow, preset) == pytest.approx(56 - 2 * after)
    # a first run that compiles kernels says little about the rest
    crawling = {s: 100 * seconds for s, seconds in expected.items()}
    assert seconds_for_refinement(300.0, 200.0, crawling, preset) == pytest.approx(100 - 3 * after)


def test_a_budget_that_others_have_spent_is_named(caplog):
    preset = PRESETS["draft"]
    assert seconds_for_refinement(1.0, 3.0, {"prepare": 1.5, "reconstruct": 1.5}, preset) == 0.1
    assert "1.0 s are too few" in caplog.text and "3.0 s have passed" in caplog.text


def test_a_job_without_a_budget_takes_all_steps_and_gives_up_nothing(draft):
    facts = draft[0].facts
    assert (facts["steps"], facts["stopped"]) == (PRESETS["draft"].refine.steps, "steps")
    assert facts["reduced"] == [] and facts["device"] == "cpu"


def test_short_memory_is_met_with_cheaper_settings_that_are_told(box_views, monkeypatch, caplog):
    wanted = dataclasses.replace(DRAFT, texture_size=4096, refine=False)
    small = plan(job_for(wanted, 1024)).peak
    monkeypatch.setattr(pipeline, "free_memory", lambda device: Memory(small, 0))
    reports: list[Progress] = []
    result = generate(GenerateRequest(box_views, wanted), reports.append)
    assert result.mesh.albedo.shape[0] <= 1024
    sentences = result.facts["reduced"]
    assert sentences and "texture has 2048 pixels a side instead of 4096" in sentences[0]
    messages = [r.message for r in reports]
    for sentence in sentences:
        assert sentence in caplog.text and f"Memory is short: {sentence}" in messages


def test_short_memory_fails_before_the_work_when_nothing_may_be_given_up(box_views, monkeypatch):
    monkeypatch.setattr(pipeline, "free_memory", lambda device: Memory(1 << 20, 0))
    for when_short in ("reduce", "fail"):
        reports: list[Progress] = []
        with pytest.raises(OutOfMemory, match="The job needs"):
            options = dataclasses.replace(DRAFT, when_short=when_short)
            generate(GenerateRequest(box_views, options), reports.append)
        assert reports == []


def test_a_budget_is_met_with_cheaper_settings_however_much_is_free(box_views):
    wanted = dataclasses.replace(DRAFT, texture_size=4096, refine=False)
    wanted = dataclasses.replace(wanted, memory_mib=plan(job_for(wanted, 1024)).peak >> 20)
    result = generate(GenerateRequest(box_views, wanted))
    assert result.facts["reduced"] and result.mesh.albedo.shape[0] <= 1024
    with pytest.raises(OutOfMemory, match="its budget is 0.25 GiB"):
        generate(GenerateRequest(box_views, dataclasses.replace(wanted, memory_mib=256)))


def test_views_are_averaged_down_by_coverage(box_views):
    job = dataclasses.replace(job_for(DRAFT, 256), height=48, width=48)
    small = pipeline._resized(dataclasses.replace(box_views, depth=box_views.alpha * 2), job)
    assert small.rgb.shape[-2:] == small.alpha.shape[-2:] == small.depth.shape[-2:] == (48, 48)
    assert (small.cameras.height, small.cameras.width) == (48, 48)
    torch.testing.assert_close(small.cameras.intrinsics[:, :2] * 2, box_views.cameras.intrinsics[:, :2])
    torch.testing.assert_close(small.alpha.mean(), box_views.alpha.mean())
    # nothing of the black behind the object gets into its colours
    edge = (small.alpha > 0.05) & (small.alpha < 0.95)
    distance = (small.rgb[:, :, None] - SIDE_COLORS.T[None, :, :, None, None]).abs().amax(1).amin(1, keepdim=True)
    assert float(distance[edge].median()) < 0.02


def job_for(options: GenerateOptions, texture_size: int):
    changed = dataclasses.replace(options, texture_size=texture_size)
    return job_of(changed, num_views=20, height=96, width=96, has_depth=False)


def test_a_cuda_device_is_taken_only_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert check_options(DRAFT).device == "cpu"
    assert check_options(dataclasses.replace(DRAFT, device="cuda")).device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_options(DRAFT).device == "cpu"
    with pytest.raises(Unavailable, match="no CUDA device"):
        check_options(dataclasses.replace(DRAFT, device="cuda"))


def test_depth_of_centres_is_never_fused(box_views, monkeypatch):
    monkeypatch.setitem(DEPTH_MEANS, rasterize_surfels.choose("cpu"), "centre")
    with pytest.raises(Unavailable, match="centre"):
        generate(GenerateRequest(box_views, DRAFT))


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
    made = with_scaffold(free, normalised, PRESETS["draft"])
    assert made.scaffold is not None and made.surfels.num_surfels == len(made.scaffold.faces)
    assert mesh_report(made.scaffold).is_watertight


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_faces": 3}, "target_faces is 3"),
        ({"texture_size": 100_000}, "texture_size"),
        ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "device"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"memory_mib": 0}, "memory_mib is 0"),
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


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_views_give_a_mesh_too(box_views, count):
    few = PosedViews(box_views.rgb[:count], box_views.alpha[:count], box_views.cameras[slice(count)])
    assert len(generate(GenerateRequest(few, DRAFT)).mesh.faces) > 100


class _Elsewhere:
    """Stand-ins for the rooms that check where their tensors are; on the device `meta` a tensor holds no numbers."""

    def __init__(self, scaffold: Mesh) -> None:
        self.scaffold = scaffold
        self.called: list[str] = []

    def _check(self, name: str, device: str, *tensors: torch.Tensor) -> None:
        self.called.append(name)
        assert {t.device.type for t in tensors} == {device}, name

    def refine(self, start, views, options, *, seed, report):
        self._check("refine", "meta", start.surfels.means, start.surfels.colors, views.rgb, views.cameras.c2w)
        return Refined(start.surfels, self.scaffold, 20.0, 1, "steps")

    def render_surfels(self, surfels, cameras, *, background=None):
        self._check("render", "meta", surfels.means, cameras.c2w, cameras.intrinsics)
        if background is not None:
            self._check("render", "meta", background)
        planes = [(c, cameras.height, cameras.width) for c in (3, 1, 1, 3, 1, 1)]
        return RenderOutput(*(torch.empty(cameras.num_views, *p, device="meta") for p in planes))

    def hull_field(self, views, *, resolution):
        self._check("hull", "meta", views.views.alpha, views.views.cameras.c2w, views.silhouettes)
        self._check("hull", "cpu", views.low, views.high)
        return torch.empty(4, 4, 4, device="meta"), torch.zeros(3), 0.3

    def fuse(self, render, cameras, *, low, high, resolution):
        self._check("fuse", "meta", render.depth, cameras.c2w)
        return Grid(torch.empty(4, 4, 4, device="meta"), torch.zeros(3), 0.3)

    def extract_surface(self, grid):
        self._check("extract", "meta", grid.field)
        return self.scaffold

    def snap_to_silhouettes(self, mesh, silhouettes, cameras):
        self._check("snap", "cpu", silhouettes, cameras.c2w)
        return mesh

    def bake_texture(self, unwrapped, views, *, texture_size, fill_views, report):
        self._check("bake", "cpu", views.rgb, views.cameras.c2w)
        self._check("bake", "meta", fill_views.rgb)  # baking takes it from there itself
        u = unwrapped
        albedo = np.zeros((texture_size, texture_size, 3), np.uint8)
        return TexturedMesh(u.vertices, u.faces, u.normals, u.uvs, albedo)


def test_each_room_gets_its_tensors_on_the_device_where_it_works(box_views, monkeypatch):
    scaffold = HullReconstructor(resolution=24, faces=1000).reconstruct(normalise_views(box_views)).scaffold
    assert scaffold is not None
    rooms = _Elsewhere(scaffold)
    monkeypatch.setattr(pipeline, "refine", rooms.refine)
    for name in ("render_surfels", "hull_field", "fuse", "extract_surface", "snap_to_silhouettes", "bake_texture"):
        monkeypatch.setattr(surfacing, name, getattr(rooms, name))
    options = dataclasses.replace(DRAFT, reconstructor="hull", device="meta", texture_size=128)
    result = pipeline._from_views(box_views, options, None, None)
    expected = {"refine", "render", "hull", "fuse", "extract", "snap", "bake"}
    assert set(rooms.called) == expected and result.surfels.means.device.type == "meta"
    assert torch.get_default_device().type == "cpu"
