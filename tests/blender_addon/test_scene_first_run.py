"""A Blender without a backend: the card, the set-up, and uninstalling."""

import sys
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, props  # noqa: E402
from tests.blender_addon.backend_page import drawn, end_of, operators, own, texts, wait  # noqa: E402
from tests.blender_addon.test_register import LayoutRecorder  # noqa: E402
from tests.blender_addon.test_setup import make_wheel  # noqa: E402

pytestmark = [
    pytest.mark.blender,
    pytest.mark.skipif(extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"),
]


@pytest.fixture
def nothing(addon, preferences, monkeypatch):
    """A Blender without any backend."""
    monkeypatch.delenv("MVGAMBA_BACKEND", raising=False)
    monkeypatch.setenv("PATH", "/nothing")
    addon.module("ui.preferences").check_backend()


def test_without_a_backend_a_card_takes_the_place_of_the_form(addon, preferences, nothing, ui):
    assert ui.backend.current_status(bpy.context).word == "Not Installed"
    calls: list = []
    ui.main.MVGAMBA_PT_main.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
    assert operators(calls) == [
        f"mvgamba.{name}" for name in ("backend_setup", "use_remote", "locate_backend", "open_docs")
    ]
    said = " ".join(texts(calls))
    assert "GB of download" in said and "Apache-2.0" in said
    session = addon.session()
    session.setup.examine(ui.setup.setup_folder(bpy.context))
    assert wait(addon, lambda: session.setup.machine is not None)
    found = texts(drawn(ui.setup.draw_first_run, bpy.context))
    assert any("of disk free" in text for text in found) and any("Python" in text for text in found)


def test_set_up_needs_online_access_but_not_from_a_folder_of_wheels(addon, preferences, nothing, ui, tmp_path):
    with pytest.raises(RuntimeError, match="Online access is off"):
        bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT")
    preferences.setup_wheels = str(tmp_path)
    assert not ui.setup.setup_plan(bpy.context).needs_network


def test_set_up_makes_a_backend_that_jobs_use(addon, preferences, nothing, ui, make, tmp_path, monkeypatch):
    # the tiny package runs what the tests run, so it must be found while it is built
    monkeypatch.setenv("MVGAMBA_BACKEND", " ".join(BACKEND))
    make_wheel(tmp_path / "wheels")
    monkeypatch.delenv("MVGAMBA_BACKEND")
    preferences.setup_folder, preferences.setup_wheels = str(tmp_path / "folder ü"), str(tmp_path / "wheels")
    preferences.setup_python = sys.executable
    assert bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT") == {"FINISHED"}
    assert ui.backend.current_status(bpy.context).word == "Installing"
    assert not bpy.ops.mvgamba.backend_setup.poll()
    assert "mvgamba.setup_cancel" in operators(drawn(ui.setup.draw_first_run, bpy.context))
    assert wait(addon, lambda: bool(own().backend_path), timeout=60), addon.session().setup.progress.text
    assert not ui.setup.needs_first_run(bpy.context) and bpy.ops.mvgamba.backend_update.poll()
    row = end_of(addon, make())
    assert row.state is addon.jobs.JobState.PLACED, row.text
    made = own().backend_path
    # a Blender that was closed meanwhile finds it, but takes nobody's choice away
    own().backend_path = ""
    ui.setup._take_up()
    assert own().backend_path == made
    own().backend_path = str(tmp_path / "chosen")
    (tmp_path / "chosen").write_text("#!/bin/sh\n")
    (tmp_path / "chosen").chmod(0o755)
    addon.module("ui.preferences").check_backend()
    ui.setup._take_up()
    addon.session().pump()
    assert own().backend_path == str(tmp_path / "chosen")


def test_uninstall_takes_the_backend_away_and_leaves_results(
    addon, preferences, nothing, ui, make, tmp_path, monkeypatch
):
    uninstall = addon.module("ui.uninstall")
    with pytest.raises(RuntimeError, match="not installed by Set Up"):
        bpy.ops.mvgamba.backend_uninstall()
    monkeypatch.setenv("MVGAMBA_BACKEND", " ".join(BACKEND))
    make_wheel(tmp_path / "wheels")
    monkeypatch.delenv("MVGAMBA_BACKEND")
    folder = tmp_path / "folder"
    preferences.setup_folder, preferences.setup_wheels = str(folder), str(tmp_path / "wheels")
    preferences.setup_python = sys.executable
    bpy.ops.mvgamba.backend_setup("EXEC_DEFAULT")
    assert not bpy.ops.mvgamba.backend_uninstall.poll()
    assert wait(addon, lambda: bool(own().backend_path), timeout=60), addon.session().setup.progress.text
    row = end_of(addon, make())
    assert row.state is addon.jobs.JobState.PLACED, row.text
    assert "mvgamba.backend_uninstall" not in operators(drawn(ui.backend.draw_status_box, bpy.context))
    calls: list = []
    ui.backend.draw_status_box(LayoutRecorder(calls), bpy.context, with_uninstall=True)
    assert "mvgamba.backend_uninstall" in operators(calls)
    size, is_all = addon.module("core.uninstall").installed_size(folder)
    assert is_all and size > 5e6 and uninstall.size_text(size, is_all) == f"{size / 1e6:.0f} MB are freed"
    assert uninstall.size_text(3_100_000_000, False) == "More than 3.1 GB are freed"
    assert any(str(folder) in line for line in uninstall.question(bpy.context))

    data = addon.module("scene.backend").data_folder(bpy.context)
    preferences.data_folder = str(folder / "environment" / "data")
    with pytest.raises(RuntimeError, match="holds results"):
        bpy.ops.mvgamba.backend_uninstall()
    preferences.property_unset("data_folder")
    assert "mvgamba.backend_uninstall" in operators(drawn(ui.backend.draw_buttons, "UNINSTALL_FAILED"))
    assert "holds results" in " ".join(texts(drawn(ui.backend.draw_status_box, bpy.context)))
    assert own().backend_path and not ui.setup.needs_first_run(bpy.context), "it is still there"

    results = sorted(path for root in (data, addon.api.jobs_folder()) for path in root.rglob("*.glb"))
    assert results and bpy.ops.mvgamba.backend_uninstall() == {"FINISHED"} and uninstall.problem() == ""
    assert not folder.exists() and all(path.is_file() for path in results)
    assert addon.session().backend_pid is None and own().backend_path == ""
    assert ui.setup.needs_first_run(bpy.context) and addon.session().setup.progress.text == ""
    assert not bpy.ops.mvgamba.backend_uninstall.poll() and row.result_path.is_file()


BACKEND = extension.backend_command() or []


def test_an_existing_backend_can_be_located(addon, preferences, nothing, ui, tmp_path):
    program = tmp_path / "mvgamba-backend"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert bpy.ops.mvgamba.locate_backend("EXEC_DEFAULT", filepath=str(program)) == {"FINISHED"}
    assert ui.preferences.found_command() == (str(program),)
    with pytest.raises(RuntimeError, match="cannot be started"):
        bpy.ops.mvgamba.locate_backend("EXEC_DEFAULT", filepath=str(tmp_path / "none"))
    assert ui.preferences.found_command() == (str(program),), "what was there stays"


def test_a_capture_is_not_taken_for_a_backend_that_is_not_there(addon, preferences, nothing, scene):
    props.add_cube().select_set(True)
    with pytest.raises(RuntimeError, match="Backend is not installed"):
        bpy.ops.mvgamba.generate()
