"""Captures show the images of materials as the user sees them, wherever these lie: known colours come back."""

import numpy as np
import pytest
from PIL import Image

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import props  # noqa: E402

pytestmark = pytest.mark.blender

TILES = {1001: (200, 30, 30), 1002: (30, 180, 60), 1012: (40, 60, 220)}
WHITE = (250, 250, 240)


needs_copies = pytest.mark.skipif(
    "save_copy" not in bpy.types.Image.bl_rna.functions["save"].parameters,
    reason="this Blender writes no copies of images; see test_painted_tiles_are_refused_where_they_cannot_be_read",
)


@pytest.fixture(params=[False, True], ids=["here", "apart"])
def colors(request, addon, scene, tmp_path):
    """Captures an object from the front; what each tile looks like there, from the left to the right."""

    def colors(obj, *, folder="capture", **settings):
        settings = addon.capture.CaptureSettings(
            **{"num_views": 4, "image_size": 48, "samples": 1, "with_depth": False, **settings}
        )
        made = addon.capture.capture(bpy.context, [obj], settings, tmp_path / folder, apart=request.param)
        if made.render is not None:
            assert made.render.run(report=lambda _: None, should_stop=lambda: False)
        left = [path.name for path in (tmp_path / folder).iterdir() if not path.name.startswith(("view_", "depth_"))]
        assert not left, "the folder of the capture keeps pictures only"
        return made

    return colors


def front(made, count):
    """The colours of `count` squares side by side in the first picture."""
    pixels = props.read(made.views[0].image_path)
    rows, columns = np.nonzero(pixels[..., 3] == 255)
    width = (columns.max() + 1 - columns.min()) / count
    middle = (rows.min() + rows.max()) // 2
    return [tuple(int(v) for v in pixels[middle, int(columns.min() + (k + 0.5) * width), :3]) for k in range(count)]


def assert_shows(made, wanted):
    np.testing.assert_allclose(front(made, len(wanted)), list(wanted), atol=1)


def screen(places, image, *, node_group=False, **user):
    """Squares side by side that look to the front, each with the middle of its UVs at one of `places`."""
    mesh = bpy.data.meshes.new("Screen")
    vertices, faces, uvs = [], [], []
    for k, (u, v) in enumerate(places):
        faces.append(tuple(range(4 * k, 4 * k + 4)))
        vertices += [(k, 0, 0), (k + 1, 0, 0), (k + 1, 0, 1), (k, 0, 1)]
        uvs += [(u + x, v + y) for x, y in ((-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3))]
    mesh.from_pydata(vertices, [], faces)
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", np.array(uvs, dtype=np.float32).ravel())
    obj = bpy.data.objects.new("Screen", mesh)
    bpy.context.scene.collection.objects.link(obj)
    _, tree, output = props.new_material("screen", obj)
    target = props.principled(tree, output).inputs["Base Color"]
    if node_group:
        group = bpy.data.node_groups.new("inner", "ShaderNodeTree")
        group.interface.new_socket("Color", in_out="OUTPUT", socket_type="NodeSocketColor")
        outer = tree.nodes.new("ShaderNodeGroup")
        outer.node_tree = group
        tree.links.new(outer.outputs[0], target)
        tree, target = group, group.nodes.new("NodeGroupOutput").inputs[0]
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image, texture.interpolation = image, "Closest"
    for name, value in user.items():
        setattr(texture.image_user, name, value)
    tree.links.new(texture.outputs["Color"], target)
    bpy.context.view_layer.update()
    return obj


def udim_screen(image, **more):
    return screen([(n % 10 - 0.5, (n - 1001) // 10 + 0.5) for n in TILES], image, **more)


def write_png(path, color):
    Image.fromarray(np.full((8, 8, 3), color, np.uint8)).save(path)
    return path


def saved_tiles(folder):
    for number, color in TILES.items():
        write_png(folder / f"paint.{number}.png", color)
    image = bpy.data.images.load(str(folder / "paint.1001.png"))
    image.source, image.filepath = "TILED", str(folder / "paint.<UDIM>.png")
    for number in TILES:
        if image.tiles.get(number) is None:
            image.tiles.new(number)
    image.reload()
    return image


def generated_tiles():
    image = bpy.data.images.new("paint", 8, 8, tiled=True)
    for number, color in TILES.items():
        linear = [value / 255 for value in color]
        with bpy.context.temp_override(edit_image=image):
            if number == 1001:
                bpy.ops.image.tile_fill(color=(*linear, 1.0), width=8, height=8)
            else:
                bpy.ops.image.tile_add(number=number, color=(*linear, 1.0), width=8, height=8)
    return image


def paint(image, color):
    """What an image shows, or its first tile, as a brush leaves it: in memory only."""
    image.pixels.foreach_set(
        np.tile([*(value / 255 for value in color), 1.0], len(image.pixels) // 4).astype(np.float32)
    )
    image.update()
    assert image.is_dirty


def state_of(image):
    """What must not change of a user's image."""
    tiles = [(t.number, t.label, tuple(t.size), getattr(t, "is_generated_tile", None)) for t in image.tiles]
    return (
        image.filepath, image.source, image.is_dirty, image.file_format, image.colorspace_settings.name, tiles,
        image.tiles.active_index, len(image.packed_files), list(image.pixels[:4]),
    )  # fmt: skip


def test_tiles_beside_the_file_are_captured(colors, tmp_path):
    image = saved_tiles(tmp_path)
    obj = udim_screen(image)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    image.filepath = "//paint.<UDIM>.png"
    assert_shows(colors(obj), TILES.values())


@pytest.mark.parametrize("made", ["saved", "generated"])
@pytest.mark.parametrize("painted", [False, pytest.param(True, marks=needs_copies)], ids=["clean", "painted"])
def test_tiles_in_memory_are_captured_and_stay_as_they_are(colors, tmp_path, made, painted):
    image = saved_tiles(tmp_path) if made == "saved" else generated_tiles()
    obj, wanted = udim_screen(image, node_group=True), list(TILES.values())
    if painted:
        paint(image, WHITE)
        wanted[0] = WHITE
    before, files = (state_of(image), props.state_of_file()), {p: p.read_bytes() for p in tmp_path.glob("*.png")}
    assert_shows(colors(obj), wanted)
    assert (state_of(image), props.state_of_file()) == before
    assert {p: p.read_bytes() for p in tmp_path.glob("*.png")} == files


def test_packed_tiles_are_captured(colors, tmp_path):
    image = saved_tiles(tmp_path)
    image.pack()
    for path in tmp_path.glob("paint.*"):
        path.unlink()
    assert_shows(colors(udim_screen(image)), TILES.values())


@needs_copies
def test_packed_tiles_that_were_painted_are_captured(colors, tmp_path):
    image = saved_tiles(tmp_path)
    image.pack()
    for path in tmp_path.glob("paint.*"):
        path.unlink()
    paint(image, WHITE)
    obj = udim_screen(image)
    before = state_of(image)
    assert_shows(colors(obj), [WHITE, *list(TILES.values())[1:]])
    assert state_of(image) == before


@pytest.mark.parametrize("kept", ["file", "packed", "memory"])
def test_a_picture_that_was_painted_is_captured(colors, tmp_path, kept):
    if kept == "memory":
        image = bpy.data.images.new("paint", 8, 8)
    else:
        image = bpy.data.images.load(str(write_png(tmp_path / "paint.png", (9, 9, 9))))
    if kept == "packed":
        image.pack()
    paint(image, WHITE)
    obj = screen([(0.5, 0.5)], image)
    before = state_of(image)
    assert_shows(colors(obj), [WHITE])
    assert state_of(image) == before


def test_a_sequence_shows_the_frame_of_the_moment(colors, scene, tmp_path):
    shown = {n: (60 * n, 20, 10) for n in (1, 2, 3)}
    for number, color in shown.items():
        write_png(tmp_path / f"run_{number:04d}.png", color)
    image = bpy.data.images.load(str(tmp_path / "run_0001.png"))
    image.source = "SEQUENCE"
    obj = screen([(0.5, 0.5)], image, frame_duration=3, frame_start=1, use_auto_refresh=True)
    scene.frame_set(3)
    assert_shows(colors(obj), [shown[3]])


def test_a_movie_shows_the_frame_of_the_moment(colors, scene, tmp_path):
    path = movie(tmp_path / "movie.mkv", [(200, 30, 30), (30, 180, 60), (40, 60, 220)])
    image = bpy.data.images.load(str(path))
    assert image.source == "MOVIE"
    obj = screen([(0.5, 0.5)], image, frame_duration=3, frame_start=1, use_auto_refresh=True)
    scene.frame_set(3)
    (color,) = front(colors(obj), 1)
    np.testing.assert_allclose(color, (40, 60, 220), atol=6)  # of the codec


def movie(path, colors):
    """A film of single colours, written by Blender."""
    film = bpy.data.scenes.new("film")
    strips = film.sequence_editor_create()
    strips = strips.strips if hasattr(strips, "strips") else strips.sequences
    for frame, color in enumerate(colors, start=1):
        image = str(write_png(path.parent / f"film_{frame}.png", color))
        strip = strips.new_image(str(frame), image, 1, frame)
        if bpy.app.version >= (5, 2, 0):
            strip.duration = 1
        else:
            strip.frame_final_duration = 1
    film.frame_start, film.frame_end = 1, len(colors)
    film.render.resolution_x = film.render.resolution_y = 64
    film.render.filepath, film.render.use_file_extension = str(path), False
    film.view_settings.view_transform = "Standard"
    settings = film.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    film.render.ffmpeg.format, film.render.ffmpeg.codec = "MKV", "FFV1"
    bpy.ops.render.render(animation=True, scene="film")
    bpy.data.scenes.remove(film)
    (made,) = path.parent.glob(f"{path.name}*")
    return made


def test_a_colour_that_is_animated_is_that_of_the_moment(colors, scene):
    obj = screen([(0.5, 0.5)], None)
    socket = next(n for n in obj.data.materials[0].node_tree.nodes if n.type == "BSDF_PRINCIPLED").inputs["Base Color"]
    obj.data.materials[0].node_tree.links.clear()
    obj.data.materials[0].node_tree.links.new(socket.node.outputs[0], output_of(obj).inputs["Surface"])
    for frame, color in ((1, (200, 30, 30)), (5, (40, 60, 220))):
        socket.default_value = props.linear(color)
        socket.keyframe_insert("default_value", frame=frame)
    scene.frame_set(5)
    assert_shows(colors(obj), [(40, 60, 220)])


def output_of(obj):
    return next(n for n in obj.data.materials[0].node_tree.nodes if n.type == "OUTPUT_MATERIAL")


def test_holes_that_were_painted_are_holes_in_depth_too(colors):
    image = bpy.data.images.new("mask", 8, 8)
    paint(image, (0, 0, 0))
    obj = screen([(0.5, 0.5)], image)
    tree = obj.data.materials[0].node_tree
    texture, shader = (next(n for n in tree.nodes if n.type == kind) for kind in ("TEX_IMAGE", "BSDF_PRINCIPLED"))
    tree.links.new(texture.outputs["Color"], shader.inputs["Alpha"])
    made = colors(obj, with_depth=True)
    assert not props.read(made.views[0].image_path)[..., 3].any()
    assert not np.load(made.views[0].depth_path).any()


def test_a_picture_that_lost_its_file_is_captured_while_it_is_shown(colors, tmp_path):
    path = write_png(tmp_path / "paint.png", WHITE)
    image = bpy.data.images.load(str(path))
    assert len(image.pixels) and image.has_data
    path.unlink()
    made = colors(screen([(0.5, 0.5)], image))
    assert_shows(made, [WHITE])
    assert made.lost_images == ()


def test_images_that_show_nothing_are_named(colors, addon, tmp_path):
    path = write_png(tmp_path / "paint.png", WHITE)
    image = bpy.data.images.load(str(path))
    image.buffers_free()
    path.unlink()
    made = colors(screen([(0.5, 0.5)], image))
    assert_shows(made, [(255, 0, 255)])
    assert made.lost_images == ("paint.png",)
    assert "paint.png" in addon.api._capture_notes(made)[0]


def test_tiles_that_lost_their_files_are_named(colors, tmp_path):
    image = saved_tiles(tmp_path)
    for tile in tmp_path.glob("paint.1*.png"):
        tile.unlink()
    assert colors(udim_screen(image)).lost_images == (image.name,)


@needs_copies
def test_a_painted_image_with_an_empty_tile_is_a_sentence(colors, addon):
    image = generated_tiles()
    image.tiles.new(1040)
    paint(image, WHITE)
    before = state_of(image)
    with pytest.raises(addon.errors.AddonError, match=f'tile 1040 of "{image.name}"'):
        colors(udim_screen(image))
    assert state_of(image)[:-1] == before[:-1]


def test_painted_tiles_are_refused_where_they_cannot_be_read(colors, addon, monkeypatch):
    image = generated_tiles()
    paint(image, WHITE)
    before = state_of(image)
    monkeypatch.setattr(addon.module("scene.shown_images"), "_CAN_COPY", False)
    with pytest.raises(addon.errors.AddonError, match=f'"{image.name}" were painted: save the image'):
        colors(udim_screen(image))
    assert state_of(image) == before
