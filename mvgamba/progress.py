"""How far a job is, and how it is stopped: values that go along every step of the pipeline."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mvgamba.errors import Cancelled

STAGES = ("prepare", "multiview", "reconstruct", "refine", "mesh", "texture", "export")


@dataclass(frozen=True)
class Progress:
    """One report. `fraction` is of the whole job and never falls."""

    stage: str
    fraction: float
    message: str = ""
    seconds_left: float | None = None


class CancelToken:
    """Set once from any thread; looked at between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises: Cancelled."""
        if self._event.is_set():
            raise Cancelled("The job was cancelled.")


Report = Callable[[Progress], None]


class StageReporter:
    """Turns fractions of one stage into fractions of the whole job, and stops the job when asked to.

    Stages get the share of `weights` that their expected time has; a stage that is skipped jumps ahead.
    """

    def __init__(self, report: Report | None, cancel: CancelToken | None, weights: dict[str, float]) -> None:
        self._report = report
        self._cancel = cancel
        total = sum(weights.values())
        self._span: dict[str, tuple[float, float]] = {}
        begin = 0.0
        for stage, weight in weights.items():
            self._span[stage] = (begin, begin + weight / total)
            begin += weight / total
        self._last = 0.0

    def __call__(self, stage: str, fraction: float, message: str = "") -> None:
        """Report `fraction` of `stage`. Raises: Cancelled."""
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        low, high = self._span[stage]
        self._last = max(self._last, low + (high - low) * min(max(fraction, 0.0), 1.0))
        if self._report is not None:
            self._report(Progress(stage, self._last, message))

    def stage(self, stage: str) -> Callable[[float], None]:
        """A one-argument callback for code that knows only its own fraction."""
        return lambda fraction: self(stage, fraction)
