"""The life of jobs: watched, cancelled, killed, queued."""

import signal
import sys
import time

import grpc
import psutil
import pytest

from mvgamba.progress import STAGES
from mvgamba_rpc.v1 import generation_pb2 as pb

STAGE_NUMBERS = {name: pb.Stage.Value(f"STAGE_{name.upper()}") for name in STAGES}


def test_a_watch_begins_with_a_snapshot_and_ends_with_the_job(service):
    job = service.create("#slow:0.3 #log #preview")
    events = service.watch(job.id)
    assert events[0].WhichOneof("event") == "job"
    assert events[-1].job.state == pb.JOB_STATE_SUCCEEDED
    # behind the snapshot come the notes from before it, then what is new: each once
    numbers = [e.sequence for e in events[1:]]
    assert numbers == sorted(set(numbers))
    reports = [e.progress for e in events if e.WhichOneof("event") == "progress"]
    fractions = [p.total_fraction for p in reports]
    assert fractions == sorted(fractions)
    assert {p.stage for p in reports} == set(STAGE_NUMBERS.values())
    assert [e.preview.index for e in events if e.WhichOneof("event") == "preview"] == [0, 1, 2, 3]
    assert sum(e.WhichOneof("event") == "log" for e in events) == 1
    assert events[-1].job.last_sequence == events[-1].sequence == service.get(job.id).last_sequence


def test_many_may_watch_and_all_see_the_end(service):
    job = service.create("#slow:0.3")
    streams = [service.call("WatchJob", pb.WatchJobRequest(job_id=job.id)) for _ in range(4)]
    ends = [list(stream)[-1] for stream in streams]
    assert {e.job.state for e in ends} == {pb.JOB_STATE_SUCCEEDED}
    assert len({e.sequence for e in ends}) == 1


def test_a_watch_goes_on_after_a_sequence(service):
    job = service.create("#slow:0.6 #log #preview")
    stream = service.call("WatchJob", pb.WatchJobRequest(job_id=job.id))
    seen = 0
    for event in stream:
        seen = max(seen, event.sequence)
        if event.progress.total_fraction > 0.4:
            break
    stream.cancel()
    events = service.watch(job.id, after=seen)
    assert events[0].WhichOneof("event") == "job"
    assert all(e.sequence > seen for e in events[1:])
    # the pictures were seen already; to somebody new they are shown late
    assert not any(e.WhichOneof("event") == "preview" for e in events)
    assert sum(e.WhichOneof("event") == "preview" for e in service.watch(job.id)) == 4


def test_leaving_a_watch_cancels_nothing(service):
    job = service.create("#slow:0.3")
    stream = service.call("WatchJob", pb.WatchJobRequest(job_id=job.id))
    next(stream)
    stream.cancel()
    assert service.finish(job.id).state == pb.JOB_STATE_SUCCEEDED


def test_a_client_that_vanishes_leaves_its_job_to_others(service):
    from mvgamba_rpc.v1 import generation_pb2_grpc

    with grpc.insecure_channel(service.hello["address"]) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        spec = pb.JobSpec(text=pb.TextSource(prompt="#slow:0.3"))
        job = stub.CreateJob(pb.CreateJobRequest(spec=spec), metadata=service.auth, timeout=10).job
        next(stub.WatchJob(pb.WatchJobRequest(job_id=job.id), metadata=service.auth, timeout=10))
    assert service.finish(job.id).state == pb.JOB_STATE_SUCCEEDED


def test_a_finished_job_can_be_watched_once_more(service):
    job = service.create("a barrel")
    service.finish(job.id)
    events = service.watch(job.id)
    assert [e.job.state for e in events] == [pb.JOB_STATE_SUCCEEDED]


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancel_is_heard_in_each_stage(service, stage):
    job = service.create(f"#hold:{stage}")
    assert service.wait_for_stage(job.id, STAGE_NUMBERS[stage]).state == pb.JOB_STATE_RUNNING
    begin = time.monotonic()
    assert service.cancel(job.id).state in (pb.JOB_STATE_CANCELLING, pb.JOB_STATE_CANCELLED)
    ended = service.finish(job.id)
    assert ended.state == pb.JOB_STATE_CANCELLED
    assert not ended.assets
    assert not ended.HasField("error")
    assert time.monotonic() - begin < 1.0
    assert service.cancel(job.id).state == pb.JOB_STATE_CANCELLED


def test_a_job_that_does_not_listen_is_stopped_by_force(service):
    job = service.create("#hold:mesh #deaf")
    service.wait_for_stage(job.id, STAGE_NUMBERS["mesh"])
    service.cancel(job.id)
    assert service.finish(job.id).state == pb.JOB_STATE_CANCELLED
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED


def test_a_queued_job_is_cancelled_at_once_and_the_others_move_up(service):
    jobs = [service.create("#hold:prepare")] + [service.create("a barrel") for _ in range(3)]
    assert [service.get(j.id).progress.queue_position for j in jobs] == [0, 0, 1, 2]
    assert service.cancel(jobs[1].id).state == pb.JOB_STATE_CANCELLED
    assert [service.get(j.id).progress.queue_position for j in jobs[2:]] == [0, 1]
    service.cancel(jobs[0].id)
    assert [service.finish(j.id).state for j in jobs] == [
        pb.JOB_STATE_CANCELLED,
        pb.JOB_STATE_CANCELLED,
        pb.JOB_STATE_SUCCEEDED,
        pb.JOB_STATE_SUCCEEDED,
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL; an exit code stands there instead")
@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_dies_fails_its_job_and_not_the_service(service, stage):
    job = service.finish(service.create(f"#die:{stage}").id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "WORKER_DIED")
    assert dict(job.error.metadata) == {"stage": stage, "signal": "SIGKILL"}
    assert stage in job.error.message
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED


def test_a_worker_killed_from_outside_fails_its_job(service):
    job = service.create("#hold:texture")
    service.wait_for_stage(job.id, STAGE_NUMBERS["texture"])
    (worker,) = service.workers()
    worker.kill()
    job = service.finish(job.id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "WORKER_DIED")


def test_an_idle_worker_leaves_and_comes_back(start_service, eventually):
    service = start_service("--idle-exit", "0.2")
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED
    eventually(lambda: not [w for w in service.workers() if w.status() != psutil.STATUS_ZOMBIE])
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED


def test_a_full_queue_says_so_and_repeats_are_still_answered(start_service, refused):
    service = start_service("--queue-limit", "2")
    running = service.create("#hold:mesh")
    service.wait_for_stage(running.id, STAGE_NUMBERS["mesh"])
    waiting = [service.create("a barrel", request_id=f"request {i}") for i in range(2)]
    refusal = refused(service.create, "a barrel")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert service.create("a barrel", request_id="request 0").id == waiting[0].id
    service.cancel(waiting[1].id)
    assert service.create("a barrel").state == pb.JOB_STATE_QUEUED


def test_no_room_on_the_disk_is_told_before_the_job(start_service, refused):
    service = start_service("--min-free-mib", str(1 << 40))
    refusal = refused(service.create, "a barrel")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    assert refused(service.upload, b"data").reason == "DISK_FULL"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_crash_loses_no_result_and_what_waited_is_queued_again(start_service, eventually):
    service = start_service()
    done = service.finish(service.create("a barrel").id)
    content = service.download(done.assets[0].id)
    running = service.create("#hold:mesh")
    service.wait_for_stage(running.id, STAGE_NUMBERS["mesh"])
    waiting = service.create("a crate")
    before = service.get(running.id)
    workers = service.workers()
    service.kill()
    eventually(lambda: not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers))

    service = start_service()
    assert service.get(done.id) == done
    assert service.download(done.assets[0].id) == content
    again = service.wait_for_stage(running.id, STAGE_NUMBERS["mesh"])
    assert (again.state, again.attempt) == (pb.JOB_STATE_RUNNING, 2)
    assert again.last_sequence > before.last_sequence
    assert service.get(waiting.id).state == pb.JOB_STATE_QUEUED
    service.kill()

    service = start_service()
    twice = service.finish(running.id)
    assert (twice.state, twice.error.reason) == (pb.JOB_STATE_FAILED, "WORKER_DIED")
    assert service.finish(waiting.id).state == pb.JOB_STATE_SUCCEEDED
    assert service.download(done.assets[0].id) == content


def test_a_service_that_leaves_politely_puts_its_running_job_back(start_service):
    service = start_service()
    job = service.create("#hold:mesh")
    service.wait_for_stage(job.id, STAGE_NUMBERS["mesh"])
    cancelled = service.create("a barrel")
    service.cancel(cancelled.id)
    assert service.end() == 0
    service = start_service()
    assert service.wait_for_stage(job.id, STAGE_NUMBERS["mesh"]).state == pb.JOB_STATE_RUNNING
    assert service.get(cancelled.id).state == pb.JOB_STATE_CANCELLED


def test_a_text_job_that_waited_through_a_restart_is_run_as_it_was_asked_for(start_service):
    service = start_service()
    held = service.create("#hold:mesh")
    service.wait_for_stage(held.id, STAGE_NUMBERS["mesh"])
    views = pb.MultiviewOptions(generator="starter", candidates=2, steps=7, guidance=0.0)
    waiting = service.create("木桶 #preview", variants=2, seed=5, multiview=views)
    assert service.end() == 0
    service = start_service()
    assert service.get(waiting.id).spec == waiting.spec
    service.cancel(held.id)
    job = service.finish(waiting.id)
    assert (job.state, job.spec) == (pb.JOB_STATE_SUCCEEDED, waiting.spec)
    assert [a.name for a in job.assets if a.kind == pb.ASSET_KIND_MESH] == ["mesh.glb", "mesh_2.glb"]
    service.cancel(held.id)


def test_watchers_hear_that_the_service_leaves(start_service):
    service = start_service()
    job = service.create("#hold:mesh")
    stream = service.call("WatchJob", pb.WatchJobRequest(job_id=job.id))
    next(stream)
    service.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
