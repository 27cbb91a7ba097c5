"""A clock that is set, by a person or by the network, while jobs run."""

import time

from mvgamba_backend.config import ServiceConfig
from mvgamba_backend.jobs import Jobs
from mvgamba_backend.record import JobState
from mvgamba_backend.spec import JobSpec, TextSource

DAY = 86_400.0


def test_a_clock_that_is_set_changes_nothing_of_jobs(tmp_path, monkeypatch, env, eventually):
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    jobs, now = Jobs(ServiceConfig(tmp_path, "token", pipeline="fake", cancel_grace=1.0)), time.time
    jobs.start()
    try:
        held = jobs.create(JobSpec(TextSource("#hold:mesh")))
        eventually(lambda: jobs.get(held.id).progress.stage == "mesh")
        time.sleep(1.0)  # before that nothing is estimated
        for fraction, jump in ((0.8, DAY), (0.9, -DAY)):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            jobs.on_progress(held.id, "mesh", fraction)
            assert 0.0 < jobs.get(held.id).progress.seconds_left < 60.0
        later = jobs.create(JobSpec(TextSource("a cube")))
        assert later.created < held.created
        jobs.cancel(held.id)
        eventually(lambda: jobs.get(later.id).state is JobState.SUCCEEDED)
        assert jobs.get(held.id).state is JobState.CANCELLED
        page, _ = jobs.page(before=None, size=10, states=())
        assert [job.id for job in page] == [later.id, held.id], "in the order in which they came"
    finally:
        jobs.stop()
