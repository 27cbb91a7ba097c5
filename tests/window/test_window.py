"""The extension in Blender's window, worked by mouse and keyboard. `make window` runs this."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.window.chroots import Release

CATALOGS = Path(__file__).resolve().parents[2] / "blender_addon" / "translations"
LONG = bool(os.environ.get("MVGAMBA_WINDOW_LONG"))
SOAK_JOBS = int(os.environ.get("MVGAMBA_SOAK_JOBS", "300" if LONG else "40"))

SCENARIOS: dict[str, dict[str, Any]] = {
    "panels": {"limit": 240, "options": {"theme": "Blender_Dark"}},
    "panels_open": {
        "limit": 240,
        "scenario": "panels",
        "options": {"theme": "Blender_Light", "open": True},
        "size": (1280, 1900),
    },
    "generate": {"limit": 240},
    "placing": {"limit": 300},
    "captured": {"limit": 300, "pipeline": "real"},
    "clipboard": {"limit": 240},
    "keymap": {"limit": 240},
    "languages": {"limit": 240},
    "stall": {"limit": 900 if LONG else 500, "options": {"seconds": 300 if LONG else 40}},
    "stall_small": {"scenario": "stall", "size": (640, 480), "limit": 500, "options": {"seconds": 120}},
    "soaking": {"limit": 420 + 4 * SOAK_JOBS, "options": {"jobs": SOAK_JOBS, "seed": 2}},
    "first_asset": {"limit": 600, "pipeline": "real", "install": False},
}
"""In the order in which each Blender plays them, with the arguments of `run_scenario`; limits are for a busy machine."""
MEASURED = ("stall", "stall_small", "soaking", "first_asset")
"""What the long run plays."""
if not LONG:
    del SCENARIOS["stall_small"]

Outcomes = Callable[[Release, str], Any]
Note = Callable[[str], None]


def test_panels_draw_in_every_state(release: Release, outcomes: Outcomes, note: Note) -> None:
    """No error is in the log, which the fixture sees to; the pictures are in the folder of the outcome."""
    shut, opened = outcomes(release, "panels").report, outcomes(release, "panels_open").report
    assert (shut["placed"], shut["review"]) == ("placed", "views_ready")
    assert shut["panels"] == sorted({*shut["drawn"], *opened["drawn"]}), "some panel was never drawn"
    states = opened["weights"]
    assert states["starter-cpu"] == "package" and states["mvdream"] == "absent", states
    note(f"{release.version} slowest draw of a panel by state, ms: {json.dumps(shut['slowest_draw_ms'])}")


def test_generate_is_one_click_and_its_result_one_undo_step(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "generate").report
    assert report["state"] == "placed", report["text"]
    assert any(text.startswith("Reconstructing") for text in report["texts"]), report["texts"]
    assert len(report["placed"]) == 1
    assert report["views_drawn"] <= 5, "the 3D View is drawn for the progress of a job"
    assert report["undone"] == [] and report["redone"] == report["placed"]
    assert report["scenes_after_load"] == ["Scene"]


def test_the_panel_speaks_each_language(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "languages").report
    for file, said in report["said"].items():
        catalog = json.loads((CATALOGS / f"{file}.json").read_text(encoding="utf-8"))
        assert said == [catalog[text] for text in report["again"]]


def test_a_result_is_put_on_the_surface_under_the_mouse(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "placing").report
    assert report["boxes"] == 1
    assert report["left"] == {"text": report["waits"], "boxes": 0, "results": 0}
    assert report["placed"]["boxes"] == 0
    assert abs(report["placed"]["foot"] - 1.0) < 1e-5, "it does not stand on top of the cube"
    assert abs(report["placed"]["turn"] - math.radians(30)) < 1e-5
    assert report["undone"] == 0


def test_a_result_waits_while_blender_is_busy(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "placing").report
    assert report["tool"] == "Waiting for the tool in use to end"
    assert report["playback"] == "Stop playback to place"
    assert report["cube_at"] == [0.0, 0.0, 0.0]


def test_a_captured_object_comes_back_over_its_source_until_undo(
    release: Release, outcomes: Outcomes, note: Note
) -> None:
    report = outcomes(release, "captured").report
    assert report["state"] == "placed", report["text"]
    before, (result,) = report["before"], report["result"]
    low, high = np.array(before["bounds"])
    error = np.abs(np.array(result) - before["bounds"]).max() / (high - low).max()
    note(f"{release.version} captured cube: bounds differ by {100 * error:.2f} % of its length")
    assert error < 0.01
    assert not report["placed"]["visible"] and report["placed"]["collections"] == ["MVGamba Sources"]
    assert report["undone"] == before and report["results_after_undo"] == 0


def test_the_cameras_are_drawn_where_they_would_stand(release: Release, outcomes: Outcomes) -> None:
    outcome = outcomes(release, "captured")
    report = outcome.report
    assert len(report["cameras"]) == 8 and max(x for x, _ in report["cameras"]) < report["free_to"]
    # The lines are drawn over grey with an alpha of 0.8, so more than half of their chroma arrives.
    red, _, blue = report["overlay_color"]
    drawn = {}
    for name in ("before", "cameras", "off"):
        pixels = picture(outcome.folder / f"{name}.png")
        chroma = pixels[..., 0] - pixels[..., 2]
        near = [chroma[round(y) - 10 : round(y) + 11, round(x) - 10 : round(x) + 11] for x, y in report["cameras"]]
        drawn[name] = np.array([(square > 0.5 * (red - blue)).sum() for square in near])
    assert (drawn["cameras"] - drawn["before"]).min() > 20, drawn
    assert (drawn["off"] == drawn["before"]).all(), drawn


def test_small_pictures_of_the_views_are_shown(release: Release, outcomes: Outcomes) -> None:
    outcome = outcomes(release, "captured")
    assert outcome.report["problem"] == ""
    shown = {}
    for name in ("no_pictures", "pictures"):
        pixels = picture(outcome.folder / f"{name}.png")
        is_subject = np.abs(pixels - outcome.report["color"]).max(axis=-1) < 12
        columns = is_subject.any(axis=0).astype(int)
        shown[name] = int((np.diff(columns, prepend=0) == 1).sum())
    assert shown == {"no_pictures": 0, "pictures": 4}


def picture(path: Path) -> np.ndarray:
    """(H, W, 3) of 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_picture_on_the_clipboard_becomes_the_input(release: Release, outcomes: Outcomes) -> None:
    """Under X11, where Blender itself reads none."""
    report = outcomes(release, "clipboard").report
    before, after = report["after_text"], report["after_picture"]
    assert before["images"] == [] and after["images"] == ["Clipboard"]
    assert (before["areas"], before["tab"]) == (after["areas"], after["tab"]) and "VIEW_3D" in after["areas"]
    assert report["pasted"] == {"size": [64, 64], "colors": report["copied"]}
    assert report["sent"] == report["pasted"] and report["state"] == "placed"
    assert report["opened"] == report["pasted"], "it is not in the saved file"


def test_a_key_that_a_person_gives_sends_a_job(release: Release, outcomes: Outcomes) -> None:
    report = outcomes(release, "keymap").report
    free, ours = [["mvgamba.generate", "NONE"]], [["mvgamba.generate", "J"]]
    assert report["fresh"] == {"addon": free, "user": free} and report["rows_without_a_key"] == 0
    assert report["sent"] == {"label": "a keyed barrel", "state": "placed"}
    assert report["disabled"] == [{"addon": [], "user": []}] * 2
    assert report["enabled"] == [{"addon": free, "user": ours if report["kept"] else free}] * 2
    if release.version != "4.3":  # which forgets the keys of what is disabled
        assert report["kept"] and report["again"] == "placed"


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name.startswith("stall")])
def test_jobs_run_while_blender_goes_on(release: Release, scenario: str, outcomes: Outcomes, note: Note) -> None:
    """Figures only: how quick this is depends on the machine. `tests/benchmarks/results/window.json` has some."""
    report = outcomes(release, scenario).report
    assert set(report["states"]) == {"placed"}, report["states"]
    for name in ("idle", "other_tab", "own_cubes", "busy"):
        figures = report[name]
        note(f"{release.version} {name}: gaps of the main loop {figures['gap_ms']}")
        note(f"{release.version} {name}: the same without redraws of the view {figures['gap_without_view_redraw_ms']}")
        note(f"{release.version} {name}: without redraws of view and sidebar {figures['gap_without_redraw_ms']}")
    for gap in report["busy"]["largest_without_redraw"][:4]:
        note(f"{release.version} busy: {gap['ms']} ms: {'; '.join(gap['ran'])}")
    note(f"{release.version} panels, ms: {json.dumps(report['busy']['panel_draw_ms'])}")
    note(f"{release.version} enable, ms: {report['enable_ms']}, 20,000 faces, ms: {report['import_20k_ms']}")


def test_nothing_breaks_and_nothing_is_left(release: Release, outcomes: Outcomes, note: Note) -> None:
    report = outcomes(release, "soaking").report
    note(f"{release.version} soak: {report['jobs']} jobs in {report['seconds']} s, {report['states']}")
    assert not report["problems"], report
    before, after = report["native_threads"]
    assert after <= before + 2, report


def test_a_first_asset_is_few_clicks_away(release: Release, outcomes: Outcomes, note: Note) -> None:
    report = outcomes(release, "first_asset").report
    assert report["state"] == "placed", report["text"]
    assert report["faces"] > 100 and report["clicks"] < 6, report
    note(f"{release.version} first asset: {report['clicks']} clicks, {report['seconds']} s {report['steps']}")
