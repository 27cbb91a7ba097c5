"""Progress on a terminal, and Ctrl-C."""

import argparse
import json
import os
import signal
from types import FrameType

from mvgamba.commands.options import EXIT_INTERRUPTED
from mvgamba.progress import CancelToken, Progress


class Interruptible:
    """Ctrl-C and SIGTERM set the token; a second Ctrl-C ends at once."""

    def __enter__(self) -> CancelToken:
        self.token = CancelToken()
        self._old = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        return self.token

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.token.is_cancelled:
            os._exit(EXIT_INTERRUPTED)
        self.token.cancel()


class _JsonLines:
    def __enter__(self) -> "_JsonLines":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        line = {"event": "progress", "stage": progress.stage, "fraction": round(progress.fraction, 4)}
        print(json.dumps(line), flush=True)


class _Bar:
    """One bar for the whole job, with the stage before it and the time left behind it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("Starting", total=1.0)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.fraction, description=progress.message or None)


def display(args: argparse.Namespace) -> "_JsonLines | _Bar":
    """Progress as JSON lines or as a bar."""
    return _JsonLines() if args.json else _Bar()
