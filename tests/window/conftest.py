"""The Blenders, and what the scenarios in them reported.

The two Blenders run beside each other, each one scenario after the other; a test waits for its own. The long run plays only what
is measured, one Blender after the other.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.window.chroots import RELEASES, NotHere, Release, ensure_blender, ensure_host_packages

OUT = Path(os.environ.get("MVGAMBA_WINDOW_OUT") or Path(__file__).resolve().parents[2] / "out" / "window")
FIGURES = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "window.json"
"""Written by the long run."""

_figures: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures of the window tests (not tested)")
        for line in _figures:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def note() -> Callable[[str], None]:
    """Say a figure at the end of the run."""
    return _figures.append


@pytest.fixture(scope="session", params=RELEASES, ids=lambda release: release.version)
def release(request: pytest.FixtureRequest) -> Release:
    return request.param


@pytest.fixture(scope="session")
def blenders() -> Iterator[dict[str, "Future[Path]"]]:
    """The root folders by version, being built."""
    if not os.environ.get("MVGAMBA_WINDOW_ROOT"):
        pytest.skip("installs packages and builds root folders for Blender: run `make window`")
    try:
        ensure_host_packages()
    except NotHere as reason:
        pytest.skip(str(reason))
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        yield {release.version: pool.submit(ensure_blender, release) for release in RELEASES}


@pytest.fixture(scope="session")
def outcomes(blenders: dict[str, "Future[Path]"]) -> Iterator[Callable[[Release, str], Any]]:
    """The outcome of a scenario in one Blender; the first call starts all scenarios."""
    from tests.window.blender import Outcome, extension_zip, run_scenario
    from tests.window.test_window import LONG, MEASURED, SCENARIOS

    alone = ThreadPoolExecutor(1)
    lines = {release.version: alone if LONG else ThreadPoolExecutor(1) for release in RELEASES}
    zip_lock = threading.Lock()

    def play(release: Release, scenario: str, settings: dict[str, Any]) -> Outcome:
        for future in blenders.values():
            future.result()  # the zip is made with the tool of one of them
        with zip_lock:
            extension_zip()
        return run_scenario(release, out=OUT / f"{scenario}-{release.version}", **{"scenario": scenario, **settings})

    futures = {
        (release.version, scenario): lines[release.version].submit(play, release, scenario, settings)
        for release in RELEASES
        for scenario, settings in SCENARIOS.items()
        if scenario in MEASURED or not LONG
    }

    reports: dict[str, dict[str, Any]] = {}

    def outcome(release: Release, scenario: str) -> Outcome:
        if (release.version, scenario) not in futures:
            pytest.skip("the long run plays only what is measured")
        try:
            result = futures[release.version, scenario].result()
        except NotHere as reason:
            pytest.skip(str(reason))
        reports.setdefault(release.version, {})[scenario] = result.report
        assert not result.problem, result.problem
        assert not result.errors, "\n".join(result.errors)
        return result

    yield outcome
    if LONG:
        load = [round(value, 1) for value in os.getloadavg()]
        FIGURES.write_text(json.dumps({"cores": os.cpu_count(), "load_at_end": load, **reports}, indent=1) + "\n")
