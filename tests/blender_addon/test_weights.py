"""Weights by the real program `mvgamba`, from a server on this machine that answers as the hub does: all without Blender."""

import json
import os
import signal
import sys
import time

import pytest

from blender_addon.core import weights
from blender_addon.core.client_process import ClientProcess
from blender_addon.core.errors import AddonError, sentence
from blender_addon.core.jobs import wait_until
from blender_addon.core.weights import WeightsProgram, WeightsState, find_program, plain_name
from blender_addon.core.weights_book import WeightsBook
from tests.blender_addon import extension
from tests.mvgamba.weights.hub_server import answers, small_model
from tests.mvgamba.weights.mirror import Mirror

library = pytest.importorskip("mvgamba.weights", reason="the library is not importable here")
hub = pytest.importorskip("mvgamba.weights.hub", reason="the library is not importable here")
pytest.importorskip("torch", reason="the library is not installed here")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs of these tests are shell scripts")

MODEL = hub.HUB_MODELS["mvdream"]
FILES = small_model(MODEL.folders)
SIZE = sum(map(len, FILES.values()))
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def server(monkeypatch):
    with Mirror(answers(MODEL.repository, FILES)) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.url(""))
        yield mirror


@pytest.fixture
def program(tmp_path):
    """The program beside a backend, in a folder with a blank and a letter that is not Latin, and an empty folder of weights."""
    folder = tmp_path / "пакет ü"
    folder.mkdir()
    (folder / "mvgamba").write_text(
        f'#!/bin/sh\nPYTHONPATH="{extension.ROOT}" exec "{sys.executable}" -P -m mvgamba "$@"\n'
    )
    (folder / "mvgamba-backend").write_text("#!/bin/sh\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    return find_program([str(folder / "mvgamba-backend")], tmp_path / "weights ü")


@pytest.fixture
def book(server):
    """Through a process beside this one, as in Blender."""
    client = ClientProcess()
    book = WeightsBook(client.run, client.stop_run)
    book.client = client
    yield book
    client.close()


def settle(book):
    assert wait_until(book.client.receive, lambda: not book.is_busy, timeout=60, interval=0.01)


def held(book, server, program, after=300_000):
    """A download that has so many bytes of its largest file, and gets no more."""
    server.hold_after = after
    book.download(program, "mvdream")

    def is_held():
        lies = sum(path.stat().st_size for path in program.folder.rglob("*.partial") if path.is_file())
        return book.work is None or (lies >= after and book.work.progress is not None and book.work.progress.done > 0)

    assert wait_until(book.client.receive, is_held, timeout=30, interval=0.01)
    assert book.work is not None, book.error


def test_the_list_says_what_there_is_and_what_could_be_had(book, program):
    book.refresh(program)
    settle(book)
    assert book.is_read and book.error is None
    states = {entry.name: entry.state for entry in book.entries}
    assert states["starter-cpu"] is WeightsState.PACKAGE and states["mvdream"] is WeightsState.ABSENT
    entry = book.find("mvdream")
    assert entry.can_download and entry.size == 2_600_000_000 and "OpenRAIL" in entry.licence and not entry.is_accepted
    assert entry.path == str(program.folder / "mvdream")
    assert all(each.purpose and each.licence and each.size for each in book.entries)


def test_a_download_counts_bytes_is_paused_and_goes_on(book, server, program):
    held(book, server, program)
    assert book.work.text.endswith("of 1.3 MB") and 0.05 < book.work.fraction < 0.5
    began = time.monotonic()
    book.stop()
    assert book.work.text == "Stopping"
    settle(book)
    assert time.monotonic() - began < 6.0 and book.error is None
    entry = book.find("mvdream")
    assert entry.state is WeightsState.PARTIAL and entry.fetched >= 300_000 and entry.is_accepted
    assert not (program.folder / "mvdream").exists()
    server.hold_after = None
    server.go_on.set()
    server.asked.clear()
    book.download(program, "mvdream")
    settle(book)
    assert book.error is None and book.find("mvdream").state is WeightsState.THERE
    assert [asked for asked in server.asked if asked], "it began anew"
    assert all((program.folder / "mvdream" / name).read_bytes() == data for name, data in FILES.items())


@pytest.mark.parametrize("whose", ["client", "program"])
def test_a_killed_process_leaves_what_was_fetched_and_no_download(book, server, program, whose):
    """`client` is what happens when Blender is killed: its process beside it ends, and with that the program."""
    held(book, server, program)
    downloads = running(program)
    assert len(downloads) == 1
    os.kill(book.client.pid if whose == "client" else downloads[0], signal.SIGKILL)
    settle(book)
    assert wait_until(lambda: None, lambda: not running(program), timeout=10)
    assert book.error.reason == ("CLIENT_FAILED" if whose == "client" else "INTERNAL")
    assert book.find("mvdream").state is WeightsState.PARTIAL and book.find("mvdream").fetched >= 300_000


def running(program):
    """Processes that were started with this folder of weights."""
    found = []
    for name in (name for name in os.listdir("/proc") if name.isdecimal()):
        try:
            with open(f"/proc/{name}/environ", "rb") as environment, open(f"/proc/{name}/cmdline", "rb") as command:
                if os.fsencode(f"MVGAMBA_WEIGHTS={program.folder}") in environment.read() and b"pull" in command.read():
                    found.append(int(name))
        except OSError:
            continue
    return [pid for pid in found if extension.is_alive(pid)]


def test_a_look_through_all_bytes_finds_damage_and_a_download_mends_it(book, server, program):
    book.download(program, "mvdream")
    settle(book)
    book.verify(program)
    settle(book)
    assert book.note == "All bytes are as they should be" and book.checked("mvdream").is_whole
    (program.folder / "mvdream" / UNET).write_bytes(bytes(len(FILES[UNET])))
    book.verify(program)
    settle(book)
    assert book.note == "Damaged: mvdream" and UNET in book.checked("mvdream").said
    assert book.find("mvdream").state is WeightsState.DAMAGED
    server.asked.clear()
    book.download(program, "mvdream")
    settle(book)
    assert book.error is None and len(server.asked) == 1 and book.find("mvdream").state is WeightsState.THERE
    assert (program.folder / "mvdream" / UNET).read_bytes() == FILES[UNET]


@pytest.mark.slow
def test_files_with_any_name_are_taken_in(book, program, tmp_path):
    shipped = library.shipped()[0].path
    file = tmp_path / "Gewichte für Möbel 家具.safetensors"
    file.write_bytes(shipped.read_bytes())
    book.take_in(program, file, plain_name(file.stem), "MIT", is_default=True)
    settle(book)
    assert book.error is None
    entry = book.find("Gewichte-fur-Mobel")
    assert (
        entry.state is WeightsState.THERE
        and entry.licence == "MIT"
        and entry.is_default
        and entry.kind == "reconstructor"
    )
    file.write_bytes(b"no weights")
    book.take_in(program, file, "other", "unknown", is_default=False)
    settle(book)
    assert book.error.reason == "WEIGHTS_REFUSED" and book.find("other") is None
    assert "is not a .safetensors file" in sentence(book.error.reason, book.error.message)


@pytest.mark.slow
def test_a_folder_of_a_model_is_taken_in(book, program, tmp_path):
    pytest.importorskip("diffusers", reason="the layout is written with diffusers")
    from tests.mvgamba.multiview.mvdream.checkpoints import published_folder

    source = published_folder(tmp_path / "Ordner ü", images=False)
    book.take_in(program, source, "", "", is_default=False)
    settle(book)
    assert book.error is None and book.find("mvdream").state is WeightsState.THERE and book.find("mvdream").is_accepted


def test_names_are_plain_and_nobody_elses():
    assert plain_name("Gewichte für Möbel") == "Gewichte-fur-Mobel" and plain_name("家具") == "weights"
    assert plain_name("ray", ["ray", "ray-2"]) == "ray-3" and plain_name("../../x y") == "x-y"
    assert plain_name("x" * 300) == "x" * 90


def reason_of(action):
    with pytest.raises(AddonError) as caught:
        action()
    return caught.value.reason, sentence(caught.value.reason, caught.value.message)


def fetch(program, name="mvdream"):
    return weights.download(program, name, report=lambda _: None, should_stop=lambda: False)


def test_what_stops_a_download_has_a_sentence(server, program, tmp_path):
    (tmp_path / "file").touch()
    reason, said = reason_of(lambda: fetch(WeightsProgram(program.command, tmp_path / "file" / "weights")))
    assert reason == "WEIGHTS_FOLDER" and "cannot be written to" in said and str(tmp_path / "file") in said
    tree = next(path for path in server.files if "/tree/" in path)
    rows = json.loads(server.files[tree])
    for row in rows:
        if row["path"] == UNET:
            row["size"] = row["lfs"]["size"] = 10**16
    server.files[tree] = json.dumps(rows).encode()
    reason, said = reason_of(lambda: fetch(program))
    assert (
        reason == "WEIGHTS_DISK_FULL"
        and said.startswith("There is no room for the weights: ")
        and "are free in" in said
    )
    del server.files[tree]
    reason, said = reason_of(lambda: fetch(WeightsProgram(program.command, tmp_path / "other")))
    assert reason == "WEIGHTS_NOT_FETCHED" and "answered 404" in said
    assert reason_of(lambda: fetch(program, "unheard-of"))[0] == "WEIGHTS_NOT_FETCHED"


def test_another_file_than_was_promised_is_not_kept(server, program):
    path = next(path for path in server.files if path.endswith(UNET))
    server.files[path] = server.files[path][:-1] + b"?"
    reason, said = reason_of(lambda: fetch(program))
    assert reason == "WEIGHTS_CORRUPT" and "It was deleted" in said


def test_an_old_backend_says_that_it_is_too_old(tmp_path):
    backend = tmp_path / "mvgamba-backend"
    reason, said = reason_of(lambda: find_program([str(backend)]))
    assert reason == "VERSION_MISMATCH" and "no program mvgamba beside" in said
    assert find_program(["python", "-P", "-m", "mvgamba_backend"]).command == ("python", "-P", "-m", "mvgamba")
    old = tmp_path / "mvgamba"
    old.write_text('#!/bin/sh\necho "mvgamba weights: error: unrecognized arguments: --die-with-stdin" >&2\nexit 2\n')
    old.chmod(0o755)
    program = find_program([str(backend)])
    reason, said = reason_of(lambda: fetch(program))
    assert reason == "VERSION_MISMATCH" and "too old" in said and "--die-with-stdin" in said
    old.write_text("""#!/bin/sh\necho '{"name": "ray-starter-cpu", "kind": "reconstructor", "is_there": true}'\n""")
    assert reason_of(lambda: weights.list_weights(program))[0] == "VERSION_MISMATCH"
    old.write_text("no program")
    assert reason_of(lambda: weights.list_weights(program))[0] in ("BACKEND_START_FAILED", "INTERNAL")
