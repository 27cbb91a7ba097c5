"""The short calls: who may call, what is taken, what is refused and why."""

import hashlib
import uuid

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mvgamba_rpc.v1 import generation_pb2 as pb

REQUESTS = {
    "CreateJob": pb.CreateJobRequest(),
    "GetJob": pb.GetJobRequest(),
    "ListJobs": pb.ListJobsRequest(),
    "WatchJob": pb.WatchJobRequest(),
    "CancelJob": pb.CancelJobRequest(),
    "DeleteJob": pb.DeleteJobRequest(),
    "FindBlobs": pb.FindBlobsRequest(),
    "UploadBlob": iter([pb.UploadBlobRequest()]),
    "DownloadAsset": pb.DownloadAssetRequest(),
    "DescribeServer": pb.DescribeServerRequest(),
    "LookUpWords": pb.LookUpWordsRequest(),
    "Shutdown": pb.ShutdownRequest(),
}


@pytest.mark.parametrize("token", [None, "Bearer wrong", "a-token-of-the-tests", "Bearer "])
@pytest.mark.parametrize("method", REQUESTS)
def test_nobody_gets_in_without_the_token(service, refused, method, token):
    metadata = () if token is None else (("authorization", token),)
    refusal = refused(getattr(service.stub, method), REQUESTS[method], metadata=metadata, timeout=10)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_every_method_of_the_contract_is_behind_the_token():
    assert set(REQUESTS) == {m.name for m in pb.DESCRIPTOR.services_by_name["GenerationService"].methods}


def test_health_needs_no_token(service):
    stub = health_pb2_grpc.HealthStub(service.channel)
    for name in ("", "mvgamba_rpc.v1.GenerationService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_refusal_carries_its_reason_as_error_info(service, refused):
    refusal = refused(service.get, "nothing")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_UNKNOWN")
    rich = status_pb2.Status.FromString(refusal.metadata["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert (info.reason, info.domain, rich.code) == ("JOB_UNKNOWN", "mvgamba", grpc.StatusCode.NOT_FOUND.value[0])


@pytest.mark.parametrize("method", ["GetJob", "CancelJob", "DeleteJob", "WatchJob"])
def test_an_unknown_job_is_said_to_be_unknown(service, refused, method):
    refusal = refused(service.call, method, getattr(pb, f"{method}Request")(job_id="nothing"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_UNKNOWN")


def test_the_same_request_twice_makes_one_job(service, refused):
    request_id = str(uuid.uuid4())
    first = service.create("a barrel", request_id=request_id)
    second = service.create("a barrel", request_id=request_id)
    assert first.id == second.id
    refusal = refused(service.create, "a crate", request_id=request_id)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    service.finish(first.id)
    assert service.create("a barrel", request_id=request_id).state == pb.JOB_STATE_SUCCEEDED
    assert service.create("a barrel").id != service.create("a barrel").id


def test_the_job_shows_what_was_filled_in(service):
    job = service.create("a barrel", seed=7)
    options = job.spec.options
    assert (options.quality, options.target_faces, options.texture_size) == (pb.QUALITY_STANDARD, 20_000, 1024)
    assert (options.refine, options.device, options.reconstructor, options.seed) == (True, "auto", "auto", 7)
    assert (options.variants, options.review_views) == (1, False)
    assert options.multiview == pb.MultiviewOptions(generator="auto", candidates=4, recall=True)
    assert not service.create("a barrel", refine=False, seed=0).spec.options.refine
    drawn = {service.create("a barrel").spec.options.seed for _ in range(3)}
    assert len(drawn) == 3


def test_a_finished_job_has_its_times_and_its_assets_in_order(service):
    job = service.finish(service.create("a barrel").id)
    times = [t.ToMicroseconds() for t in (job.create_time, job.start_time, job.end_time)]
    assert times == sorted(times)
    assert times[0] > 0
    assert [a.name for a in job.assets] == ["mesh.glb", "preview.png", "facts.json"]
    assert job.progress.total_fraction == 1.0
    assert not job.HasField("error")


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        (pb.JobSpec(), "INVALID_INPUT", "source"),
        (pb.JobSpec(text=pb.TextSource(prompt="  ")), "INVALID_INPUT", "text.prompt"),
        (pb.JobSpec(text=pb.TextSource(prompt="x" * 2001)), "INVALID_INPUT", "text.prompt"),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), label="x" * 201), "INVALID_INPUT", "label"),
        (
            pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(target_faces=3)),
            "INVALID_INPUT",
            "target_faces",
        ),
        (
            pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(texture_size=9000)),
            "INVALID_INPUT",
            "texture_size",
        ),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(seed=2**31)), "INVALID_INPUT", "seed"),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(device="tpu")), "INVALID_INPUT", "device"),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(seconds=0.0)), "INVALID_INPUT", "seconds"),
        (
            pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(seconds=float("nan"))),
            "INVALID_INPUT",
            "seconds",
        ),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(memory_mib=0)), "INVALID_INPUT", "memory_mib"),
        (pb.JobSpec(text=pb.TextSource(prompt="x"), options=pb.Options(quality=99)), "INVALID_INPUT", "quality"),
        (pb.JobSpec(capture=pb.CaptureSource()), "INVALID_INPUT", "capture.views"),
        (pb.JobSpec(capture=pb.CaptureSource(views=[pb.PosedView()] * 10_000)), "INVALID_INPUT", "10000 views"),
        (pb.JobSpec(image=pb.ImageSource(image=pb.Image(png=b"GIF89a" + b" " * 40))), "INVALID_IMAGE", "image.image"),
        (pb.JobSpec(image=pb.ImageSource(image=pb.Image(sha256="xyz"))), "INVALID_INPUT", "image.image.sha256"),
        (pb.JobSpec(image=pb.ImageSource(image=pb.Image(sha256="0" * 64))), "BLOB_MISSING", "image.image"),
        (
            pb.JobSpec(image=pb.ImageSource(image=pb.Image(png=b"x" * ((1 << 20) + 1)))),
            "INVALID_INPUT",
            "image.image.png",
        ),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(service, refused, spec, reason, field):
    refusal = refused(service.call, "CreateJob", pb.CreateJobRequest(spec=spec))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert field in refusal.message


def test_a_capture_comes_back_as_a_cube_where_its_cameras_look(service, capture):
    trimesh = pytest.importorskip("trimesh")
    import io

    job = service.call("CreateJob", pb.CreateJobRequest(spec=pb.JobSpec(capture=capture()))).job
    job = service.finish(job.id)
    mesh = trimesh.load(io.BytesIO(service.download(job.assets[0].id)), file_type="glb", force="mesh")
    assert mesh.bounds.mean(0) == pytest.approx([1, 2, 3], abs=1e-5)
    assert 0.3 < mesh.extents.max() < 2.0
    assert not job.spec.capture.views[0].image.HasField("png")
    assert len(job.spec.capture.views[0].image.sha256) == 64


def test_a_message_that_is_too_large_is_refused_and_the_service_lives(service, refused):
    refusal = refused(service.create, "x" * (5 << 20))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.reason == ""
    assert service.create("a barrel").id


def test_pictures_of_several_sides_reach_the_pipeline_whole(service):
    import json

    from mvgamba_backend.engine.cube import checker_png

    sides = {"front": 16, "back": 24, "left": 32}
    pngs = {side: checker_png(size, (200, 100, size)) for side, size in sides.items()}
    service.upload(pngs["left"])
    stored = service.call("FindBlobs", pb.FindBlobsRequest(sha256=[hashlib.sha256(pngs["left"]).hexdigest()]))
    source = pb.ImageSource(
        image=pb.Image(png=pngs["front"]),
        others=[
            pb.SidePicture(image=pb.Image(png=pngs["back"]), side=pb.SIDE_BACK),
            pb.SidePicture(image=pb.Image(sha256=stored.blobs[0].sha256), side=pb.SIDE_LEFT),
        ],
        background=pb.BACKGROUND_REMOVE,
        prompt="a crate #log",
    )
    options = pb.Options(multiview=pb.MultiviewOptions(recall=False, distil_steps=20))
    job = service.call("CreateJob", pb.CreateJobRequest(spec=pb.JobSpec(image=source, options=options))).job
    assert [other.side for other in job.spec.image.others] == [pb.SIDE_BACK, pb.SIDE_LEFT]
    assert not job.spec.image.others[0].image.HasField("png") and job.spec.image.background == pb.BACKGROUND_REMOVE
    events = service.watch(job.id)
    assert "Pictures: front, back, left." in [e.log.text for e in events if e.WhichOneof("event") == "log"]
    (facts,) = (a for a in events[-1].job.assets if a.kind == pb.ASSET_KIND_FACTS)
    (said,) = json.loads(service.download(facts.id))["results"]
    assert said["picture_bytes"] == {side: len(png) for side, png in pngs.items()}
    assert (said["kind"], said["sides"], said["background"]) == ("image", ["front", "back", "left"], "remove")
    assert (said["recall"], said["distil_steps"]) == (False, 20)


def test_jobs_are_listed_in_pages_newest_first(service, refused):
    made = [service.create("a barrel").id for _ in range(5)]
    for job_id in made:
        service.finish(job_id)
    seen, token = [], ""
    while len(seen) < 5:
        page = service.call("ListJobs", pb.ListJobsRequest(page_size=2, page_token=token))
        assert len(page.jobs) == 2
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
    assert seen[:5] == made[::-1]
    everything = service.call("ListJobs", pb.ListJobsRequest(page_size=500))
    assert everything.next_page_token == ""
    failed = service.call("ListJobs", pb.ListJobsRequest(page_size=500, states=[pb.JOB_STATE_FAILED])).jobs
    assert {job.state for job in failed} <= {pb.JOB_STATE_FAILED}
    for bad in (pb.ListJobsRequest(page_token="x"), pb.ListJobsRequest(states=[77])):
        assert refused(service.call, "ListJobs", bad).code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_deleted_job_is_gone_and_an_unfinished_one_stays(service, refused):
    job = service.finish(service.create("a barrel", seed=123456).id)
    twin = service.finish(service.create("a barrel", seed=123456).id)
    assert job.assets[0].sha256 == twin.assets[0].sha256
    service.call("DeleteJob", pb.DeleteJobRequest(job_id=job.id))
    assert refused(service.get, job.id).reason == "JOB_UNKNOWN"
    assert refused(service.download, job.assets[0].id).reason == "JOB_UNKNOWN"
    assert len(service.download(twin.assets[0].id)) == twin.assets[0].size_bytes
    running = service.create("#hold:mesh")
    refusal = refused(service.call, "DeleteJob", pb.DeleteJobRequest(job_id=running.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_FINISHED")
    service.cancel(running.id)
    service.finish(running.id)


def test_the_server_describes_itself(service):
    answer = service.call("DescribeServer", pb.DescribeServerRequest(wait_until_ready=True))
    assert answer.ready
    assert (answer.pipeline, answer.engine, list(answer.api)) == ("fake", "local", ["v1"])
    assert [d.id for d in answer.devices] == ["cpu"]
    assert set(answer.sources) == {"text", "image", "capture", "variation"}
    generators = {m.id: m for m in answer.models if m.kind == "multiview"}
    assert list(generators["starter"].sources) == ["text", "image", "variation"]
    assert generators["imagedream"].why_not
    assert (answer.limits.max_variants, answer.limits.max_candidates) == (16, 16)
    assert answer.limits.queue_limit == 32
    assert answer.limits.max_message_bytes == 4 << 20


def test_a_failure_that_was_asked_for_arrives_with_its_reason(service):
    job = service.finish(service.create("#fail:OUT_OF_MEMORY").id)
    assert job.state == pb.JOB_STATE_FAILED
    assert job.error.reason == "OUT_OF_MEMORY"
    assert job.error.metadata["stage"] == "refine"
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED
