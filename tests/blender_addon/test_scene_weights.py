"""The weights in the panel: listed, downloaded, paused, checked and taken in by the real program beside the backend."""

import dataclasses
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from blender_addon.core.errors import AddonError  # noqa: E402
from blender_addon.core.weights import find_program  # noqa: E402
from tests.blender_addon import extension  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, own, texts, wait  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402
from tests.mvgamba.weights.hub_server import answers, small_model  # noqa: E402
from tests.mvgamba.weights.mirror import Mirror  # noqa: E402


def has_program():
    try:
        find_program(extension.backend_command() or ["none"])
    except AddonError:
        return False
    return True


pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(not has_program(), reason="no program mvgamba beside that of MVGAMBA_BACKEND"),
]

FILES = small_model(("scheduler", "tokenizer", "text_encoder", "unet", "vae"))
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(addon, preferences, monkeypatch):
    """A mirror of the hub that the client's process, started anew, has been told of."""
    with Mirror(answers("ashawkey/mvdream-sd2.1-diffusers", FILES)) as mirror:
        addon.session().client.close()  # `preferences` has stopped the backend
        monkeypatch.setenv("HF_ENDPOINT", mirror.url(""))
        yield mirror
        addon.session().stop_backend()
        addon.session().client.close()


@pytest.fixture
def page(addon, preferences, hub, tmp_path, monkeypatch):
    """The panel over an empty folder of weights, with the list read and online access on."""
    ui, operators_ui = addon.module("ui.weights"), addon.module("ui.weights_operators")
    monkeypatch.setattr(operators_ui, "check_online_access", lambda: None)
    own().weights_folder = str(tmp_path / "Gewichte ü")
    assert bpy.ops.mvgamba.weights_refresh() == {"FINISHED"}
    yield SimpleNamespace(
        ui=ui,
        operators=operators_ui,
        book=ui.book(),
        folder=tmp_path / "Gewichte ü",
        calls=lambda: drawn(ui.draw_weights, bpy.context),
        select=lambda name: setattr(
            bpy.context.window_manager.mvgamba, "active_weights", bpy.context.window_manager.mvgamba.weights.find(name)
        ),
    )
    ui.book().stop()
    wait(addon, lambda: not ui.book().is_busy)
    own().property_unset("weights_folder")


def held(addon, page, hub):
    """A download that has begun and gets nothing more, as when Blender has a window: nobody waits for it."""
    hub.hold_after = 300_000
    program = addon.module("scene.backend").weights_program(bpy.context)
    page.book.download(program, "mvdream")
    work = page.book.work
    assert wait(addon, lambda: work.progress is not None and work.progress.done > 100_000), page.book.error
    return work


def test_the_list_shows_what_there_is_and_what_it_is_for(page):
    names = [row.name for row in bpy.context.window_manager.mvgamba.weights]
    assert names == ["ray-starter-cpu", "starter-memory", "starter-cpu", "mvdream", "imagedream"]
    assert page.ui.selected(bpy.context).name == "ray-starter-cpu"
    calls = page.calls()
    assert "Captures and views to a mesh" in texts(calls) and "Licence: Apache-2.0" in texts(calls)
    page.select("mvdream")
    said = " ".join(texts(page.calls()))
    assert "Words to views, with a GPU" in said and "OpenRAIL" in said and "about 2.6 GB" in said
    labels = [options.get("text") for name, arguments, options in page.calls() if name == "operator"]
    assert labels[:2] == ["", "Download"]
    calls: list = []
    item = bpy.context.window_manager.mvgamba.weights["mvdream"]
    page.ui.MVGAMBA_UL_weights.draw_item(None, bpy.context, LayoutRecorder(calls), None, item, 0, None, "", 0)
    assert texts(calls) == ["mvdream", "Not there"]
    calls = []
    page.ui.MVGAMBA_PT_weights.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
    assert "mvgamba.weights_import_folder" in operators(calls)


def test_dialogs_show_licence_and_size_with_the_question_for_them(page):
    for name, title in (("weights_download", "mvdream"), ("weights_import_folder", "")):
        rna, calls = getattr(bpy.ops.mvgamba, name).get_rna_type(), []
        operator = getattr(page.operators, f"MVGAMBA_OT_{name}")
        operator.draw(SimpleNamespace(layout=LayoutRecorder(calls), name=title, bl_rna=rna), bpy.context)
        assert "accept" in [arguments[1] for kind, arguments, _ in calls if kind == "prop"]
        assert "OpenRAIL" in " ".join(texts(calls))
        assert ("about 2.6 GB" in " ".join(texts(calls))) == (title == "mvdream")


def test_packages_that_the_backend_lacks_are_named_before_anything_comes(page):
    entry = dataclasses.replace(page.book.find("mvdream"), missing=("diffusers", "accelerate"))
    assert any("Also needs diffusers, accelerate" in line for line in page.operators.download_question(entry))
    assert not any("Also needs" in line for line in page.ui.facts(page.book.find("starter-cpu")))


def test_weights_are_downloaded_after_their_licence_was_accepted(addon, page, hub):
    page.select("mvdream")
    question = " ".join(page.operators.download_question(page.ui.selected(bpy.context)))
    assert "OpenRAIL" in question and "about 2.6 GB" in question and str(page.folder) in question
    with pytest.raises(RuntimeError, match="Nothing comes before its licence is accepted: CreativeML OpenRAIL"):
        bpy.ops.mvgamba.weights_download()
    assert hub.asked == [] and not page.folder.exists()
    assert "mvgamba.weights_download" in operators(page.calls())
    assert bpy.ops.mvgamba.weights_download(accept=True) == {"FINISHED"}
    assert page.book.error is None and page.ui.row_text(page.ui.selected(bpy.context)) == "1.3 MB"
    assert all((page.folder / "mvdream" / name).read_bytes() == data for name, data in FILES.items())
    assert bpy.ops.mvgamba.weights_download(name="mvdream") == {"FINISHED"}, "accepted once"
    with pytest.raises(RuntimeError, match="starter-cpu come with the backend"):
        bpy.ops.mvgamba.weights_download(name="starter-cpu", accept=True)


def test_a_download_shows_its_bytes_is_paused_and_goes_on(addon, page, hub):
    page.select("mvdream")
    held(addon, page, hub)
    (progress,) = [options for name, _, options in page.calls() if name == "progress"]
    assert (
        progress["text"].startswith("mvdream: ")
        and progress["text"].endswith(" of 1.3 MB")
        and progress["factor"] > 0.05
    )
    assert page.ui.row_text(page.ui.selected(bpy.context)).endswith(" of 1.3 MB")
    assert not bpy.ops.mvgamba.weights_import.poll() and not bpy.ops.mvgamba.weights_download.poll()
    with pytest.raises(RuntimeError, match="Weights are being downloaded"):
        bpy.ops.mvgamba.weights_verify()
    assert bpy.ops.mvgamba.weights_pause() == {"FINISHED"} and not bpy.ops.mvgamba.weights_pause.poll()
    assert wait(addon, lambda: not page.book.is_busy)
    assert page.book.error is None and page.ui.download_label(page.ui.selected(bpy.context)) == "Go On"
    assert any(
        text.endswith("are there already") for text in page.operators.download_question(page.ui.selected(bpy.context))
    )
    hub.hold_after = None
    hub.go_on.set()
    hub.asked.clear()
    assert bpy.ops.mvgamba.weights_download() == {"FINISHED"}
    assert [asked for asked in hub.asked if asked], "it began anew"
    assert (page.folder / "mvdream" / UNET).read_bytes() == FILES[UNET]


def test_nothing_is_downloaded_without_online_access_and_files_are_taken_in(addon, page, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(page.operators, "check_online_access", addon.module("scene.backend").check_online_access)
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="Online access is off: see Preferences"):
        bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)
    assert hub.asked == [] and "mvgamba.open_system_preferences" in operators(page.calls())
    file = tmp_path / "Möbel 家具.safetensors"
    file.write_bytes((extension.ROOT / "mvgamba" / "weights" / "ray-starter-cpu.safetensors").read_bytes())
    assert bpy.ops.mvgamba.weights_import("EXEC_DEFAULT", filepath=str(file), licence="MIT") == {"FINISHED"}
    page.select("Mobel")
    assert "Licence: MIT" in texts(page.calls()) and (page.folder / "Mobel.safetensors").is_file()
    assert page.operators.unused_name(file) == "Mobel-2", "nothing is lost"
    with pytest.raises(RuntimeError, match="Nothing comes before its licence"):
        bpy.ops.mvgamba.weights_import_folder("EXEC_DEFAULT", directory=str(tmp_path))


def test_verify_finds_what_is_damaged(page):
    bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)
    assert bpy.ops.mvgamba.weights_verify() == {"FINISHED"}
    assert page.book.note == "All bytes are as they should be"
    page.select("mvdream")
    assert page.ui.row_text(page.ui.selected(bpy.context)) == "1.3 MB, whole"
    (page.folder / "mvdream" / UNET).write_bytes(bytes(len(FILES[UNET])))
    bpy.ops.mvgamba.weights_verify()
    assert "Damaged: mvdream" in texts(page.calls())
    said = " ".join(texts(page.calls()))
    assert "is not what came" in said and page.ui.download_label(page.ui.selected(bpy.context)) == "Download Again"
    assert bpy.ops.mvgamba.weights_download() == {"FINISHED"}
    assert (page.folder / "mvdream" / UNET).read_bytes() == FILES[UNET]


def test_a_folder_that_cannot_be_written_to_has_a_sentence_and_a_button(page, tmp_path):
    (tmp_path / "file").touch()
    own().weights_folder = str(tmp_path / "file" / "weights")
    assert page.book.entries == (), "those of another folder are not known"
    bpy.ops.mvgamba.weights_refresh()
    with pytest.raises(RuntimeError, match="The folder of the weights cannot be written to: .*Not a directory"):
        bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)
    assert "mvgamba.change_weights_folder" in operators(page.calls())
    bpy.ops.mvgamba.change_weights_folder("EXEC_DEFAULT", directory=str(page.folder))
    bpy.ops.mvgamba.weights_refresh()
    assert bpy.ops.mvgamba.weights_download(name="mvdream", accept=True) == {"FINISHED"}
    assert (page.folder / "mvdream").is_dir()


def test_another_folder_while_something_comes_is_another_list(addon, page, hub, tmp_path):
    held(addon, page, hub)
    own().weights_folder = str(tmp_path / "other")
    assert page.book.entries == () and page.book.work.kind == "download"
    assert bpy.ops.mvgamba.weights_refresh.poll() and not bpy.ops.mvgamba.weights_verify.poll()
    program = addon.module("scene.backend").weights_program(bpy.context)
    page.book.refresh(program)
    assert wait(addon, lambda: page.book.is_read)
    bpy.ops.mvgamba.weights_pause()
    assert wait(addon, lambda: not page.book.is_busy)
    assert page.book.find("mvdream").path == str(tmp_path / "other" / "mvdream"), "not the list of the folder before"
    assert list((page.folder / "mvdream.partial").iterdir()), "what came stays"


def test_a_backend_without_the_program_says_so(addon, page, tmp_path):
    backend = tmp_path / "mvgamba-backend"
    backend.write_text("#!/bin/sh\n")
    backend.chmod(0o755)
    own().backend_path = str(backend)
    assert page.book.entries == ()
    with pytest.raises(RuntimeError, match="different versions: there is no program mvgamba beside"):
        bpy.ops.mvgamba.weights_refresh()
    assert "mvgamba.backend_update" in operators(page.calls())


def test_a_remote_backend_has_its_own_weights(page):
    own().backend_mode, own().remote_address = "REMOTE", "gpu.lan:50051"
    said = " ".join(texts(page.calls()))
    assert "The weights are on gpu.lan:50051" in said and operators(page.calls()) == []
    with pytest.raises(RuntimeError, match="whoever runs the backend there downloads them"):
        bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)


def test_a_job_that_lacks_weights_has_buttons_for_them(addon, page, make, ui):
    row = end_of(addon, make("#fail:WEIGHTS_MISSING", generator="mvdream"))
    calls = drawn(ui.remedies.draw_remedies, row)
    assert operators(calls) == ["mvgamba.weights_download", "mvgamba.open_preferences"]
    assert page.ui.wanted_name(bpy.context, row.id) == "mvdream"
    assert bpy.ops.mvgamba.weights_download(request_id=row.id, accept=True) == {"FINISHED"}
    assert (page.folder / "mvdream").is_dir()
    row = end_of(addon, make("#fail:WEIGHTS_CORRUPT"))
    assert operators(drawn(ui.remedies.draw_remedies, row))[0] == "mvgamba.weights_verify"
    assert bpy.ops.mvgamba.weights_verify(request_id=row.id) == {"FINISHED"}


def test_a_generator_without_weights_says_so_where_it_is_chosen(page, scene):
    assert page.ui.generator_note(bpy.context, "mvdream") == "The weights of mvdream are not there"
    assert page.ui.generator_note(bpy.context, "AUTO") == page.ui.generator_note(bpy.context, "starter-cpu") == ""
    assert operators(drawn(page.ui.draw_generator_note, bpy.context, "mvdream")) == ["mvgamba.weights_download"]
    bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)
    assert drawn(page.ui.draw_generator_note, bpy.context, "mvdream") == []


@pytest.mark.slow
def test_a_service_that_runs_takes_up_what_was_downloaded(addon, page):
    if page.book.find("mvdream").missing:
        pytest.skip("the backend's environment lacks the packages of MVDream")
    own().backend_arguments = ""  # the real pipeline
    addon.session().start_backend(addon.module("scene.backend").local_command(bpy.context))
    status = addon.module("ui.backend").current_status
    assert wait(addon, lambda: status(bpy.context).info is not None and status(bpy.context).info.is_ready, timeout=120)
    told = next(each for each in status(bpy.context).info.generators if each.name == "mvdream")
    assert not told.is_available and "needs its published weights" in told.why_not
    assert "Weights: starter" in status(bpy.context).lines
    bpy.ops.mvgamba.weights_download(name="mvdream", accept=True)
    assert wait(addon, lambda: page.ui.generator_note(bpy.context, "mvdream") == "", timeout=60)
    assert not page.ui.lacks_weights(bpy.context, "mvdream")
    assert any(line.startswith("Weights: ") and "mvdream" in line for line in status(bpy.context).lines)
