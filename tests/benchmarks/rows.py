"""A row of the benchmark table: ours against a named peer, measured in turns in the same run."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison. `bar` reads `ratio <= 1.1` (ours over peer) or `seconds <= 0.045` (ours); None is shown, not judged."""

    name: str
    size: str
    ours_s: float
    peer: str
    peer_s: float | None = None
    bar: str | None = None
    curve: tuple[str, float] | None = None
    """The axis and the place on it, for rows that show how cost grows: `("tokens", 4096)`."""

    @property
    def ratio(self) -> float | None:
        return None if self.peer_s is None else self.ours_s / self.peer_s

    @property
    def holds(self) -> bool | None:
        if self.bar is None:
            return None
        what, sign, bound = self.bar.split()
        assert sign == "<=" and what in ("ratio", "seconds")
        value = self.ratio if what == "ratio" else self.ours_s
        return value is not None and value <= float(bound)


def fastest(calls: dict[str, Callable[[], object]], *, rounds: int = 5, warm_ups: int = 1) -> dict[str, float]:
    """The shortest wall time of each call in seconds, measured in turns so that a busy machine is busy for all of them."""
    for call in calls.values():
        for _ in range(warm_ups):
            call()
    best = dict.fromkeys(calls, float("inf"))
    gc.collect()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - begin)
    return best
