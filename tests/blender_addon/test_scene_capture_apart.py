"""Captures that another Blender renders: the same pictures, and nothing that waits or stays behind."""

import dataclasses
import sys
import time

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))
SMALL = {"num_views": 4, "image_size": 48, "samples": 1}


@pytest.fixture
def take(addon, scene, tmp_path):
    def take(*objects, folder="", apart=False, **settings):
        settings = addon.capture.CaptureSettings(**{**SMALL, **settings})
        return addon.capture.capture(bpy.context, objects, settings, tmp_path / folder, apart=apart)

    return take


def run(render):
    counts = []
    assert render.run(report=counts.append, should_stop=lambda: False)
    return counts


def painted_cube():
    """A cube whose texture was painted and never saved."""
    cube = props.add_cube(matrix=ODD)
    _, tree, output = props.new_material("painted", cube)
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = bpy.data.images.new("canvas", 8, 8)
    texture.image.pixels.foreach_set(np.tile([1.0, 0.5, 0.0, 1.0], 64).astype(np.float32))
    texture.image.update()
    assert texture.image.is_dirty
    tree.links.new(texture.outputs["Color"], props.principled(tree, output).inputs["Base Color"])
    return cube


def test_another_blender_takes_the_same_pictures(take):
    cube = painted_cube()
    here = take(cube, folder="here")
    there = take(cube, folder="there", apart=True)
    assert there.render.is_pending and not there.views[0].image_path.exists()
    assert run(there.render) == [0, 1, 1, 2, 2, 3, 3, 4]
    assert not there.render.is_pending
    for a, b in zip(here.views, there.views, strict=True):
        np.testing.assert_array_equal(a.c2w, b.c2w)
        np.testing.assert_array_equal(props.read(a.image_path), props.read(b.image_path))
        np.testing.assert_array_equal(np.load(a.depth_path), np.load(b.depth_path))
    assert np.abs(props.colors_of(there.views[0].image_path) - [255, 128, 0]).max() <= 2


def test_writing_a_stage_leaves_the_file_as_it_was(take):
    cube = painted_cube()
    before = props.state_of_file()
    take(cube, apart=True)
    assert props.state_of_file() == before and bpy.data.images["canvas"].is_dirty


def test_a_capture_stops_when_it_is_told_to(take):
    render = take(props.add_cube(), apart=True).render
    assert render.run(report=lambda _: None, should_stop=lambda: True) is False
    assert render.is_pending


def test_a_blender_that_fails_says_why_and_can_be_asked_again(take, addon):
    capture = take(props.add_cube(), apart=True)
    broken = dataclasses.replace(capture.render, command=(sys.executable, "-c", "raise SystemExit('no licence')"))
    with pytest.raises(addon.errors.AddonError, match="no licence"):
        run(broken)
    missing = dataclasses.replace(capture.render, command=("/nowhere/blender",))
    with pytest.raises(addon.errors.AddonError, match="could not be started"):
        run(missing)
    run(capture.render)
    assert capture.views[3].image_path.is_file()


@pytest.fixture
def generate(addon, scene):
    """Sends a capture that is rendered apart; the rows are cleared afterwards."""
    if extension.backend_command() is None:
        pytest.skip("no mvgamba-backend: set MVGAMBA_BACKEND")
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    preferences.backend_arguments = "--pipeline fake"
    addon.module("ui.preferences").check_backend()
    settings = addon.capture.CaptureSettings(**SMALL, with_depth=False)

    def generate(*objects):
        return addon.api.generate(objects, capture_settings=settings, apart=True, wait=False)

    yield generate
    for row in addon.session().board.rows:
        addon.session().cancel(row)
    ready = addon.jobs.JobState.READY
    wait(addon, lambda: all(row.state is ready or not row.is_active for row in addon.session().board.rows), timeout=10)
    addon.session().board.rows.clear()
    addon.session().stop_backend()
    bpy.context.preferences.addons[extension.MODULE].preferences.backend_arguments = ""


def wait(addon, condition, *, timeout=30.0):
    return addon.jobs.wait_until(lambda: addon.session().pump(), condition, timeout=timeout)


def test_a_row_counts_its_pictures_and_then_goes_on(addon, generate):
    row, texts = generate(props.add_cube()), []
    assert row.text == "Capturing 0/4"
    while row.is_active:
        addon.session().pump()
        texts.append(row.text)
        time.sleep(0.005)
    assert row.state is addon.jobs.JobState.PLACED, row.text
    assert row.captured == 4 and texts.index("Sending") > texts.index("Capturing 0/4")
    assert not any(name in item.name for name in ("MVGamba Capture",) for item in (*bpy.data.scenes, *bpy.data.objects))


def test_a_capture_can_be_cancelled_and_taken_up_again(addon, generate):
    row = generate(props.add_cube())
    addon.session().cancel(row)
    assert wait(addon, lambda: not row.is_active, timeout=5)
    assert row.state is addon.jobs.JobState.CANCELLED and row.job_id == ""
    again = addon.api.retry(row)
    assert again.state is addon.jobs.JobState.CAPTURING
    assert wait(addon, lambda: not again.is_active) and again.state is addon.jobs.JobState.PLACED


def test_a_job_whose_pictures_are_gone_says_so(addon, generate):
    row = generate(props.add_cube())
    addon.session().cancel(row)
    assert wait(addon, lambda: not row.is_active, timeout=5)
    row.render.stage_path.unlink()
    with pytest.raises(addon.errors.AddonError, match="no longer on the disk"):
        addon.api.retry(row)


def test_what_is_left_out_is_told_on_the_row(addon, generate):
    smoke = bpy.data.objects.new("Smoke", bpy.data.volumes.new("Smoke"))
    bpy.context.scene.collection.objects.link(smoke)
    row = generate(props.add_cube(), smoke)
    assert ["Smoke" in line for line in row.log_lines] == [True]


def test_undo_and_another_file_do_not_disturb_a_capture(addon, generate):
    cube = props.add_cube()
    bpy.ops.ed.undo_push(message="before")
    cube.location.x += 1.0
    bpy.ops.ed.undo_push(message="after")
    row = generate(cube)
    bpy.ops.ed.undo()
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert wait(addon, lambda: row.state is addon.jobs.JobState.READY and row.note)
    assert row.note.startswith("Ready, made for")
    assert not bpy.data.objects


def test_more_views_are_taken_as_the_views_before_were(addon, generate):
    """Also of a job from own cameras, whose number no ring has."""
    camera = bpy.data.objects.new("Mine", bpy.data.cameras.new("Mine"))
    bpy.context.scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0, -4, 0), (1.5708, 0, 0)
    cube = props.add_cube()
    bpy.context.view_layer.update()
    settings = addon.capture.CaptureSettings(**SMALL, shading="studio", lit_samples=1)
    row = addon.api.generate([cube], capture_settings=settings, cameras=[camera], wait=False)
    assert len(row.request.views) == 1 and any("one side" in line for line in row.log_lines)
    again = addon.api.recapture(row, num_views=8)
    assert len(again.request.views) == 8
    assert (again.request.capture["shading"], again.request.capture["image_size"]) == ("studio", 48)
