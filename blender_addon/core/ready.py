"""What is made of results beside Blender before they are placed, so that placing only takes it over.

Small files of our own form are read, and leave arrays beside them (`mesh_file`). For all else another Blender makes finished
meshes in a .blend: large results, coarser copies, hulls, files that only Blender's importer reads. To append them takes about
ten milliseconds, whatever their size.
"""

import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .glb import count_triangles
from .mesh_file import is_prepared, prepare
from .shots import start_blender

log = logging.getLogger(__name__)

_POLL = 0.05
"""Seconds between two looks at the other Blender."""


@dataclass(frozen=True)
class ReadyPlan:
    """What is to be made of the results of a job."""

    command: tuple[str, ...]
    """Of a Blender that runs `scene.make_ready`; the path of the plan is appended."""
    folder: Path
    """For its files, made on demand."""
    paths: tuple[Path, ...]
    """GLBs, the variant to be shown first."""
    most_faces: int
    """Of all of them together, for which arrays will do."""
    shade_smooth: bool = True
    lods: int = 0
    """Coarser copies of the first."""
    collision: str = "NONE"
    """NONE, BOX or CONVEX; a box takes no time, so none is made ahead."""

    @property
    def is_needed(self) -> bool:
        """Whether placing would take long without it."""
        return self.needs_blender or not all(map(is_prepared, self.paths))

    @property
    def needs_blender(self) -> bool:
        """Whether arrays alone would not do."""
        return self.lods > 0 or self.collision == "CONVEX" or sum(map(count_triangles, self.paths)) > self.most_faces


@dataclass(frozen=True)
class ReadyFile:
    """Finished meshes on the disk, by the names that they have there."""

    path: Path
    meshes: tuple[str, ...]
    """Of each path of the plan; empty for one that could not be read: who imports it is told why."""
    lods: tuple[str, ...] = ()
    """In the axes of the first mesh, the finest first."""
    collision: str = ""
    """In the axes of the first mesh; empty for none."""

    def remove(self) -> None:
        """Take it from the disk."""
        self.path.unlink(missing_ok=True)


def make_ready(
    plan: ReadyPlan, *, report: Callable[[object], None], should_stop: Callable[[], bool]
) -> ReadyFile | None:
    """Do what a plan asks for; blocks. None when arrays are enough, when it was stopped, or when the other Blender failed.

    Without what was to be made placing takes longer, so a failure is logged and no more.
    """
    prepare(path for path in plan.paths if not is_prepared(path))
    if should_stop() or not (plan.needs_blender or not all(map(is_prepared, plan.paths))):
        return None
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=plan.folder) as folder, tempfile.TemporaryFile() as said:
            order, made = Path(folder, "order.json"), Path(folder, "made.json")
            blend = plan.folder / f"{Path(folder).name}.blend"
            table = {
                "paths": [str(path) for path in plan.paths],
                "shade_smooth": plan.shade_smooth,
                "lods": plan.lods,
                "collision": plan.collision if plan.collision == "CONVEX" else "NONE",
                "blend": str(blend),
                "made": str(made),
            }
            order.write_text(json.dumps(table), encoding="utf-8")
            process = start_blender((*plan.command, str(order)), said)
            if not _wait(process, should_stop):
                blend.unlink(missing_ok=True)
                return None
            if process.returncode or not made.is_file():
                said.seek(0)
                text = said.read().decode("utf-8", errors="replace").strip()
                log.warning("the other Blender ended with code %d:\n%s", process.returncode, text)
                return None
            names = json.loads(made.read_text(encoding="utf-8"))
            return ReadyFile(blend, tuple(names["meshes"]), tuple(names["lods"]), names["collision"])
    except OSError as error:
        log.warning("nothing was made ready: %s", error)
        return None


def _wait(process: "subprocess.Popen[str]", should_stop: Callable[[], bool]) -> bool:
    """Until it has ended; False when it had to be ended."""
    try:
        while process.poll() is None:
            if should_stop():
                return False
            time.sleep(_POLL)
        return True
    finally:
        process.kill()
        process.wait()
