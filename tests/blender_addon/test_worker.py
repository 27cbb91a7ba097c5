"""The worker against a server that fails in scripted ways, which a real one does not do on demand."""

import threading
import time
from pathlib import Path

import pytest

from blender_addon.client import worker as worker_module
from blender_addon.client.worker import JobWorker
from blender_addon.core.errors import AddonError
from blender_addon.core.jobs import AssetInfo, JobBoard, JobState, JobUpdate, wait_until
from blender_addon.core.request import JobOptions, JobRequest, Target

GLB = AssetInfo("a1", "model/gltf-binary", 3, "00")
AWAY = AddonError("UNAVAILABLE", "connection refused", retryable=True)


class ScriptedServer:
    """Plays a list of steps for `watch`: updates, or errors to raise."""

    def __init__(self, *steps, create_errors=(), download_errors=()):
        self.steps, self.create_errors, self.download_errors = list(steps), list(create_errors), list(download_errors)
        self.after_sequences, self.request_ids, self.closed = [], [], 0
        self.cancelled = threading.Event()

    def create(self, request, *, should_stop):
        self.request_ids.append(request.request_id)
        if self.create_errors:
            raise self.create_errors.pop(0)
        return "jobs/1"

    def watch(self, job_id, *, after_sequence):
        self.after_sequences.append(after_sequence)
        while self.steps:
            step = self.steps.pop(0)
            if step == "until cancelled":
                assert self.cancelled.wait(5)
                yield JobUpdate(99, state="cancelled")
            elif isinstance(step, AddonError):
                raise step
            else:
                yield step

    def cancel(self, job_id):
        self.cancelled.set()

    def download(self, asset, path, *, report, should_stop):
        if self.download_errors:
            raise self.download_errors.pop(0)
        report(3)
        path.write_bytes(b"glb")

    def close(self):
        self.closed += 1


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr(worker_module, "FIRST_DELAY", 0.01)
    return JobBoard()


def start(board, server, tmp_path, **options):
    request = JobRequest("barrel", (), JobOptions(), Target("Scene", "", (), ()))
    row = board.add(request)
    worker = JobWorker(request, connect=lambda: server, post=board.post, result_path=tmp_path / "mesh.glb", **options)
    worker.start()
    return row, worker


def finish(board, row, worker):
    assert wait_until(board.pump, lambda: row.state in (JobState.READY, JobState.FAILED, JobState.CANCELLED), timeout=5)
    worker.join(5)
    assert not worker.is_alive
    return row


def succeeded(sequence=9):
    return JobUpdate(sequence, state="succeeded", assets=(GLB,))


def test_a_job_ends_with_its_file(board, tmp_path):
    row = finish(board, *start(board, ScriptedServer(JobUpdate(1, state="running"), succeeded()), tmp_path))
    assert row.state is JobState.READY and row.result_path.read_bytes() == b"glb" and row.job_id == "jobs/1"


def test_a_watch_resumes_after_the_last_event_it_saw(board, tmp_path):
    server = ScriptedServer(JobUpdate(3, state="running"), AWAY, AWAY, JobUpdate(4, fraction=0.5), AWAY, succeeded())
    row = finish(board, *start(board, server, tmp_path))
    assert row.state is JobState.READY
    assert server.after_sequences == [0, 3, 3, 4]


def test_a_watch_that_ends_early_is_taken_up_again(board, tmp_path):
    server = ScriptedServer(JobUpdate(1, state="running"))
    row, worker = start(board, server, tmp_path)
    assert wait_until(board.pump, lambda: row.state is JobState.LOST, timeout=5)
    server.steps.append(succeeded())
    assert finish(board, row, worker).state is JobState.READY


def test_sending_is_repeated_under_the_same_name(board, tmp_path):
    server = ScriptedServer(succeeded(), create_errors=[AWAY, AWAY])
    row = finish(board, *start(board, server, tmp_path))
    assert row.state is JobState.READY
    assert server.request_ids == 3 * [row.id]


def test_a_server_that_stays_away_is_given_up(board, tmp_path):
    row = finish(board, *start(board, ScriptedServer(*50 * [AWAY]), tmp_path, patience=0.05))
    assert row.state is JobState.FAILED and row.reason == "CONNECTION_LOST"


def test_an_error_that_will_not_pass_is_not_repeated(board, tmp_path):
    server = ScriptedServer(create_errors=[AddonError("QUEUE_FULL")])
    row = finish(board, *start(board, server, tmp_path))
    assert row.reason == "QUEUE_FULL" and len(server.request_ids) == 1


def test_the_reason_of_the_server_reaches_the_row(board, tmp_path):
    failed = JobUpdate(2, state="failed", reason="OUT_OF_MEMORY", error_message="needed 9 GB")
    row = finish(board, *start(board, ScriptedServer(failed), tmp_path))
    assert row.text == "Not enough memory: needed 9 GB"


def test_a_download_is_tried_again_when_the_server_was_away(board, tmp_path):
    row = finish(board, *start(board, ScriptedServer(succeeded(), download_errors=[AWAY]), tmp_path))
    assert row.state is JobState.READY


def test_cancelling_reaches_the_server(board, tmp_path):
    server = ScriptedServer(JobUpdate(1, state="running"), "until cancelled")
    row, worker = start(board, server, tmp_path)
    assert wait_until(board.pump, lambda: row.state is JobState.RUNNING, timeout=5)
    worker.cancel()
    assert finish(board, row, worker).state is JobState.CANCELLED
    assert server.cancelled.is_set()


def test_cancelling_while_the_server_is_away_needs_no_server(board, tmp_path):
    server = ScriptedServer(create_errors=100 * [AWAY])
    row, worker = start(board, server, tmp_path)
    assert wait_until(board.pump, lambda: row.state is JobState.LOST, timeout=5)
    worker.cancel()
    assert finish(board, row, worker).state is JobState.CANCELLED


def test_an_error_of_our_own_ends_in_the_row_too(board, tmp_path, caplog):
    class Broken(ScriptedServer):
        def watch(self, job_id, *, after_sequence):
            raise KeyError("oops")

    row = finish(board, *start(board, Broken(), tmp_path))
    assert row.reason == "INTERNAL" and "oops" in row.message


def test_leaving_ends_the_thread_and_cancels_nothing(board, tmp_path):
    server = ScriptedServer(*1000 * [AWAY])
    row, worker = start(board, server, tmp_path)
    time.sleep(0.05)
    worker.stop()
    worker.join(5)
    assert not worker.is_alive and not server.cancelled.is_set()


def test_the_result_path_is_the_one_that_was_asked_for(board, tmp_path):
    row = finish(board, *start(board, ScriptedServer(succeeded()), tmp_path))
    assert row.result_path == Path(tmp_path / "mesh.glb")
