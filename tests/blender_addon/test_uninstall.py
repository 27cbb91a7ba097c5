"""Uninstalling takes away what a set-up has made, and nothing else, whatever else lies there."""

import os
import sys

import pytest

from blender_addon.core import setup_program as program
from blender_addon.core.errors import AddonError
from blender_addon.core.setup import progress_of
from blender_addon.core.uninstall import installed_size, uninstall


@pytest.fixture
def folder(tmp_path):
    """As a set-up leaves it."""
    folder = tmp_path / "mvgamba"
    backend = program.executable(folder, "mvgamba-backend")
    backend.parent.mkdir(parents=True)
    backend.write_text("#!/bin/sh\n")
    library = folder / program.ENVIRONMENT / "lib" / "torch"
    library.mkdir(parents=True)
    (library / "weights.bin").write_bytes(bytes(3000))
    (folder / program.CACHE).mkdir()
    (folder / program.CACHE / "wheel").write_bytes(bytes(500))
    for name in (program.LOG, program.LOCK, program.PROGRAM):
        (folder / name).write_text(name)
    program.write_state(folder, program.SetupState("done", command=[str(backend)]))
    return folder


def test_all_that_was_made_is_gone(folder):
    uninstall(folder)
    assert not folder.exists()


def test_files_of_others_stay_and_so_does_their_folder(folder):
    own = folder / "my notes.txt"
    own.write_text("mine")
    uninstall(folder)
    assert [path.name for path in folder.iterdir()] == ["my notes.txt"] and own.read_text() == "mine"


def test_what_a_link_points_to_stays(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.glb").write_bytes(b"glTF")
    (folder / program.ENVIRONMENT / "results").symlink_to(elsewhere, target_is_directory=True)
    uninstall(folder)
    assert not folder.exists() and (elsewhere / "result.glb").read_bytes() == b"glTF"


def test_a_folder_that_is_not_ours_is_refused(folder):
    (folder / program.PROGRAM).unlink()
    before = sorted(folder.rglob("*"))
    with pytest.raises(AddonError, match="was not made by Set Up") as caught:
        uninstall(folder)
    assert caught.value.reason == "UNINSTALL_FAILED" and sorted(folder.rglob("*")) == before


def test_results_in_it_are_not_taken_along(folder):
    results = folder / program.ENVIRONMENT / "results"
    results.mkdir()
    before = sorted(folder.rglob("*"))
    with pytest.raises(AddonError, match="holds results"):
        uninstall(folder, keep=[results])
    assert sorted(folder.rglob("*")) == before
    uninstall(folder, keep=[folder.parent / "results"])
    assert not folder.exists()


def test_a_set_up_that_runs_is_not_disturbed(folder):
    lock = program.try_lock(folder)
    try:
        with pytest.raises(AddonError, match="a set-up is running"):
            uninstall(folder)
    finally:
        os.close(lock)
    assert program.executable(folder, "mvgamba-backend").is_file()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_file_that_cannot_be_removed_is_named_to_its_owner(folder):
    closed = folder / program.ENVIRONMENT / "lib" / "torch"
    closed.chmod(0o500)
    try:
        with pytest.raises(AddonError) as caught:
            uninstall(folder)
        assert caught.value.message == f"{closed / 'weights.bin'}: Permission denied"
    finally:
        closed.chmod(0o700)


def test_what_was_removed_half_is_no_backend_and_can_be_removed_again(folder, tmp_path):
    """An environment that somebody has moved and linked is left to them, and ends the run like a closed file."""
    environment = folder / program.ENVIRONMENT
    moved = environment.rename(tmp_path / "other disk")
    environment.symlink_to(moved, target_is_directory=True)
    with pytest.raises(AddonError) as caught:
        uninstall(folder)
    assert caught.value.message.startswith(f"{environment}: ")
    assert not program.executable(folder, "mvgamba-backend").exists()
    state = progress_of(folder).state
    assert not state.command and state.is_installing, "a set-up would take it for a whole one"
    assert (moved / "lib" / "torch" / "weights.bin").is_file()
    environment.unlink()
    uninstall(folder)
    assert not folder.exists()


def test_the_size_is_that_of_what_goes(folder):
    (folder / "my film.mov").write_bytes(bytes(9000))
    backend = program.executable(folder, "mvgamba-backend").stat().st_size
    assert installed_size(folder) == (3500 + backend, True)
    size, is_all = installed_size(folder, seconds=-1.0)
    assert not is_all and size < 3500
