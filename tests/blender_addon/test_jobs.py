import dataclasses
from pathlib import Path

import pytest

from blender_addon.core.jobs import (
    Accepted,
    ConnectionLost,
    Downloaded,
    Downloading,
    Failed,
    JobBoard,
    JobState,
    JobUpdate,
    PreviewPicture,
    Updated,
    ViewsReady,
    WasCancelled,
    retry_request,
    wait_until,
)
from blender_addon.core.request import JobOptions, JobRequest, Target, TextInput


def make_request(label="barrel"):
    return JobRequest(label, (), JobOptions(seed=7), Target("Scene", "", ("Barrel",), (1,)))


@pytest.fixture
def board():
    return JobBoard()


def play(board, row, *events):
    for event in events:
        board.post(event)
    board.pump()
    return row


def running(row, **fields):
    return Updated(row.id, JobUpdate(1, state="running", **fields))


def test_a_new_row_is_being_sent(board):
    row = board.add(make_request())
    assert row.state is JobState.SUBMITTING and row.text == "Sending" and row.is_active


def test_nothing_changes_before_the_pump(board):
    row = board.add(make_request())
    board.post(Accepted(row.id, "jobs/1"))
    assert row.state is JobState.SUBMITTING
    assert board.pump() is True
    assert row.state is JobState.QUEUED
    assert board.pump() is False


def test_a_job_goes_from_the_queue_to_its_result(board):
    row = board.add(make_request())
    play(board, row, Accepted(row.id, "jobs/1"), Updated(row.id, JobUpdate(1, state="queued", queue_position=2)))
    assert row.text == "Queued, 2 ahead"
    play(board, row, running(row, stage="refine", fraction=0.62, seconds_left=12.3))
    assert row.text == "Refining 62 %  12 s"
    play(board, row, Downloading(row.id, 10, 8_200_000))
    assert row.text == "Downloading 8.2 MB"
    play(board, row, Downloaded(row.id, Path("mesh.glb")))
    assert row.state is JobState.READY and row.result_path == Path("mesh.glb") and row.is_active


def test_progress_never_falls(board):
    row = board.add(make_request())
    play(board, row, running(row, fraction=0.5), running(row, fraction=0.3))
    assert row.fraction == 0.5


def test_a_heartbeat_changes_nothing_that_is_shown(board):
    row = board.add(make_request())
    play(board, row, running(row, stage="mesh", fraction=0.5, seconds_left=4.0))
    text = row.text
    play(board, row, Updated(row.id, JobUpdate(1)))
    assert row.text == text == "Extracting mesh 50 %  4 s"


def test_the_time_of_each_stage_is_that_of_its_events(board):
    row = board.add(make_request())
    play(
        board,
        row,
        Updated(row.id, JobUpdate(1, stage="prepare"), at=10.0),
        Updated(row.id, JobUpdate(2, stage="refine"), at=11.0),
        Updated(row.id, JobUpdate(3, stage="refine"), at=12.0),
        Downloading(row.id, 0, 5, at=15.0),
        Downloaded(row.id, Path("a"), at=99.0),
    )
    assert row.stage_seconds == {"prepare": 1.0, "refine": 4.0}


def test_a_failure_is_a_sentence(board):
    row = play(board, board.add(make_request()), Failed("", "", ""))
    row = play(board, row, Failed(row.id, "OUT_OF_MEMORY", "needed 3 GB"))
    assert row.state is JobState.FAILED and row.text == "Not enough memory: needed 3 GB" and not row.is_active


def test_an_ended_row_stays_ended(board):
    row = board.add(make_request())
    play(board, row, WasCancelled(row.id), running(row, fraction=0.9), Downloaded(row.id, Path("a")))
    assert row.state is JobState.CANCELLED and row.result_path is None


def test_a_row_that_was_cancelled_says_so_until_the_server_answers(board):
    row = board.add(make_request())
    play(board, row, Accepted(row.id, "jobs/1"))
    row.state = JobState.CANCELLING
    play(board, row, running(row, stage="mesh", fraction=0.8))
    assert row.text == "Cancelling"
    play(board, row, WasCancelled(row.id))
    assert row.text == "Cancelled"


def test_a_lost_connection_comes_back(board):
    row = board.add(make_request())
    play(board, row, running(row, fraction=0.4), ConnectionLost(row.id))
    assert row.text == "Connection lost, reconnecting"
    play(board, row, Updated(row.id, JobUpdate(5, fraction=0.5)))
    assert row.state is JobState.RUNNING and row.fraction == 0.5


def test_one_pump_applies_a_bounded_number_of_events(board):
    row = board.add(make_request())
    for k in range(20):
        board.post(running(row, fraction=k / 20))
    board.pump(limit=5)
    assert row.fraction == 4 / 20


def test_clearing_keeps_what_still_runs(board):
    done, active = board.add(make_request()), board.add(make_request())
    play(board, done, WasCancelled(done.id))
    board.clear_finished()
    assert board.rows == [active]


def test_a_retry_is_a_new_job_with_the_same_views():
    first = make_request()
    again = retry_request(first, quality="draft")
    assert again.request_id != first.request_id
    assert again.options == JobOptions(quality="draft", seed=7) and again.views is first.views


def test_a_retry_keeps_what_the_job_was_made_from():
    first = dataclasses.replace(make_request(), source=TextInput("a barrel"))
    assert retry_request(first, seed=8).source == TextInput("a barrel")


def test_of_each_picture_the_row_has_the_latest_and_each_sentence_once(board):
    row = board.add(make_request())
    pictures = [PreviewPicture(bytes([n]), "image/png", i, 2, v) for n in range(3) for v in range(2) for i in range(2)]
    events = [running(row, preview=p) for p in pictures]
    play(board, row, *events, running(row, log_line="not known: x"), running(row, log_line="not known: x"))
    assert {key: p.data for key, p in row.previews.items()} == {(v, i): b"\x02" for v in range(2) for i in range(2)}
    assert row.log_lines == ["not known: x"]


def test_views_to_look_at_wait_until_somebody_does(board):
    row, other = board.add(make_request()), board.add(make_request())
    play(board, row, ViewsReady(row.id, ((),)), WasCancelled(other.id))
    assert row.text == "Views are ready" and not row.is_active and not row.can_clear
    board.clear_finished()
    assert board.rows == [row]


def test_waiting_ends_at_its_timeout():
    assert wait_until(lambda: None, lambda: False, timeout=0.05, interval=0.01) is False
    assert wait_until(lambda: None, lambda: True, timeout=0.05) is True
