"""Results that take the place of an object: its mesh is exchanged, all else stays, and nothing is lost."""

import dataclasses

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def replace(addon, scene, tmp_path, request_for):
    """Places a box, 1 wide, 0.5 deep, 2 high, instead of an object."""

    def replace(obj, *sources, notes=None, **placement):
        path = props.box_glb(tmp_path / "mesh.glb", (0.2, -0.1, -1.0), (1.2, 0.4, 1.0))
        request = request_for(*sources, mode="REPLACE", replaced=obj, **placement)
        return addon.place.place_result(bpy.context, path, request, job_id="jobs/9", notes=notes)

    return replace


def local_bounds(obj):
    points = np.array([vertex.co[:] for vertex in obj.data.vertices])
    return points.min(axis=0), points.max(axis=0)


def test_the_object_keeps_everything_but_its_mesh(replace, scene):
    obj = props.add_cube("Crate", matrix=ODD)
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.location = (1, 2, 3)
    obj.parent = parent
    home = bpy.data.collections.new("Props")
    scene.collection.children.link(home)
    home.objects.link(obj)
    obj.modifiers.new("Bevel", "BEVEL").width = 0.01
    obj.constraints.new("LIMIT_SCALE").max_x = 3.0
    obj["price"] = 12
    obj.keyframe_insert("location", frame=1)
    obj.driver_add("hide_render").driver.expression = "0"
    bpy.context.view_layer.update()
    matrix, old, action = obj.matrix_world.copy(), obj.data, obj.animation_data.action
    result = replace(obj)
    bpy.context.view_layer.update()
    assert result == obj and obj.name == "Crate" and obj.data != old and len(obj.data.polygons) == 12
    assert obj.matrix_world == matrix and obj.parent == parent and set(obj.users_collection) == {scene.collection, home}
    assert [m.name for m in obj.modifiers] == ["Bevel"] and obj.modifiers[0].width == pytest.approx(0.01)
    assert [c.max_x for c in obj.constraints] == [3.0] and obj["price"] == 12
    assert obj.animation_data.action == action and len(obj.animation_data.drivers) == 1
    assert obj.mvgamba.job_id == "jobs/9"


def test_the_old_mesh_and_its_materials_are_kept(replace, tmp_path):
    obj = props.add_cube("Crate")
    props.new_material("Wood", obj)
    paint, _, _ = props.new_material("Paint")
    obj.material_slots[0].link = "OBJECT"
    obj.material_slots[0].material = paint
    old = obj.data.name
    replace(obj)
    assert paint not in [slot.material for slot in obj.material_slots]
    path = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert len(bpy.data.meshes[old].polygons) == 6
    assert {"Wood", "Paint"} <= {material.name for material in bpy.data.materials}


def test_another_object_with_the_same_mesh_keeps_it(replace, scene):
    obj = props.add_cube("Crate")
    twin = bpy.data.objects.new("Twin", obj.data)
    scene.collection.objects.link(twin)
    replace(obj)
    assert len(twin.data.polygons) == 6 and not twin.data.use_fake_user


@pytest.mark.parametrize("axis", ["MAX", "X", "Y", "Z"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_new_mesh_is_fitted_to_the_old_one(replace, axis, mirrored):
    """As the world sees it, evenly scaled, foot on foot; not its own reflection in a mirrored object."""
    scale = np.array([2.0, 1.0, 0.5]) * ([-1, 1, 1] if mirrored else 1)
    obj = props.add_cube("Crate", size=3.0, matrix=Matrix.LocRotScale((5, 6, 7), Euler((0.2, 0.3, 0.4)), scale))
    replace(obj, size_axis=axis)
    low, high = (np.abs(scale) * corner for corner in local_bounds(obj))
    extents = high - low
    np.testing.assert_allclose(extents / (1.0, 0.5, 2.0), extents[0], rtol=1e-5)
    room = np.array([6.0, 3.0, 1.5])
    if axis == "MAX":
        assert (extents <= room * (1 + 1e-6)).all() and (extents / room).max() == pytest.approx(1.0, rel=1e-5)
    else:
        assert extents["XYZ".index(axis)] == pytest.approx(room["XYZ".index(axis)], rel=1e-5)
    assert low[2] == pytest.approx(-0.75, rel=1e-5)
    assert props.signed_volume(obj) > 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_capture_that_replaces_its_source_lies_exactly_over_it(addon, scene, tmp_path, request_for, mirrored):
    matrix = ODD @ Matrix.Diagonal((-1, 1, 1, 1)) if mirrored else ODD
    source = props.add_cube(matrix=matrix)
    before = props.world_vertices(source)
    path = props.glb_of(tmp_path / "mesh.glb", source)
    request = request_for(source, mode="REPLACE", replaced=source, source_after="HIDE")
    result = addon.place.place_result(bpy.context, path, request, job_id="")
    assert result == source and not source.hide_get() and not source.hide_render
    after = props.world_vertices(result)
    assert np.linalg.norm(before[:, None] - after[None], axis=-1).min(axis=1).max() < 1e-5
    assert props.signed_volume(result) > 0


def test_modifiers_that_miss_their_vertex_groups_are_named(replace):
    obj = props.add_cube("Crate")
    obj.vertex_groups.new(name="Top").add([0, 1], 1.0, "REPLACE")
    obj.modifiers.new("Soft", "SMOOTH").vertex_group = "Top"
    obj.modifiers.new("Bevel", "BEVEL")
    obj.shape_key_add(name="Basis")
    notes = []
    replace(obj, notes=notes)
    assert len(notes) == 2 and "Soft" in notes[0] and "Bevel" not in notes[0] and "shape keys" in notes[1]


def test_an_object_that_is_gone_leaves_the_result_at_the_cursor(addon, scene, tmp_path, request_for):
    obj = props.add_cube("Crate")
    scene.cursor.location = (1, 2, 3)
    request = request_for(mode="REPLACE", replaced=obj)
    bpy.data.objects.remove(obj)
    impostor = props.add_cube("Crate")
    path, notes = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1)), []
    result = addon.place.place_result(bpy.context, path, request, job_id="", notes=notes)
    assert result != impostor and len(impostor.data.polygons) == 6
    np.testing.assert_allclose(result.location, (1, 2, 3))
    assert notes == ["Crate cannot be replaced any more: at the 3D cursor instead"]


def test_an_object_that_was_renamed_is_replaced(addon, scene, tmp_path, request_for):
    obj = props.add_cube("Crate")
    request = request_for(mode="REPLACE", replaced=obj)
    obj.name = "Box"
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    assert addon.place.place_result(bpy.context, path, request, job_id="") == obj


def test_a_namesake_in_another_file_is_left_alone(addon, scene, tmp_path, request_for):
    request = request_for(mode="REPLACE", replaced=props.add_cube("Crate"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    namesake = props.add_cube("Crate")
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    assert addon.place.place_result(bpy.context, path, request, job_id="") != namesake
    assert len(namesake.data.polygons) == 6


def test_identifiers_of_an_earlier_run_of_blender_mean_nothing(addon, scene, tmp_path, request_for):
    crate = props.add_cube("Crate")
    request = request_for(mode="REPLACE", replaced=crate)
    stored = dataclasses.replace(request, target=dataclasses.replace(request.target, run="earlier"))
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    assert addon.place.place_result(bpy.context, path, stored, job_id="") != crate


def test_the_same_file_opened_again_is_known_by_its_names(addon, scene, tmp_path, request_for):
    crate = props.add_cube("Crate")
    file = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    request = request_for(mode="REPLACE", replaced=crate)
    bpy.ops.wm.open_mainfile(filepath=file)
    path = props.box_glb(tmp_path / "mesh.glb", (0, 0, 0), (1, 1, 1))
    assert addon.place.place_result(bpy.context, path, request, job_id="") == bpy.data.objects["Crate"]


def linked_cube(tmp_path):
    library = str(tmp_path / "library.blend")
    cube = props.add_cube("Linked")
    bpy.data.libraries.write(library, {cube})
    bpy.data.objects.remove(cube)
    with bpy.data.libraries.load(library, link=True) as (_, to):
        to.objects = ["Linked"]
    return to.objects[0]


def test_what_cannot_be_replaced_is_refused_before_sending(addon, scene, tmp_path, request_for):
    def refusal(obj):
        with pytest.raises(addon.errors.AddonError) as caught:
            request_for(mode="REPLACE", replaced=obj)
        assert caught.value.reason == "INVALID_TARGET"
        return str(caught.value)

    linked = linked_cube(tmp_path)
    scene.collection.objects.link(linked)
    assert refusal(linked) == "Linked is linked from another file"
    override = linked.override_create(remap_local_usages=True)
    assert refusal(override) == f"{override.name} is a library override"
    empty = bpy.data.objects.new("Empty {x}", None)
    scene.collection.objects.link(empty)
    assert refusal(empty) == "Empty {x} is not a mesh"
    bpy.context.view_layer.objects.active = None
    assert refusal(None) == "make the object to replace the active one"
    cube = props.add_cube("Cube")
    bpy.context.view_layer.objects.active = cube
    bpy.ops.object.mode_set(mode="EDIT")
    assert refusal(cube) == "leave Edit Mode of Cube first"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_placements_that_do_not_exist_are_refused_with_the_choices(addon, scene, request_for):
    for wrong in ({"mode": "MOON"}, {"size_axis": "W"}, {"source_after": "BURN"}):
        with pytest.raises(addon.errors.AddonError, match="is none of"):
            request_for(**wrong)
    for wrong in ({"size": -1.0}, {"size": float("nan")}, {"location": (1, 2)}, {"location": (1, 2, float("inf"))}):
        with pytest.raises(addon.errors.AddonError, match="is not a"):
            request_for(**wrong)


def test_a_linked_source_is_hidden_as_far_as_it_can_be(addon, scene, tmp_path, request_for):
    linked = linked_cube(tmp_path)
    scene.collection.objects.link(linked)
    bpy.context.view_layer.update()
    path, notes = props.glb_of(tmp_path / "mesh.glb", linked), []
    request = request_for(linked, source_after="HIDE")
    addon.place.place_result(bpy.context, path, request, job_id="", notes=notes)
    assert linked.hide_get() and notes == ["Linked is linked and stays visible in renders"]
    stored = request_for(linked, source_after="STORE")
    addon.place.place_result(bpy.context, path, stored, job_id="", notes=notes)
    assert linked.name not in [obj.name for obj in bpy.context.view_layer.objects] and len(notes) == 1
