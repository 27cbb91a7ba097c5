"""What the worker of a capture really holds at its peak, beside its plan and its budget.

    python tests/benchmarks/bench_memory.py                    writes tests/benchmarks/results/memory.json
    python tests/benchmarks/bench_memory.py --budgets 4096

Every job runs in the service's own worker: each budget in a fresh one, its jobs one after the other, as the day of a worker goes. The
peak is the system's mark of the resident set (VmHWM of Linux), set back before each job.
"""

import argparse
import json
import os
import queue
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.io.images import encode_png
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.planning import MIB, Memory, fit_to_memory, job_of
from mvgamba.types import Cameras
from mvgamba_backend.engine import EngineSettings, OutputFile, Task
from mvgamba_backend.engine.local import LocalEngine
from mvgamba_backend.engine.real import options_from_spec
from mvgamba_backend.spec import CameraSpec, CaptureSource, JobSpec, Options, ViewSpec
from tests.benchmarks.bench_pipeline import bumpy_ball

NUM_VIEWS, IMAGE_SIZE = 8, 448
"""As the extension captures."""
BUDGETS = (1536, 2048)
"""MiB."""
QUALITIES = ("standard", "high")
TEXTURE_SIZE = 4096
RESULT = Path(__file__).parent / "results" / "memory.json"


class Heard:
    """The listener of the engine: notes the peak of each stage, and waits for the end of a job."""

    def __init__(self) -> None:
        self.pid = 0
        self.said: list[str] = []
        self.peaks: dict[str, int] = {}
        self._stage = ""
        self._ends: queue.SimpleQueue[str] = queue.SimpleQueue()

    def begin(self, pid: int) -> None:
        """A job begins in this process."""
        self.pid, self.said, self.peaks, self._stage = pid, [], {}, "prepare"
        self._start_anew()

    def wait(self) -> str:
        """How the job ended; empty when it went well."""
        return self._ends.get()

    def on_progress(self, job_id: str, stage: str, fraction: float, **more: Any) -> None:
        if stage != self._stage:
            self._note()
            self._stage = stage
            self._start_anew()

    def _start_anew(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _note(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        mib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024
        self.peaks[self._stage] = max(mib, self.peaks.get(self._stage, 0))

    def on_log(self, job_id: str, text: str) -> None:
        self.said.append(text)

    def on_preview(self, *_: Any) -> None: ...

    def on_done(self, job_id: str, files: list[OutputFile]) -> None:
        self._note()
        self._ends.put("")

    def on_failed(self, job_id: str, reason: str, message: str, metadata: dict[str, str]) -> None:
        self._ends.put(f"{reason}: {message}")

    def on_cancelled(self, job_id: str) -> None:
        self._ends.put("CANCELLED")

    def on_room(self) -> None: ...


def write_views(folder: Path, *, has_depth: bool) -> tuple[CaptureSource, dict[str, Path]]:
    """A capture of the ball with bumps, as files."""
    cameras = fibonacci_cameras(NUM_VIEWS, radius=1.5, fovy=0.857, height=IMAGE_SIZE, width=IMAGE_SIZE)
    vertices, faces, colors = bumpy_ball()
    blobs, views = {}, []
    for i in range(NUM_VIEWS):
        planes = rasterize_mesh(
            vertices,
            faces,
            c2w_to_w2c_opencv(cameras.c2w[[i]]).float(),
            cameras.intrinsics[[i]].float(),
            height=IMAGE_SIZE,
            width=IMAGE_SIZE,
        )
        seen = planes.face_ids[0] >= 0
        corners = colors[faces[planes.face_ids[0].clamp_min(0).long()]]
        rgb = (corners * planes.barycentrics[0, ..., None]).sum(-2)
        picture = torch.cat([rgb, seen[..., None].float()], -1).numpy()
        blobs[f"image {i}"] = folder / f"{i}.png"
        blobs[f"image {i}"].write_bytes(encode_png(picture))
        if has_depth:
            blobs[f"depth {i}"] = folder / f"{i}.npy"
            np.save(blobs[f"depth {i}"], torch.where(seen, planes.depth[0], 0).numpy().astype(np.float32))
        views.append(ViewSpec(f"image {i}", _camera(cameras, i), f"depth {i}" if has_depth else None))
    return CaptureSource(tuple(views)), blobs


def _camera(cameras: Cameras, i: int) -> CameraSpec:
    k = cameras.intrinsics[i].tolist()
    return CameraSpec(
        tuple(cameras.c2w[i].flatten().tolist()), k[0][0], k[1][1], k[0][2], k[1][2], IMAGE_SIZE, IMAGE_SIZE
    )


def planned_mib(options: Options, *, has_depth: bool) -> dict[str, int]:
    """What the plan expects of each stage of the job as it is fitted into its budget."""
    wanted = replace(options_from_spec(options), device="cpu")
    job = job_of(wanted, num_views=NUM_VIEWS, height=IMAGE_SIZE, width=IMAGE_SIZE, has_depth=has_depth)
    there = Memory(psutil.virtual_memory().available, 0).within(options.memory_mib)
    return {stage: peak // MIB for stage, peak in fit_to_memory(job, there).plan.stages.items()}


def measured(budget: int) -> list[dict[str, Any]]:
    """The jobs of one worker."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        engine, heard = LocalEngine(EngineSettings("real", Path(name) / "work", 5.0, 0.0)), Heard()
        engine.start(heard)
        engine.describe(timeout=120.0)
        (worker,) = psutil.Process().children()
        try:
            for has_depth in (True, False):
                folder = Path(name) / f"views_{has_depth}"
                folder.mkdir()
                source, blobs = write_views(folder, has_depth=has_depth)
                for quality in QUALITIES:
                    options = Options(quality=quality, texture_size=TEXTURE_SIZE, seed=1, memory_mib=budget)
                    heard.begin(worker.pid)
                    begin = time.perf_counter()
                    engine.run(Task(f"job {len(rows)}", JobSpec(source, options), blobs))
                    problem = heard.wait()
                    while not engine.has_room("auto"):  # it says how a job ended before it makes room
                        time.sleep(0.01)
                    planned = planned_mib(options, has_depth=has_depth)
                    row = {
                        "budget_mib": budget,
                        "depth": has_depth,
                        "quality": quality,
                        "texture": TEXTURE_SIZE,
                        "planned_mib": max(planned.values()),
                        "peak_mib": max(heard.peaks.values(), default=0),
                        "stages_mib": {stage: [mib, heard.peaks.get(stage)] for stage, mib in planned.items()},
                        "seconds": round(time.perf_counter() - begin, 1),
                        "reduced": [s.partition(": ")[2] for s in heard.said if s.startswith("Memory is short: ")],
                        "problem": problem,
                    }
                    rows.append(row)
                    print(json.dumps(row), flush=True)
        finally:
            engine.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, metavar="MIB")
    arguments = parser.parse_args()
    rows = [row for budget in arguments.budgets for row in measured(budget)]
    over = [row for row in rows if row["problem"] or row["peak_mib"] > row["budget_mib"]]
    if arguments.budgets == BUDGETS:
        facts = {
            "views": NUM_VIEWS,
            "image_size": IMAGE_SIZE,
            "threads": os.cpu_count(),
            "date": time.strftime("%Y-%m-%d"),
        }
        RESULT.write_text(json.dumps({**facts, "jobs": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(over)} of {len(rows)} jobs failed or went over their budget")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
