"""Pictures on the clipboard of X11, from a program in the place of xclip that says what it is told to."""

import sys
import time

import pytest

from blender_addon.core import clipboard
from blender_addon.core.errors import AddonError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="X11 is the way of Linux")

PICTURE = b"\x89PNG of some bytes"


@pytest.fixture
def xclip(tmp_path, monkeypatch):
    """Puts a shell script in the place of xclip: `$4` is the target that is asked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def put(script):
        path = tmp_path / "xclip"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def offering(*kinds):
    """What has the picture as the last of these kinds."""
    return f"case $4 in TARGETS) printf '%s\\n' {' '.join(kinds)};; {kinds[-1]}) printf '\\211PNG of some bytes';; *) exit 1;; esac"


def test_the_picture_arrives_with_the_ending_of_its_kind(xclip):
    xclip(offering("TARGETS", "text/html", "image/png"))
    assert clipboard.clipboard_picture() == (PICTURE, ".png")


def test_text_is_no_picture(xclip):
    xclip(offering("TARGETS", "UTF8_STRING", "text/plain"))
    assert clipboard.clipboard_picture() is None


def test_an_empty_clipboard_is_no_picture(xclip):
    xclip("exit 1")
    assert clipboard.clipboard_picture() is None


def test_an_owner_that_does_not_answer_costs_a_second(xclip):
    xclip("exec /bin/sleep 30")
    began = time.monotonic()
    assert clipboard.clipboard_picture() is None
    assert time.monotonic() - began < 5.0


def test_a_picture_that_does_not_arrive_is_said(xclip):
    xclip("case $4 in TARGETS) echo image/png;; *) exit 1;; esac")
    with pytest.raises(AddonError, match="cannot be read") as caught:
        clipboard.clipboard_picture()
    assert caught.value.reason == "INVALID_IMAGE"


def test_without_the_program_it_is_named(xclip, monkeypatch):
    with pytest.raises(AddonError, match="install xclip"):
        clipboard.clipboard_picture()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert clipboard.clipboard_picture() is None
