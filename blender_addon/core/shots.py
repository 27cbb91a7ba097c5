"""Pictures that are still to be taken: of a stage that lies on the disk, by a Blender process of its own.

A render in this process would stop the user's hands: Cycles needs a tenth of a second to some seconds for a view. In
another process it cannot, whatever the scene; nor can an undo, a save or a crash meet its half-made data.
"""

import dataclasses
import json
import logging
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import AddonError
from .i18n import tr

log = logging.getLogger(__name__)

_POLL = 0.1
"""Seconds between two looks at whether to stop."""


@dataclass(frozen=True)
class Shot:
    """One picture or one depth map, as plain data. Lengths are those of the stage."""

    scene: str
    path: str
    """PNG (RGBA, sRGB, straight alpha), or .npy for a depth map (float32, along the view axis, 0 where nothing is)."""
    size: int
    """Edge length in pixels."""
    c2w: tuple[tuple[float, ...], ...]
    """4 x 4, Blender's axes of a camera."""
    angle: float
    """Field of view across the square, in radians."""
    shift: tuple[float, float]
    """Lens shift, as a fraction of the edge."""
    clip: tuple[float, float]
    depth_factor: float = 1.0
    """Scene units in one unit of the stage."""

    @property
    def is_depth(self) -> bool:
        return self.path.endswith(".npy")


@dataclass(frozen=True)
class StageRender:
    """A stage on the disk, its shots, and the command of a Blender that takes them."""

    command: tuple[str, ...]
    """To which the two paths are appended."""
    stage_path: Path
    shots_path: Path
    shots: tuple[Shot, ...]

    @property
    def num_views(self) -> int:
        return sum(not shot.is_depth for shot in self.shots)

    @property
    def is_pending(self) -> bool:
        """Whether the shots have not all been taken, and still can be."""
        return self.stage_path.is_file()

    def write_shots(self) -> None:
        self.shots_path.write_text(json.dumps([dataclasses.asdict(shot) for shot in self.shots]), encoding="utf-8")

    def run(self, *, report: Callable[[int], None], should_stop: Callable[[], bool]) -> bool:
        """Take all shots; blocks. False when `should_stop` asked for an end before they were all there.

        Args:
            report: Called with the number of views that are complete.
        Raises:
            AddonError: CAPTURE_FAILED.
        """
        per_view = len(self.shots) // max(1, self.num_views)
        lines: deque[str] = deque(maxlen=40)
        try:
            process = start_blender((*self.command, str(self.stage_path), str(self.shots_path)))
        except OSError as error:
            raise AddonError("CAPTURE_FAILED", tr("Blender could not be started: {why}").format(why=error)) from error
        output: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(process, output), name="mvgamba-capture", daemon=True)
        reader.start()
        try:
            while not should_stop():
                try:
                    line = output.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if line is None:
                    break
                if line.startswith(_DONE):
                    report(int(line[len(_DONE) :]) // per_view)
                elif line:
                    lines.append(line)
            else:
                return False
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            reader.join()
        missing = [shot.path for shot in self.shots if not Path(shot.path).is_file()]
        if code or missing:
            log.warning("a capture ended with code %d:\n%s", code, "\n".join(lines))
            why = lines[-1] if lines else tr("Blender ended with code {code}").format(code=code)
            raise AddonError("CAPTURE_FAILED", why)
        self.stage_path.unlink(missing_ok=True)
        self.shots_path.unlink(missing_ok=True)
        return True


_DONE = "MVGAMBA SHOT "
"""How the script says that one more is there."""


def start_blender(command: Sequence[str], output: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start another Blender, which hears nothing and says everything to `output`. Raises: OSError."""
    flags = 0
    if os.name == "nt":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        creationflags=flags,
    )


def _read(process: "subprocess.Popen[str]", output: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            output.put(line.strip())
    output.put(None)
