"""Light of the scene and of a studio: seen in the pictures, and nothing of it in alpha."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from mathutils import Euler, Matrix  # noqa: E402

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

GREY = 0.5


@pytest.fixture
def take(addon, scene, tmp_path):
    def take(*objects, **settings):
        settings = {"num_views": 4, "image_size": 48, "samples": 1, "lit_samples": 64, "with_depth": False, **settings}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return addon.capture.capture(bpy.context, objects, addon.capture.CaptureSettings(**settings), folder)

    return take


@pytest.fixture
def cube(scene):
    cube = props.add_cube("Subject")
    _, tree, output = props.new_material("grey", cube)
    shader = props.principled(tree, output)
    shader.inputs["Base Color"].default_value = (GREY, GREY, GREY, 1.0)
    shader.inputs["Roughness"].default_value = 1.0
    shader.inputs["Specular IOR Level"].default_value = 0.0
    return cube


def add_sun(direction, *, energy=3.0):
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy = energy
    light.rotation_euler = direction
    bpy.context.scene.collection.objects.link(light)
    bpy.context.view_layer.update()
    return light


def mean_linear(view):
    """Of the whole subject, linear."""
    colors = props.colors_of(view.image_path) / 255
    return float(np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4).mean())


FROM_FRONT = Euler((np.pi / 2, 0, 0))
"""A sun that shines along +Y."""


def test_light_of_the_scene_falls_on_the_side_it_comes_from(take, cube):
    sun = add_sun(FROM_FRONT)
    before = props.state_of_file()
    front, right, back, _left = take(cube, shading="scene").views
    # Lambert: a surface that faces a sun of strength E sends E * albedo / pi.
    assert mean_linear(front) == pytest.approx(3.0 * GREY / np.pi, rel=0.03)
    assert mean_linear(right) < 0.02 and mean_linear(back) < 0.02
    assert props.state_of_file() == before
    sun.hide_render = True
    bpy.context.view_layer.update()
    assert mean_linear(take(cube, shading="scene").views[0]) < 0.02


def test_the_world_of_the_scene_is_seen_in_the_light_only(take, cube, scene):
    scene.world = bpy.data.worlds.new("Blue")
    if bpy.app.version < (5, 0, 0):
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.0, 0.0, 1.0, 1.0)
    pixels = props.read(take(cube, shading="scene").views[0].image_path)
    inside = pixels[pixels[..., 3] == 255]
    assert inside[:, 2].min() > 100 and inside[:, :2].max() < 10
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_light_of_a_studio_is_white_and_from_all_sides(take, cube):
    add_sun(FROM_FRONT, energy=50.0)  # it is not of the studio
    for view in take(cube, shading="studio").views:
        # A convex surface of albedo a under a white sky of strength one sends a.
        assert mean_linear(view) == pytest.approx(GREY, rel=0.03)


def test_flat_pictures_know_no_light_at_all(take, cube):
    add_sun(FROM_FRONT, energy=50.0)
    before = props.read(take(cube).views[0].image_path)
    bpy.data.objects["Sun"].data.energy = 0.0
    np.testing.assert_array_equal(before, props.read(take(cube, isolate=False).views[0].image_path))


def test_what_stands_around_shades_and_colours_but_is_never_in_the_picture(take, cube):
    alone = take(cube, shading="scene", with_depth=True)
    add_sun(FROM_FRONT)
    wall = props.add_cube("Wall", size=4.0, matrix=Matrix.Translation((0, -3.5, 0)))
    isolated = take(cube, shading="scene", with_depth=True)
    among = take(cube, shading="scene", isolate=False, with_depth=True)
    assert mean_linear(isolated.views[0]) > 0.4
    assert mean_linear(among.views[0]) < 0.1  # in the shadow of the wall, which stands before the camera too
    for a, b in zip(alone.views, among.views, strict=True):
        np.testing.assert_array_equal(props.read(a.image_path)[..., 3], props.read(b.image_path)[..., 3])
        np.testing.assert_array_equal(np.load(a.depth_path), np.load(b.depth_path))
    assert wall.visible_camera


def test_another_blender_gives_the_same_light(take, addon, cube, tmp_path):
    add_sun(FROM_FRONT)
    here = take(cube, shading="scene")
    settings = addon.capture.CaptureSettings(4, 48, shading="scene", with_depth=False)
    there = addon.capture.capture(bpy.context, [cube], settings, tmp_path / "apart", apart=True)
    assert there.render.run(report=lambda _: None, should_stop=lambda: False)
    for a, b in zip(here.views, there.views, strict=True):
        np.testing.assert_array_equal(props.read(a.image_path), props.read(b.image_path))


def test_settings_of_the_panel_say_how_it_is_lit(scene):
    scene.mvgamba.capture_shading, scene.mvgamba.capture_isolate = "STUDIO", False
    settings = scene.mvgamba.capture_settings()
    assert (settings.shading, settings.isolate) == ("studio", False)


def test_a_shading_that_does_not_exist_is_refused(take, cube):
    with pytest.raises(ValueError, match="moonlight"):
        take(cube, shading="moonlight")
