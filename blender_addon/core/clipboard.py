"""The picture on the clipboard where Blender itself reads none, which is under X11: asked from xclip."""

import logging
import os
import shutil
import subprocess

from .errors import AddonError
from .i18n import tr

log = logging.getLogger(__name__)

PROGRAM = "xclip"
KINDS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/bmp": ".bmp", "image/tiff": ".tif"}
"""What is taken, the best first, and the ending of such a file."""
_ASK_TIMEOUT = 1.0
"""Seconds in which the owner of the clipboard says what it has. Blender cannot answer while it waits: what it has copied
itself, which is no picture, costs this time."""
_READ_TIMEOUT = 10.0
MOST_BYTES = 256_000_000


def clipboard_picture() -> tuple[bytes, str] | None:
    """The bytes of the picture that lies on the clipboard and the ending of such a file; None when it holds something else.

    Raises:
        AddonError: INVALID_IMAGE, when xclip is missing or the picture does not arrive.
    """
    program = shutil.which(PROGRAM)
    if program is None and os.environ.get("WAYLAND_DISPLAY"):
        return None  # Blender can read it there, and has not found one
    if program is None:
        text = tr("under X11 Blender reads no pictures from the clipboard: install xclip, or add the picture as a file")
        raise AddonError("INVALID_IMAGE", text)
    offered = _ask(program, "TARGETS", _ASK_TIMEOUT)
    if offered is None:
        return None
    kinds = offered.decode("ascii", errors="replace").split()
    kind = next((kind for kind in KINDS if kind in kinds), None)
    if kind is None:
        return None
    data = _ask(program, kind, _READ_TIMEOUT)
    if not data or len(data) > MOST_BYTES:
        raise AddonError("INVALID_IMAGE", tr("the picture on the clipboard cannot be read"))
    return data, KINDS[kind]


def _ask(program: str, target: str, timeout: float) -> bytes | None:
    command = [program, "-selection", "clipboard", "-t", target, "-o"]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("the clipboard does not answer: %s", error)
        return None
    return run.stdout if run.returncode == 0 else None
