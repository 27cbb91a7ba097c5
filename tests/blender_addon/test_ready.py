"""What is made of results before they are placed: what is asked of another Blender, and what comes of its mishaps."""

import sys

import pytest

from blender_addon.core.glb import count_triangles
from blender_addon.core.mesh_file import is_prepared, prepare, prepared_path
from blender_addon.core.ready import ReadyFile, ReadyPlan, make_ready
from tests.blender_addon import glb_files

ANOTHER_BLENDER = """
import json, pathlib, sys
order = json.loads(pathlib.Path(sys.argv[-1]).read_text())
pathlib.Path(order["blend"]).write_text("meshes")
pathlib.Path(order["made"]).write_text(json.dumps({"meshes": ["a", ""], "lods": ["b"], "collision": str(order["lods"])}))
"""


@pytest.fixture
def ball(tmp_path):
    return glb_files.write(tmp_path / "ball.glb", *glb_files.ball(), image=glb_files.picture())


@pytest.fixture
def plan(tmp_path, ball):
    """A plan for the ball, carried out by a program in place of another Blender."""

    def plan(program=ANOTHER_BLENDER, **changes):
        options = {"paths": (ball,), "most_faces": 1000, **changes}
        return ReadyPlan((sys.executable, "-c", program), tmp_path / "ready", **options)

    return plan


def make(plan, *, stop=False):
    return make_ready(plan, report=lambda _: None, should_stop=lambda: stop)


def left(tmp_path):
    folder = tmp_path / "ready"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_arrays_are_enough_for_a_small_file(plan, ball, tmp_path):
    assert plan().is_needed and not plan().needs_blender
    assert make(plan()) is None and is_prepared(ball) and left(tmp_path) == []
    assert not plan().is_needed


@pytest.mark.parametrize("changes", [{"most_faces": 79}, {"lods": 1}, {"collision": "CONVEX"}])
def test_another_blender_is_asked_for_what_takes_long(plan, ball, tmp_path, changes):
    prepare([ball])
    assert plan(**changes).is_needed
    made = make(plan(**changes))
    assert (made.meshes, made.lods, made.collision) == (("a", ""), ("b",), str(changes.get("lods", 0)))
    assert left(tmp_path) == [made.path.name] and made.path.read_text() == "meshes"
    made.remove()
    made.remove()
    assert left(tmp_path) == []


def test_a_box_is_not_worth_another_blender(plan, ball):
    prepare([ball])
    assert not plan(collision="BOX", most_faces=80).is_needed


def test_another_blender_reads_what_has_no_arrays(plan, tmp_path):
    other = tmp_path / "other.glb"
    other.write_bytes(b"of another form")
    assert isinstance(make(plan(paths=(other,))), ReadyFile)


@pytest.mark.parametrize(
    "program", ["raise SystemExit('no licence')", "pass", "import os, signal; os.kill(os.getpid(), 9)"]
)
def test_another_blender_that_fails_leaves_a_line_in_the_log_and_no_file(plan, tmp_path, caplog, program):
    assert make(plan(program, lods=1)) is None
    assert "the other Blender ended" in caplog.text and left(tmp_path) == []


def test_one_that_cannot_be_started_too(plan, tmp_path, caplog):
    missing = ReadyPlan(("/nowhere/blender",), tmp_path / "ready", plan().paths, 0)
    assert make(missing) is None and "nothing was made ready" in caplog.text


def test_it_ends_when_nobody_wants_it_any_more(plan, tmp_path):
    waits = plan("import time; time.sleep(60)", lods=1)
    asked = iter([False, True])
    assert make_ready(waits, report=lambda _: None, should_stop=lambda: next(asked, True)) is None
    assert left(tmp_path) == []


def test_triangles_are_counted_without_reading_them(ball, tmp_path):
    assert count_triangles(ball) == 80
    cut = tmp_path / "cut.glb"
    cut.write_bytes(ball.read_bytes()[:-2000])
    assert count_triangles(cut) == 80
    cut.write_bytes(ball.read_bytes()[:100])
    assert count_triangles(cut) == count_triangles(tmp_path / "missing.glb") == 0


def test_what_was_prepared_of_another_file_counts_as_none(ball):
    assert not is_prepared(ball)
    prepare([ball])
    assert is_prepared(ball)
    glb_files.write(ball, *glb_files.ball(8, 8), image=glb_files.picture())
    assert not is_prepared(ball)
    prepare([ball])
    prepared_path(ball).write_bytes(prepared_path(ball).read_bytes()[:100])
    assert not is_prepared(ball)
