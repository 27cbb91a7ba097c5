"""The library's own pipeline behind the service: a sphere at an odd place comes back where it was."""

import hashlib
import io

import numpy as np
import pytest
import trimesh

from mvgamba.cameras import fibonacci_cameras
from mvgamba.errors import InvalidImage
from mvgamba.io.images import encode_png
from mvgamba_backend.engine.real import RealPipeline, options_from_spec, read_depth, source_from_spec
from mvgamba_backend.spec import CameraSpec, CaptureSource, JobSpec, Options, ViewSpec
from mvgamba_rpc.v1 import generation_pb2 as pb

SIZE, NUM_VIEWS = 64, 6
CENTER, RADIUS, DISTANCE = np.array([10.0, -4.0, 7.0]), 2.5, 10.0


@pytest.fixture(scope="module")
def real(service_factory):
    return service_factory("--cancel-grace", "20", pipeline="real")  # a busy machine is late to listen


@pytest.fixture(scope="module")
def sphere() -> tuple[list[pb.PosedView], list[bytes]]:
    """Views with their depth, which is raw for the first and .npy for the others."""
    cameras = fibonacci_cameras(NUM_VIEWS, radius=DISTANCE, fovy=0.8, height=SIZE, width=SIZE)
    focal = float(cameras.intrinsics[0, 0, 0])
    at = (np.arange(SIZE) + 0.5 - SIZE / 2) / focal
    # the ray through a pixel, with 1 along the view axis: |t d - o| = r, and o lies DISTANCE along the axis
    x, y = np.meshgrid(at, -at)
    square = x**2 + y**2 + 1
    inside = DISTANCE**2 - square * (DISTANCE**2 - RADIUS**2)
    depth = np.where(inside > 0, (DISTANCE - np.sqrt(np.maximum(inside, 0))) / square, 0).astype(np.float32)
    pixels = np.zeros((SIZE, SIZE, 4), np.float32)
    pixels[...] = [0.8, 0.3, 0.2, 0.0]
    pixels[..., 3] = inside > 0
    png = encode_png(pixels)
    raw, saved = depth.astype("<f4").tobytes(), io.BytesIO()
    np.save(saved, depth)
    views = []
    for i in range(NUM_VIEWS):
        c2w = cameras.c2w[i].numpy().copy()
        c2w[:3, 3] += CENTER
        k = cameras.intrinsics[i]
        camera = pb.Camera(camera_to_world=c2w.ravel(), width=SIZE, height=SIZE)
        camera.fx, camera.fy, camera.cx, camera.cy = (float(v) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        content = raw if i == 0 else saved.getvalue()
        depth_ref = pb.Depth(sha256=hashlib.sha256(content).hexdigest())
        views.append(pb.PosedView(image=pb.Image(png=png), camera=camera, depth=depth_ref))
    return views, [raw, saved.getvalue()]


# refinement has tests of its own, and takes most of the time
OPTIONS = pb.Options(quality=pb.QUALITY_DRAFT, refine=False, target_faces=1000, texture_size=128, seed=1)


def test_a_captured_sphere_comes_back_where_it_was(real, sphere):
    views, depths = sphere
    spec = pb.JobSpec(capture=pb.CaptureSource(views=views), options=OPTIONS)
    for content in depths:
        real.upload(content)
    job = real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    events = real.watch(job.id)
    job = events[-1].job
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    stages = {e.progress.stage for e in events if e.WhichOneof("event") == "progress"}
    assert {pb.STAGE_MESH, pb.STAGE_TEXTURE} <= stages
    glb = real.download(job.assets[0].id)
    mesh = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh")
    assert 0 < len(mesh.faces) <= 1000
    # the hull of six round outlines has corners where no camera sees along the surface
    assert mesh.bounds.mean(0) == pytest.approx(CENTER, abs=0.1 * RADIUS)
    assert np.linalg.norm(mesh.vertices - CENTER, axis=1).mean() == pytest.approx(RADIUS, rel=0.1)


def test_a_running_job_stops_by_itself_when_asked(real, sphere):
    spec = pb.JobSpec(capture=pb.CaptureSource(views=sphere[0]), options=pb.Options(quality=pb.QUALITY_HIGH))
    for view in spec.capture.views:
        view.ClearField("depth")
    job = real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    assert real.wait_for_stage(job.id, pb.STAGE_REFINE).state == pb.JOB_STATE_RUNNING
    cancelled = real.cancel(job.id)
    ended = real.finish(job.id)
    assert ended.state == pb.JOB_STATE_CANCELLED
    # by itself: the grace was not needed
    assert ended.end_time.ToMicroseconds() - ended.start_time.ToMicroseconds() < 60e6
    assert cancelled.state == pb.JOB_STATE_CANCELLING
    (worker,) = real.workers()
    assert worker.is_running()


def test_faults_of_the_library_arrive_by_their_reason(real, capture):
    apart = pb.JobSpec(capture=capture(size=16), options=OPTIONS)
    away = [0, 0, -1, 5, 0, 1, 0, 2, 1, 0, 0, 3, 0, 0, 0, 1]
    apart.capture.views[1].camera.camera_to_world[:] = away
    job = real.finish(real.call("CreateJob", pb.CreateJobRequest(spec=apart)).job.id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "INVALID_CAMERAS")
    job = real.finish(real.create("a barrel", multiview=pb.MultiviewOptions(generator="no such")).id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "UNAVAILABLE")


def test_a_worker_that_is_killed_in_the_middle_fails_its_job(real, sphere):
    spec = pb.JobSpec(capture=pb.CaptureSource(views=sphere[0]), options=pb.Options(quality=pb.QUALITY_HIGH))
    for view in spec.capture.views:
        view.ClearField("depth")
    job = real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    real.wait_for_stage(job.id, pb.STAGE_REFINE)
    (worker,) = real.workers()
    worker.kill()
    job = real.finish(job.id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "WORKER_DIED")
    assert real.call("DescribeServer", pb.DescribeServerRequest()).ready


def test_a_budget_of_memory_costs_settings_and_says_which(real, sphere):
    views, depths = sphere
    for content in depths:
        real.upload(content)
    spec = pb.JobSpec(capture=pb.CaptureSource(views=views), options=OPTIONS)
    spec.options.texture_size, spec.options.memory_mib = 4096, 1024
    job = real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    events = real.watch(job.id)
    job = events[-1].job
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    said = [e.log.text for e in events if e.WhichOneof("event") == "log"]
    assert "Memory is short: The texture has 2048 pixels a side instead of 4096." in said
    assert job.spec.options.memory_mib == 1024 and job.spec.options.texture_size == 4096
    spec.options.memory_mib = 300
    job = real.finish(real.call("CreateJob", pb.CreateJobRequest(spec=spec)).job.id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "OUT_OF_MEMORY")
    assert "its budget is 0.29 GiB" in job.error.message


def test_the_real_service_describes_its_machine(real):
    answer = real.call("DescribeServer", pb.DescribeServerRequest(wait_until_ready=True), timeout=60)
    assert answer.ready
    assert "torch" in answer.versions
    assert "cpu" in [d.id for d in answer.devices]
    assert all(d.memory_bytes > 0 for d in answer.devices)
    assert {k.operation for k in answer.kernels} >= {"rasterize_surfels"}
    assert [m.id for m in answer.models if m.available]


def test_depth_is_read_raw_or_as_npy_and_background_becomes_zero(tmp_path):
    values = np.array([[1.0, np.inf], [np.nan, 1e10], [-1.0, 2.5]], np.float32)
    expected = [[1.0, 0.0], [0.0, 0.0], [0.0, 2.5]]
    (tmp_path / "raw").write_bytes(values.astype("<f4").tobytes())
    np.save(tmp_path / "depth.npy", values[..., None])
    for name in ("raw", "depth.npy"):
        assert read_depth(tmp_path / name, (3, 2), name="depth")[0].tolist() == expected
    for size in ((2, 3, 1)[:2], (4, 4)):
        with pytest.raises(InvalidImage):
            read_depth(tmp_path / "depth.npy", size, name="depth")


def test_cameras_keep_their_place_and_lose_their_rounding(tmp_path):
    c2w = np.eye(4)
    c2w[:3, 3] = [1e6 + 0.25, 2.0, 3.0]
    rounded = c2w + np.pad(np.full((3, 3), 1e-6), ((0, 1), (0, 1)))
    (tmp_path / "image").write_bytes(encode_png(np.ones((2, 3, 4), np.float32)))
    camera = CameraSpec(tuple(rounded.ravel().tolist()), 5.0, 6.0, 1.5, 1.0, 3, 2)
    spec = JobSpec(
        CaptureSource((ViewSpec("image", camera),)), Options(seed=3, device="cuda:1", refine=False, memory_mib=900)
    )
    source, doubts = source_from_spec(spec, {"image": tmp_path / "image"})
    assert doubts == ()
    cameras = source.cameras
    rotation = cameras.c2w[0, :3, :3].numpy()
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert cameras.c2w[0, :3, 3].tolist() == [1e6 + 0.25, 2.0, 3.0]
    assert cameras.intrinsics[0].tolist() == [[5, 0, 1.5], [0, 6, 1], [0, 0, 1]]
    assert (cameras.height, cameras.width) == (2, 3)
    options = options_from_spec(spec.options, variant=2)
    assert (options.device, options.seed, options.refine, options.memory_mib) == ("cuda", 5, False, 900)


def test_jobs_take_the_weights_of_whoever_runs_the_service(monkeypatch, tmp_path):
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(tmp_path))
    pipeline = RealPipeline()
    assert pipeline.weights_folder == tmp_path
    made = options_from_spec(Options(seed=1), weights_folder=pipeline.weights_folder)
    assert made.weights_folder == tmp_path
