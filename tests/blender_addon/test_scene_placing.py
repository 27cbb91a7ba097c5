"""When a result is placed: never while the user is busy, never into another file or scene, and never by halves."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

KINDS = ("scenes", "objects", "meshes", "materials", "images", "collections", "node_groups", "textures", "actions")


@pytest.fixture
def ready(addon, scene, tmp_path, request_for):
    """A row whose result has arrived: a box, or what is given."""
    board = addon.session().board

    def ready(*sources, path=None, **placement):
        row = board.add(request_for(*sources, **placement))
        row.state, row.job_id = addon.jobs.JobState.READY, "jobs/3"
        row.result_path = path or props.box_glb(tmp_path / f"{row.id}.glb", (0, 0, 0), (1, 1, 1))
        return row

    yield ready
    board.rows.clear()
    addon.session().placer.file_loaded()


@pytest.fixture
def pump(addon):
    """Lets the session look once, as its timer would, and gives what the row then says."""

    def pump(row):
        addon.session().pump()
        return row.text

    return pump


def results():
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def datablocks():
    return {kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in KINDS}


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("EDIT", "Leave Edit Mode to place"),
        ("SCULPT", "Return to Object Mode to place"),
        ("WEIGHT_PAINT", "Return to Object Mode to place"),
    ],
)
def test_a_result_waits_for_other_modes_to_end(ready, pump, mode, text):
    bpy.context.view_layer.objects.active = props.add_cube()
    row = ready(mode="ORIGIN")
    bpy.ops.object.mode_set(mode=mode)
    assert pump(row) == text and not results()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert pump(row) == "Placed" and len(results()) == 1


def test_a_scene_may_be_renamed_while_the_job_runs(ready, pump, scene):
    row = ready(mode="ORIGIN")
    scene.name = "Renamed"
    assert pump(row) == "Placed"


def test_a_scene_that_is_gone_does_not_lose_the_result(ready, pump, scene):
    row = ready(mode="ORIGIN")
    other = bpy.data.scenes.new("Other")
    bpy.context.window.scene = other
    assert pump(row) == 'Ready, made for scene "Scene"'
    bpy.data.scenes.remove(scene)
    assert pump(row) == "Ready, its scene is gone"
    other.name = "Scene"  # not the one that it was made for
    assert pump(row) == "Ready, its scene is gone" and not results()
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"}
    assert [obj for obj in other.objects] == results()


def test_a_result_is_placed_once_its_scene_is_shown_again(ready, pump, scene):
    row = ready(mode="ORIGIN")
    bpy.context.window.scene = bpy.data.scenes.new("Other")
    pump(row)
    bpy.context.window.scene = scene
    assert pump(row) == "Placed" and list(scene.objects) == results()


def test_a_linked_scene_gets_no_result(addon, scene, tmp_path, request_for):
    library = str(tmp_path / "library.blend")
    bpy.data.libraries.write(library, {scene})
    with bpy.data.libraries.load(library, link=True) as (_, to):
        to.scenes = ["Scene"]
    bpy.context.window.scene = to.scenes[0]
    try:
        with pytest.raises(addon.errors.AddonError, match="scene Scene is linked from another file"):
            request_for(mode="ORIGIN")
    finally:
        bpy.context.window.scene = scene


def test_a_file_that_is_saved_meanwhile_is_still_the_same(ready, pump, tmp_path):
    first, second = ready(mode="ORIGIN"), ready(mode="ORIGIN")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "first.blend"))
    assert pump(first) == "Placed" and second.state == "ready"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "second.blend"))
    assert second.request.target.filepath == str(tmp_path / "second.blend")
    assert pump(second) == "Placed"


def test_a_copy_that_is_saved_is_another_file(ready, tmp_path):
    row = ready(mode="ORIGIN")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "first.blend"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    assert row.request.target.filepath == str(tmp_path / "first.blend")


def test_a_result_waits_for_its_file_to_be_opened_again(ready, pump, tmp_path):
    source = props.add_cube("Barrel", matrix=Matrix.Translation((1, 2, 3)))
    file = str(tmp_path / "barrels.blend")
    row = ready(source, mode="MATCH", source_after="HIDE")
    bpy.ops.wm.save_as_mainfile(filepath=file)  # for the first time, after the job was sent
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    namesake = props.add_cube("Barrel")
    assert pump(row) == "Ready, made for barrels.blend" and not results() and not namesake.hide_render
    bpy.ops.wm.open_mainfile(filepath=file)
    assert pump(row) == "Placed" and len(results()) == 1
    assert bpy.data.objects["Barrel"].hide_render


def test_a_result_for_an_unsaved_file_can_be_placed_in_another(ready, pump):
    row = ready(mode="ORIGIN")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert pump(row) == "Ready, made for an unsaved file" and not results()
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"}
    assert len(results()) == 1 and row.text == "Placed"


def test_undo_and_redo_while_the_job_runs_do_no_harm(ready, pump):
    source = props.add_cube("Barrel", matrix=Matrix.Translation((1, 2, 3)))
    bpy.ops.ed.undo_push(message="added")
    row = ready(source, mode="MATCH", source_after="HIDE")
    source.location.x = 5
    bpy.ops.ed.undo_push(message="moved")
    bpy.ops.ed.undo()
    bpy.ops.ed.redo()
    bpy.ops.ed.undo()
    assert pump(row) == "Placed"
    source = bpy.data.objects["Barrel"]
    assert source.location.x == 1 and source.hide_render


def test_a_deleted_source_does_not_keep_a_result_away(ready, pump):
    source = props.add_cube("Barrel")
    row = ready(source, mode="MATCH", source_after="STORE")
    bpy.data.objects.remove(source)
    assert pump(row) == "Placed" and results()[0].name == "barrel MVGamba"
    assert "MVGamba Sources" not in bpy.data.collections


def test_a_result_waits_for_a_click_when_a_surface_was_asked_for(ready, pump):
    row = ready(mode="SURFACE")
    assert pump(row) == "Ready, choose a surface for it" and not results()


def test_a_waiting_result_can_be_let_go(addon, ready, pump):
    row = ready(mode="SURFACE")
    pump(row)
    assert row.can_cancel
    addon.session().cancel(row)
    assert pump(row) == "Cancelled" and not row.is_active and row.result_path.is_file()


@pytest.fixture
def textured(scene, tmp_path):
    """A GLB as Blender itself writes it: a cube with a texture."""
    cube = props.add_cube("Textured")
    material, tree, output = props.new_material("Wood", cube)
    shader = props.principled(tree, output)
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = props.solid_image("wood", (200, 100, 50))
    tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    cube.select_set(True)
    path = tmp_path / "textured.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return path


def test_one_undo_takes_a_result_away_and_leaves_nothing(textured, ready, pump):
    props.add_cube("Barrel")
    bpy.ops.ed.undo_push(message="before")
    before = datablocks()
    row = ready(bpy.data.objects["Barrel"], mode="MATCH", source_after="STORE", path=textured)
    assert pump(row) == "Placed"
    placed = datablocks()
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert datablocks() == before
    assert bpy.ops.ed.redo() == {"FINISHED"}
    assert datablocks() == placed


def test_one_undo_gives_the_replaced_mesh_back(textured, ready, pump):
    props.add_cube("Crate")
    bpy.ops.ed.undo_push(message="before")
    before, old = datablocks(), bpy.data.objects["Crate"].data.name
    row = ready(mode="REPLACE", replaced=bpy.data.objects["Crate"], path=textured)
    assert pump(row) == "Placed" and bpy.data.meshes[old].use_fake_user
    bpy.ops.ed.undo()
    assert datablocks() == before
    assert bpy.data.objects["Crate"].data.name == old and not bpy.data.meshes[old].use_fake_user


def test_a_linked_namesake_does_not_keep_a_result_out_of_a_collection(ready, pump, scene, tmp_path):
    library = str(tmp_path / "library.blend")
    cube = props.add_cube("barrel MVGamba")
    bpy.data.libraries.write(library, {cube})
    bpy.data.objects.remove(cube)
    chosen = bpy.data.collections.new("Chosen")
    scene.collection.children.link(chosen)
    with bpy.data.libraries.load(library, link=True) as (_, to):
        to.objects = ["barrel MVGamba"]
    chosen.objects.link(to.objects[0])
    assert pump(ready(mode="ORIGIN", collection_name="Chosen")) == "Placed"
    (result,) = results()
    assert list(result.users_collection) == [chosen]


def test_the_texture_is_packed_and_named_after_the_object(textured, ready, pump):
    pump(ready(props.add_cube("Barrel"), mode="MATCH", path=textured))
    (image,) = [image for image in bpy.data.images if image.type == "IMAGE"]
    (result,) = results()
    assert image.name == result.data.name == result.data.materials[0].name == result.name == "Barrel MVGamba"
    assert image.packed_file is not None and image.colorspace_settings.name == "sRGB"


def damaged(path, tmp_path, how):
    data = bytearray(path.read_bytes())
    start = data.find(b"\x89PNG")
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "cut in the head":
        data = data[:9]
    elif how == "empty":
        data = bytearray()
    elif how == "another format":
        data = bytearray(b"PK\x03\x04 not a mesh at all")
    elif how == "JSON":
        data[20:40] = b"#" * 20
    elif how == "texture":
        data[start : start + 60] = bytes(60)
    wrong = tmp_path / "wrong.glb"
    wrong.write_bytes(data)
    return wrong


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("cut", "is cut"),
        ("cut in the head", "is not a GLB"),
        ("empty", "is empty"),
        ("another format", "is not a GLB"),
        ("JSON", "is damaged"),
        ("texture", "a texture of the result is damaged"),
    ],
)
def test_a_damaged_result_is_a_sentence_and_leaves_nothing(addon, textured, ready, pump, tmp_path, how, sentence):
    source = props.add_cube("Barrel")
    source.select_set(True)
    bpy.context.view_layer.objects.active = source
    row = ready(source, mode="MATCH", source_after="HIDE", path=damaged(textured, tmp_path, how))
    before = datablocks()
    assert pump(row).startswith("The result could not be imported") and sentence in row.text
    assert (
        row.state is addon.jobs.JobState.FAILED and addon.errors.remedy(row.reason).operator == "mvgamba.place_result"
    )
    assert datablocks() == before and not source.hide_render
    assert bpy.context.selected_objects == [source] and bpy.context.view_layer.objects.active == source
    row.result_path = textured  # the file was put right: the button of the row places it
    assert bpy.ops.mvgamba.place_result(request_id=row.id) == {"FINISHED"}
    assert row.text == "Placed" and len(results()) == 1


@pytest.mark.parametrize(
    ("vertices", "faces"),
    [(np.zeros((3, 3)), [[0, 0, 0]]), (np.ones((3, 3)), [[0, 1, 2]]), (np.full((3, 3), 1e30), [[0, 1, 2]])],
)
def test_a_mesh_without_extent_is_refused(ready, pump, tmp_path, vertices, faces):
    row = ready(mode="ORIGIN", path=props.write_glb(tmp_path / "wrong.glb", vertices, np.array(faces)))
    before = datablocks()
    assert "the result has no" in pump(row) and datablocks() == before


def test_a_file_without_a_mesh_is_refused(ready, pump, scene, tmp_path):
    empty = bpy.data.objects.new("Empty", None)
    scene.collection.objects.link(empty)
    empty.select_set(True)
    path = tmp_path / "empty.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
    row, before = ready(mode="ORIGIN", path=path), datablocks()
    assert "holds no mesh" in pump(row) and datablocks() == before


def test_several_meshes_of_a_file_become_one(ready, pump, tmp_path):
    for x in (0, 3):
        props.add_cube(matrix=Matrix.Translation((x, 0, 0))).select_set(True)
    path = tmp_path / "two.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
    before = datablocks()
    assert pump(ready(mode="ORIGIN", path=path)) == "Placed"
    (result,) = results()
    np.testing.assert_allclose(result.dimensions, (4, 1, 1), atol=1e-5)
    assert not result.data.has_custom_normals
    assert len(result.data.vertices) == 16  # closed: the corners of each face were apart in the file
    assert len(datablocks()["meshes"]) == len(before["meshes"]) + 1


def test_what_comes_after_placing_is_in_the_same_undo_step(addon, ready, pump, scene):
    after_placing = addon.module("scene.placer").after_placing

    def add_copy(context, obj, row):
        assert row.job_id == "jobs/3"
        copy = obj.copy()
        copy.name = "Copy"
        context.scene.collection.objects.link(copy)

    def fail(_context, _obj, _row):
        raise ValueError("no room for more")

    after_placing += [fail, add_copy]
    try:
        bpy.ops.ed.undo_push(message="before")
        before = datablocks()
        row = ready(mode="ORIGIN")
        assert pump(row) == "Placed. no room for more" and "Copy" in bpy.data.objects
        bpy.ops.ed.undo()
        assert datablocks() == before
    finally:
        after_placing.remove(fail)
        after_placing.remove(add_copy)


def test_a_result_is_seen_in_a_local_view(ready, pump, scene):
    other = props.add_cube("Other")
    props.add_cube().select_set(True)
    area = next(area for area in bpy.context.window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    space = area.spaces.active
    with bpy.context.temp_override(area=area, region=region):
        bpy.ops.view3d.localview()
    try:
        assert space.local_view is not None
        pump(ready(mode="ORIGIN"))
        (result,) = results()
        assert result.visible_get(viewport=space) and not other.visible_get(viewport=space)
    finally:
        with bpy.context.temp_override(area=area, region=region):
            bpy.ops.view3d.localview()
