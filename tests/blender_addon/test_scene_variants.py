"""Results that remember how they were made, and the further meshes of their object."""

import json
import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = pytest.mark.blender

CORNERS = np.array([(x, y, z) for x in (0.0, 1.0) for y in (0.0, 2.0) for z in (0.0, 3.0)])
FACES = np.array([(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6)])
ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def variants(addon, scene):
    return addon.module("scene.variants")


@pytest.fixture
def result(addon):
    return addon.module("scene.result")


@pytest.fixture
def place(addon, scene, tmp_path):
    """Places a job of several results, each a box `scale` times as large; made-up ones stand at the cursor."""

    def place(*scales, capture_of=None, instead_of=None, spoilt=None):
        paths = []
        for scale in scales:
            points = CORNERS * scale
            if capture_of is not None:
                points = points + np.array(capture_of.matrix_world.translation)
            path = tmp_path / f"barrel_{len(list(tmp_path.iterdir()))}.glb"
            paths.append(props.write_glb(path, addon.axes.points_z_up_to_y_up(points), FACES))
        if spoilt is not None:
            paths[spoilt].write_bytes(b"not a glb")
        place_where = {"location": (0.0, 0.0, 0.0), "size": 1.5, "mode": "CURSOR"}
        if instead_of is not None:
            place_where = {"mode": "REPLACE", "replaced": instead_of}
        elif capture_of is not None:
            place_where = {"mode": "MATCH"}
        sources = [capture_of] if capture_of is not None and instead_of is None else []
        request = addon.request.JobRequest(
            "barrel",
            () if capture_of is None else (object(),),
            addon.request.JobOptions(seed=41, variants=len(scales)),
            addon.module("scene.target").make_target(bpy.context, sources, **place_where),
            {"views": 8},
            source=None if capture_of else addon.request.TextInput("a weathered oak barrel"),
        )
        row = addon.jobs.JobRow(request, job_id="jobs/7", result_path=paths[0], more_result_paths=tuple(paths[1:]))
        row.facts = tuple(
            addon.module("core.facts").ResultFacts(
                f"mesh_{k + 1}.glb" if k else "mesh.glb", 41 + k, "starter", "rays", "starter 1a2b", "0.1.0"
            )
            for k in range(len(scales))
        )
        obj = addon.session().placer.place(bpy.context, row)
        assert row.note == ""
        bpy.context.view_layer.update()
        return obj

    return place


def bounds(obj):
    bpy.context.view_layer.update()
    points = props.world_vertices(obj)
    return np.array([points.min(axis=0), points.max(axis=0)])


def test_a_result_remembers_all_of_its_request(place):
    obj = place(1.0)
    own = obj.mvgamba
    record = json.loads(own.settings_json)
    assert (own.prompt, own.seed, own.variant, own.job_id) == ("a weathered oak barrel", 41, 0, "jobs/7")
    assert (own.generator, own.reconstructor, own.weights, own.backend_version) == (
        ("starter", "rays", "starter 1a2b", "0.1.0")
    )
    assert own.group_id == own.request_id == record["request_id"] and own.created.endswith("Z")
    assert own.size_at_import == pytest.approx(1.5, rel=1e-5) and record["facts"]["seed"] == 41
    assert record["source"]["prompt"] == "a weathered oak barrel" and record["target"]["size"] == 1.5
    assert len(obj.data["mvgamba"]["asset_sha256"]) == 64


def test_the_record_comes_back_as_a_request(addon, place):
    obj = place(1.0, 2.0)
    request = addon.module("core.record").request_from_record(obj.mvgamba.settings_json)
    assert request.source.prompt == "a weathered oak barrel"
    assert request.options == addon.request.JobOptions(seed=41, variants=2)


def test_the_record_survives_append_link_and_a_blender_without_the_extension(place, tmp_path):
    name, path = place(1.0, 2.0).name, str(tmp_path / "fäss.blend")
    before = bpy.data.objects[name].mvgamba.settings_json
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    try:
        bpy.ops.wm.open_mainfile(filepath=path)
        assert not hasattr(bpy.types.Object, "mvgamba")
        bpy.data.objects[name].location.x += 1
        bpy.ops.wm.save_as_mainfile(filepath=path)
    finally:
        bpy.ops.preferences.addon_enable(module=extension.MODULE)
    for link in (False, True):
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        with bpy.data.libraries.load(path, link=link) as (_, into):
            into.objects = [name]
        (obj,) = into.objects
        own = obj.mvgamba
        assert own.settings_json == before and own.kind == "TEXT" and own.seed == 41
        assert [item.seed for item in own.variants] == [41, 42] and len(own.variants[1].mesh.vertices) == 8
        assert obj.data["mvgamba"]["asset_sha256"]


def test_stepping_swaps_the_mesh_and_nothing_else(place, variants, scene):
    obj = place(1.0, 2.0, 0.5)
    parent = bpy.data.objects.new("Rig", None)
    scene.collection.objects.link(parent)
    obj.parent, obj.matrix_world = parent, ODD
    obj.modifiers.new("Bevel", "BEVEL").width = 0.1
    obj.constraints.new("LIMIT_SCALE")
    obj.driver_add("location", 0).driver.expression = "frame"
    obj["mine"] = 3
    bpy.context.view_layer.update()
    kept = (obj.matrix_world.copy(), obj.parent, len(obj.modifiers), len(obj.constraints))
    meshes = []
    for expected in (1, 2, 0, 1):
        assert variants.step(obj, 1) == expected == variants.position(obj)
        meshes.append(obj.data)
        assert obj.mvgamba.seed == 41 + expected
    assert len(set(meshes)) == 3 and meshes[0] == meshes[3]
    assert (obj.matrix_world, obj.parent, len(obj.modifiers), len(obj.constraints)) == kept
    assert obj.animation_data.drivers[0].driver.expression == "frame" and obj["mine"] == 3
    assert variants.step(obj, -1) == 0
    assert [mesh.use_fake_user for mesh in meshes[:3]] == [True, True, False]


def test_made_up_variants_have_one_size_and_stand_on_one_spot(place, variants):
    obj = place(1.0, 7.0)
    first = bounds(obj)
    variants.step(obj, 1)
    np.testing.assert_allclose(bounds(obj), first, atol=1e-5)
    assert first[1].max() == pytest.approx(1.5, rel=1e-5) and abs(first[0][2]) < 1e-6


def test_captured_variants_lie_where_the_backend_has_put_them(place, variants):
    source = props.add_cube(matrix=ODD)
    obj = place(1.0, 1.2, capture_of=source)
    variants.step(obj, 1)
    at = np.array(ODD.translation)
    np.testing.assert_allclose(bounds(obj), [at, at + 1.2 * np.array([1, 2, 3])], atol=1e-5)


def test_an_edited_mesh_stays_a_variant_as_it_was_edited(place, variants, result):
    obj = place(1.0, 2.0)
    assert not result.is_edited(obj.data)
    obj.data.vertices[0].co.z -= 0.25
    edited = obj.data
    assert result.is_edited(edited)
    variants.step(obj, 1)
    variants.step(obj, 1)
    assert obj.data == edited and obj.mvgamba.variants[0].is_edited
    assert edited.vertices[0].co.z == pytest.approx(-0.25)


def test_a_mesh_that_the_user_put_in_becomes_a_variant(place, variants):
    obj = place(1.0, 2.0)
    own = bpy.data.meshes.new("Mine")
    own.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    obj.data = own
    variants.step(obj, 1)
    assert variants.count(obj) == 3 and obj.data != own
    while obj.data != own:
        variants.step(obj, 1)
    assert len(own.vertices) == 3 and own.use_fake_user is False


def test_materials_of_the_user_stay_when_the_mesh_is_swapped(place, variants):
    obj = place(1.0, 2.0)
    delivered = [bpy.data.materials.new(f"Delivered {k}") for k in range(2)]
    for item, material in zip(obj.mvgamba.variants, delivered):
        item.mesh.materials.clear()
        item.mesh.materials.append(material)
        item.material = material
    variants.step(obj, 1)
    assert obj.material_slots[0].material == delivered[1]
    mine = obj.material_slots[0].material = bpy.data.materials.new("Mine")
    variants.step(obj, 1)
    assert obj.material_slots[0].material == mine


def test_clearing_variants_keeps_the_one_on_show(place, variants):
    obj = place(1.0, 2.0, 3.0)
    variants.step(obj, 1)
    shown, others = obj.data.name, [item.mesh.name for item in obj.mvgamba.variants if item.mesh != obj.data]
    assert variants.clear(obj) == 2 and variants.count(obj) == 1
    assert obj.data.name == shown and not [name for name in others if name in bpy.data.meshes]


def test_a_duplicate_steps_on_its_own(place, variants):
    obj = place(1.0, 2.0)
    copy = obj.copy()
    copy.data = obj.data.copy()
    bpy.context.scene.collection.objects.link(copy)
    variants.step(copy, 1)
    variants.step(copy, 1)
    assert variants.count(copy) == 2 and variants.position(obj) == 0
    assert len(obj.data.vertices) == 8


def test_turning_keeps_the_object_and_turns_every_variant(place, variants, result):
    obj = place(1.0, 2.0)
    before, matrix = bounds(obj), obj.matrix_world.copy()
    result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, "Z"))
    turned = bounds(obj)
    assert obj.matrix_world == matrix
    np.testing.assert_allclose(turned[1][:2] - turned[0][:2], (before[1] - before[0])[[1, 0]], atol=1e-5)
    assert not result.is_edited(obj.data)
    variants.step(obj, 1)
    np.testing.assert_allclose(bounds(obj), turned, atol=1e-5)
    result.adjust(obj, Matrix.Rotation(-math.pi / 2, 4, "Z"))
    variants.step(obj, 1)
    np.testing.assert_allclose(bounds(obj), before, atol=1e-5)


def test_turning_leaves_another_object_with_the_same_mesh_alone(place, result):
    obj = place(1.0)
    twin = obj.copy()
    bpy.context.scene.collection.objects.link(twin)
    before = bounds(twin)
    result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, "X"))
    np.testing.assert_allclose(bounds(twin), before)
    assert twin.data != obj.data and np.abs(bounds(obj) - before).max() > 0.1


def test_own_normals_and_shape_keys_turn_along(place, result):
    obj = place(1.0)
    mesh = obj.data
    rng = np.random.default_rng(7)
    base = np.empty(3 * len(mesh.loops), np.float32)
    mesh.corner_normals.foreach_get("vector", base)
    normals = base.reshape(-1, 3) + 0.2 * rng.normal(size=(len(mesh.loops), 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    mesh.normals_split_custom_set(normals.tolist())
    obj.shape_key_add(name="Basis")
    obj.shape_key_add(name="Tall").data[0].co.z += 1
    read = np.empty(3 * len(mesh.loops), np.float32)
    mesh.corner_normals.foreach_get("vector", read)
    result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, "Y"))
    turned = np.empty_like(read)
    obj.data.corner_normals.foreach_get("vector", turned)
    rotation = np.array(Matrix.Rotation(math.pi / 2, 3, "Y"))
    np.testing.assert_allclose(turned.reshape(-1, 3), read.reshape(-1, 3) @ rotation.T, atol=1e-3)
    moved = obj.data.shape_keys.key_blocks["Tall"].data[0].co - obj.data.shape_keys.key_blocks["Basis"].data[0].co
    np.testing.assert_allclose(moved, (1, 0, 0), atol=1e-5)


def test_size_is_set_in_the_mesh_along_the_longest_side(place, variants):
    obj = place(1.0, 2.0)
    obj.scale = (2, 2, 2)
    bpy.context.view_layer.update()
    assert obj.mvgamba.size == pytest.approx(3.0, rel=1e-5)
    obj.mvgamba.size = 0.9
    bpy.context.view_layer.update()
    assert obj.mvgamba.size == pytest.approx(0.9, rel=1e-5) and tuple(obj.scale) == (2, 2, 2)
    variants.step(obj, 1)
    bpy.context.view_layer.update()
    assert obj.mvgamba.size == pytest.approx(0.9, rel=1e-5)


def test_reset_gives_size_and_orientation_as_delivered(place, variants, result):
    obj = place(1.0, 2.0)
    before = bounds(obj)
    for axis in "XYZX":
        result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, axis))
    obj.mvgamba.size = 4.0
    obj.location, obj.rotation_euler, obj.scale = (5, 6, 7), (1, 2, 3), (2, 1, 1)
    bpy.context.view_layer.update()
    result.reset(obj)
    np.testing.assert_allclose(bounds(obj), before + [5, 6, 7], atol=1e-5)
    variants.step(obj, 1)
    np.testing.assert_allclose(bounds(obj), before + [5, 6, 7], atol=1e-5)


def test_reset_keeps_what_was_edited_by_hand(place, result):
    obj = place(1.0)
    obj.data.vertices[0].co.z -= 0.25
    before = bounds(obj)
    result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, "X"))
    result.reset(obj)
    np.testing.assert_allclose(bounds(obj), before, atol=1e-5)
    assert result.is_edited(obj.data)


@pytest.mark.parametrize("scale", [(1, 1, 1), (2, 1, 0.5), (-1, 1, 1)])
def test_a_mesh_that_replaces_a_result_lies_as_that_one_and_joins_its_variants(addon, place, variants, result, scale):
    obj = place(1.0)
    result.adjust(obj, Matrix.Rotation(math.pi / 2, 4, "Z"))
    obj.mvgamba.size = 3.0
    obj.scale, obj.rotation_euler = scale, (0.1, 0.2, 0.3)
    before, group, old = bounds(obj), obj.mvgamba.group_id, obj.data
    assert place(9.0, 4.0, instead_of=obj) == obj
    np.testing.assert_allclose(bounds(obj), before, atol=1e-4)
    assert obj.mvgamba.group_id == group != obj.mvgamba.request_id and variants.count(obj) == 3
    assert old.use_fake_user and obj.data != old and not result.is_edited(obj.data)
    outward = [(f.center - obj.data.polygons[0].center).dot(f.normal) for f in obj.data.polygons]
    was = [(f.center - old.polygons[0].center).dot(f.normal) for f in old.polygons]
    np.testing.assert_allclose(outward, was, atol=1e-4)
    variants.step(obj, 1)
    np.testing.assert_allclose(bounds(obj), before, atol=1e-4)
    variants.step(obj, 1)
    assert obj.data == old and obj.mvgamba.request_id == group


def test_a_result_that_was_captured_again_is_laid_exactly_as_before(place, variants):
    source = props.add_cube(matrix=ODD)
    obj = place(1.0, capture_of=source)
    place(1.1, capture_of=source, instead_of=obj)
    at = np.array(ODD.translation)
    np.testing.assert_allclose(bounds(obj), [at, at + 1.1 * np.array([1, 2, 3])], atol=1e-5)


def test_linked_results_say_why_they_cannot_be_changed(place, variants, result, tmp_path):
    name, path = place(1.0, 2.0).name, str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(path, link=True) as (_, into):
        into.objects = [name]
    (linked,) = into.objects
    bpy.context.scene.collection.objects.link(linked)
    with pytest.raises(Exception, match="linked from another file"):
        variants.step(linked, 1)
    override = linked.override_create(remap_local_usages=True)
    with pytest.raises(Exception, match="library override"):
        variants.step(override, 1)
    assert override.mvgamba.size > 0


def test_a_result_with_one_variant_says_so(addon, place, variants):
    with pytest.raises(addon.errors.AddonError, match="Only one variant"):
        variants.step(place(1.0), 1)


def test_a_variant_that_cannot_be_read_is_left_out(place, variants):
    obj = place(1.0, 2.0, 3.0, spoilt=1)
    assert [item.variant for item in obj.mvgamba.variants] == [0, 2]
    assert variants.step(obj, 1) == 1 and obj.mvgamba.seed == 43
    assert [o for o in bpy.data.objects if o.type == "MESH"] == [obj] and len(bpy.data.meshes) == 2
