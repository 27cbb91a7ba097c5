"""Results: exactly over their source, in one undo step, remembering how they were made."""

import json

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def place(addon, scene, tmp_path, request_for):
    """Places a GLB whose vertices are those of the source, as a perfect backend would send it."""

    def place(source, **target):
        path = props.glb_of(tmp_path / "mesh.glb", source)
        return addon.place.place_result(bpy.context, path, request_for(source, **target), job_id="jobs/7")

    return place


def nearest(points, others):
    return np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1).max()


def test_a_result_lies_over_its_source(place):
    source = props.add_cube(matrix=ODD)
    result = place(source)
    assert nearest(props.world_vertices(source), props.world_vertices(result)) < 1e-5


def test_the_origin_of_the_result_is_that_of_the_source(place):
    source = props.add_cube(matrix=ODD)
    result = place(source)
    np.testing.assert_allclose(result.location, ODD.translation, atol=1e-6)
    np.testing.assert_allclose(result.scale, (1, 1, 1), atol=1e-6)
    expected = ODD.to_quaternion()
    assert abs(result.rotation_euler.to_quaternion().dot(expected)) == pytest.approx(1.0, abs=1e-6)
    assert result.rotation_mode == "XYZ"


def test_a_result_follows_the_parent_of_its_source(place, scene):
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.matrix_world = Matrix.LocRotScale((10, 5, -3), Euler((0.2, 0.3, 0.4)), (2, 1, 3))  # not even: shears
    source = props.add_cube(matrix=ODD)
    source.parent = parent
    bpy.context.view_layer.update()
    result = place(source)
    bpy.context.view_layer.update()
    assert result.parent == parent
    assert nearest(props.world_vertices(source), props.world_vertices(result)) < 1e-4
    parent.location.x += 5
    bpy.context.view_layer.update()
    assert nearest(props.world_vertices(source), props.world_vertices(result)) < 1e-4


def test_a_result_goes_where_its_source_is_kept(place, scene):
    home = bpy.data.collections.new("Props")
    scene.collection.children.link(home)
    source = props.add_cube()
    home.objects.link(source)
    scene.collection.objects.unlink(source)
    assert [c.name for c in place(source).users_collection] == ["Props"]


def test_a_result_goes_to_the_chosen_collection(place, scene):
    chosen = bpy.data.collections.new("Results")
    scene.collection.children.link(chosen)
    assert [c.name for c in place(props.add_cube(), collection_name="Results").users_collection] == ["Results"]


def test_the_source_is_kept_or_hidden_as_asked(place):
    source = props.add_cube()
    place(source)
    assert not source.hide_get() and not source.hide_render
    place(source, source_after="HIDE")
    assert source.hide_get() and source.hide_render


def test_a_result_remembers_how_it_was_made(place):
    result = place(props.add_cube())
    record = json.loads(result.mvgamba.settings_json)
    assert record["options"]["seed"] == 41 and record["capture"] == {"views": 8}
    assert record["sources"] == ["Cube"] and result.mvgamba.job_id == "jobs/7" and result.mvgamba.kind == "CAPTURE"


def test_the_record_survives_saving_and_loading(place, tmp_path):
    name = place(props.add_cube()).name
    path = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert json.loads(bpy.data.objects[name].mvgamba.settings_json)["options"]["seed"] == 41


def test_the_result_is_selected_and_active_and_alone(place):
    source = props.add_cube()
    source.select_set(True)
    result = place(source)
    assert bpy.context.selected_objects == [result] and bpy.context.view_layer.objects.active == result


def test_a_source_that_was_renamed_is_found(addon, place, request_for):
    source = props.add_cube()
    request = request_for(source)
    source.name = "Renamed"
    assert addon.place.find_sources(request.target) == [source]


def test_a_source_that_was_deleted_leaves_the_result_in_its_place(addon, scene, tmp_path, request_for):
    source = props.add_cube(matrix=ODD)
    request, points = request_for(source), props.world_vertices(source)
    path = props.write_glb(
        tmp_path / "mesh.glb", addon.axes.points_z_up_to_y_up(points), np.array([[0, 1, 2], [5, 6, 7]])
    )
    bpy.data.objects.remove(source)
    result = addon.place.place_result(bpy.context, path, request, job_id="jobs/7")
    assert nearest(props.world_vertices(result), points) < 1e-5
    assert result.name.startswith("barrel")


def test_a_broken_file_is_a_sentence_and_leaves_nothing(addon, scene, tmp_path, request_for):
    path = tmp_path / "mesh.glb"
    path.write_bytes(b"not a glb")
    before = sorted(obj.name for obj in bpy.data.objects)
    with pytest.raises(addon.errors.AddonError) as caught:
        addon.place.place_result(bpy.context, path, request_for(), job_id="")
    assert caught.value.reason == "PLACE_FAILED"
    assert sorted(obj.name for obj in bpy.data.objects) == before


def random_matrix(rng, *, mirrored=False):
    scale = rng.uniform(0.3, 3.0, 3) * (rng.choice([-1.0, 1.0], 3) if mirrored else 1.0)
    return Matrix.LocRotScale(rng.uniform(-20, 20, 3), Euler(rng.uniform(-3, 3, 3)), scale)


@pytest.mark.parametrize("seed", range(24))
def test_a_result_lies_over_a_source_with_any_transform(place, scene, seed):
    """Scale with any signs, an uneven turned parent (which shears), a parent inverse, and delta transforms."""
    rng = np.random.default_rng(seed)
    source = props.add_cube(size=rng.uniform(0.01, 10.0), matrix=random_matrix(rng, mirrored=True))
    if seed % 2:
        parent = bpy.data.objects.new("Parent", None)
        scene.collection.objects.link(parent)
        parent.matrix_world = random_matrix(rng, mirrored=seed % 4 == 1)
        source.parent = parent
        source.matrix_parent_inverse = random_matrix(rng)
    if seed % 3 == 0:
        source.delta_location, source.delta_scale = rng.uniform(-5, 5, 3), rng.uniform(0.5, 2.0, 3)
        source.delta_rotation_euler = rng.uniform(-3, 3, 3)
    bpy.context.view_layer.update()
    result = place(source)
    bpy.context.view_layer.update()
    points = props.world_vertices(source)
    size = np.ptp(points, axis=0).max()
    assert nearest(points, props.world_vertices(result)) < 1e-4 * size  # asked for is a hundredth; the rest is float32
    assert props.signed_volume(result) > 0
    assert result.parent == source.parent


def test_a_result_follows_the_bone_of_its_source(place, scene):
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    armature.data.edit_bones.new("Hand").tail = (0.3, 1.0, 0.5)
    bpy.ops.object.mode_set(mode="OBJECT")
    source = props.add_cube(matrix=ODD)
    source.parent, source.parent_type, source.parent_bone = armature, "BONE", "Hand"
    bpy.context.view_layer.update()
    result = place(source)
    armature.pose.bones["Hand"].rotation_mode = "XYZ"
    armature.pose.bones["Hand"].rotation_euler = (0.4, 0.9, -0.3)
    bpy.context.view_layer.update()
    assert nearest(props.world_vertices(source), props.world_vertices(result)) < 1e-4


def test_a_parent_that_flattens_is_not_followed(place, scene):
    parent = bpy.data.objects.new("Flat", None)
    scene.collection.objects.link(parent)
    source = props.add_cube(matrix=Matrix.Translation((1, 2, 3)))
    source.parent = parent
    parent.scale = (1, 1, 0)
    bpy.context.view_layer.update()
    result = place(source)
    assert result.parent is None
    assert nearest(props.world_vertices(source), props.world_vertices(result)) < 1e-5


@pytest.fixture
def place_box(addon, scene, tmp_path, request_for):
    """Places a box as a generator would make it: 1 wide, 0.5 deep, 2 high, somewhere."""

    def place_box(*sources, notes=None, frame=None, **placement):
        path = props.box_glb(tmp_path / "mesh.glb", (0.2, -0.1, -1.0), (1.2, 0.4, 1.0))
        return addon.place.place_result(
            bpy.context, path, request_for(*sources, **placement), job_id="jobs/8", notes=notes, frame=frame
        )

    return place_box


def bounds(obj):
    points = props.world_vertices(obj)
    return points.min(axis=0), points.max(axis=0)


def test_a_result_stands_at_the_cursor_and_looks_where_it_looks(place_box, scene):
    scene.cursor.location = (3, -2, 0.5)
    scene.cursor.rotation_euler = (0.0, 0.0, 0.6)
    result = place_box(mode="CURSOR", size=4.0)
    np.testing.assert_allclose(result.location, (3, -2, 0.5), atol=1e-6)
    np.testing.assert_allclose(result.rotation_euler, (0, 0, 0.6), atol=1e-6)
    np.testing.assert_allclose(result.scale, (1, 1, 1))
    np.testing.assert_allclose(result.dimensions, (2, 1, 4), atol=1e-5)
    assert bounds(result)[0][2] == pytest.approx(0.5)
    assert props.signed_volume(result) > 0


def test_the_cursor_counts_where_it_was_when_the_job_was_sent(addon, scene, tmp_path, request_for):
    scene.cursor.location = (1, 2, 3)
    request = request_for(mode="CURSOR")
    scene.cursor.location = (9, 9, 9)
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    result = addon.place.place_result(bpy.context, path, request, job_id="")
    np.testing.assert_allclose(result.location, (1, 2, 3))


def test_in_another_scene_the_cursor_of_that_scene_counts(addon, scene, tmp_path, request_for):
    scene.cursor.location = (1, 2, 3)
    request = request_for(mode="CURSOR")
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    other = bpy.data.scenes.new("Other")
    other.cursor.location = (4, 5, 6)
    bpy.context.window.scene = other
    result = addon.place.place_result(bpy.context, path, request, job_id="")
    np.testing.assert_allclose(result.location, (4, 5, 6))
    assert [obj.name for obj in other.objects] == [result.name] and not scene.objects


def test_without_ground_the_middle_comes_to_the_place(place_box, scene):
    scene.cursor.location = (3, -2, 0.5)
    low, high = bounds(place_box(mode="ORIGIN", size=1.0, use_ground=False))
    np.testing.assert_allclose(low, (-0.25, -0.125, -0.5), atol=1e-6)
    np.testing.assert_allclose(high, (0.25, 0.125, 0.5), atol=1e-6)


@pytest.mark.parametrize(("axis", "index"), [("MAX", 2), ("X", 0), ("Y", 1), ("Z", 2)])
def test_the_size_holds_along_its_axis(place_box, axis, index):
    low, high = bounds(place_box(mode="ORIGIN", size=3.0, size_axis=axis))
    assert (high - low)[index] == pytest.approx(3.0, rel=1e-5)


def test_a_size_of_a_metre_is_a_metre_in_any_unit(place_box, scene):
    """The property is a length, so what a person enters is divided by the scale of the scene already."""
    scene.unit_settings.system, scene.unit_settings.scale_length = "METRIC", 0.01
    settings = scene.mvgamba
    settings.source = "TEXT"
    prop = settings.bl_rna.properties["target_size"]
    assert (prop.subtype, prop.unit) == ("DISTANCE", "LENGTH")
    settings.target_size = bpy.utils.units.to_value("METRIC", "LENGTH", "1 m") / scene.unit_settings.scale_length
    options = settings.placement_options("TEXT")
    result = place_box(mode=options["placement"], size=options["size"])
    assert max(result.dimensions) * scene.unit_settings.scale_length == pytest.approx(1.0)


def test_a_capture_elsewhere_keeps_its_size(place, scene):
    scene.cursor.location = (7, 7, 7)
    source = props.add_cube(size=0.3)
    result = place(source, mode="CURSOR")
    np.testing.assert_allclose(result.dimensions, (0.3, 0.3, 0.3), atol=1e-6)
    np.testing.assert_allclose(bounds(result)[0], (6.85, 6.85, 7.0), atol=1e-6)
    assert result.parent is None


def test_where_a_person_puts_it_is_where_it_stands(place_box):
    frame = Matrix.LocRotScale((1, 2, 3), Euler((0.3, 0.2, 0.1)), None)
    result = place_box(mode="SURFACE", size=1.0, frame=frame)
    np.testing.assert_allclose(np.array(result.matrix_world), np.array(frame), atol=1e-6)


def test_results_without_a_source_share_a_collection_made_on_demand(place_box, scene):
    first = place_box(mode="ORIGIN")
    home = scene.collection.children["MVGamba"]
    home.name = "Things"
    second = place_box(mode="ORIGIN")
    assert list(first.users_collection) == list(second.users_collection) == [home]


def test_each_scene_has_its_own_collection_of_results(place_box, scene):
    place_box(mode="ORIGIN")
    bpy.context.window.scene = bpy.data.scenes.new("Other")
    result = place_box(mode="ORIGIN")
    assert list(result.users_collection) == list(bpy.context.scene.collection.children)


def test_a_chosen_collection_may_be_renamed_while_the_job_runs(addon, scene, tmp_path, request_for):
    chosen = bpy.data.collections.new("Results")
    scene.collection.children.link(chosen)
    request = request_for(mode="ORIGIN", collection_name="Results")
    chosen.name = "Other"
    scene.collection.children.link(bpy.data.collections.new("Results"))
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    result = addon.place.place_result(bpy.context, path, request, job_id="")
    assert list(result.users_collection) == [chosen]


def test_a_chosen_collection_that_is_gone_is_said(addon, scene, tmp_path, request_for):
    chosen = bpy.data.collections.new("Results")
    scene.collection.children.link(chosen)
    request = request_for(mode="ORIGIN", collection_name="Results")
    bpy.data.collections.remove(chosen)
    path, notes = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1)), []
    result = addon.place.place_result(bpy.context, path, request, job_id="", notes=notes)
    assert notes == ["Collection Results cannot be used"]
    assert [home.name for home in result.users_collection] == ["MVGamba"]


def test_a_collection_outside_the_scene_is_linked_to_it(place_box, scene):
    chosen = bpy.data.collections.new("Results")
    result = place_box(mode="ORIGIN", collection_name="Results")
    assert list(scene.collection.children) == [chosen] and result.name in bpy.context.view_layer.objects


def test_a_collection_that_the_view_layer_leaves_out_is_said(place_box, scene):
    chosen = bpy.data.collections.new("Results")
    scene.collection.children.link(chosen)
    bpy.context.view_layer.layer_collection.children["Results"].exclude = True
    notes = []
    result = place_box(mode="ORIGIN", collection_name="Results", notes=notes)
    assert notes == ["Collection Results is excluded from the view layer"]
    assert list(result.users_collection) == [chosen]


@pytest.mark.parametrize("hidden", [True, False])
def test_the_active_collection_may_be_hidden_and_stays_active(place_box, scene, hidden):
    collection = bpy.data.collections.new("Mine")
    scene.collection.children.link(collection)
    layer = bpy.context.view_layer
    layer.active_layer_collection = layer.layer_collection.children["Mine"]
    layer.layer_collection.children["Mine"].hide_viewport = hidden
    layer.update()
    before = layer.active_layer_collection.name
    result = place_box(mode="ORIGIN")
    assert layer.active_layer_collection.name == before
    assert [home.name for home in result.users_collection] == ["MVGamba"]


def test_stored_sources_leave_the_view_and_stay_where_they_are(place, scene):
    source = props.add_cube(matrix=ODD)
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.matrix_world = Matrix.LocRotScale((10, 5, -3), Euler((0.2, 0.3, 0.4)), (2, 1, 3))
    source.parent = parent
    child = props.add_cube("Child", matrix=Matrix.Translation((1, 1, 1)))
    child.parent = source
    bpy.context.view_layer.update()
    before = [obj.matrix_world.copy() for obj in (source, child)]
    result = place(source, source_after="STORE")
    stored = scene.collection.children["MVGamba Sources"]
    assert list(source.users_collection) == [stored] and stored.hide_render
    assert source.name not in bpy.context.view_layer.objects and child.name in bpy.context.view_layer.objects
    assert list(result.users_collection) == [scene.collection] and result.parent == parent
    parent.location.x += 1
    bpy.context.view_layer.update()
    parent.location.x -= 1
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(child.matrix_world), np.array(before[1]), atol=1e-5)
    bpy.context.view_layer.layer_collection.children["MVGamba Sources"].exclude = False
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(source.matrix_world), np.array(before[0]), atol=1e-5)


def test_the_result_of_a_stored_source_is_not_stored(place, scene):
    source = props.add_cube()
    place(source, source_after="STORE")
    again = place(source, source_after="STORE")
    assert [home.name for home in again.users_collection] == ["MVGamba"]
    assert len([c for c in bpy.data.collections if c.name.startswith("MVGamba Sources")]) == 1


def test_smooth_shading_keeps_the_edges_of_boxes(place_box):
    smooth, flat = place_box(mode="ORIGIN"), place_box(mode="ORIGIN", shade_smooth=False)
    assert all(polygon.use_smooth for polygon in smooth.data.polygons)
    sharp = [edge for edge in smooth.data.edges if edge.use_edge_sharp]
    assert len(sharp) == 12  # and not the six diagonals of its sides
    assert not any(polygon.use_smooth for polygon in flat.data.polygons)


@pytest.mark.parametrize("placement", [{"mode": "MATCH"}, {"mode": "CURSOR", "size": 3.0}, {"mode": "REPLACE"}])
def test_a_mesh_tells_how_its_file_lies_in_it(addon, scene, tmp_path, request_for, placement):
    source = props.add_cube(matrix=ODD @ Matrix.Diagonal((-1, 1, 1, 1)))
    bpy.context.view_layer.objects.active = props.add_cube("Crate", matrix=ODD)
    path = props.glb_of(tmp_path / "mesh.glb", source)
    file_points = props.world_vertices(source)
    result = addon.place.place_result(bpy.context, path, request_for(source, **placement), job_id="")
    matrix = np.array(result.data["mvgamba_file_matrix"]).reshape(4, 4).T
    points = np.array([vertex.co[:] for vertex in result.data.vertices])
    assert nearest(file_points @ matrix[:3, :3].T + matrix[:3, 3], points) < 1e-5
