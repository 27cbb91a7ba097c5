"""A disk that is really full: said so, nothing lost, and well again when there is room."""

import subprocess
import sys

import grpc
import pytest

from mvgamba_rpc.v1 import generation_pb2 as pb


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one mebibyte."""
    path = tmp_path / "small"
    path.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs Linux and root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_fails_the_job_and_not_the_service(start_service, small_disk, refused, tmp_path):
    arguments = ("--min-free-mib", "0", "--log-file", str(tmp_path / "log"))
    service = start_service(*arguments, name="small/data")
    before = service.finish(service.create("a barrel").id)
    job = service.create("#slow:1")
    service.wait_for_stage(job.id, pb.STAGE_MULTIVIEW)
    with (small_disk / "fill").open("wb", buffering=0) as fill, pytest.raises(OSError, match="No space left"):
        while True:
            fill.write(bytes(4096))
    failed = service.finish(job.id)
    assert (failed.state, failed.error.reason) == (pb.JOB_STATE_FAILED, "DISK_FULL")
    assert service.get(job.id) == failed
    refusal = refused(service.create, "a crate")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    (small_disk / "fill").unlink()
    assert service.finish(service.create("a crate").id).state == pb.JOB_STATE_SUCCEEDED
    assert service.end() == 0
    service = start_service(*arguments, name="small/data")
    assert service.get(before.id) == before
    assert service.get(job.id).error.reason == "DISK_FULL"
    assert service.end() == 0
