"""The set-up of the backend: the real program and a real pip, with a tiny package in the place of the large one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from base64 import urlsafe_b64encode

import pytest

from blender_addon.client.backend_process import BackendProcess
from blender_addon.core import setup, setup_program
from blender_addon.core.backend import BackendCommand
from blender_addon.core.client_process import ClientProcess
from blender_addon.core.errors import AddonError
from blender_addon.core.jobs import wait_until
from blender_addon.core.setup import (
    SetupPlan,
    SetupRunner,
    cancel_setup,
    find_pythons,
    gpu_line,
    is_set_up_by_us,
    progress_of,
    room_needed,
    start_setup,
)
from blender_addon.core.setup_program import SetupState, parse_pip_line, pip_problem, read_state, write_state
from tests.blender_addon import extension

PROGRAM = """
import json, os, sys, time

def backend():
    command = {command!r}
    os.execv(command[0], command + sys.argv[1:])

def doctor():
    if os.path.exists({slow!r}):
        time.sleep(60)
    print("one line before the facts")
    print(json.dumps({{"healthy": {healthy}, "problems": ["the moon is full"]}}))
    sys.exit(0 if {healthy} else 1)
"""


def make_wheel(folder, *, version="0.1.0", slow="/nothing", healthy=True, command=None):
    """A wheel of the package's name with its two programs; the backend is the one of the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    command = command or [shutil.which(part) or part for part in extension.backend_command()[:1]]
    command += extension.backend_command()[1:] if extension.backend_command() else []
    info = f"mvgamba-{version}.dist-info"
    files = {
        "mvgamba_tiny.py": PROGRAM.format(command=command, slow=str(slow), healthy=healthy),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: mvgamba\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nmvgamba-backend=mvgamba_tiny:backend\nmvgamba=mvgamba_tiny:doctor\n",
    }
    record = ""
    for name, text in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"mvgamba-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


CLIENT = ClientProcess()
needs_backend = pytest.mark.skipif(
    extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the tests of one set-up follow each other; its name is that of a user with an umlaut."""
    return tmp_path_factory.mktemp("Jürgen 山")


@pytest.fixture
def runner():
    runner = SetupRunner(CLIENT.run)
    yield runner
    if runner.is_running:
        runner.cancel()
        wait(lambda: not runner.is_running)


@pytest.fixture(scope="module", autouse=True)
def client():
    yield
    CLIENT.close()


def plan_for(place, **changes):
    settings = {"folder": place / "backend", "wheels": place / "wheels", "python": sys.executable}
    return SetupPlan(**(settings | changes))


def wait(condition, *, client=None, timeout=60.0):
    assert wait_until((client or CLIENT).receive, condition, timeout=timeout, interval=0.02), "it took too long"


def finish(runner, plan):
    runner.start(plan)
    wait(lambda: not runner.is_running)
    return runner.progress


@needs_backend
class TestSetUp:
    """In the order of the file: what one leaves behind, the next one finds."""

    def test_one_that_was_killed_says_that_it_can_go_on(self, place, runner):
        make_wheel(place / "wheels", slow=place / "slow")
        process = start_setup(plan_for(place))
        wait(lambda: progress_of(place / "backend").state.is_installing)
        os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
        wait(lambda: not progress_of(place / "backend").is_running)  # its child ends as well, or has the lock
        runner.attach(place / "backend")
        assert runner.progress.was_broken_off and not runner.is_running and "can go on" in runner.progress.text
        assert runner.progress.state.is_installing

    def test_another_run_goes_on_survives_whoever_started_it_and_can_be_cancelled(self, place, runner):
        (place / "slow").touch()
        other = ClientProcess()
        starter = SetupRunner(other.run)
        starter.start(plan_for(place))
        wait(lambda: starter.progress.state.phase == "test", client=other)
        other.close()  # Blender ends
        runner.attach(place / "backend")
        assert runner.is_running and runner.progress.text.startswith("Testing")
        program = [sys.executable, str(place / "backend" / setup_program.PROGRAM), "--folder", str(place / "backend")]
        second = subprocess.run([*program, "--package", "x", "--patience", "0.3"], capture_output=True)
        assert second.returncode == 2 and b"another set-up uses" in second.stdout
        began = time.monotonic()
        runner.cancel()
        wait(lambda: not runner.is_running)
        assert time.monotonic() - began < 8 and runner.progress.state.phase == "cancelled"

    def test_it_ends_with_a_backend_that_works(self, place, runner):
        (place / "slow").unlink()
        progress = finish(runner, plan_for(place))
        assert progress.state.phase == "done", (place / "backend" / "setup.log").read_text()
        assert progress.state.version == "0.1.0" and progress.fraction == 1.0 and not progress.state.is_installing
        assert is_set_up_by_us(progress.state.command, place / "backend")
        command = BackendCommand(tuple(progress.state.command), place / "data", place / "log", ("--pipeline", "fake"))
        backend = BackendProcess(command)
        assert backend.ensure().address.startswith("127.0.0.1:")
        backend.stop()

    def test_only_an_update_changes_what_is_there(self, place, runner):
        make_wheel(place / "wheels", version="0.2.0")
        marker = place / "backend" / "environment" / "marker"
        marker.touch()
        assert finish(runner, plan_for(place)).state.phase == "done" and marker.exists()
        found = list((place / "backend" / "environment").rglob("mvgamba-*.dist-info"))
        assert [path.name for path in found] == ["mvgamba-0.1.0.dist-info"]
        assert finish(runner, plan_for(place, is_update=True)).state.phase == "done"
        found = list((place / "backend" / "environment").rglob("mvgamba-*.dist-info"))
        assert [path.name for path in found] == ["mvgamba-0.2.0.dist-info"]

    def test_a_self_test_that_fails_says_why(self, place, runner):
        make_wheel(place / "ill", version="0.3.0", healthy=False)
        progress = finish(runner, plan_for(place, wheels=place / "ill", is_update=True))
        assert progress.state.reason == "SETUP_FAILED" and "the moon is full" in progress.text
        assert not progress.state.command

    def test_a_damaged_wheel_is_refused_by_pip_too(self, place, runner):
        folder = place / "damaged"
        path = make_wheel(folder, version="0.4.0")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        progress = finish(runner, plan_for(place, wheels=folder, is_update=True))
        assert progress.state.reason == "SETUP_CORRUPT", (place / "backend" / "setup.log").read_text()[-2000:]


def check(folder, *arguments):
    """Only the program, up to where it fails; its state."""
    folder.mkdir(exist_ok=True)
    setup_program.main(["--folder", str(folder), *map(str, arguments)])
    return read_state(folder)


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "wheels", command=[sys.executable])


def test_a_wheel_that_is_not_what_its_sum_says_is_refused(tmp_path, wheel):
    (wheel.parent / "SHA256SUMS").write_text(f"{64 * '0'}  {wheel.name}\n")
    for more in (["--package", wheel], ["--package", "mvgamba", "--no-index", "--find-links", wheel.parent]):
        state = check(tmp_path / "folder", *more)
        assert state.reason == "SETUP_CORRUPT" and wheel.name in state.message


def test_a_wheel_that_is_missing_from_the_folder_is_named(tmp_path, wheel):
    (wheel.parent / "SHA256SUMS").write_text(f"{64 * '0'} *torch.whl\n")
    state = check(tmp_path / "folder", "--package", "mvgamba", "--find-links", wheel.parent)
    assert state.reason == "SETUP_CORRUPT" and "torch.whl" in state.message


def test_a_wheel_that_was_cut_is_refused_before_anything_is_made(tmp_path, wheel):
    wheel.write_bytes(wheel.read_bytes()[:-100])
    state = check(tmp_path / "folder", "--package", wheel)
    assert state.reason == "SETUP_CORRUPT" and not (tmp_path / "folder" / "environment").exists()


def test_too_little_room_is_said_before_anything_is_made(tmp_path, wheel):
    state = check(tmp_path / "folder", "--package", wheel, "--min-free-mib", 1 << 30)
    assert state.reason == "DISK_FULL" and "MiB are free" in state.message


def test_the_room_that_is_asked_for_is_that_of_what_is_installed(tmp_path, monkeypatch):
    def room(**changes):
        return room_needed(SetupPlan(tmp_path / "folder", **changes))

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "mvgamba-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mvgamba/__init__.py", "")
    small = room(wheels=wheels)
    assert 0 < small < 1000, "a folder of small wheels needs little"
    for name in ("torch-2.9.0-cp311-none-linux.whl", "torch-2.9.0-cp312-none-linux.whl"):
        with zipfile.ZipFile(wheels / name, "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("torch/lib.so", bytes(300 << 20))
    assert room(wheels=wheels) == small + 300, "one of two wheels of a package is installed, unpacked"
    (wheels / "cut-1.0-py3-none-any.whl").write_bytes(bytes(5 << 20))
    assert room(wheels=wheels) == small + 305
    assert room(wheels=tmp_path / "nowhere") == room(wheels=tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert room() > 7000 > 3000 > room(index_url="https://example.org/cpu")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert room() < 3000


def test_a_cancel_that_comes_early_is_heard(tmp_path, wheel):
    (tmp_path / "folder").mkdir()
    cancel_setup(tmp_path / "folder")
    assert check(tmp_path / "folder", "--package", wheel).phase == "cancelled"


def test_the_program_runs_without_the_extension(tmp_path, wheel):
    """It is copied away, so it may import nothing of ours."""
    copy = shutil.copy(setup_program.__file__, tmp_path / "alone.py")
    command = [
        sys.executable,
        "-I",
        copy,
        "--folder",
        str(tmp_path),
        "--package",
        str(wheel),
        "--min-free-mib",
        "1000000000",
    ]
    subprocess.run(command, check=False, capture_output=True)
    assert read_state(tmp_path).reason == "DISK_FULL"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.blend").touch()
    with pytest.raises(AddonError, match="other files"):
        start_setup(plan_for(tmp_path, folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.blend"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AddonError) as caught:
        start_setup(plan_for(tmp_path, folder=tmp_path / "file" / "backend"))
    assert caught.value.reason == "FOLDER_NOT_WRITABLE" and "file" in caught.value.message


def test_without_a_python_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "_python_candidates", lambda: [str(tmp_path / "nothing")])
    with pytest.raises(AddonError) as caught:
        start_setup(plan_for(tmp_path, python=""))
    assert caught.value.reason == "PYTHON_NOT_FOUND" and "3.11 to 3.13" in caught.value.message
    assert not (tmp_path / "backend").exists()


def test_a_named_python_that_is_none_is_refused(tmp_path, runner):
    progress = finish(runner, plan_for(tmp_path, python="/bin/sh"))
    assert progress.state.reason == "PYTHON_NOT_FOUND" and "/bin/sh" in progress.text
    assert runner.error is not None and not (tmp_path / "backend").exists()


def test_only_pythons_that_fit_are_found(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\necho 'mvgamba 3 8 /usr'\n")
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 1\n")
    newest = tmp_path / "python3.13"
    newest.write_text("#!/bin/sh\nprintf 'mvgamba 3 13 /opt'\n")
    for path in (old, broken, newest):
        path.chmod(0o755)
    found = find_pythons([str(path) for path in (old, broken, newest)] + [sys.executable, str(tmp_path / "no")])
    assert [python.version for python in found][0] == (3, 13)
    assert {python.version for python in found} == {(3, 13), sys.version_info[:2]}


def test_the_machine_is_described_in_lines(tmp_path):
    machine = setup.detect_machine(tmp_path / "not" / "yet")
    assert machine.disk_free > 0 and machine.memory > 1 << 28 and machine.pythons
    assert len(machine.lines) >= 3 and "Python 3." in machine.lines[0]


@pytest.mark.skipif(sys.platform == "win32", reason="the driver's program is a script here")
def test_gpus_are_those_that_the_driver_lists(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n[ $# = 2 ] && printf 'NVIDIA H200, 143771, 550.54\\nNVIDIA L4, 23034, 550.54\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup.find_gpus() == ["NVIDIA H200, 140 GB, driver 550.54", "NVIDIA L4, 22 GB, driver 550.54"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert setup.find_gpus() == []


def test_a_line_of_the_driver_becomes_a_line_for_people():
    assert gpu_line("NVIDIA H200, 143771, 550.54.15") == "NVIDIA H200, 140 GB, driver 550.54.15"
    assert gpu_line("No devices were found") == "" and gpu_line("a, [N/A], b") == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Collecting numpy>=1.26", ("download", "numpy>=1.26", None)),
        ("Processing /w/mvgamba-0.1.0-py3-none-any.whl", ("download", "mvgamba-0.1.0-py3-none-any.whl", None)),
        (
            "  Downloading torch-2.6.0-cp311-cp311-manylinux1_x86_64.whl (766.7 MB)",
            ("download", "torch (766.7 MB)", None),
        ),
        ("  Downloading https://files.x/p/numpy-2.1.0-cp311.whl.metadata (60 kB)", ("download", "numpy (60 kB)", None)),
        ("Using cached scipy-1.15.0-cp311.whl (37.6 MB)", ("download", "scipy (37.6 MB)", None)),
        ("Progress 25 of 100", ("download", "", 0.25)),
        ("Installing collected packages: torch, mvgamba", ("install", "", None)),
        ("Requirement already satisfied: pip", None),
        ("", None),
    ],
)
def test_lines_of_pip_become_phases(line, expected):
    assert parse_pip_line(line) == expected


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "DISK_FULL"),
        (["ERROR: Wheel 'x' located at /x.whl is invalid."], "SETUP_CORRUPT"),
        (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."], "SETUP_CORRUPT"),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 30] Read-only file system"],
            "FOLDER_NOT_WRITABLE",
        ),
        (["WARNING: Retrying (Retry(total=0", "ERROR: No matching distribution found for mvgamba"], "SETUP_FAILED"),
        ([], "SETUP_FAILED"),
    ],
)
def test_what_pip_says_becomes_a_reason(lines, reason):
    assert pip_problem(lines).reason == reason


def test_a_state_is_read_as_far_as_it_goes(tmp_path):
    assert read_state(tmp_path) == SetupState()
    write_state(tmp_path, SetupState("download", "torch", 0.5))
    assert read_state(tmp_path) == SetupState("download", "torch", 0.5)
    for text in ("{", "[]", '"x"', "null"):
        (tmp_path / "state.json").write_text(text)
        assert read_state(tmp_path) == SetupState()
    (tmp_path / "state.json").write_text(json.dumps({"phase": "done", "of_tomorrow": 1}))
    assert read_state(tmp_path).phase == "done"


def test_progress_never_falls_from_phase_to_phase():
    at = [
        setup.SetupProgress(SetupState(phase, fraction=fraction), True).fraction
        for phase in ("check", "environment", "download", "install", "test", "done")
        for fraction in (None, 0.5, 1.0)
    ]
    assert at == sorted(at) and at[-1] == 1.0
