"""Words and pictures as sources, as a person gives them, with a real backend and its scripted pipeline."""

import shutil

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

import numpy as np  # noqa: E402

from tests.blender_addon import extension, props  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.usefixtures("fake_backend"),
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


@pytest.fixture
def settings(addon, scene):
    scene.mvgamba.seed_mode = "FIXED"
    yield scene.mvgamba
    for row in addon.session().board.rows:
        addon.session().cancel(row)
    addon.session().board.rows.clear()


def picture(name="Drawing", *, size=(32, 24)):
    image = bpy.data.images.new(name, *size, alpha=True)
    pixels = np.zeros((size[1], size[0], 4), np.float32)
    pixels[6:18, 8:24] = (0.8, 0.2, 0.1, 1.0)
    image.pixels.foreach_set(pixels.ravel())
    return image


def finish(addon, *, timeout=30.0):
    row = addon.session().board.rows[0]
    assert addon.jobs.wait_until(addon.session().pump, lambda: not row.is_active, timeout=timeout), row.text
    return row


def results():
    return [obj for obj in bpy.data.objects if obj.mvgamba.kind != "NONE"]


def drop(*paths, action="ADD"):
    files = [{"name": path.name} for path in paths]
    return bpy.ops.mvgamba.drop_images(directory=str(paths[0].parent), files=files, action=action)


def test_words_become_an_object_at_the_cursor(addon, scene, settings):
    scene.cursor.location = (2.0, -1.0, 0.5)
    settings.source, settings.prompt, settings.target_size = "TEXT", "a red barrel", 0.8
    assert bpy.ops.mvgamba.generate() == {"FINISHED"}
    assert finish(addon).text == "Placed"
    (result,) = results()
    assert result.mvgamba.kind == "TEXT" and max(result.dimensions) == pytest.approx(0.8, rel=1e-3)
    assert tuple(result.matrix_world.translation) == pytest.approx((2.0, -1.0, 0.5))


@pytest.mark.parametrize(
    ("source", "why"), [("TEXT", "Enter a prompt"), ("IMAGE", "Add an image"), ("CAPTURE", "Select an object")]
)
def test_a_grey_button_says_what_is_missing(settings, source, why):
    settings.source, settings.prompt = source, "  "
    with pytest.raises(RuntimeError, match=why):
        bpy.ops.mvgamba.generate()


def test_a_picture_becomes_an_object(addon, settings):
    settings.source = "IMAGE"
    settings.images.add().image = picture()
    before = {image.name for image in bpy.data.images}
    assert bpy.ops.mvgamba.generate(wait=True) == {"FINISHED"}
    (result,) = results()
    assert result.mvgamba.kind == "IMAGE"
    assert len(bpy.data.scenes) == 1
    assert {image.name for image in bpy.data.images} - before <= {"Render Result", "Viewer Node"} | {
        image.name for image in bpy.data.images if image.packed_file
    }


def test_several_pictures_go_with_their_sides(addon, settings):
    settings.source = "IMAGE"
    for name, side in (("one", "BACK"), ("two", "AUTO")):
        item = settings.images.add()
        item.image, item.side = picture(name), side
    assert bpy.ops.mvgamba.generate(wait=True) == {"FINISHED"}
    source = addon.session().board.rows[0].request.source
    assert source.image_path.name == "image_1.png" and [other.side for other in source.others] == ["back"]


def test_two_pictures_of_one_side_are_refused(settings):
    settings.source = "IMAGE"
    for name in ("one", "two"):
        item = settings.images.add()
        item.image, item.side = picture(name), "FRONT"
    with pytest.raises(RuntimeError, match="two pictures are of one side"):
        bpy.ops.mvgamba.generate()


def test_the_asset_menu_asks_for_words_and_a_size(addon, settings):
    assert bpy.ops.mvgamba.add_asset(prompt="a table", size=0.3) == {"FINISHED"}
    assert finish(addon).text == "Placed"
    assert max(results()[0].dimensions) == pytest.approx(0.3, rel=1e-3)


def test_files_that_are_dropped_join_the_list(settings, tmp_path):
    paths = [props.save_png(tmp_path / f"prüf {k} 図.png") for k in range(2)]
    assert drop(*paths) == {"FINISHED"}
    assert [item.image.name for item in settings.images] == ["prüf 0 図.png", "prüf 1 図.png"]
    assert settings.source == "IMAGE"
    bpy.ops.mvgamba.image_move(direction=-1)
    assert [item.image.name for item in settings.images] == ["prüf 1 図.png", "prüf 0 図.png"]
    bpy.ops.mvgamba.image_remove()
    assert [item.image.name for item in settings.images] == ["prüf 0 図.png"]


def test_a_file_that_is_dropped_can_be_made_at_once(addon, settings, tmp_path):
    drop(props.save_png(tmp_path / "barrel.png"), action="GENERATE")
    assert finish(addon).text == "Placed"
    assert results()[0].mvgamba.kind == "IMAGE"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.txt", b"hello", "not a picture"),
        ("broken.png", b"hello", "cannot be read"),
        ("short.png", None, "cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(settings, tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(props.save_png(tmp_path / "whole.png").read_bytes()[:30] if content is None else content)
    count = len(bpy.data.images)
    with pytest.raises(RuntimeError, match=f"{name}.*{why}"):
        drop(path)
    assert not settings.images and len(bpy.data.images) == count


def test_a_missing_file_is_named(settings, tmp_path):
    with pytest.raises(RuntimeError, match="gone.png does not exist"):
        drop(tmp_path / "gone.png")


def test_an_image_whose_file_is_gone_says_so(settings, tmp_path):
    path = props.save_png(tmp_path / "soon.png")
    image = bpy.data.images.load(str(path))
    path.unlink()
    image.reload()
    settings.source = "IMAGE"
    settings.images.add().image = image
    with pytest.raises(RuntimeError, match=r'"soon.png" has no pixels'):
        bpy.ops.mvgamba.generate()


def test_more_pictures_than_are_used_are_refused(settings, tmp_path):
    with pytest.raises(RuntimeError, match="at most 4"):
        drop(*[props.save_png(tmp_path / f"{k}.png") for k in range(5)])
    assert len(settings.images) == 4


def test_large_pictures_are_scaled_down_and_the_datablock_is_not(addon, settings, tmp_path):
    image = bpy.data.images.new("Large", 4096, 1024)
    addon.module("scene.pictures").write_picture(image, tmp_path / "large.png")
    assert tuple(bpy.data.images.load(str(tmp_path / "large.png")).size) == (2048, 512)
    assert tuple(image.size) == (4096, 1024)


def test_a_picture_comes_out_as_it_was(addon, scene, tmp_path):
    scene.view_settings.exposure = 2.0
    image = picture()
    addon.module("scene.pictures").write_picture(image, tmp_path / "copy.png")
    copy = bpy.data.images.load(str(tmp_path / "copy.png"))
    got, expected = np.empty(32 * 24 * 4, np.float32), np.empty(32 * 24 * 4, np.float32)
    copy.pixels.foreach_get(got), image.pixels.foreach_get(expected)
    assert np.abs(got - expected).max() < 1.5 / 255


def test_views_are_looked_at_replaced_and_approved(addon, settings, tmp_path):
    settings.source, settings.prompt, settings.review_views = "TEXT", "a barrel", True
    assert bpy.ops.mvgamba.generate() == {"FINISHED"}
    row = finish(addon)
    assert row.text == "Views are ready" and not results()
    old = row.views[0][1].image_path
    mine = props.save_png(tmp_path / "mine.png", size=20)
    bpy.ops.mvgamba.replace_view(request_id=row.id, index=1, filepath=str(mine))
    new = row.views[0][1].image_path
    assert new != old and old.is_file()
    assert tuple(bpy.data.images.load(str(new)).size) == (row.views[0][1].width, row.views[0][1].height)
    assert bpy.ops.mvgamba.approve_views(request_id=row.id) == {"FINISHED"}
    assert finish(addon).text == "Placed"
    assert len(results()) == 1 and addon.session().board.find(row.id) is None


def test_a_view_that_is_not_there_is_refused(addon, settings, tmp_path):
    settings.source, settings.prompt, settings.review_views = "TEXT", "a barrel", True
    bpy.ops.mvgamba.generate()
    row = finish(addon)
    with pytest.raises(RuntimeError, match="no view 9"):
        bpy.ops.mvgamba.replace_view(request_id=row.id, index=8, filepath=str(tmp_path / "x.png"))
    with pytest.raises(RuntimeError, match="variant 3"):
        bpy.ops.mvgamba.approve_views(request_id=row.id, variant=2)
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.mvgamba.replace_view(request_id=row.id, filepath=str(tmp_path / "x.png"))
    assert row.text == "Views are ready"


def test_the_prompt_field_knows_the_words_of_the_generator(addon, settings):
    session = addon.session()
    settings.source, settings.prompt = "TEXT", "a barrel"
    bpy.ops.mvgamba.generate(wait=True)
    settings.prompt = "a red barel"
    assert addon.jobs.wait_until(session.pump, lambda: not session.words.is_busy, timeout=10)
    assert session.words.note("a red barel").startswith('"barel" is unknown to the generator, near to it: barrel')
    assert session.words.completions("my ba") == ["my barrel", "my barrier"]
    assert session.words.completions("a b")[0] == "a barrel"  # the prompt of before


def test_sources_without_an_editor_say_so(settings):
    for name, why in (("image_from_editor", "No Image Editor"), ("generate_from_editor", "No Image Editor")):
        with pytest.raises(RuntimeError, match=why):
            getattr(bpy.ops.mvgamba, name)()
    with pytest.raises(RuntimeError, match="no clipboard"):
        bpy.ops.mvgamba.image_paste()


@pytest.fixture
def image_editor(settings):
    """An Image Editor in the place of another editor, with a picture."""
    area = next(area for area in bpy.context.screen.areas if area.type != "VIEW_3D")
    before, area.type = area.type, "IMAGE_EDITOR"
    area.spaces.active.image = picture("Shown")
    yield area
    area.type = before


def test_the_picture_of_an_image_editor_joins_the_list(settings, image_editor):
    assert bpy.ops.mvgamba.image_from_editor() == {"FINISHED"}
    assert [item.image.name for item in settings.images] == ["Shown"] and settings.source == "IMAGE"


def test_the_picture_of_an_image_editor_becomes_an_object(addon, settings, image_editor):
    settings.images.add().image = picture("Another")
    assert bpy.ops.mvgamba.generate_from_editor() == {"FINISHED"}
    assert finish(addon).text == "Placed"
    assert [item.image.name for item in settings.images] == ["Shown"]
    assert results()[0].mvgamba.kind == "IMAGE"


def test_a_result_on_disk_is_imported_with_its_settings(addon, settings, tmp_path):
    settings.source, settings.prompt = "TEXT", "a barrel"
    bpy.ops.mvgamba.generate(wait=True)
    folder = addon.api.jobs_folder() / addon.session().board.rows[0].id
    copy = shutil.copytree(folder, tmp_path / "kept elsewhere")
    (mesh,) = copy.glob("*.glb")
    assert bpy.ops.mvgamba.import_result(filepath=str(mesh)) == {"FINISHED"}
    assert [obj.mvgamba.prompt for obj in results()] == ["a barrel", "a barrel"]
    lone = shutil.copy(mesh, tmp_path / "lone.glb")
    with pytest.raises(RuntimeError, match="lone.glb lies in no folder of a result"):
        bpy.ops.mvgamba.import_result(filepath=str(lone))
    assert len(results()) == 2


def test_an_asset_is_regenerated_only_if_it_is_ours(settings):
    with pytest.raises(RuntimeError, match="Choose an asset"):
        bpy.ops.mvgamba.regenerate_asset()


def test_the_menus_of_blender_have_our_entries_and_lose_them(addon):
    def ours():
        names = [menu for menu, _ in addon.module("ui.menus").ENTRIES]
        functions = [f for name in names for f in getattr(bpy.types, name)._dyn_ui_initialize()]
        return sum("mvgamba" in f.__module__ for f in functions)

    assert ours() == 6
    addon.module("ui.menus").unregister()
    try:
        assert ours() == 0
    finally:
        addon.module("ui.menus").register()
