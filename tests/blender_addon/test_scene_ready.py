"""What takes long is made beside Blender before a result is placed: the same result, one undo step, whatever happens meanwhile."""

import os
import signal
import sys

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, glb_files, props  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402
from tests.blender_addon.test_scene_importing import compare_meshes, tree_of, values_of  # noqa: E402

pytestmark = pytest.mark.blender

KINDS = ("scenes", "objects", "meshes", "materials", "images", "collections", "node_groups", "libraries")


@pytest.fixture
def session(addon, scene, monkeypatch):
    """As in a window: what takes long is made before."""
    addon.session().placer.makes_ready = True
    yield addon.session()
    addon.session().board.rows.clear()
    addon.session().pump()
    addon.session().placer.makes_ready = False


@pytest.fixture
def ball(tmp_path):
    """A GLB as the backend writes it, which nobody has prepared."""
    return glb_files.write(tmp_path / "ball.glb", *glb_files.ball(16, 32), image=glb_files.picture())


@pytest.fixture
def ready(addon, session, request_for):
    """A row whose result has arrived."""

    def ready(path, *more, lods=0, collision="NONE", **placement):
        bpy.context.scene.mvgamba.lod_count, bpy.context.scene.mvgamba.collision = lods, collision
        row = session.board.add(request_for(**{"mode": "ORIGIN", "size": 2.0, **placement}))
        row.state, row.job_id, row.result_path = addon.jobs.JobState.READY, "jobs/3", path
        row.more_result_paths = more
        bpy.ops.ed.undo_push(message="before")
        return row

    return ready


@pytest.fixture
def begin(session):
    """Lets a row begin to be made ready."""

    def begin(row):
        session.pump()
        assert row.text == "Preparing" and not results()
        return row

    return begin


@pytest.fixture
def finish(addon, session):
    def finish(row, text="Placed"):
        assert addon.jobs.wait_until(
            session.pump, lambda: not session.placer.is_preparing(row), timeout=60, interval=0.01
        )
        session.pump()
        assert row.text == text

    return finish


def results():
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def datablocks():
    return {kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in KINDS}


def left_files():
    folder = os.path.join(bpy.app.tempdir, "mvgamba")
    return os.listdir(folder) if os.path.isdir(folder) else []


def number_of_faces(obj):
    return len(obj.data.polygons)


def test_a_file_that_nobody_has_prepared_is_prepared_beside_blender(addon, ready, begin, finish, ball, monkeypatch):
    row = begin(ready(ball))
    monkeypatch.setattr(addon.module("core.mesh_file"), "read_mesh", None)  # nothing is read in this process
    finish(row)
    assert len(results()) == 1 and not left_files()


def test_a_small_prepared_file_is_placed_at_once(addon, session, ready, ball):
    addon.module("core.mesh_file").prepare([ball])
    row = ready(ball)
    session.pump()
    assert row.text == "Placed"


def test_parts_made_by_another_blender_are_those_that_this_one_makes(addon, session, ready, begin, finish, ball):
    begin(row := ready(ball, lods=3, collision="CONVEX"))
    finish(row)
    (there,) = results()
    session.placer.makes_ready = False
    session.pump()
    row = ready(ball, lods=3, collision="CONVEX")
    session.pump()
    (here,) = set(results()) - {there}
    compare_meshes(here.data, there.data)
    assert values_of(here.data.materials[0]) == values_of(there.data.materials[0])
    assert tree_of(here.data.materials[0]) == tree_of(there.data.materials[0])
    images = addon.module("scene.importing").images_of
    (one,), (other,) = images(here.data), images(there.data)
    assert values_of(one) == values_of(other) and one.packed_file.data == other.packed_file.data
    assert here.mvgamba.size_at_import == there.mvgamba.size_at_import == pytest.approx(2.0)
    assert here.data["mvgamba"]["asset_sha256"] == there.data["mvgamba"]["asset_sha256"]
    parts = addon.module("scene.result").parts_of
    assert len(parts(here)) == len(parts(there)) == 4
    for mine, theirs in zip(parts(here), parts(there), strict=True):
        assert theirs.name.replace(there.name, here.name) == mine.name and theirs.hide_get() and theirs.hide_render
        assert len(mine.data.vertices) == len(theirs.data.vertices)
        assert abs(number_of_faces(mine) - number_of_faces(theirs)) <= 2
        np.testing.assert_allclose(props.world_vertices(mine), props.world_vertices(theirs), atol=1e-3)
        assert props.signed_volume(theirs) > 0
        assert list(theirs.data.materials) == (list(there.data.materials) if "LOD" in theirs.name else [])
        assert not theirs.data.use_fake_user


def test_one_undo_takes_the_result_with_its_parts_and_redo_brings_them(ready, begin, finish, ball):
    row = ready(ball, lods=2, collision="CONVEX")
    before = datablocks()
    finish(begin(row))
    placed = datablocks()
    assert len(placed["objects"]) == len(before["objects"]) + 4 and placed["libraries"] == []
    bpy.ops.ed.undo()
    assert datablocks() == before
    bpy.ops.ed.redo()
    assert datablocks() == placed and not left_files()


def test_a_file_of_another_form_is_read_by_another_blender(addon, ready, begin, finish, scene, tmp_path, monkeypatch):
    props.add_cube().select_set(True)
    path = tmp_path / "cube.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
    begin(row := ready(path))
    monkeypatch.setattr(addon.module("scene.importing"), "_imported", None)
    finish(row)
    assert len(results()[0].data.vertices) == 8


def test_many_faces_of_all_variants_are_made_by_another_blender(
    addon, ready, begin, finish, ball, tmp_path, monkeypatch
):
    more = glb_files.write(tmp_path / "more.glb", *glb_files.ball(8, 8), image=glb_files.picture())
    addon.module("core.mesh_file").prepare([ball, more])
    monkeypatch.setattr(addon.module("scene.placer"), "MOST_FACES", 1000)
    begin(row := ready(ball, more))
    monkeypatch.setattr(addon.module("scene.importing"), "_made", None)
    finish(row)
    (obj,) = results()
    faces = [len(item.mesh.polygons) for item in obj.mvgamba.variants]
    assert faces == [2 * 32 * 15, 2 * 8 * 7]


def test_a_replaced_result_gets_its_parts_anew(addon, session, ready, finish, ball, tmp_path):
    session.placer.makes_ready = False
    ready(ball, lods=2)
    session.pump()
    session.placer.makes_ready = True
    (obj,) = results()
    addon.module("scene.result").adjust(obj, addon.module("scene.result").Matrix.Rotation(1.0, 4, "X"))
    bpy.context.view_layer.update()
    wide = glb_files.write(tmp_path / "other.glb", *glb_files.ball(10, 40), image=glb_files.picture())
    row = ready(wide, lods=0, mode="REPLACE", replaced=obj)
    session.pump()
    assert row.text == "Preparing"
    finish(row)
    lods = addon.module("scene.result").parts_of(obj)
    assert [number_of_faces(part) for part in lods] == [pytest.approx(360, abs=2), pytest.approx(180, abs=2)]
    bpy.context.view_layer.update()
    low, high = (np.array(f(props.world_vertices(obj), axis=0)) for f in (np.min, np.max))
    points = props.world_vertices(lods[0])
    np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [low, high], atol=0.05)


def test_a_damaged_file_is_a_sentence_and_leaves_nothing(ready, begin, finish, tmp_path):
    path = tmp_path / "wrong.glb"
    path.write_bytes(b"not a glb")
    row = ready(path)
    before = datablocks()
    finish(begin(row), "The result could not be imported: wrong.glb is not a GLB")
    assert datablocks() == before


def test_edit_mode_meanwhile_makes_it_wait(ready, begin, finish, ball):
    begin(row := ready(ball))
    bpy.context.view_layer.objects.active = props.add_cube()
    bpy.ops.object.mode_set(mode="EDIT")
    finish(row, "Leave Edit Mode to place")
    bpy.ops.object.mode_set(mode="OBJECT")
    finish(row)
    assert len(results()) == 1


def test_undo_and_redo_meanwhile_do_no_harm(ready, begin, finish, ball):
    props.add_cube("Mine")
    bpy.ops.ed.undo_push(message="added")
    begin(row := ready(ball))
    bpy.ops.ed.undo()
    bpy.ops.ed.redo()
    bpy.ops.ed.undo()
    finish(row)
    assert len(results()) == 1


def test_another_file_meanwhile_gets_nothing(addon, session, ready, begin, ball, finish):
    begin(row := ready(ball))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    session.pump()
    assert row.text == "Ready, made for an unsaved file"
    finish(row, "Ready, made for an unsaved file")
    assert not results() and datablocks()["meshes"] == []


def test_a_replaced_object_that_is_deleted_meanwhile(ready, begin, finish, ball):
    cube = props.add_cube("Crate")
    begin(row := ready(ball, mode="REPLACE", replaced=cube))
    bpy.data.objects.remove(cube)
    finish(row, "Placed. Crate cannot be replaced any more: at the 3D cursor instead")


def test_one_that_is_let_go_meanwhile_leaves_no_file(addon, session, ready, begin, ball):
    begin(row := ready(ball, lods=1))
    session.cancel(row)
    assert addon.jobs.wait_until(session.pump, lambda: not session.client.is_busy, timeout=30)
    assert row.text == "Cancelled" and not results() and not left_files()


def test_disabling_meanwhile_ends_it(addon, session, ready, begin, ball):
    begin(ready(ball, lods=1))
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    bpy.ops.preferences.addon_enable(module=extension.MODULE)
    assert addon.session() is not session and not addon.session().board.rows
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a thing of POSIX")
def test_the_end_of_the_process_only_makes_it_slower(session, ready, begin, finish, ball):
    begin(row := ready(ball))
    os.kill(session.client.pid, signal.SIGKILL)
    finish(row)
    assert len(results()) == 1


def test_another_blender_that_fails_only_makes_it_slower(addon, session, ready, begin, finish, ball, monkeypatch):
    monkeypatch.setattr(
        addon.module("scene.placer"), "blender_command", lambda script: (sys.executable, "-c", "raise SystemExit(3)")
    )
    begin(row := ready(ball, lods=1))
    finish(row)
    assert len(results()[0].children) == 1 and not left_files()


def test_a_click_returns_at_once_and_the_timer_places(addon, session, ready, finish, ball):
    row = ready(ball, mode="SURFACE")
    assert bpy.ops.mvgamba.place_on_surface(request_id=row.id, location=(1, 2, 3), normal=(0, 0, 1)) == {"CANCELLED"}
    assert row.text == "Preparing" and not results()
    finish(row)
    assert tuple(results()[0].location) == (1, 2, 3)
    other = ready(ball)
    session.placer.file_loaded()  # made for another file, but a person wants it here
    other.request = row.request
    assert bpy.ops.mvgamba.place_result(request_id=other.id) == {"FINISHED"}
    assert len(results()) == 2


def test_what_waits_for_a_click_is_made_ready_meanwhile(addon, session, ready, ball):
    row = ready(ball, mode="SURFACE", lods=1)
    session.pump()
    assert row.text == "Ready, choose a surface for it" and session.placer.is_preparing(row)
    assert addon.jobs.wait_until(session.pump, lambda: not session.placer.is_preparing(row), timeout=60)
    assert bpy.ops.mvgamba.place_on_surface(request_id=row.id) == {"FINISHED"}
    assert len(results()[0].children) == 1 and not left_files()


@pytest.fixture
def kept(addon, scene, ball):
    """A result in a folder of the history, which nobody has prepared; gives its GLB."""
    target = addon.module("scene.target").make_target(bpy.context, mode="CURSOR", size=1.0)
    request = addon.request.JobRequest(
        "barrel", (), addon.request.JobOptions(), target, source=addon.request.TextInput("a barrel")
    )
    addon.module("core.history").write_entry(ball.parent, request, job_id="jobs/9", meshes=[ball])
    bpy.ops.ed.undo_push(message="before")
    return ball


def test_a_result_of_a_folder_comes_as_a_row_of_its_own(session, kept, finish):
    assert bpy.ops.mvgamba.import_result(filepath=str(kept)) == {"CANCELLED"}  # no undo step yet
    (row,) = session.board.rows
    assert row.text == "Preparing" and not results()
    bpy.context.scene.cursor.location = (5, 5, 5)  # where it was when it was asked for counts
    finish(row)
    (obj,) = results()
    assert tuple(obj.location) == (0, 0, 0) and obj.mvgamba.prompt == "a barrel"
    assert bpy.ops.mvgamba.import_result(filepath=str(kept)) == {"FINISHED"}  # it is prepared now
    assert len(session.board.rows) == 1 and len(results()) == 2


def test_what_was_asked_for_comes_into_no_other_file(session, kept, finish):
    bpy.ops.mvgamba.import_result(filepath=str(kept))
    (row,) = session.board.rows
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    finish(row, "Ready, made for an unsaved file")
    assert not results()
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"} and len(results()) == 1


def test_the_row_says_what_it_waits_for_and_offers_what_helps(addon, session, kept):
    def drawn(row):
        calls = []
        addon.module("ui.jobs").draw_row(LayoutRecorder(calls), row)
        return str(calls)

    bpy.ops.mvgamba.import_result(filepath=str(kept))
    (row,) = session.board.rows
    assert "Preparing" in drawn(row) and "mvgamba.place_result" not in drawn(row)
    assert bpy.ops.mvgamba.cancel(request_id=row.id) == {"FINISHED"}
    session.pump()
    assert "mvgamba.place_result" in drawn(row) and "mvgamba.retry" not in drawn(row)  # no job is sent for it
