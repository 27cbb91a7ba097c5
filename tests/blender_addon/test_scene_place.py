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
def request_for(addon):
    def request_for(*sources, **target):
        return addon.request.JobRequest(
            "barrel",
            (),
            addon.request.JobOptions(seed=41),
            addon.request.Target(
                bpy.context.scene.name,
                bpy.data.filepath,
                tuple(obj.name for obj in sources),
                tuple(obj.session_uid for obj in sources),
                **target,
            ),
            {"views": 8},
        )

    return request_for


@pytest.fixture
def place(addon, scene, tmp_path, request_for):
    """Places a GLB whose vertices are those of the source, as a perfect backend would send it."""

    def place(source, **target):
        points = addon.axes.points_z_up_to_y_up(props.world_vertices(source))
        source.data.calc_loop_triangles()
        triangles = np.array([t.vertices[:] for t in source.data.loop_triangles])
        path = props.write_glb(tmp_path / "mesh.glb", points, triangles)
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
    place(source, hide_source=True)
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
