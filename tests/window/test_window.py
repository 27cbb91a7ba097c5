"""The extension in Blender's window, worked by mouse and keyboard. `make window` runs this."""

from collections.abc import Callable
from typing import Any

from tests.window.chroots import Release

SCENARIOS: dict[str, dict[str, Any]] = {
    "generate": {"limit": 180},
}
"""In the order in which each Blender plays them, with the arguments of `run_scenario`; limits are for a busy machine."""

Outcomes = Callable[[Release, str], Any]


def test_generate_is_one_click_and_its_result_one_undo_step(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "generate").report
    assert report["state"] == "placed", report["text"]
    assert any(text.startswith("Reconstructing") for text in report["texts"]), report["texts"]
    assert len(report["placed"]) == 1
    assert report["undone"] == [] and report["redone"] == report["placed"]
