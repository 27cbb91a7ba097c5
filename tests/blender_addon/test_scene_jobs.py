"""Whole jobs: a real backend process with its scripted pipeline, driven as a person would."""

import os
import signal
import sys
import time

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.usefixtures("fake_backend"),
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def subject(scene):
    """A cube at an odd pose, selected, with settings for the quickest job."""
    cube = props.add_cube(matrix=ODD)
    cube.select_set(True)
    bpy.context.view_layer.objects.active = cube
    settings = scene.mvgamba
    settings.capture_views, settings.capture_size, settings.quality = "4", "256", "DRAFT"
    return cube


@pytest.fixture
def generate(addon, subject):
    """Presses Generate; what the fake pipeline shall do is written into the subject's name."""
    rows = []

    def generate(script=""):
        subject.name = f"Cube {script}".strip()
        assert bpy.ops.mvgamba.generate() == {"FINISHED"}
        rows.append(addon.session().board.rows[0])
        return rows[-1]

    yield generate
    for row in rows:
        addon.session().cancel(row)
    addon.session().board.rows.clear()


def wait(addon, condition, *, timeout=30.0, place=True):
    return addon.jobs.wait_until(lambda: addon.session().pump(place=place), condition, timeout=timeout)


def results():
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def test_generate_returns_at_once_and_the_result_arrives(addon, generate, subject):
    row = generate()
    assert row.text == "Sending"
    assert wait(addon, lambda: not row.is_active), row.text
    assert row.state is addon.jobs.JobState.PLACED, row.text
    (result,) = results()
    assert result.mvgamba.job_id == row.job_id and len(result.data.polygons) > 0
    assert result.data.materials and bpy.context.view_layer.objects.active == result


def test_results_are_prepared_before_they_are_imported(addon, scene, monkeypatch):
    """All variants, by the thread of the job: the main thread only copies them."""
    options = addon.request.JobOptions(variants=2)
    row = addon.api.generate_from(addon.request.TextInput("a barrel"), options=options, wait=False)
    assert wait(addon, lambda: row.state is addon.jobs.JobState.READY, place=False), row.text
    prepared_path = addon.module("core.mesh_file").prepared_path
    assert [prepared_path(path).is_file() for path in (row.result_path, *row.more_result_paths)] == [True, True]
    monkeypatch.setattr(addon.module("core.mesh_file"), "read_mesh", lambda path: pytest.fail("a GLB was read"))
    addon.session().pump()
    assert row.text == "Placed", row.text
    (result,) = results()
    assert len(result.mvgamba.variants) == 2


def test_progress_rises_through_the_stages(addon, generate):
    row, fractions, stages = generate("#slow:0.5"), [], []
    while row.is_active:
        addon.session().pump()
        fractions.append(row.fraction)
        stages.append(row.stage)
        time.sleep(0.01)
    assert fractions == sorted(fractions) and len(set(fractions)) > 3
    assert len([s for s in dict.fromkeys(stages) if s]) > 2 and row.fraction == 1.0


def test_cancel_ends_the_job(addon, generate):
    row = generate("#slow:20")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING), row.text
    assert bpy.ops.mvgamba.cancel(request_id=row.id) == {"FINISHED"}
    assert row.text == "Cancelling"
    assert wait(addon, lambda: not row.is_active, timeout=10)
    assert row.state is addon.jobs.JobState.CANCELLED and results() == []


def test_cancel_all_ends_what_waits_too(addon, generate):
    rows = [generate("#slow:20"), generate("#slow:20")]
    assert wait(addon, lambda: any(row.state is addon.jobs.JobState.RUNNING for row in rows))
    bpy.ops.mvgamba.cancel_all()
    assert wait(addon, lambda: not any(row.is_active for row in rows), timeout=10)
    assert {row.state for row in rows} == {addon.jobs.JobState.CANCELLED}


def test_a_failure_is_a_sentence_with_a_button(addon, generate):
    row = generate("#fail:OUT_OF_MEMORY")
    assert wait(addon, lambda: not row.is_active)
    assert row.text.startswith("Not enough memory") and results() == []
    assert addon.errors.remedy(row.reason).operator == "mvgamba.retry_low_memory"
    with pytest.raises(addon.errors.AddonError, match="Not enough memory"):
        addon.api.wait_for(row)


def test_a_failed_job_can_be_sent_again(addon, generate):
    row = generate("#fail:EMPTY_RECONSTRUCTION")
    assert wait(addon, lambda: not row.is_active)
    bpy.ops.mvgamba.retry(request_id=row.id)
    again = addon.session().board.rows[0]
    assert again is not row and again.request.views == row.request.views
    assert wait(addon, lambda: not again.is_active) and again.reason == "EMPTY_RECONSTRUCTION"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a thing of POSIX")
def test_a_killed_server_is_started_again_and_the_job_goes_on(addon, generate):
    row = generate("#slow:2")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING), row.text
    os.kill(addon.session().backend_pid, signal.SIGKILL)
    assert wait(addon, lambda: row.state is addon.jobs.JobState.LOST), row.text
    assert row.text == "Connection lost, reconnecting"
    assert wait(addon, lambda: not row.is_active, timeout=60), row.text
    assert row.state is addon.jobs.JobState.PLACED, row.text


def test_a_result_is_one_undo_step(addon, generate, subject, scene):
    scene.mvgamba.source_after = "HIDE"
    name = subject.name
    bpy.ops.ed.undo_push(message="before")
    row = generate()
    name = subject.name
    assert wait(addon, lambda: not row.is_active)
    assert len(results()) == 1 and bpy.data.objects[name].hide_get()
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert results() == []
    source = next(obj for obj in bpy.data.objects if obj.name.startswith("Cube"))
    assert not source.hide_get() and not source.hide_render
    assert bpy.ops.ed.redo() == {"FINISHED"}
    assert len(results()) == 1


def test_results_that_arrive_together_are_placed_one_after_the_other(addon, scene):
    """Each in a tick of its own: together they would stop the main loop for as long as all of them take."""
    rows = [addon.api.generate_from(addon.request.TextInput(f"prop {n}"), wait=False) for n in range(2)]
    try:
        ready = addon.jobs.JobState.READY
        assert wait(addon, lambda: all(row.state is ready for row in rows), place=False)
        counts = []
        for _ in rows:
            delay = addon.session().pump()
            counts.append(len(results()))
            assert len(counts) == 2 or delay <= 0.1
        assert counts == [1, 2]
    finally:
        addon.session().board.rows.clear()


def test_an_undone_result_can_be_placed_again(addon, generate):
    bpy.ops.ed.undo_push(message="before")
    row = generate()
    assert wait(addon, lambda: not row.is_active)
    bpy.ops.ed.undo()
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"}
    assert len(results()) == 1


def test_a_result_waits_for_edit_mode_to_end(addon, generate, subject):
    row = generate()
    bpy.ops.object.mode_set(mode="EDIT")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.READY)
    addon.session().pump()
    assert row.text == "Leave Edit Mode to place" and results() == []
    bpy.ops.object.mode_set(mode="OBJECT")
    assert wait(addon, lambda: not row.is_active) and len(results()) == 1


def test_a_result_for_another_file_waits_to_be_asked_for(addon, generate):
    row = generate("#slow:0.5")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert wait(addon, lambda: row.state is addon.jobs.JobState.READY)
    addon.session().pump()
    assert row.text.startswith("Ready, made for") and results() == []
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"}
    assert len(results()) == 1 and row.state is addon.jobs.JobState.PLACED


def test_a_selection_that_changed_meanwhile_is_kept(addon, generate, subject, scene):
    row = generate("#slow:0.5")
    other = props.add_cube("Other", matrix=Matrix.Translation((5, 0, 0)))
    subject.select_set(False)
    other.select_set(True)
    bpy.context.view_layer.objects.active = other
    assert wait(addon, lambda: not row.is_active)
    assert bpy.context.selected_objects == [other] and bpy.context.view_layer.objects.active == other


def test_a_result_of_words_is_selected_whatever_was_selected_before(addon, subject):
    """In a new file that is the startup cube, and the result would stand inside it, unseen."""
    rows = [addon.api.generate_from(addon.request.TextInput(f"a mug {k}"), wait=False) for k in range(2)]
    assert wait(addon, lambda: not any(row.is_active for row in rows))
    (selected,) = bpy.context.selected_objects
    assert selected in results() and len(results()) == 2 and bpy.context.view_layer.objects.active == selected


def test_the_script_interface_waits_for_the_result(addon, subject):
    row = addon.api.generate(
        [subject],
        capture_settings=addon.capture.CaptureSettings(num_views=4, image_size=128, with_depth=False, samples=1),
        options=addon.request.JobOptions(quality="draft"),
        hide_source=True,
        timeout=60,
    )
    assert row.state is addon.jobs.JobState.PLACED and len(results()) == 1 and subject.hide_get()


def test_a_result_of_words_stands_where_and_as_large_as_asked(addon, scene):
    row = addon.api.generate_from(
        addon.request.TextInput("a barrel"), placement="ORIGIN", size=3.0, size_axis="Z", timeout=60
    )
    assert row.state is addon.jobs.JobState.PLACED
    (result,) = results()
    assert result.dimensions.z == pytest.approx(3.0, rel=1e-4) and tuple(result.location) == (0, 0, 0)
    assert [home.name for home in result.users_collection] == ["MVGamba"]


def test_a_capture_replaces_the_object_that_was_active(addon, subject):
    other = props.add_cube("Other", matrix=Matrix.Translation((5, 0, 0)))
    bpy.context.view_layer.objects.active = other
    row = addon.api.generate(
        [subject],
        capture_settings=addon.capture.CaptureSettings(num_views=4, image_size=128, with_depth=False, samples=1),
        options=addon.request.JobOptions(quality="draft"),
        placement="REPLACE",
        wait=False,
    )
    other.name = "Renamed"
    bpy.context.view_layer.objects.active = subject
    addon.api.wait_for(row, timeout=60)
    assert results() == [other] and other.mvgamba.job_id == row.job_id


def test_only_the_last_of_the_ended_jobs_are_shown(addon, scene, request_for):
    """And all that somebody waits for, however old."""
    board, jobs_ui = addon.session().board, extension.module("ui.jobs")
    board.rows.clear()
    for state in ["QUEUED"] + 20 * ["CANCELLED"] + ["RUNNING"]:
        row = board.add(request_for())
        row.state = addon.jobs.JobState[state]
    calls = []
    try:
        jobs_ui.draw_rows(LayoutRecorder(calls))
    finally:
        board.rows.clear()
    texts = [options.get("text", "") for _, _, options in calls]
    assert texts.count("barrel") == 2 + jobs_ui.MOST_ENDED
    assert f"{20 - jobs_ui.MOST_ENDED} more have ended before" in texts


def test_clearing_takes_captures_without_a_result_from_the_disk(addon, generate):
    made, failed = generate(), generate("#fail:EMPTY_RECONSTRUCTION")
    assert wait(addon, lambda: not made.is_active and not failed.is_active)
    folders = [addon.api.jobs_folder() / row.id for row in (made, failed)]
    assert all(folder.is_dir() for folder in folders)
    bpy.ops.mvgamba.clear_finished()
    assert addon.session().board.rows == []
    assert (folders[0] / "mesh.glb").is_file() and (folders[0] / "meta.json").is_file() and not folders[1].exists()


def test_disabling_the_extension_ends_the_backend(addon, generate):
    row = generate("#slow:20")
    assert wait(addon, lambda: row.state is addon.jobs.JobState.RUNNING)
    pid = addon.session().backend_pid
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    try:
        if sys.platform != "win32":
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    finally:
        bpy.ops.preferences.addon_enable(module=extension.MODULE)
        extension.use_backend_arguments("--pipeline fake")
