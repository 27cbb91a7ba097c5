"""What a scenario inside Blender asks of the world outside: mouse, keys, clipboard, screenshots, and a backend."""

import base64
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from tests.window.chroots import ROOT
from tests.window.display import Display

BACKEND = (sys.executable, "-P", "-m", "mvgamba_backend")
"""The backend of this environment."""
_TABS = 28
"""Pixels at the right of a sidebar that its tabs take."""


def _environment() -> dict[str, str]:
    """Ours, with the packages of this checkout."""
    paths = [str(ROOT / folder) for folder in ("", "protos", "backend")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Outside:
    """Serves one Blender on a loopback port, one thread for each connection. A context manager."""

    def __init__(self, display: Display, root: Path, out: Path, *, backend: Sequence[str] = BACKEND) -> None:
        """
        Args:
            root: The root folder in which Blender runs.
            out: Where screenshots and the log of the backends go.
        """
        self._display, self._root, self._out, self._backend = display, root, out, tuple(backend)
        self.key = secrets.token_hex(8)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._processes: list[subprocess.Popen[str]] = []
        self.blender_pid = 0
        threading.Thread(target=self._accept, name="window-accept", daemon=True).start()

    def __enter__(self) -> "Outside":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for process in self._processes:
            process.kill()
            process.wait()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the scenario has ended
                return
            threading.Thread(target=self._serve, args=(connection,), name="window-serve", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as lines:
            try:
                for line in lines:
                    request = json.loads(line)
                    if request.pop("key") != self.key:
                        return
                    if request["want"] == "backend":
                        self._run_backend(request, lines)
                        return
                    if request["want"] == "command":
                        self._run_command(request["arguments"], lines)
                        return
                    answer = getattr(self, f"_do_{request.pop('want')}")(**request)
                    lines.write(json.dumps(answer) + "\n")
                    lines.flush()
            except (OSError, ValueError):  # Blender has gone; the driver sees that by itself
                return

    def _run_backend(self, request: dict[str, Any], lines: IO[str]) -> None:
        """Start a backend for the bridge at the other end, and end it as the bridge ends."""
        arguments = list(request["arguments"])
        at = arguments.index("--data-dir") + 1
        arguments[at] = str(self._root) + arguments[at]
        environment = {**_environment(), "MVGAMBA_TOKEN": request["token"]}
        with (self._out / "backend.log").open("a") as log:
            process = subprocess.Popen(
                [*self._backend, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=self._out,
            )
        self._processes.append(process)
        assert process.stdin is not None and process.stdout is not None
        lines.write(process.stdout.readline())
        lines.flush()
        with process.stdout, process.stdin:
            try:
                was_asked = lines.readline() == "leave\n"
            except OSError:
                was_asked = False
            if not was_asked:
                process.kill()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run_command(self, arguments: list[str], lines: IO[str]) -> None:
        """Run `mvgamba` for the bridge at the other end, with a folder of weights of this scenario's own."""
        environment = {**_environment(), "MVGAMBA_WEIGHTS": str(self._out / "weights")}
        with (self._out / "mvgamba.log").open("a") as log:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "mvgamba", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=self._out,
            )
        lines.write(f"{done.stdout}exit {done.returncode}\n")
        lines.flush()

    def _do_screenshot(self, name: str, box: list[float] | None = None, trim: bool = False) -> str:
        """Keep the screen, or the box (left, top, right, bottom) of it, as PNG of 256 colours.

        With `trim` the rows at the bottom in which nothing is but one colour (and the tabs at the right) are left out.
        """
        image = self._display.screenshot()
        if box is not None:
            image = image.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))
        if trim:
            pixels = np.asarray(image)[:-4, 4:-_TABS]
            used = np.flatnonzero((pixels != pixels[-1]).any(axis=(1, 2)))
            image = image.crop((0, 0, image.width, int(used[-1]) + 8 if len(used) else image.height))
        path = self._out / f"{name}.png"
        image.quantize(256).save(path, optimize=True)
        return str(path)

    def _do_move(self, x: float, y: float) -> bool:
        self._display.move(x, y)
        return True

    def _do_click(self, x: float, y: float, button: int = 1, times: int = 1) -> bool:
        self._display.click(x, y, button=button, times=times)
        return True

    def _do_drag(self, x: float, y: float, to_x: float, to_y: float) -> bool:
        self._display.drag(x, y, to_x, to_y)
        return True

    def _do_press(self, keys: str) -> bool:
        self._display.key(keys)
        return True

    def _do_type(self, text: str) -> bool:
        self._display.type(text)
        return True

    def _do_copy(self, colors: list[list[int]]) -> bool:
        """Put a PNG on the clipboard as another program would: colours (RGBA) in stripes beside each other."""
        self._display.copy("image/png", _striped_png(colors))
        return True

    def _do_xclip(self, arguments: list[str]) -> list[Any]:
        """Status and output (base64) of xclip, for the Blender that has none in its root folder."""
        environment = {**os.environ, "DISPLAY": self._display.name}
        try:
            run = subprocess.run(["xclip", *arguments], capture_output=True, timeout=10, env=environment)
        except subprocess.TimeoutExpired:
            return [1, ""]
        return [run.returncode, base64.b64encode(run.stdout).decode()]

    def _do_threads(self) -> list[str]:
        """Names of all threads of Blender, those of its libraries too."""
        names = []
        for task in Path(f"/proc/{self.blender_pid}/task").iterdir():
            try:
                names.append((task / "comm").read_text().strip())
            except OSError:  # it has just ended
                continue
        return sorted(names)


def _striped_png(colors: list[list[int]], *, edge: int = 64) -> bytes:
    """A square picture, one stripe from top to bottom for each colour."""
    stripes = np.repeat(np.asarray(colors, dtype=np.uint8), edge // len(colors), axis=0)
    stream = io.BytesIO()
    Image.fromarray(np.broadcast_to(stripes, (len(stripes), *stripes.shape)).copy()).save(stream, "PNG")
    return stream.getvalue()
