"""Words, pictures and results through real gRPC, a real worker and a real generator that knows one ball."""

import hashlib
import io
import json
import math
import re

import grpc
import numpy as np
import pytest
import trimesh
from PIL import Image

from mvgamba import __version__
from mvgamba_rpc.v1 import generation_pb2 as pb
from tests.backend.tiny_generator import WORDS, install_tiny_generator

SIDES = ("front", "right", "back", "left", "above")
SECRET = "unspeakable"
"""A word that the generator does not know, and that no log may hold."""


@pytest.fixture(scope="module")
def real(service_factory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVGAMBA_WEIGHTS", str(folder))
        install_tiny_generator(folder)
        yield service_factory("--cancel-grace", "20", pipeline="real")


def options(**more) -> pb.Options:
    """Quick, but for what is asked for."""
    views = {"candidates": 1, "steps": 3, "guidance": 1.0} | more.pop("multiview", {})
    plain = {"quality": pb.QUALITY_DRAFT, "refine": False, "target_faces": 500, "texture_size": 128, "seed": 1}
    return pb.Options(multiview=pb.MultiviewOptions(**views), reconstructor="hull", **plain | more)


def create(service, source, **more) -> str:
    kind = {
        pb.TextSource: "text",
        pb.ImageSource: "image",
        pb.VariationSource: "variation",
        pb.CaptureSource: "capture",
    }[type(source)]
    spec = pb.JobSpec(options=options(**more), **{kind: source})
    return service.call("CreateJob", pb.CreateJobRequest(spec=spec)).job.id


def run(service, source, **more) -> tuple[pb.Job, list[pb.WatchJobResponse]]:
    events = list(service.call("WatchJob", pb.WatchJobRequest(job_id=create(service, source, **more)), timeout=300))
    return events[-1].job, events


def mesh_of(service, asset: pb.Asset) -> trimesh.Trimesh:
    return trimesh.load(io.BytesIO(service.download(asset.id)), file_type="glb", force="mesh")


def facts_of(service, job: pb.Job) -> list[dict]:
    (asset,) = (a for a in job.assets if a.kind == pb.ASSET_KIND_FACTS)
    return json.loads(service.download(asset.id))["results"]


def ball_picture(size: int = 96) -> np.ndarray:
    """Where a picture shows a disc in its middle."""
    at = np.arange(size) + 0.5 - size / 2
    return np.hypot(*np.meshgrid(at, at)) < 0.35 * size


def ball_capture(size: int = 96) -> pb.CaptureSource:
    """Four level views of a grey ball."""
    picture = pb.Image(png=png(np.dstack([np.full((size, size, 3), 90), 255 * ball_picture(size)]).astype(np.uint8)))
    views = []
    for turn in (0.0, 0.5, 1.0, 1.5):
        c, s = math.cos(turn * math.pi), math.sin(turn * math.pi)
        c2w = [c, 0, s, 3 * s, 0, 1, 0, 0, -s, 0, c, 3 * c, 0, 0, 0, 1]
        lens = {"fx": 1.2 * size, "fy": 1.2 * size, "cx": size / 2, "cy": size / 2}
        camera = pb.Camera(camera_to_world=c2w, width=size, height=size, **lens)
        views.append(pb.PosedView(image=picture, camera=camera))
    return pb.CaptureSource(views=views)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def barrel(real):
    """A text job in two variants, with what was told of it."""
    return run(real, pb.TextSource(prompt=f"a {SECRET} barrel\x00\U0001f6e2"), variants=2)


def test_words_become_pictures_and_then_meshes(real, barrel):
    job, events = barrel
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    assert [a.name for a in job.assets] == ["mesh.glb", "mesh_2.glb", "facts.json"]
    for asset in job.assets[:2]:
        mesh = mesh_of(real, asset)
        # the ball that was taught: its outline has a radius of 0.3 pictures, seen from 2.53 with 49.1 degrees
        radius = 2.53 * math.sin(math.atan(0.6 * math.tan(math.radians(49.1) / 2)))
        assert mesh.extents == pytest.approx([2 * radius] * 3, rel=0.2)
        assert np.abs(mesh.bounds.mean(0)).max() < 0.15
    first, second = facts_of(real, job)
    assert (first["asset"], first["seed"], second["asset"], second["seed"]) == ("mesh.glb", 1, "mesh_2.glb", 2)
    assert (first["generator"], first["generator_weights"]) == ("starter", "tiny")
    assert first["prompt"] == f"a {SECRET} barrel \U0001f6e2"
    assert any(SECRET in sentence for sentence in first["warnings"])


def test_views_are_shown_while_they_are_made(real, barrel):
    _, events = barrel
    pictures = [e.preview for e in events if e.WhichOneof("event") == "preview"]
    assert {(p.variant, p.index) for p in pictures} == {(v, i) for v in range(2) for i in range(5)}
    assert all(p.count == 5 and p.media_type == "image/png" and len(p.data) <= 64 << 10 for p in pictures)
    last = {(p.variant, p.index): p for p in pictures}
    # the last one is the finished view, not the small one of a step
    assert Image.open(io.BytesIO(last[1, 0].data)).size == (256, 256)
    seen = [e.progress.stage for e in events if e.WhichOneof("event") == "progress"]
    assert pb.STAGE_MULTIVIEW in seen
    fractions = [e.progress.total_fraction for e in events if e.WhichOneof("event") == "progress"]
    assert fractions == sorted(fractions)
    texts = [e.log.text for e in events if e.WhichOneof("event") == "log"]
    assert len(texts) == len(set(texts)) and any(SECRET in text for text in texts)


def test_the_words_of_a_prompt_stay_out_of_the_log(real, barrel):
    assert SECRET not in real.log_path.read_text()


def test_a_picture_becomes_a_mesh_with_its_own_face(real):
    disc = ball_picture()
    pixels = np.zeros((*disc.shape, 4), np.uint8)
    pixels[..., 2], pixels[..., 3] = 255, 255 * disc
    source = pb.ImageSource(image=pb.Image(png=png(pixels)), prompt="a barrel", elevation=math.radians(15))
    job, _ = run(real, source)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    assert job.spec.image.elevation == pytest.approx(math.radians(15))
    (facts,) = facts_of(real, job)
    assert facts["elevation_deg"] == 15.0
    mesh = mesh_of(real, job.assets[0])
    colors = mesh.visual.to_color().vertex_colors[:, :3].astype(int)
    front = mesh.vertex_normals[:, 2] > 0.9
    blueness = colors[front, 2] - colors[front, 0]
    assert np.median(blueness) > 100  # what was taught is red


def test_several_sides_of_an_object_show_on_their_sides(real):
    disc = ball_picture()

    def colored(*rgb: int) -> pb.Image:
        pixels = np.full((*disc.shape, 3), rgb, np.uint8)
        return pb.Image(png=png(np.dstack([pixels, (255 * disc).astype(np.uint8)])))

    source = pb.ImageSource(
        image=colored(0, 0, 255),
        others=[pb.SidePicture(image=colored(0, 255, 0), side=pb.SIDE_BACK)],
        background=pb.BACKGROUND_KEEP_ALPHA,
        elevation=0.0,
    )
    job, _ = run(real, source, multiview={"recall": False})
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    mesh = mesh_of(real, job.assets[0])
    colors = mesh.visual.to_color().vertex_colors[:, :3].astype(int)
    for sign, channel in ((1, 2), (-1, 1)):
        facing = sign * mesh.vertex_normals[:, 2] > 0.9
        assert np.median(colors[facing, channel] - colors[facing, 0]) > 100
    (facts,) = facts_of(real, job)
    assert (facts["sides"], facts["pictures"], facts["background"]) == (["front", "back"], 2, "keep_alpha")
    assert facts["recall"] is False


def test_a_background_that_cannot_be_kept_is_said_by_the_side(real):
    opaque = np.where(ball_picture()[..., None], [200, 40, 40], 255).astype(np.uint8)
    cut = np.dstack([opaque, (255 * ball_picture()).astype(np.uint8)])
    other = pb.SidePicture(image=pb.Image(png=png(opaque)), side=pb.SIDE_LEFT)
    source = pb.ImageSource(image=pb.Image(png=png(cut)), others=[other], background=pb.BACKGROUND_KEEP_ALPHA)
    job, _ = run(real, source, review_views=True)
    assert job.error.reason == "INVALID_IMAGE"
    assert job.error.message.startswith("The image of the left has no transparency")


def test_surfels_are_distilled_over_the_wire(real):
    job, events = run(real, pb.TextSource(prompt="a barrel"), multiview={"distil_steps": 2})
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    assert facts_of(real, job)[0]["distilled"] == 2
    said = [e.progress.message for e in events if e.WhichOneof("event") == "progress"]
    assert "Distilling" in said


def test_a_picture_without_alpha_is_taken(real):
    pixels = np.where(ball_picture()[..., None], [200, 40, 40], 255).astype(np.uint8)
    job, _ = run(real, pb.ImageSource(image=pb.Image(png=png(pixels))), review_views=True)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error


def test_a_result_is_varied_where_it_stands_also_after_its_job_is_gone(real, barrel):
    job, _ = barrel
    before = mesh_of(real, job.assets[1])
    gone, _ = run(real, pb.TextSource(prompt="a barrel"), seed=2)
    source = pb.VariationSource(job_id=gone.id, prompt="a red barrel", strength=0.0)
    spec = pb.JobSpec(variation=source, options=options())
    created = real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    real.call("DeleteJob", pb.DeleteJobRequest(job_id=gone.id))
    varied = list(real.call("WatchJob", pb.WatchJobRequest(job_id=created.id), timeout=300))[-1].job
    assert varied.state == pb.JOB_STATE_SUCCEEDED, varied.error
    after = mesh_of(real, varied.assets[0])
    assert after.bounds.mean(0) == pytest.approx(before.bounds.mean(0), abs=0.1)
    assert after.extents == pytest.approx(before.extents, rel=0.25)
    (facts,) = facts_of(real, varied)
    assert (facts["strength"], facts["prompt"]) == (0.0, "a red barrel")


@pytest.mark.parametrize("strength", [0.9, 1.0])
def test_a_capture_is_varied_as_strongly_as_asked(real, strength):
    source = pb.VariationSource(capture=ball_capture(), prompt="a barrel", strength=strength)
    job, _ = run(real, source, review_views=True)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    (facts,) = facts_of(real, job)
    assert (facts["strength"], facts["kind"]) == (strength, "variation")


@pytest.mark.parametrize("kind", ["text", "image", "variation", "capture"])
def test_facts_say_seed_models_and_versions_of_every_kind(real, kind):
    picture = ball_capture().views[0].image
    source = {
        "text": pb.TextSource(prompt="a barrel"),
        "image": pb.ImageSource(image=picture),
        "variation": pb.VariationSource(capture=ball_capture(), prompt="a barrel"),
        "capture": ball_capture(),
    }[kind]
    job, _ = run(real, source, seed=77)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    (facts,) = facts_of(real, job)
    assert (facts["kind"], facts["seed"], facts["version"]) == (kind, 77, __version__)
    assert (facts["reconstructor"], facts["reconstructor_weights"]) == ("hull", None)
    if kind == "capture":
        assert facts["weights_sha256"] == {}
    else:
        assert (facts["generator"], facts["generator_weights"]) == ("starter", "tiny")
        assert re.fullmatch("[0-9a-f]{64}", facts["weights_sha256"]["tiny"])


def test_views_are_reviewed_mended_and_reconstructed(real):
    job, events = run(real, pb.TextSource(prompt="a barrel"), review_views=True)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    kinds = [(a.name, a.kind) for a in job.assets]
    assert kinds == [
        *((f"{side}.png", pb.ASSET_KIND_VIEW) for side in SIDES),
        ("transforms.json", pb.ASSET_KIND_CAMERAS),
        ("facts.json", pb.ASSET_KIND_FACTS),
    ]
    assert {e.progress.stage for e in events if e.WhichOneof("event") == "progress"} <= {pb.STAGE_MULTIVIEW}
    assets = {a.name: a for a in job.assets}
    table = json.loads(real.download(assets["transforms.json"].id))
    views = []
    for frame in table["frames"]:
        data = real.download(assets[frame["file_path"]].id)
        if frame["file_path"] == "front.png":
            pixels = np.asarray(Image.open(io.BytesIO(data))).copy()
            pixels[..., :3] = [0, 0, 255]  # the person paints it blue
            data = png(pixels)
        real.upload(data)
        z_up = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
        camera = pb.Camera(
            camera_to_world=(z_up @ np.array(frame["transform_matrix"])).ravel(),
            fx=frame["fl_x"],
            fy=frame["fl_y"],
            cx=frame["cx"],
            cy=frame["cy"],
            width=table["w"],
            height=table["h"],
        )
        views.append(pb.PosedView(image=pb.Image(sha256=hashlib.sha256(data).hexdigest()), camera=camera))
    done, _ = run(real, pb.CaptureSource(views=views))
    assert done.state == pb.JOB_STATE_SUCCEEDED, done.error
    mesh = mesh_of(real, done.assets[0])
    colors = mesh.visual.to_color().vertex_colors[:, :3].astype(int)
    front, back = mesh.vertex_normals[:, 2] > 0.9, mesh.vertex_normals[:, 2] < -0.9
    assert np.median(colors[front, 2] - colors[front, 0]) > 100
    assert np.median(colors[back, 0] - colors[back, 2]) > 50


def test_a_cancel_is_heard_while_views_are_made(real):
    job_id = create(real, pb.TextSource(prompt="a barrel"), multiview={"steps": 1000, "candidates": 8})
    assert real.wait_for_stage(job_id, pb.STAGE_MULTIVIEW).state == pb.JOB_STATE_RUNNING
    real.cancel(job_id)
    (worker,) = real.workers()
    job = real.finish(job_id)
    assert (job.state, list(job.assets)) == (pb.JOB_STATE_CANCELLED, [])
    # by itself, not by force
    assert worker.is_running()


@pytest.mark.parametrize(
    ("generator", "reason"), [("no such", "UNAVAILABLE"), ("starter", "")], ids=["unknown", "known"]
)
def test_a_generator_that_there_is_not_fails_the_job_by_name(real, generator, reason):
    job, _ = run(real, pb.TextSource(prompt="木桶"), multiview={"generator": generator}, review_views=True)
    assert job.error.reason == reason
    if reason:
        assert "no such" in job.error.message and "starter" in job.error.message
    else:
        # other scripts are taken, and the person is told that they say nothing to this generator
        assert any("Latin" in sentence for sentence in facts_of(real, job)[0]["warnings"])


def refused_field(service, refused, source, **more) -> str:
    refusal = refused(create, service, source, **more)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    return refusal.message.partition(" ")[0]


def test_what_cannot_be_made_is_refused_in_the_call(real, refused):
    for text in ("", " \n", "\x00\x07", "\u200b", "x" * 10_000):
        assert refused_field(real, refused, pb.TextSource(prompt=text)) == "text.prompt"
        assert refused_field(real, refused, pb.VariationSource(job_id="x", prompt=text)) == "variation.prompt"
    for strength in (-0.1, 1.5, math.nan):
        source = pb.VariationSource(job_id="x", prompt="x", strength=strength)
        assert refused_field(real, refused, source) == "variation.strength"
    text = pb.TextSource(prompt="a barrel")
    assert refused_field(real, refused, text, variants=17) == "options.variants"
    assert refused_field(real, refused, text, multiview={"candidates": 17}) == "options.multiview.candidates"
    assert refused_field(real, refused, text, multiview={"steps": 0}) == "options.multiview.steps"
    assert refused_field(real, refused, text, multiview={"guidance": -1.0}) == "options.multiview.guidance"


def test_a_variation_needs_a_job_that_has_a_mesh(real, refused, barrel):
    refusal = refused(create, real, pb.VariationSource(job_id="nothing", prompt="x"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_UNKNOWN")
    refusal = refused(create, real, pb.VariationSource(job_id=barrel[0].id, asset_name="facts.json", prompt="x"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_UNKNOWN")
    assert "mesh_2.glb" in refusal.message
    running = create(real, pb.TextSource(prompt="a barrel"), multiview={"steps": 1000, "candidates": 8})
    refusal = refused(create, real, pb.VariationSource(job_id=running, prompt="x"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_FINISHED")
    real.cancel(running)
    real.finish(running)


def test_the_service_says_what_it_can_make_and_which_words_it_knows(real):
    answer = real.call("DescribeServer", pb.DescribeServerRequest(wait_until_ready=True), timeout=120)
    assert list(answer.sources) == ["capture", "text", "image", "variation"]
    models = {m.id: m for m in answer.models if m.kind == "multiview"}
    assert models["starter"].available and not models["starter"].why_not
    assert not models["mvdream"].available and models["mvdream"].why_not
    words = real.call("LookUpWords", pb.LookUpWordsRequest(prompt="a red barel", prefix="w"))
    assert (list(words.known), list(words.suggestions)) == (["a", "red"], ["wooden"])
    assert [(u.word, list(u.nearest)) for u in words.unknown] == [("barel", ["barrel"])]
    assert set(words.known) <= set(WORDS)
