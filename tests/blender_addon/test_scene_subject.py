"""What is captured: every kind of object that has a surface, as it stands now, and a sentence for what has none."""

import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def take(addon, scene, tmp_path):
    def take(*objects, **settings):
        settings = {"num_views": 4, "image_size": 64, "samples": 1, "with_depth": False, **settings}
        return addon.capture.capture(bpy.context, objects, addon.capture.CaptureSettings(**settings), tmp_path)

    return take


@pytest.fixture
def parts(addon, scene):
    """The pieces of some objects as numpy: a list of (M, 3) vertices in the world."""

    def parts(*objects):
        subject = addon.module("scene.subject")
        with addon.module("scene.temporary").temporary_datablocks() as created:
            pieces = subject.evaluated_parts(bpy.context, objects, created)
            return list(subject._world_points(pieces))

    return parts


def link(obj):
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    return obj


def node_modifier(obj, build):
    """Give an object geometry nodes; `build(tree, input socket)` returns the socket of the result."""
    tree = bpy.data.node_groups.new("Nodes", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    start, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    tree.links.new(build(tree, start.outputs[0]), end.inputs[0])
    obj.modifiers.new("Nodes", "NODES").node_group = tree
    bpy.context.view_layer.update()
    return obj


def with_material(tree, geometry, material):
    node = tree.nodes.new("GeometryNodeSetMaterial")
    node.inputs["Material"].default_value = material
    tree.links.new(geometry, node.inputs["Geometry"])
    return node.outputs[0]


def test_text_comes_once_and_metaballs_and_surfaces_too(parts):
    font = bpy.data.curves.new("Text", "FONT")
    font.body, font.extrude = "M", 0.1
    balls = bpy.data.metaballs.new("Balls")
    balls.elements.new()
    bpy.ops.surface.primitive_nurbs_surface_sphere_add()
    sphere = bpy.context.object
    for obj in (link(bpy.data.objects.new("Text", font)), link(bpy.data.objects.new("Balls", balls)), sphere):
        pieces = parts(obj)
        assert len(pieces) == 1 and len(pieces[0]) > 8, obj.name


def test_hair_is_tubes_along_its_strands(parts):
    curves = bpy.data.hair_curves.new("Hair")
    curves.add_curves([2, 2])
    curves.attributes["position"].data.foreach_set(
        "vector", np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 2]], np.float32).ravel()
    )
    curves.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.full(4, 0.1, np.float32))
    (points,) = parts(link(bpy.data.objects.new("Hair", curves)))
    np.testing.assert_allclose([points[:, 2].min(), points[:, 2].max()], [0, 2], atol=1e-6)
    to_strand = np.minimum(np.hypot(points[:, 0], points[:, 1]), np.hypot(points[:, 0] - 1, points[:, 1]))
    np.testing.assert_allclose(to_strand, 0.1, rtol=1e-5)


def test_points_of_geometry_nodes_are_balls_with_their_colours(take, parts):
    def build(tree, geometry):
        points = tree.nodes.new("GeometryNodeMeshToPoints")
        points.inputs["Radius"].default_value = 0.25
        tree.links.new(geometry, points.inputs[0])
        return with_material(tree, points.outputs[0], material)

    cube = props.add_cube(size=2.0)
    attribute = cube.data.attributes.new("tint", "FLOAT_COLOR", "POINT")
    attribute.data.foreach_set("color", np.tile(np.array([1, 0, 0, 1], np.float32), 8))
    material, tree, output = props.new_material("tinted", cube)
    node = tree.nodes.new("ShaderNodeAttribute")
    node.attribute_name = "tint"
    tree.links.new(node.outputs["Color"], props.principled(tree, output).inputs["Base Color"])
    node_modifier(cube, build)
    (points,) = parts(cube)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    distance = np.linalg.norm(points[:, None] - corners[None], axis=-1).min(axis=1)
    np.testing.assert_allclose(distance, 0.25, rtol=1e-4)
    colors = props.colors_of(take(cube).views[0].image_path)
    assert len(colors) > 20 and np.abs(colors - RED).max() <= 2


def test_instances_of_geometry_nodes_all_appear(take, parts, scene):
    material, tree, output = props.new_material("of the instances")
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(BLUE)

    def build(tree, geometry):
        instances, mesh = tree.nodes.new("GeometryNodeInstanceOnPoints"), tree.nodes.new("GeometryNodeMeshCube")
        mesh.inputs["Size"].default_value = (0.2, 0.2, 0.2)
        tree.links.new(geometry, instances.inputs["Points"])
        tree.links.new(with_material(tree, mesh.outputs[0], material), instances.inputs["Instance"])
        return instances.outputs[0]

    cube = node_modifier(props.add_cube(size=2.0, matrix=ODD), build)
    before = props.state_of_file()
    assert np.abs(props.colors_of(take(cube).views[0].image_path) - BLUE).max() <= 2
    assert props.state_of_file() == before
    pieces = parts(cube)
    centers = np.array([points.mean(axis=0) for points in pieces])
    corners = np.array([[x, y, z, 1] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) @ np.array(ODD).T
    assert len(pieces) == 8
    assert np.linalg.norm(centers[:, None] - corners[None, :, :3], axis=-1).min(axis=0).max() < 1e-5


def test_objects_on_particles_all_appear(parts, scene):
    leaf = props.add_cube("Leaf", size=0.1, matrix=Matrix.Translation((50, 0, 0)))
    tree = props.add_cube("Tree", size=2.0)
    tree.modifiers.new("Particles", "PARTICLE_SYSTEM")
    settings = tree.particle_systems[0].settings
    settings.type, settings.count, settings.render_type = "HAIR", 5, "OBJECT"
    settings.instance_object, settings.particle_size = leaf, 1.0
    bpy.context.view_layer.update()
    pieces = parts(tree)
    assert len(pieces) == 6  # the tree itself and five leaves, and not the original far away
    assert max(np.abs(points).max() for points in pieces) < 10


def test_volumes_are_named_and_the_rest_is_captured(take, addon):
    smoke = link(bpy.data.objects.new("Smoke", bpy.data.volumes.new("Smoke")))
    assert take(props.add_cube(), smoke).left_out == ("Smoke",)
    with pytest.raises(addon.errors.AddonError, match="volumes cannot be captured: Smoke"):
        take(smoke)


def test_an_animated_object_is_captured_where_it_is_now(take, scene):
    cube = props.add_cube()
    material, tree, output = props.new_material("changing", cube)
    color = props.principled(tree, output).inputs["Base Color"]
    for frame, x, rgb in ((1, 0.0, RED), (10, 9.0, BLUE)):
        cube.location.x, color.default_value = x, props.linear(rgb)
        cube.keyframe_insert("location", frame=frame)
        color.keyframe_insert("default_value", frame=frame)
    scene.frame_set(10)
    capture = take(cube)
    np.testing.assert_allclose(capture.sphere.center, [9, 0, 0], atol=1e-6)
    assert np.abs(props.colors_of(capture.views[0].image_path) - BLUE).max() <= 2
    assert scene.frame_current == 10


def test_a_driven_shape_key_is_seen(take):
    cube = props.add_cube()
    cube.shape_key_add(name="Basis")
    key = cube.shape_key_add(name="Tall")
    for item in key.data:
        item.co.z *= 3.0
    key.value = 1.0
    bpy.context.view_layer.update()
    assert take(cube).sphere.radius == pytest.approx(math.sqrt(0.25 + 0.25 + 2.25))


@pytest.fixture
def subject(scene):
    """Sets what Generate would capture, and gives the names."""

    def subject(addon, kind):
        scene.mvgamba.capture_subject = kind
        return {obj.name for obj in addon.module("scene.subject").captured_objects(bpy.context)}

    return subject


def test_the_subject_is_the_selection_the_collection_or_the_view(addon, scene, subject):
    empty = link(bpy.data.objects.new("Handle", None))
    below, lone, hidden = props.add_cube("Below"), props.add_cube("Lone"), props.add_cube("Hidden")
    below.parent = empty
    light = link(bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT")))
    for obj in (empty, light):
        obj.select_set(True)
    hidden.hide_set(True)
    assert subject(addon, "SELECTION") == {"Handle", "Below"}
    assert subject(addon, "COLLECTION") == {"Handle", "Below", "Lone"}
    assert subject(addon, "VIEW") == {"Handle", "Below", "Lone"}
    assert lone.name in subject(addon, "VIEW")


def test_a_box_is_in_the_frame_unless_all_of_it_is_beyond_an_edge(addon):
    in_frame = addon.module("scene.subject").is_box_in_frame
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    camera = Matrix(((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, -1, -2), (0, 0, -1, 0)))  # looks along -Z, a right angle wide
    assert in_frame(corners, camera @ Matrix.Translation((0, 0, -5)))
    assert in_frame(corners, camera @ Matrix.Translation((5.5, 0, -5)))
    assert not in_frame(corners, camera @ Matrix.Translation((8, 0, -5)))
    assert not in_frame(corners, camera @ Matrix.Translation((0, 0, 5)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bpy.data.objects.new("Void", bpy.data.meshes.new("Void")), "no surface.*: Void"),
        (lambda: bpy.data.objects.new("Nothing", None), "no surface.*: Nothing"),
        (lambda: props.add_cube("Ghost"), "hidden.*: Ghost"),
    ],
)
def test_what_has_nothing_to_see_is_refused_by_name(take, addon, scene, make, sentence):
    obj = make()
    if obj.name not in scene.objects:
        link(obj)
    else:
        obj.hide_set(True)
    bpy.context.view_layer.update()
    before = props.state_of_file()
    with pytest.raises(addon.errors.AddonError, match=sentence) as raised:
        take(obj)
    assert raised.value.reason == "CAPTURE_FAILED" and props.state_of_file() == before


def test_loose_points_and_edges_are_no_surface(take, addon):
    mesh = bpy.data.meshes.new("Wire")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0)], [(0, 1)], [])
    with pytest.raises(addon.errors.AddonError, match="no surface.*: Wire"):
        take(link(bpy.data.objects.new("Wire", mesh)))


def test_nothing_and_another_scene_are_refused(take, addon):
    with pytest.raises(addon.errors.AddonError, match="select an object"):
        take()
    elsewhere = bpy.data.objects.new("Elsewhere", props.add_cube().data)
    bpy.data.scenes.new("Other").collection.objects.link(elsewhere)
    with pytest.raises(addon.errors.AddonError, match="not in this view layer: Elsewhere"):
        take(elsewhere)


def project(points, view):
    fx, fy, cx, cy = view.intrinsics
    local = (points - view.c2w[:3, 3]) @ view.c2w[:3, :3]
    return np.stack([cx + fx * local[:, 0] / -local[:, 2], cy - fy * local[:, 1] / -local[:, 2]], axis=-1)


def assert_seen_where_it_is(capture, points, tolerance=1.0):
    for view in capture.views:
        rows, columns = np.nonzero(props.read(view.image_path)[..., 3] > 0)
        xy = project(points, view)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(seen, [*xy.min(axis=0), *xy.max(axis=0)], atol=tolerance)


@pytest.mark.parametrize(("size", "far"), [(1e4, 0.0), (1e-4, 0.0), (1e-4, 0.05), (1.0, 2e4), (1e4, 1e5)])
def test_from_a_grain_to_a_mountain(take, size, far):
    """10 km and 0.1 mm; also far from the origin, as far as 32 bits of Blender itself reach."""
    cube = props.add_cube(
        size=size, matrix=Matrix.Translation((far, -far, far)) @ Euler((0.3, 0.5, 0.2)).to_matrix().to_4x4()
    )
    capture = take(cube, with_depth=True, image_size=100)
    points = props.world_vertices(cube)
    assert_seen_where_it_is(capture, points, tolerance=1.5)  # 1 % of the picture, and the pixel that is cut
    for view in capture.views:
        near = -((points - view.c2w[:3, 3]) @ view.c2w[:3, :3])[:, 2].min()
        depth = np.load(view.depth_path)
        assert depth[depth > 0].min() == pytest.approx(
            -((points - view.c2w[:3, 3]) @ view.c2w[:3, 2]).max(), abs=0.02 * size
        )
        assert near > 0 or depth.max() > 0


@pytest.mark.parametrize(
    "matrix",
    [
        Matrix.LocRotScale((1, 2, 3), Euler((0.4, 0.5, 0.6)), (-1.0, 1.5, 0.7)),
        Matrix.LocRotScale((0, 0, 0), Euler((0.4, 0.5, 0.6)), (-1.0, -1.5, -0.7)),
        Matrix.LocRotScale(None, Euler((0, 0, 0.7)), (3, 1, 1))
        @ Matrix.LocRotScale(None, Euler((0.5, 0.2, 0.9)), None),
    ],
    ids=["mirrored", "mirrored thrice", "sheared"],
)
def test_mirrored_and_sheared_objects_are_seen_as_they_are(take, scene, matrix):
    parent = link(bpy.data.objects.new("Parent", None))
    cube = props.add_cube()
    cube.parent = parent
    cube.matrix_parent_inverse = matrix
    bpy.context.view_layer.update()
    assert np.allclose(np.array(cube.matrix_world), np.array(matrix), atol=1e-6)
    # A sharp corner covers little of its last pixel, so more rays must look for it.
    assert_seen_where_it_is(take(cube, image_size=100, samples=32), props.world_vertices(cube))


def test_linked_and_overridden_objects_are_captured(take, scene, tmp_path):
    cube = props.add_cube("Barrel", matrix=ODD)
    _, tree, output = props.new_material("paint", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(RED)
    library = tmp_path / "Bibliothek \u6a3d.blend"
    bpy.data.libraries.write(str(library), {cube})
    points = props.world_vertices(cube)
    bpy.data.objects.remove(cube)
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    with bpy.data.libraries.load(str(library), link=True) as (source, target):
        target.objects = source.objects
    linked = link(target.objects[0])
    assert linked.library is not None
    for obj in (linked, linked.override_create()):
        if obj not in set(scene.objects):
            link(obj)
        capture = take(obj)
        assert_seen_where_it_is(capture, points)
        assert np.abs(props.colors_of(capture.views[0].image_path) - RED).max() <= 2


def test_names_may_be_of_any_script(take, addon, tmp_path):
    cube = props.add_cube('\u6a3d \U0001f6e2 \u00fc"/')
    props.new_material("\u6728\u76ee", cube)
    assert len(take(cube).views) == 4
    settings = addon.capture.CaptureSettings(num_views=4, image_size=32, samples=1)
    capture = addon.capture.capture(bpy.context, [cube], settings, tmp_path / "\u6a3d \u00fc", apart=True)
    assert capture.render.run(report=lambda _: None, should_stop=lambda: False)
    assert capture.views[0].image_path.is_file()


def test_a_folder_that_cannot_be_written_is_named(addon, scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for apart in (False, True):
        with pytest.raises(addon.errors.AddonError, match="file: ") as raised:
            addon.capture.capture(
                bpy.context, [props.add_cube()], addon.capture.CaptureSettings(), tmp_path / "file", apart=apart
            )
        assert raised.value.reason == "FOLDER_NOT_WRITABLE"


def test_a_user_folder_that_cannot_be_made_is_named(addon, monkeypatch, tmp_path):
    folders = addon.module("scene.folders")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(bpy.utils, "extension_path_user", lambda *_, path: str(tmp_path / "file" / path))
    with pytest.raises(addon.errors.AddonError, match="file") as raised:
        folders.user_folder("jobs")
    assert raised.value.reason == "FOLDER_NOT_WRITABLE"
