"""How far a fit has come, and when it has done enough: after its steps, when little is gained, or when time is up."""

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Stopped = Literal["steps", "gain", "seconds"]

FEWEST_STEPS = 8
"""Taken however short the time: fewer leave the surfels without their colours."""
WINDOW = 16
"""Steps over which the loss is averaged before two such means are compared; at least one pass over the views."""
LANDING = 0.15
"""Of all steps, in which the step size falls to its end when the gain has: what a fit gains by ending gently is kept."""


class Schedule:
    """The progress of a fit from 0 to 1, on which step sizes and image sizes depend.

    Without a budget of seconds all decisions follow from the losses, so that the same fit takes the same steps anywhere.

    Args:
        pass_steps: Steps in which every view is seen once.
        least_gain: The fit ends when a mean over a window of steps is lower than the one before by less than this share.
        watch_from: Progress from which the gain is watched, because the loss means something else before.
        seconds: Budget of wall time, None for as long as it takes. Only ever ends a fit earlier.
        clock: Of seconds.
    """

    def __init__(
        self,
        steps: int,
        *,
        pass_steps: int = 1,
        least_gain: float = 0.0,
        watch_from: float = 0.0,
        seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.steps, self.seconds = steps, seconds
        self.least_gain, self.watch_from = least_gain, watch_from
        self.window = max(WINDOW, -(-WINDOW // pass_steps) * pass_steps)
        self.step = 0
        self.progress = 0.0
        self._landing = False
        self._clock, self._begin = clock, clock()
        self._losses: list[Tensor] = []
        self._last_mean: float | None = None
        self._rate = 1.0 / steps

    @property
    def running(self) -> bool:
        return self.step < min(FEWEST_STEPS, self.steps) or self.progress < 1.0 - 1e-9

    @property
    def stopped(self) -> Stopped:
        """Why the fit has ended, once it has."""
        if self.step >= self.steps:
            return "steps"
        return "gain" if self._landing else "seconds"

    def advance(self, loss: Tensor) -> None:
        """Count a step that had this loss."""
        watched = self.least_gain > 0 and not self._landing and self.progress >= self.watch_from - 1e-9
        self.step += 1
        spent = 0.0
        if self.seconds is not None:
            float(loss.detach())  # a device may lag behind, and its steps are what is counted
            spent = (self._clock() - self._begin) / self.seconds
        self.progress = min(max(self.progress + self._rate, spent), 1.0)
        if watched:
            self._watch(loss.detach())

    def _watch(self, loss: Tensor) -> None:
        self._losses.append(loss)
        if len(self._losses) < self.window:
            return
        # read once a window and not once a step, so that a device is not waited for
        mean = float(torch.stack(self._losses).mean())
        self._losses = []
        last, self._last_mean = self._last_mean, mean
        left = (1.0 - self.progress) * self.steps
        landing = max(1.0, LANDING * self.steps)
        if last is not None and last - mean < self.least_gain * last and left > landing:
            self._landing = True
            self._rate = (1.0 - self.progress) / landing
