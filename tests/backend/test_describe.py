"""What a service says that it can make, while weights come and go."""

import os

import pytest

from mvgamba.weights import MANIFEST, state_of
from mvgamba.weights.user import replace_text
from mvgamba_rpc.v1 import generation_pb2 as pb
from tests.backend.test_words import install

WORDS = ("a", "barrel")


def starter(service, *, wait: bool = True) -> pb.Model:
    answer = service.call("DescribeServer", pb.DescribeServerRequest(wait_until_ready=wait), timeout=120)
    assert answer.ready, answer.not_ready_reason
    return next(model for model in answer.models if model.id == "starter")


def test_weights_that_come_and_go_are_seen(start_service, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(folder))
    service = start_service(pipeline="real")
    assert starter(service).available, "those that come with the package"
    (worker,) = service.workers()
    folder.mkdir()
    install(folder, WORDS)
    (folder / f"{'-'.join(WORDS)}.safetensors").write_bytes(b"broken")
    broken = starter(service)
    assert not broken.available and "not those that were imported" in broken.why_not
    install(folder, WORDS)
    assert starter(service).available
    (folder / f"{'-'.join(WORDS)}.safetensors").write_bytes(b"broken")
    worker.kill()
    worker.wait(10)
    # the worker that comes next looks by itself
    assert not starter(service).available
    (folder / MANIFEST).unlink()
    assert starter(service).available


def test_a_busy_worker_keeps_nobody_waiting(start_service, tmp_path, monkeypatch, eventually):
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(folder))
    service = start_service()
    starter(service)
    job = service.create("#hold:mesh")
    service.wait_for_stage(job.id, pb.STAGE_MESH)
    replace_text(folder / "some.txt", "new")
    assert starter(service).available and starter(service, wait=False).available
    assert service.get(job.id).state == pb.JOB_STATE_RUNNING
    # the worker is lost before it could look, and the next one is asked
    service.workers()[0].kill()
    service.finish(job.id)
    assert starter(service).available
    eventually(lambda: len(service.workers()) == 1)


@pytest.mark.parametrize("change", ["new", "other", "gone", "folder"])
def test_a_change_of_the_folder_is_another_state(tmp_path, change):
    folder = tmp_path / "weights"
    assert state_of(folder) == ()
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b.partial").write_text("1")
    before = state_of(folder)
    (folder / "b.partial").write_text("12")
    assert state_of(folder) == before, "what is on its way is not there yet"
    match change:
        case "new":
            (folder / "c").write_text("1")
        case "other":
            os.utime(folder / "a", (1, 1))
        case "gone":
            (folder / "a").unlink()
        case "folder":
            (folder / "mvdream").mkdir()
    assert state_of(folder) != before
