"""How weights stand, as other programs are told it, and downloads that other programs start and end."""

import json
import os
import subprocess
import sys
import time

import pytest

from mvgamba.weights.hub import HUB_MODELS
from mvgamba.weights.standing import standings
from tests.mvgamba.weights.hub_server import answers, small_model
from tests.mvgamba.weights.mirror import Mirror

MODEL = HUB_MODELS["mvdream"]
FILES = small_model(MODEL.folders)
SIZE = sum(map(len, FILES.values()))
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub():
    with Mirror(answers(MODEL.repository, FILES)) as mirror:
        yield mirror


@pytest.fixture
def start(hub, tmp_path):
    """Starts `mvgamba weights ...` as another program would, with a mirror of the hub and a folder of its own."""
    environment = os.environ | {"MVGAMBA_WEIGHTS": str(tmp_path), "HF_ENDPOINT": hub.url("")}

    def start(*arguments):
        # those that start it may ignore Ctrl+C, which children inherit
        command = [
            "sh",
            "-c",
            "trap '' INT; exec \"$@\"",
            "sh",
            sys.executable,
            "-m",
            "mvgamba",
            "weights",
            *arguments,
            "--json",
        ]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    return start


posix = pytest.mark.skipif(sys.platform == "win32", reason="what a parent ignores is a thing of POSIX")


def lines(process):
    out, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()]


def stands(folder):
    return {standing.name: standing for standing in standings(folder)}["mvdream"]


@posix
def test_a_download_ends_with_its_stdin_and_goes_on_where_it_was(hub, start, tmp_path):
    hub.hold_after = 300_000
    process = start("pull", "mvdream", "--accept-licence", "--die-with-stdin")
    while stands(tmp_path).fetched < 300_000:
        assert process.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    process.stdin.close()
    assert process.wait(10.0) == 130 and time.monotonic() - began < 1.5, "it waited for the server"
    process.stdout.close()
    cut = stands(tmp_path)
    assert cut.state == "partial" and cut.size == SIZE and 300_000 <= cut.fetched < SIZE and cut.is_accepted
    hub.hold_after = None
    hub.go_on.set()
    hub.asked.clear()
    *progress, done = lines(start("pull", "mvdream"))
    assert done["event"] == "done" and any(asked and asked.startswith("bytes=") for asked in hub.asked)
    assert progress[-1] == {"event": "progress", "bytes": SIZE, "of": SIZE}
    assert stands(tmp_path).state == "there" and stands(tmp_path).fetched > SIZE  # and the record


@posix
def test_lists_say_what_is_damaged_as_far_as_it_shows_and_verify_says_the_rest(start, tmp_path):
    lines(start("pull", "mvdream", "--accept-licence"))
    (verified,) = lines(start("verify", "mvdream"))
    assert verified["state"] == "whole"
    (tmp_path / "mvdream" / UNET).write_bytes(bytes(len(FILES[UNET])))
    assert stands(tmp_path).state == "there"
    process = start("verify", "mvdream")
    (verified,) = lines(process)
    assert process.returncode == 1 and verified["state"] == "damaged" and UNET in verified["said"]
    (tmp_path / "mvdream" / UNET).unlink()
    assert stands(tmp_path).state == "damaged"
    (error,) = lines(start("verify", "nothing"))
    assert error["reason"] == "INVALID_INPUT" and "There are:" in error["message"]


def test_a_model_says_which_packages_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("mvgamba.weights.standing.LIBRARIES", ("json", "no_such_package"))
    assert stands(tmp_path).missing == ("no_such_package",)


def test_a_file_that_was_cut_counts_what_lies_there(tmp_path):
    sha256 = "0123456789ab" + "0" * 52
    entry = {"name": "more", "kind": "reconstructor", "model": "ray", "file": "more.safetensors", "sha256": sha256}
    entry |= {"licence": "MIT", "about": "Some.", "url": "https://example.org/more.safetensors"}
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))

    def more():
        return {standing.name: standing for standing in standings(tmp_path)}["more"]

    assert more().state == "absent" and more().can_pull and more().size is None
    (tmp_path / "more.safetensors.0123456789ab.partial").write_bytes(bytes(1000))
    assert more().state == "partial" and more().fetched == 1000
