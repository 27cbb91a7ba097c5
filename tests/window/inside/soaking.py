"""The soak of tests/blender_addon in a window, where timers pump and everything is drawn."""

from collections.abc import Iterator

import soak
from harness import Window


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    before = window.ask("threads")
    run = soak.Soak(window.module, window.use_pipeline, jobs=window.options["jobs"], seed=window.options["seed"])
    yield from run.steps()
    yield 2.0
    window.report.update(run.report, native_threads=[len(before), len(window.ask("threads"))])
    window.report["problems"] = soak.problems(run.report)
