"""A pipeline that plays: every stage, a cube for a result, and faults on demand. For clients to test against.

Words in the prompt, or in the label of a job without one, direct it:

    #fail:REASON    fails half way with that reason, e.g. #fail:OUT_OF_MEMORY
    #crash          stops half way by a fault that nobody foresaw
    #slow:SECONDS   takes that long, spread evenly over the stages
    #die:STAGE      kills its own process in that stage, as the system does when memory ends
    #hold:STAGE     stays in that stage until it is cancelled, a minute at most
    #deaf           does not listen to a cancel
    #preview        shows a small picture for each of four views
    #log            says something to the user
"""

import os
import platform
import signal
import time

import numpy as np

from mvgamba.errors import MVGambaError
from mvgamba.progress import STAGES
from mvgamba_backend.engine.cube import checker_png, cube_glb
from mvgamba_backend.engine.pipeline import Job
from mvgamba_backend.engine.protocol import Description, OutputFile
from mvgamba_backend.spec import CaptureSource, JobSpec, TextSource

STEPS = 4
"""Reports in each stage."""
NUM_PREVIEWS = 4
HELD = 60.0
"""Seconds."""


class FakePipeline:
    """The same answers each time, without a model."""

    def describe(self) -> Description:
        return Description(
            versions={"python": platform.python_version(), "numpy": np.__version__},
            devices=[{"id": "cpu", "name": "None: nothing is computed", "memory_bytes": 0, "free_memory_bytes": 0}],
            models=[{"id": "cube", "kind": "reconstructor", "available": True, "why_not": ""}],
            sources=["text", "image", "capture"],
        )

    def run(self, job: Job) -> list[OutputFile]:
        script = script_of(job.spec)
        pause = float(script.get("slow", 0.0)) / (len(STAGES) * STEPS)
        color = seed_color(job.spec.options.seed or 0)
        if "log" in script:
            job.log("This result is a cube, whatever was asked for.")
        for i, stage in enumerate(STAGES):
            for step in range(STEPS):
                held = HELD if script.get("hold") == stage and step == 1 else 0.0
                self._pause(job, pause + held, deaf="deaf" in script)
                job.report(
                    stage,
                    (i + step / STEPS) / len(STAGES),
                    message=f"Playing {stage}",
                    stage_fraction=step / STEPS,
                    seconds_left=pause * ((len(STAGES) - i) * STEPS - step),
                )
                if script.get("die") == stage and step == 1:
                    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            if stage == "multiview" and "preview" in script:
                for k in range(NUM_PREVIEWS):
                    job.preview(checker_png(16, color), "image/png", index=k, count=NUM_PREVIEWS)
            if stage == "refine" and "crash" in script:
                raise RuntimeError("The prompt asked for a fault.")
            if stage == "refine" and "fail" in script:
                error = MVGambaError(f"The prompt asked for {script['fail']}.")
                error.reason = script["fail"]
                raise error
        center, half = region_of(job.spec)
        path = job.folder / "mesh.glb"
        path.write_bytes(cube_glb(center, half, texture=checker_png(64, color)))
        preview = job.folder / "preview.png"
        preview.write_bytes(checker_png(64, color))
        return [OutputFile(path, "mesh", "model/gltf-binary"), OutputFile(preview, "preview", "image/png")]

    @staticmethod
    def _pause(job: Job, seconds: float, *, deaf: bool) -> None:
        end = time.monotonic() + seconds
        while True:
            if not deaf:
                job.cancel.raise_if_cancelled()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.02))


def script_of(spec: JobSpec) -> dict[str, str]:
    """The words that direct this pipeline, with what stands behind their colon."""
    text = spec.source.prompt if isinstance(spec.source, TextSource) else spec.label
    words = (word[1:].partition(":") for word in text.split() if word.startswith("#"))
    return {name: value for name, _, value in words}


def seed_color(seed: int) -> tuple[int, int, int]:
    """The same colour for the same seed, never dark."""
    rng = np.random.default_rng(seed)
    r, g, b = (int(v) for v in rng.integers(80, 256, 3))
    return r, g, b


def region_of(spec: JobSpec) -> tuple[np.ndarray, float]:
    """Centre and half edge of the cube: what the cameras of a capture look at, else the inside of the unit ball."""
    if not isinstance(spec.source, CaptureSource):
        return np.zeros(3), 0.5
    cameras = [view.camera for view in spec.source.views]
    c2w = np.array([c.c2w for c in cameras]).reshape(-1, 4, 4)
    origins, axes = c2w[:, :3, 3], -c2w[:, :3, 2]
    # the point nearest to all optical axes; a trace of the identity decides when they are parallel
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    center = np.linalg.solve(across.sum(0) + 1e-9 * np.eye(3), np.einsum("vij,vj->i", across, origins))
    depth = np.abs(np.einsum("vi,vi->v", center - origins, axes))
    seen = min(float(d) * c.height / (2 * c.fy) for d, c in zip(depth, cameras, strict=True))
    # its corners stay inside the picture
    return center, max(seen, 1e-6) / np.sqrt(3.0)
