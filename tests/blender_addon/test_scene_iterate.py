"""Going on from results, and their history, with a real backend and its scripted pipeline."""

import json
import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.usefixtures("fake_backend"),
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


@pytest.fixture
def make(addon, scene):
    """Makes a result of words and selects it."""

    def make(prompt="#preview a weathered oak barrel", **options):
        before = set(bpy.data.objects)
        addon.api.generate_from(
            addon.request.TextInput(prompt), options=addon.request.JobOptions(quality="draft", **options), timeout=60
        )
        (obj,) = [obj for obj in bpy.data.objects if obj not in before and obj.mvgamba.kind != "NONE"]
        return obj

    yield make
    for row in addon.session().board.rows:
        addon.session().cancel(row)
    addon.session().board.rows.clear()


def finish(addon, count=1):
    rows = addon.session().board.rows[:count]
    assert addon.jobs.wait_until(addon.session().pump, lambda: not any(row.is_active for row in rows), timeout=60)
    return rows[0] if count == 1 else rows


def test_the_results_of_a_job_are_variants_of_one_object(addon, make):
    obj = make(variants=3, seed=7)
    own = obj.mvgamba
    assert [item.seed for item in own.variants] == [7, 8, 9] and own.generator == "auto" and own.backend_version
    assert [item.asset_name for item in own.variants] == ["mesh.glb", "mesh_2.glb", "mesh_3.glb"]
    materials = [item.mesh.materials[0] for item in own.variants]
    assert len(set(materials)) == 3 and [o for o in bpy.data.objects if o.type == "MESH"] == [obj]
    sizes = set()
    for _ in range(3):
        assert bpy.ops.mvgamba.step_variant(direction=1) == {"FINISHED"}
        bpy.context.view_layer.update()
        sizes.add(round(max(obj.dimensions), 4))
        assert obj.material_slots[0].material in materials
    assert sizes == {1.0}
    assert bpy.ops.mvgamba.clear_variants() == {"FINISHED"}
    assert not bpy.ops.mvgamba.step_variant.poll()


def test_the_same_again_comes_in_the_place_of_the_mesh(addon, make):
    obj = make(seed=7)
    obj.location, obj.rotation_euler = (3, 1, 2), (0.2, 0.3, 0.4)
    obj.modifiers.new("Bevel", "BEVEL")
    first, group = obj.data, obj.mvgamba.group_id
    bpy.context.view_layer.update()
    matrix = obj.matrix_world.copy()
    assert bpy.ops.mvgamba.regenerate(seed_mode="NEXT") == {"FINISHED"}
    row = finish(addon)
    assert row.text == "Placed" and [o for o in bpy.data.objects if o.type == "MESH"] == [obj]
    assert obj.data != first and obj.matrix_world == matrix and obj.modifiers.keys() == ["Bevel"]
    assert (obj.mvgamba.seed, obj.mvgamba.group_id, obj.mvgamba.job_id) == (8, group, row.job_id)
    assert row.request.source == addon.request.TextInput("#preview a weathered oak barrel")
    bpy.ops.mvgamba.step_variant()
    assert obj.data == first and obj.mvgamba.seed == 7


def test_the_same_seed_gives_the_same_again_and_undo_takes_it_away(addon, make):
    obj = make(seed=7)
    name, digest = obj.name, obj.data["mvgamba"]["asset_sha256"]
    bpy.ops.ed.undo_push(message="before")
    addon.api.regenerate(obj, wait=True)
    assert obj.data["mvgamba"]["asset_sha256"] == digest and len(obj.mvgamba.variants) == 2
    bpy.ops.ed.undo()
    assert len(bpy.data.objects[name].mvgamba.variants) == 1


def test_an_edited_mesh_is_kept_when_the_result_is_made_again(addon, make):
    obj = make()
    obj.data.vertices[0].co.x += 9
    edited = obj.data
    addon.api.regenerate(obj, seed=3, wait=True)
    assert obj.data != edited and obj.mvgamba.variants[0].is_edited and edited.use_fake_user
    bpy.ops.mvgamba.step_variant()
    assert obj.data == edited and max(abs(v.co.x) for v in edited.vertices) > 8


def test_words_change_what_the_backend_still_has(addon, make):
    obj = make(seed=7, variants=2)
    bpy.ops.mvgamba.step_variant()
    job, state = obj.mvgamba.job_id, bpy.context.window_manager.mvgamba
    state.vary_prompt, state.vary_strength = " of stone ", 0.25
    assert bpy.ops.mvgamba.vary() == {"FINISHED"}
    row = finish(addon)
    wanted = addon.request.VariationInput("of stone", strength=0.25, job_id=job, asset_name="mesh_2.glb")
    assert row.text == "Placed" and row.request.source == wanted and row.request.views == ()
    assert obj.mvgamba.kind == "VARIATION" and obj.mvgamba.prompt == "of stone" and len(obj.mvgamba.variants) == 3


def test_words_change_an_edited_mesh_as_it_stands(addon, make):
    obj = make()
    obj.data.vertices[0].co.x += 0.3
    modifier = obj.modifiers.new("Twice", "ARRAY")
    row = addon.api.vary(obj, "of stone", wait=True)
    assert row.request.source.job_id == "" and len(row.request.views) == 8
    assert modifier.show_viewport and obj.mvgamba.kind == "VARIATION"
    x = [view.c2w[0, 3] for view in row.request.views]
    assert abs(max(x) + min(x)) < 0.5  # the cameras stand around one mesh, not around two


def test_what_words_made_of_a_mesh_lies_in_the_object_wherever_it_was_moved(addon, make):
    """Captures show the object where it stood; what comes of them lies as they showed it, in its own axes."""
    obj = make()
    obj.data.vertices[0].co.x += 0.3
    obj.location, obj.rotation_euler = (1, 0, 2), (0.0, 0.0, 0.4)
    bpy.context.view_layer.update()
    corners = []
    rows = [addon.api.vary(obj, "of stone", wait=True)]
    corners.append(bounds(obj))
    obj.location, obj.rotation_euler, obj.scale = (3, -2, 1), (0.3, 0.2, 1.0), (2, 2, 2)
    bpy.context.view_layer.update()
    rows.append(addon.api.regenerate(obj, wait=True))
    corners.append(bounds(obj))
    sent = [[view.image_path for view in row.request.views] for row in rows]
    assert sent[0] == sent[1], "the pictures of before were sent again"
    assert np.abs(corners[1] - corners[0]).max() < 1e-4 * np.ptp(corners[0])

    with bpy.context.temp_override(object=obj, active_object=obj, selected_objects=[obj]):
        bpy.ops.mvgamba.turn(axis="Z", angle=np.pi / 2)
    turned = bounds(obj)
    addon.api.regenerate(obj, wait=True)
    assert np.abs(bounds(obj) - turned).max() < 1e-4 * np.ptp(turned), "turns are kept"

    obj.data.vertices[0].co.x += 0.3
    row = addon.api.vary(obj, "of glass")
    obj.location = (0, 0, 9)
    assert addon.api.wait_for(row).text == "Placed"
    middle = np.array(obj.matrix_world) @ [*bounds(obj).mean(axis=0), 1.0]
    assert abs(middle[2] - 9.0) < 4.0, "moved while the job ran, it does not stay behind"


def bounds(obj):
    """(2, 3) lowest and highest corner, in the object's own axes."""
    points = np.array([vertex.co for vertex in obj.data.vertices])
    return np.array([points.min(axis=0), points.max(axis=0)])


def test_words_change_a_result_whose_job_is_gone(addon, make):
    obj = make()
    obj.mvgamba.job_id = "jobs/none"
    assert not addon.session().knows_job("jobs/none") and not addon.session().knows_job("")
    row = addon.api.vary(obj, "of stone", wait=True)
    assert row.text == "Placed" and len(row.request.views) == 8


def test_a_capture_is_sent_again_from_the_disk_and_else_taken_anew(addon, scene, make):
    cube = props.add_cube()
    settings = addon.capture.CaptureSettings(num_views=4, image_size=64, samples=1, with_depth=False)
    row = addon.api.generate([cube], capture_settings=settings, options=addon.request.JobOptions(quality="draft"))
    obj = next(o for o in bpy.data.objects if o.mvgamba.kind == "CAPTURE")
    again = addon.api.regenerate(obj, wait=True)
    assert [v.image_path for v in again.request.views] == [v.image_path for v in row.request.views]
    for view in row.request.views:
        view.image_path.unlink()
    anew = addon.api.regenerate(obj, wait=True)
    assert len(anew.request.views) == 4 and all(v.image_path.is_file() for v in anew.request.views)
    for view in (*anew.request.views, *again.request.views):
        view.image_path.unlink(missing_ok=True)
    bpy.data.objects.remove(cube)
    with pytest.raises(addon.errors.AddonError, match="source is gone"):
        addon.api.regenerate(obj)


def test_a_grey_button_says_why(addon, scene, make):
    bpy.context.view_layer.objects.active = props.add_cube()
    for name in ("step_variant", "regenerate", "vary", "load_settings", "turn", "mark_asset", "export_result"):
        with pytest.raises(RuntimeError, match="not made by MVGamba"):
            getattr(bpy.ops.mvgamba, name)()
    make()
    with pytest.raises(RuntimeError, match="Only one variant"):
        bpy.ops.mvgamba.step_variant()
    bpy.context.window_manager.mvgamba.vary_prompt = "  "
    with pytest.raises(RuntimeError, match="Say what the result should become"):
        bpy.ops.mvgamba.vary()
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Leave Edit Mode"):
        bpy.ops.mvgamba.turn()
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_damaged_record_is_a_sentence(addon, make):
    obj = make()
    for text in ("", "{", "[]", '{"kind": "text"}'):
        obj.mvgamba.settings_json = text
        with pytest.raises(RuntimeError, match="cannot be read"):
            bpy.ops.mvgamba.regenerate()
        with pytest.raises(RuntimeError, match="cannot be read"):
            bpy.ops.mvgamba.load_settings()


def test_several_results_turn_together(make):
    made = [make(), make()]
    for obj in made:
        obj.select_set(True)
    before = [np.array([v.co for v in obj.data.vertices]) for obj in made]
    assert bpy.ops.mvgamba.turn(axis="X", angle=math.pi / 2) == {"FINISHED"}
    for obj, points in zip(made, before):
        after = np.array([v.co for v in obj.data.vertices])
        np.testing.assert_allclose(after, np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1), atol=1e-6)
    assert bpy.ops.mvgamba.reset_result() == {"FINISHED"}
    np.testing.assert_allclose([v.co for v in made[0].data.vertices], before[0], atol=1e-6)


def test_the_panel_takes_over_what_a_result_was_made_from(addon, scene, make):
    obj = make("a weathered oak barrel", seed=77, target_faces=3000, texture_size=512, generator="starter")
    settings = scene.mvgamba
    settings.source, settings.prompt, settings.seed_mode = "CAPTURE", "other", "RANDOM"
    assert bpy.ops.mvgamba.load_settings() == {"FINISHED"}
    assert (settings.source, settings.prompt, settings.seed, settings.seed_mode) == (
        ("TEXT", "a weathered oak barrel", 77, "FIXED")
    )
    expected = addon.module("core.record").request_from_record(obj.mvgamba.settings_json).options
    assert settings.job_options() == expected


def test_the_views_of_a_result_become_pictures_of_the_panel(addon, scene, make):
    make()
    assert bpy.ops.mvgamba.use_views() == {"FINISHED"}
    settings = scene.mvgamba
    assert settings.source == "IMAGE" and [i.side for i in settings.images] == ["FRONT", "RIGHT", "BACK", "LEFT"]
    assert all(item.image.packed_file for item in settings.images)
    made = make("without pictures")
    bpy.context.view_layer.objects.active = made
    with pytest.raises(RuntimeError, match="no longer on the disk"):
        bpy.ops.mvgamba.use_views()
    assert len(settings.images) == 4


def test_the_history_lists_places_and_deletes(addon, scene, make):
    obj = make("#preview prüf ☃", seed=5, variants=2)
    request_id = obj.mvgamba.request_id
    addon.api.refresh_history()
    book = addon.module("scene.history").book()
    entry = book.wait().find(request_id)
    assert entry.title == "#preview prüf ☃" and len(entry.meshes) == 2 and entry.preview is not None
    listed = bpy.context.window_manager.mvgamba.history
    assert listed[0].request_id == request_id and listed[0].name == entry.title
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert bpy.context.window_manager.mvgamba.history[0].request_id == request_id
    bpy.context.scene.cursor.location = (4, 5, 6)
    assert bpy.ops.mvgamba.history_place() == {"FINISHED"}
    placed = bpy.context.object
    assert tuple(placed.location) == (4, 5, 6) and placed.mvgamba.request_id == request_id
    assert len(placed.mvgamba.variants) == 2 and placed.mvgamba.seed == 5
    settings = bpy.context.scene.mvgamba
    assert bpy.ops.mvgamba.history_load(request_id=request_id) == {"FINISHED"}
    assert (settings.prompt, settings.seed) == ("#preview prüf ☃", 5)
    assert bpy.ops.mvgamba.history_delete(request_id=request_id) == {"FINISHED"}
    assert not entry.folder.exists() and book.history.find(request_id) is None
    assert request_id not in [row.request_id for row in bpy.context.window_manager.mvgamba.history]
    assert placed.mvgamba.kind == "TEXT"


def test_a_result_that_waits_for_its_place_is_in_the_history(addon, scene, make):
    listed = bpy.context.window_manager.mvgamba.history
    row = addon.api.generate_from(
        addon.request.TextInput("#preview a crate that waits"),
        options=addon.request.JobOptions(quality="draft"),
        placement="SURFACE",
        wait=False,
    )
    assert addon.jobs.wait_until(addon.session().pump, lambda: row.note, timeout=60)
    assert row.state is addon.jobs.JobState.READY
    assert [item.name for item in listed if item.request_id == row.id] == ["#preview a crate that waits"]
    assert bpy.ops.mvgamba.history_delete(request_id=row.id) == {"FINISHED"}
    addon.session().on_change()
    assert row.id not in [item.request_id for item in listed]


def test_a_result_that_comes_while_the_history_is_read_stays_in_it(addon, scene, make):
    request_id = make("#preview a crate in between").mvgamba.request_id
    book, folder = addon.module("scene.history").book(), addon.api.jobs_folder()
    book.refresh(folder.with_name("nothing"))  # a reading that began before there was anything
    book.add(folder / request_id)
    assert book.wait().find(request_id) is not None and book.is_read
    addon.api.refresh_history()
    assert book.wait().find(request_id) is not None


def test_parts_and_exports_of_a_result(make, scene, tmp_path):
    scene.mvgamba.lod_count, scene.mvgamba.collision = 1, "BOX"
    obj = make("a barrel", variants=2)
    assert {child.name for child in obj.children} == {f"UCX_{obj.name}", f"{obj.name}_LOD1"}
    bpy.ops.mvgamba.step_variant()
    assert len(obj.children) == 2
    assert bpy.ops.mvgamba.add_lods(count=0) == {"FINISHED"} and len(obj.children) == 1
    with pytest.raises(RuntimeError, match="choose a folder"):
        bpy.ops.mvgamba.export_result()
    assert bpy.ops.mvgamba.export_result(directory=str(tmp_path)) == {"FINISHED"}
    (note,) = tmp_path.glob("*/*.json")
    assert json.loads(note.read_text(encoding="utf-8"))["prompt"] == "a barrel"
    assert bpy.ops.mvgamba.mark_asset(license="CC0-1.0") == {"FINISHED"}
    assert obj.asset_data.license == "CC0-1.0" and obj.asset_data.description == "a barrel"


def test_a_result_goes_to_a_library_of_the_preferences(make, tmp_path):
    make("a barrel")
    libraries = bpy.context.preferences.filepaths.asset_libraries
    for _ in list(libraries):
        bpy.ops.preferences.asset_library_remove(index=0)
    with pytest.raises(RuntimeError, match="No asset library is set up"):
        bpy.ops.mvgamba.save_to_library()
    bpy.ops.preferences.asset_library_add(directory=str(tmp_path))
    try:
        assert bpy.ops.mvgamba.save_to_library(write_catalog=True) == {"FINISHED"}
        assert len(list(tmp_path.glob("*.blend"))) == 1 and (tmp_path / "blender_assets.cats.txt").is_file()
    finally:
        bpy.ops.preferences.asset_library_remove(index=len(libraries) - 1)


def test_the_panel_of_a_result_draws(addon, make):
    from types import SimpleNamespace

    from tests.blender_addon.test_register import LayoutRecorder

    make(variants=2)
    for cls in (addon.module("ui.result").MVGAMBA_PT_result, addon.module("ui.history").MVGAMBA_PT_history):
        calls = []
        cls.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
        assert len(calls) > 5
