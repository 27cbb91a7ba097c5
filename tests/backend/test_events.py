"""Events for watchers at any speed."""

import threading
import time

from mvgamba_backend.events import EventLog, LogText, PreviewImage
from mvgamba_backend.record import JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import JobSpec, TextSource

JOB = JobRecord("id", "request", "digest", JobSpec(TextSource("x")), created=1.0)


def test_numbers_go_on_behind_those_of_the_service_before():
    log = EventLog(1000)
    assert log.append(ProgressRecord("mesh", 0.1)) == log.sequence == 1001
    assert log.next_sequence() == 1002


def test_a_slow_watcher_gets_the_latest_report_and_every_note():
    log = EventLog(0)
    for i in range(10_000):
        log.append(ProgressRecord("mesh", i / 10_000))
        if i % 5000 == 0:
            log.append(LogText(str(i)))
    events = log.wait_after(0, timeout=0)
    assert [type(e.payload) for e in events] == [LogText, LogText, ProgressRecord]
    assert events[-1].payload.fraction == 0.9999
    assert log.wait_after(events[-1].sequence, timeout=0) == []


def test_of_each_picture_a_late_watcher_gets_the_latest_and_every_log_line():
    log = EventLog(0)
    log.append(LogText("first"))
    for round_ in range(100):
        for variant in range(2):
            for index in range(5):
                log.append(PreviewImage(bytes([round_]), "image/png", index, 5, variant))
    kept = log.notes_between(0, log.sequence)
    assert [e.payload.data for e in kept[1:]] == [bytes([99])] * 10
    assert kept[0].payload == LogText("first")
    assert [e.sequence for e in kept] == sorted(e.sequence for e in kept)
    assert log.wait_after(0, timeout=0) == kept


def test_the_end_of_the_job_closes_the_log():
    log = EventLog(0)
    assert not log.is_closed
    log.append(JOB)
    assert not log.is_closed
    log.append(JobRecord(**{**vars(JOB), "state": JobState.SUCCEEDED}))
    assert log.is_closed


def test_a_waiting_watcher_is_woken_by_an_event_and_by_the_end_of_the_service():
    for act in (lambda log: log.append(LogText("x")), EventLog.wake):
        log = EventLog(0)
        threading.Timer(0.05, act, [log]).start()
        begin = time.monotonic()
        log.wait_after(0, timeout=10)
        assert time.monotonic() - begin < 5
