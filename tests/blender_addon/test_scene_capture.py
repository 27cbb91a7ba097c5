"""Captures: exact colours, the right geometry, nothing left behind."""

import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

TINY = {"num_views": 4, "image_size": 64, "samples": 1}
ODD = Matrix.LocRotScale((3.0, -2.0, 0.7), Euler((0.4, -0.9, 2.1)), (0.6, 1.7, 1.1))


@pytest.fixture
def take(addon, scene, tmp_path):
    def take(*objects, **settings):
        return addon.capture.capture(
            bpy.context, objects, addon.capture.CaptureSettings(**{**TINY, "with_depth": False, **settings}), tmp_path
        )

    return take


def assert_color(capture, color, tolerance=2):
    for view in capture.views:
        colors = props.colors_of(view.image_path)
        assert len(colors) > 100
        assert np.abs(colors - np.array(color)).max() <= tolerance, np.unique(colors, axis=0)


KNOWN = [(12, 200, 77), (255, 128, 0), (3, 3, 3), (250, 250, 245)]


@pytest.mark.parametrize("color", KNOWN)
def test_a_constant_base_colour_comes_back_exactly(take, color):
    cube = props.add_cube()
    _, tree, output = props.new_material("constant", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(color)
    assert_color(take(cube), color)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("color", KNOWN[:2])
def test_a_texture_comes_back_exactly_also_on_metal(take, color, metallic):
    cube = props.add_cube()
    _, tree, output = props.new_material("textured", cube)
    shader, image = props.principled(tree, output), tree.nodes.new("ShaderNodeTexImage")
    image.image = props.solid_image("texture", color)
    shader.inputs["Metallic"].default_value = metallic
    tree.links.new(image.outputs["Color"], shader.inputs["Base Color"])
    assert_color(take(cube), color)


def test_a_colour_attribute_comes_back_exactly(take):
    cube = props.add_cube()
    color = (90, 20, 210)
    attribute = cube.data.color_attributes.new("Paint", "BYTE_COLOR", "CORNER")
    for item in attribute.data:
        item.color = props.linear(color)
    _, tree, output = props.new_material("painted", cube)
    node = tree.nodes.new("ShaderNodeVertexColor")
    node.layer_name = "Paint"
    tree.links.new(node.outputs["Color"], props.principled(tree, output).inputs["Base Color"])
    assert_color(take(cube), color)


def test_an_object_without_material_is_blenders_grey(take):
    assert_color(take(props.add_cube()), (231, 231, 231))


def test_an_empty_material_slot_is_blenders_grey(take):
    cube = props.add_cube()
    cube.data.materials.append(None)
    assert_color(take(cube), (231, 231, 231))


def test_the_look_of_the_scene_changes_nothing(take, scene):
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.exposure = 2.0
    scene.view_settings.gamma = 2.0
    cube = props.add_cube()
    _, tree, output = props.new_material("constant", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(KNOWN[0])
    assert_color(take(cube), KNOWN[0])


def test_a_strong_light_changes_nothing(take, scene):
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy = 50.0
    scene.collection.objects.link(light)
    cube = props.add_cube()
    _, tree, output = props.new_material("constant", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(KNOWN[0])
    assert_color(take(cube), KNOWN[0])


def test_a_shader_inside_a_group_is_found(take):
    group = bpy.data.node_groups.new("Paint", "ShaderNodeTree")
    group.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    inner, out = group.nodes.new("ShaderNodeBsdfDiffuse"), group.nodes.new("NodeGroupOutput")
    inner.inputs["Color"].default_value = props.linear(KNOWN[0])
    group.links.new(inner.outputs[0], out.inputs[0])
    cube = props.add_cube()
    _, tree, output = props.new_material("grouped", cube)
    node = tree.nodes.new("ShaderNodeGroup")
    node.node_tree = group
    tree.links.new(node.outputs[0], output.inputs["Surface"])
    assert_color(take(cube), KNOWN[0])
    assert [n.type for n in group.nodes] == ["BSDF_DIFFUSE", "GROUP_OUTPUT"]


def test_a_mix_of_shaders_mixes_their_colours(take):
    cube = props.add_cube()
    _, tree, output = props.new_material("mixed", cube)
    mix = tree.nodes.new("ShaderNodeMixShader")
    mix.inputs[0].default_value = 0.25
    for socket, kind, value in ((1, "ShaderNodeBsdfDiffuse", 0.2), (2, "ShaderNodeBsdfGlass", 0.6)):
        node = tree.nodes.new(kind)
        node.inputs["Color"].default_value = (value, value, value, 1.0)
        tree.links.new(node.outputs[0], mix.inputs[socket])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])
    expected = 0.75 * 0.2 + 0.25 * 0.6
    assert_color(take(cube), 3 * [round(255 * (1.055 * expected ** (1 / 2.4) - 0.055))])


def test_an_unlit_material_keeps_its_colour_whatever_its_strength(take):
    cube = props.add_cube()
    _, tree, output = props.new_material("unlit", cube)
    node = tree.nodes.new("ShaderNodeEmission")
    node.inputs["Color"].default_value = props.linear(KNOWN[1])
    node.inputs["Strength"].default_value = 7.0
    tree.links.new(node.outputs[0], output.inputs["Surface"])
    assert_color(take(cube), KNOWN[1])


def test_a_hole_in_the_alpha_is_a_hole_in_the_picture(take):
    cube = props.add_cube()
    _, tree, output = props.new_material("cut out", cube)
    props.principled(tree, output).inputs["Alpha"].default_value = 0.0
    for view in take(cube).views:
        assert props.read(view.image_path)[..., 3].max() == 0


def test_colours_at_the_outline_are_straight_not_premultiplied(take):
    cube = props.add_cube(matrix=ODD)
    _, tree, output = props.new_material("constant", cube)
    props.principled(tree, output).inputs["Base Color"].default_value = props.linear(KNOWN[0])
    pixels = props.read(take(cube, samples=16).views[0].image_path).reshape(-1, 4).astype(int)
    edge = pixels[(pixels[:, 3] > 30) & (pixels[:, 3] < 225)]
    assert len(edge) > 20
    assert np.abs(edge[:, :3] - KNOWN[0]).max() <= 4  # 8 bits of alpha leave two steps of colour


def test_each_object_of_the_selection_keeps_its_own_material(take):
    left = props.add_cube("Left", size=0.5, matrix=Matrix.Translation((-1, 0, 0)))
    right = props.add_cube("Right", size=0.5, matrix=Matrix.Translation((1, 0, 0)))
    right.data = left.data  # one mesh, two objects with materials of their own
    for obj, color in ((left, KNOWN[0]), (right, KNOWN[1])):
        material, tree, output = props.new_material(obj.name)
        props.principled(tree, output).inputs["Base Color"].default_value = props.linear(color)
        if not obj.material_slots:
            obj.data.materials.append(None)
        obj.material_slots[0].link = "OBJECT"
        obj.material_slots[0].material = material
    pixels = props.read(take(left, right).views[0].image_path)
    assert np.abs(pixels[32, 15, :3].astype(int) - KNOWN[0]).max() <= 2
    assert np.abs(pixels[32, 48, :3].astype(int) - KNOWN[1]).max() <= 2


def silhouette_from_points(points, view):
    """Where the hull of projected points lies: bounds in pixels (left, upper, right, lower)."""
    fx, fy, cx, cy = view.intrinsics
    local = (points - view.c2w[:3, 3]) @ view.c2w[:3, :3]
    x, y = cx + fx * local[:, 0] / -local[:, 2], cy - fy * local[:, 1] / -local[:, 2]
    return np.array([x.min(), y.min(), x.max(), y.max()])


def assert_seen_where_it_is(capture, points):
    for view in capture.views:
        rows, columns = np.nonzero(props.read(view.image_path)[..., 3] > 127)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        np.testing.assert_allclose(seen, silhouette_from_points(points, view), atol=1.0)


def test_a_rotated_scaled_parented_object_is_seen_where_it_is(take, scene):
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.matrix_world = Matrix.LocRotScale((10, 5, -3), Euler((0.2, 0.3, 0.4)), (2, 2, 2))
    cube = props.add_cube(matrix=ODD)
    cube.parent = parent
    bpy.context.view_layer.update()
    capture = take(cube, num_views=8, image_size=128)
    assert capture.sphere.radius == pytest.approx(
        np.linalg.norm(props.world_vertices(cube) - capture.sphere.center, axis=1).max(), rel=1e-5
    )
    assert_seen_where_it_is(capture, props.world_vertices(cube))


def test_modifiers_are_seen(take):
    cube = props.add_cube(matrix=ODD)
    modifier = cube.modifiers.new("Array", "ARRAY")
    modifier.count, modifier.relative_offset_displace = 3, (1.5, 0.0, 0.0)
    bpy.context.view_layer.update()
    local = np.array([[x, y, z] for x in (-0.5, 3.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    matrix = np.array(cube.matrix_world)
    assert_seen_where_it_is(take(cube), local @ matrix[:3, :3].T + matrix[:3, 3])


def test_instances_of_a_collection_are_seen(take, scene, addon):
    library = bpy.data.collections.new("Library")
    hidden = props.add_cube("Original", size=2.0)
    scene.collection.objects.unlink(hidden)
    library.objects.link(hidden)
    empty = bpy.data.objects.new("Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", library
    scene.collection.objects.link(empty)
    empty.matrix_world = ODD
    bpy.context.view_layer.update()
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    matrix = np.array(ODD)
    assert_seen_where_it_is(take(empty), corners @ matrix[:3, :3].T + matrix[:3, 3])


def test_curves_are_seen_as_the_surface_they_make(take, scene):
    curve = bpy.data.curves.new("Tube", "CURVE")
    curve.dimensions, curve.bevel_depth = "3D", 0.2
    spline = curve.splines.new("POLY")
    spline.points.add(1)
    spline.points[1].co = (0, 0, 2, 1)
    obj = bpy.data.objects.new("Tube", curve)
    scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    assert take(obj).sphere.radius == pytest.approx(math.hypot(1.0, 0.2 * math.sqrt(2)), rel=0.02)


def test_other_objects_do_not_appear(take):
    cube = props.add_cube()
    props.add_cube("In the way", size=3.0, matrix=Matrix.Translation((0, -2.2, 0)))
    for view in take(cube).views:
        rows, columns = np.nonzero(props.read(view.image_path)[..., 3])
        assert rows.max() - rows.min() < 60


def test_depth_is_along_the_view_axis_in_scene_units(take):
    sphere_radius, cube = math.sqrt(3) * 0.5 * 2.0, props.add_cube(size=2.0)
    capture = take(cube, with_depth=True)
    distance = capture.views[0].c2w[1, 3]
    depth = np.load(capture.views[0].depth_path)
    assert depth.dtype == np.float32 and depth.shape == (64, 64)
    face = depth[20:44, 20:44]
    # Along the axis the whole face is at one depth; along the ray its corners would be farther by 9 %.
    np.testing.assert_allclose(face, -distance - 1.0, rtol=1e-4)
    assert depth[0, 0] == 0.0
    assert capture.sphere.radius == pytest.approx(sphere_radius)


def test_depth_on_a_slope_is_that_of_the_pixel_middles(take):
    cube = props.add_cube(matrix=ODD)
    view = take(cube, with_depth=True, image_size=128).views[0]
    depth = np.load(view.depth_path)
    fx, fy, cx, cy = view.intrinsics
    rows, columns = np.mgrid[0:128, 0:128] + 0.5
    rays = np.stack([(columns - cx) / fx, -(rows - cy) / fy, -np.ones_like(rows)], axis=-1) @ view.c2w[:3, :3].T
    # Into the cube's own frame, where a slab test gives the distance; rays have length 1 along the view axis.
    inverse = np.linalg.inv(np.array(cube.matrix_world))
    start = inverse[:3, :3] @ view.c2w[:3, 3] + inverse[:3, 3]
    direction = rays @ inverse[:3, :3].T
    low, high = (-0.5 - start) / direction, (0.5 - start) / direction
    near, far = np.minimum(low, high).max(axis=-1), np.maximum(low, high).min(axis=-1)
    hit = near < far
    assert (hit != (depth > 0)).sum() < 10  # the outline, to rounding
    both = hit & (depth > 0)
    np.testing.assert_allclose(depth[both], near[both], rtol=1e-4)


def test_depth_covers_what_the_picture_covers(take):
    capture = take(props.add_cube(matrix=ODD), with_depth=True, samples=16)
    for view in capture.views:
        alpha, depth = props.read(view.image_path)[..., 3], np.load(view.depth_path)
        assert (depth[alpha == 255] > 0).all() and (depth[alpha == 0] == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_small_and_large_subjects_are_captured_alike(take, scale):
    cube = props.add_cube(size=scale)
    capture = take(cube, with_depth=True)
    assert props.read(capture.views[0].image_path)[32, 32].tolist() == [231, 231, 231, 255]
    depth = np.load(capture.views[0].depth_path)[32, 32]
    assert depth == pytest.approx(-capture.views[0].c2w[1, 3] - scale / 2, rel=1e-3)


def test_the_file_is_left_as_it_was(take, scene):
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.filepath = 123, "//somewhere"
    cube = props.add_cube(matrix=ODD)
    material, tree, output = props.new_material("textured", cube)
    image = tree.nodes.new("ShaderNodeTexImage")
    image.image = props.solid_image("texture", KNOWN[0])
    tree.links.new(image.outputs["Color"], props.principled(tree, output).inputs["Base Color"])
    cube.modifiers.new("Subdivision", "SUBSURF")
    other = props.add_cube("Other")
    other.hide_set(True)
    cube.select_set(True)
    bpy.context.view_layer.objects.active = cube
    bpy.context.view_layer.update()
    before = props.state_of_file()
    take(cube, with_depth=True)
    assert props.state_of_file() == before


def test_a_failed_capture_also_leaves_nothing(take, addon, scene):
    empty = bpy.data.objects.new("Empty", None)
    scene.collection.objects.link(empty)
    before = props.state_of_file()
    with pytest.raises(addon.errors.AddonError, match="no surface"):
        take(empty)
    assert props.state_of_file() == before


def test_pictures_hold_no_path_name_or_date(take, tmp_path):
    from PIL import Image

    path = take(props.add_cube()).views[0].image_path
    assert str(tmp_path).encode() not in path.read_bytes()
    with Image.open(path) as image:
        assert not {"File", "Date", "Camera", "Scene", "Note", "Hostname"} & set(image.info)
