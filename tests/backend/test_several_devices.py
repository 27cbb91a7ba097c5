"""Jobs on a machine with several devices. The devices are played; places, processes and what each of them sees are as with real ones."""

import json

import pytest

from mvgamba.errors import InvalidInput
from mvgamba_backend.config import ServiceConfig
from mvgamba_rpc.v1 import generation_pb2 as pb


@pytest.fixture(scope="module")
def two(service_factory):
    """A service with two CUDA devices whose workers have started, so that no test waits for Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        service = service_factory("--fake-devices", "2", "--idle-exit", "0")
    first = service.create("a barrel", device="cuda:1")  # before anybody can know which device that is
    assert device_of(service, service.finish(first.id)) == "card 1"
    return service


def device_of(service, job: pb.Job) -> str:
    """Which device computed a job, as its worker says."""
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    (facts,) = [asset for asset in job.assets if asset.name == "facts.json"]
    (result,) = json.loads(service.download(facts.id))["results"]
    return result["device"]


def test_the_service_says_which_devices_there_are(two):
    answer = two.call("DescribeServer", pb.DescribeServerRequest(wait_until_ready=True))
    assert [device.id for device in answer.devices] == ["cpu", "cuda:0", "cuda:1"]


def test_two_jobs_run_at_once_one_on_each_device(two):
    jobs = [two.finish(job.id) for job in [two.create("#slow:1.5") for _ in range(3)]]
    first, second, third = jobs
    assert {device_of(two, first), device_of(two, second)} == {"card 0", "card 1"}
    begins, ends = [[getattr(job, f"{which}_time").ToMicroseconds() for job in jobs] for which in ("start", "end")]
    assert max(begins[:2]) < min(ends[:2]), "the second waited for the first"
    assert begins[2] >= min(ends[:2]), "the third found a place that is not there"
    assert device_of(two, third) in ("card 0", "card 1")


def test_a_job_waits_for_the_device_it_asks_for_while_the_other_is_free(two):
    holder = two.create("#hold:refine", device="cuda:1")
    two.wait_for_stage(holder.id, pb.STAGE_REFINE)
    waiting = two.create("a crate", device="cuda:1")
    passing = [two.finish(two.create("a vase", device=device).id) for device in ("cuda:0", "auto", "cuda", "cpu")]
    assert [device_of(two, job) for job in passing] == ["card 0", "card 0", "card 0", "cpu"]
    assert two.get(waiting.id).state == pb.JOB_STATE_QUEUED
    two.cancel(holder.id)
    assert two.finish(holder.id).state == pb.JOB_STATE_CANCELLED
    assert device_of(two, two.finish(waiting.id)) == "card 1"


def test_a_worker_that_dies_on_one_device_does_not_disturb_the_other(two):
    steady = two.create("#slow:2", device="cuda:0")
    two.wait_for_stage(steady.id, pb.STAGE_PREPARE)
    before = {worker.pid for worker in two.workers()}
    dead = two.finish(two.create("#die:refine", device="cuda:1").id)
    assert (dead.state, dead.error.reason) == (pb.JOB_STATE_FAILED, "WORKER_DIED")
    assert two.get(steady.id).state == pb.JOB_STATE_RUNNING
    after = two.finish(two.create("a crate", device="cuda:1").id)
    assert device_of(two, after) == "card 1"
    steady = two.finish(steady.id)
    assert device_of(two, steady) == "card 0" and steady.attempt == 1
    assert len(before - {worker.pid for worker in two.workers()}) == 1, "one worker was replaced, and no other"


def test_a_device_that_is_not_here_is_refused_by_name_and_waits_for_nobody(two):
    holders = [two.create("#hold:refine", device=f"cuda:{i}") for i in range(2)]
    for job in holders:
        two.wait_for_stage(job.id, pb.STAGE_REFINE)
    refused = two.finish(two.create("a barrel", device="cuda:7").id)
    assert (refused.state, refused.error.reason) == (pb.JOB_STATE_FAILED, "UNAVAILABLE")
    assert refused.error.message.startswith("There is no device cuda:7 here; there are cuda:0, cuda:1, cpu.")
    for job in holders:
        two.cancel(job.id)
        two.finish(job.id)


def test_a_service_without_cuda_refuses_it(service):
    for device in ("cuda", "cuda:0"):
        job = service.finish(service.create("a barrel", device=device).id)
        assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "UNAVAILABLE")
    assert device_of(service, service.finish(service.create("a barrel", device="cpu").id)) == "cpu"


def test_only_the_fake_pipeline_plays_devices(tmp_path):
    with pytest.raises(InvalidInput, match="for --pipeline fake"):
        ServiceConfig(tmp_path, "token", fake_devices=2).check()
    with pytest.raises(InvalidInput, match="--fake-devices is -1"):
        ServiceConfig(tmp_path, "token", pipeline="fake", fake_devices=-1).check()
