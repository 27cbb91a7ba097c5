"""A screen that nobody sees, with a mouse, a keyboard and a clipboard: Xvfb, xdotool and xclip."""

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

SIZE = (1280, 960)
"""Width and height of the usual screen, in pixels."""


class Display:
    """One X server of our own. A context manager; it takes a free number and ends with the block."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mvgamba-window-")
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size[0]}x{size[1]}x24", "+extension", "GLX"]
        # The frame buffer lies in a file, in the format of xwd: a screenshot costs no program and no connection.
        command += ["-fbdir", self._folder.name, "-nolisten", "tcp", "-noreset"]
        self._process = subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise RuntimeError("Xvfb did not start")
        self.name = f":{number}"
        self._clipboard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._let_go_of_clipboard()
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()

    def screenshot(self) -> Image.Image:
        """What is on the screen now, RGB."""
        data = (Path(self._folder.name) / "Xvfb_screen0").read_bytes()
        header = np.frombuffer(data, dtype=">u4", count=25)
        # XWDFileHeader: header_size, ..., pixmap_width (4), pixmap_height (5), ..., bytes_per_line (12), ..., ncolors (19)
        size, width, height, row, colors = (int(header[i]) for i in (0, 4, 5, 12, 19))
        begin = size + 12 * colors
        pixels = np.frombuffer(data, dtype=np.uint8, count=row * height, offset=begin).reshape(height, row // 4, 4)
        return Image.fromarray(np.ascontiguousarray(pixels[:, :width, 2::-1]))

    def move(self, x: float, y: float) -> None:
        """Put the mouse at (x, y), pixels from the upper left."""
        self._xdotool("mousemove", str(round(x)), str(round(y)))

    def click(self, x: float, y: float, *, button: int = 1, times: int = 1) -> None:
        self.move(x, y)
        self._xdotool("click", "--repeat", str(times), "--delay", "60", str(button))

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Press at one place and let go at another, with stops between: Blender begins a drag with the second move."""
        self.move(x, y)
        steps = [(x + (to_x - x) * k / 4, y + (to_y - y) * k / 4) for k in range(1, 5)]
        moves = [word for at in steps for word in ("mousemove", str(round(at[0])), str(round(at[1])), "sleep", "0.05")]
        self._xdotool("mousedown", "1", "sleep", "0.05", *moves, "mouseup", "1")

    def key(self, keys: str) -> None:
        """Press keys by their X names, such as ctrl+z."""
        self._xdotool("key", keys)

    def type(self, text: str) -> None:
        self._xdotool("type", "--delay", "15", text)

    def copy(self, kind: str, data: bytes) -> None:
        """Offer data of a type (such as image/png) on the clipboard, as long as nobody else puts something there."""
        self._let_go_of_clipboard()
        command = ["xclip", "-quiet", "-selection", "clipboard", "-t", kind, "-i"]  # quiet: stays in front and serves
        environment = {**os.environ, "DISPLAY": self.name}
        self._clipboard = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._clipboard.stdin is not None
        self._clipboard.stdin.write(data)
        self._clipboard.stdin.close()

    def _let_go_of_clipboard(self) -> None:
        if self._clipboard is not None:
            self._clipboard.kill()
            self._clipboard.wait()
            self._clipboard = None

    def _xdotool(self, *words: str) -> None:
        subprocess.run(["xdotool", *words], check=True, env={**os.environ, "DISPLAY": self.name})
