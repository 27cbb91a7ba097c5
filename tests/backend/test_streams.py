"""Streams that stay open: how many, and what they say while nothing happens."""

import grpc
import pytest

from mvgamba_backend import servicer
from mvgamba_backend.config import ServiceConfig
from mvgamba_backend.jobs import Jobs
from mvgamba_backend.server import bind, build_server
from mvgamba_rpc.v1 import generation_pb2 as pb
from mvgamba_rpc.v1 import generation_pb2_grpc

AUTH = (("authorization", "Bearer token"),)


@pytest.fixture
def stub(tmp_path, monkeypatch, env):
    """A service in this process, so that its patience can be shortened; its worker is a process as always."""
    monkeypatch.setattr(servicer, "HEARTBEAT", 0.5)
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    config = ServiceConfig(tmp_path, "token", pipeline="fake", max_watchers=2, cancel_grace=1.0)
    jobs = Jobs(config)
    server, _ = build_server(jobs, config, shut_down=lambda: None)
    port = bind(server, config)
    jobs.start()
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield generation_pb2_grpc.GenerationServiceStub(channel)
    stopped = server.stop(0.5)
    jobs.stop()
    stopped.wait()


def test_a_quiet_watch_beats_and_watches_have_a_limit(stub, refused, eventually):
    spec = pb.JobSpec(text=pb.TextSource(prompt="#hold:mesh"))
    job = stub.CreateJob(pb.CreateJobRequest(spec=spec), metadata=AUTH, timeout=20).job
    request = pb.WatchJobRequest(job_id=job.id)
    streams = [stub.WatchJob(request, metadata=AUTH, timeout=20) for _ in range(2)]
    seen = 0
    for event in streams[0]:
        if event.WhichOneof("event") == "heartbeat":
            break
        seen = event.sequence
    assert event.sequence == seen
    next(streams[1])
    refusal = refused(stub.WatchJob, request, metadata=AUTH, timeout=20)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
    streams[1].cancel()
    streams[1] = None

    def admitted() -> bool:
        stream = stub.WatchJob(request, metadata=AUTH, timeout=20)
        try:
            return next(stream).WhichOneof("event") == "job"
        except grpc.RpcError:
            return False
        finally:
            stream.cancel()

    eventually(admitted)
    stub.CancelJob(pb.CancelJobRequest(job_id=job.id), metadata=AUTH, timeout=20)
    streams[0].cancel()
