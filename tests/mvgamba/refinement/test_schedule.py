"""When a fit ends: after its steps, when little is gained, or when its seconds are spent; never by chance."""

import pytest
import torch

from mvgamba.refinement.schedule import FEWEST_STEPS, LANDING, WINDOW, Schedule


class Clock:
    """Goes on by a fixed time whenever it is looked at."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def run(schedule: Schedule, loss=lambda step: 1.0) -> list[float]:
    """The progress before each step."""
    seen = []
    while schedule.running:
        seen.append(schedule.progress)
        schedule.advance(torch.tensor(float(loss(schedule.step))))
        assert len(seen) < 10_000
    return seen


@pytest.mark.parametrize("steps", [1, 2, 7, 60, 240, 999])
def test_without_limits_all_steps_are_taken_evenly(steps):
    schedule = Schedule(steps)
    assert run(schedule) == pytest.approx([k / steps for k in range(steps)])
    assert (schedule.step, schedule.stopped) == (steps, "steps")


def test_seconds_end_a_fit_and_progress_follows_the_time():
    schedule = Schedule(1000, seconds=50.0, clock=Clock(1.0))
    seen = run(schedule)
    assert (schedule.step, schedule.stopped) == (50, "seconds")
    assert seen == pytest.approx([k / 50 for k in range(50)])


def test_a_first_step_that_takes_all_the_time_is_followed_by_a_few_more():
    schedule = Schedule(100, seconds=1.0, clock=Clock(10.0))
    run(schedule)
    assert (schedule.step, schedule.stopped) == (FEWEST_STEPS, "seconds")


def test_time_that_is_not_needed_is_not_taken():
    schedule = Schedule(40, seconds=1000.0, clock=Clock(1.0))
    assert run(schedule) == pytest.approx([k / 40 for k in range(40)])
    assert schedule.stopped == "steps"


def test_a_loss_that_keeps_falling_is_let_fall():
    schedule = Schedule(200, least_gain=0.05)
    run(schedule, lambda step: 0.99**step)  # 15 % a window
    assert (schedule.step, schedule.stopped) == (200, "steps")


def test_a_loss_that_stands_ends_the_fit_gently():
    schedule = Schedule(200, least_gain=0.05)
    seen = run(schedule, lambda step: max(0.99**step, 0.99**64))
    assert schedule.stopped == "gain"
    # the sixth window is the first that gains nothing; then progress runs to its end at an even pace
    assert schedule.step == 6 * WINDOW + round(LANDING * 200)
    landing = [*seen[6 * WINDOW :], 1.0]
    assert landing == pytest.approx(torch.linspace(6 * WINDOW / 200, 1.0, len(landing)).tolist())


def test_gain_is_not_watched_before_its_time():
    schedule = Schedule(200, least_gain=0.05, watch_from=0.5)
    run(schedule)
    assert schedule.step == 100 + 2 * WINDOW + round(LANDING * 200)


def test_windows_hold_whole_passes_so_that_views_do_not_look_like_gains():
    """Five views of which one is harder than the others: a window of 16 steps would see it three or four times."""
    schedule = Schedule(400, pass_steps=5, least_gain=0.01)
    run(schedule, lambda step: 0.995**step * (10.0 if step % 5 == 0 else 1.0))
    assert (schedule.window, schedule.step) == (20, 400)


def test_a_fit_that_is_about_to_end_anyway_is_not_ended_early():
    schedule = Schedule(2 * WINDOW + 3, least_gain=0.5)
    run(schedule)
    assert (schedule.step, schedule.stopped) == (2 * WINDOW + 3, "steps")
