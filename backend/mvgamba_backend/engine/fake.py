"""A pipeline that plays: every stage, a cube for a result, and faults on demand. For clients to test against.

Words in the prompt (or what is to be avoided), or in the label of a job without one, direct it:

    #fail:REASON    fails half way with that reason, e.g. #fail:OUT_OF_MEMORY; #fail:REASON:What_it_says also says that
    #crash          stops half way by a fault that nobody foresaw
    #slow:SECONDS   takes that long, spread evenly over the stages
    #die:STAGE      kills its own process in that stage, as the system does when memory ends
    #hold:STAGE     stays in that stage until it is cancelled, a minute at most
    #deaf           does not listen to a cancel
    #preview        shows a small picture for each of four views; #preview:N does so N times, ever brighter
    #log            says something to the user, and which pictures came

It plays as many CUDA devices as it is told to, and computes on them as little as on the CPU. Like CUDA it sees those that CUDA_VISIBLE_DEVICES
names, numbered from 0; `facts.json` says which one a job had.

Variants and views to review come as of the real one: cubes in other colours, and four pictures of the cube with their cameras.
"""

import dataclasses
import json
import os
import platform
import signal
import time
from typing import Any

import numpy as np

from mvgamba import __version__
from mvgamba.errors import MVGambaError, Unavailable
from mvgamba.progress import STAGES
from mvgamba_backend.engine.cube import checker_png, cube_glb, cube_views
from mvgamba_backend.engine.pipeline import Job, numbered, source_facts
from mvgamba_backend.engine.protocol import Description, OutputFile
from mvgamba_backend.spec import CaptureSource, ImageSource, JobSpec, TextSource, VariationSource

STEPS = 4
"""Reports in each stage."""
SIDES = ("front", "right", "back", "left")
VIEW_SIZE = 64
WARNING = "This result is a cube, whatever was asked for."
HELD = 60.0
"""Seconds."""


class FakePipeline:
    """The same answers each time, without a model."""

    def __init__(self, num_cuda: int = 0) -> None:
        self._cards = visible_cards(num_cuda)

    def describe(self) -> Description:
        nothing = {"memory_bytes": 0, "free_memory_bytes": 0}
        cards = [{"id": f"cuda:{i}", "name": f"Played card {card}", **nothing} for i, card in enumerate(self._cards)]
        return Description(
            versions={"python": platform.python_version(), "numpy": np.__version__},
            devices=[{"id": "cpu", "name": "None: nothing is computed", **nothing}, *cards],
            models=[
                {"id": "cube", "kind": "reconstructor", "available": True, "why_not": ""},
                {
                    "id": "starter",
                    "kind": "multiview",
                    "available": True,
                    "why_not": "",
                    "sources": ["text", "image", "variation"],
                },
                {
                    "id": "imagedream",
                    "kind": "multiview",
                    "available": False,
                    "why_not": "Nothing but a cube is made here.",
                    "sources": ["image"],
                },
            ],
            sources=["capture", "text", "image", "variation"],
        )

    def run(self, job: Job) -> list[OutputFile]:
        script, options = script_of(job.spec), job.spec.options
        on_card = options.device.startswith("cuda") or (options.device == "auto" and self._cards)
        if on_card and not self._cards:
            raise Unavailable(f"device is {options.device}, but no card is played here.")
        device = f"card {self._cards[0]}" if on_card else "cpu"
        if "log" in script:
            job.log(WARNING)
            if sizes := picture_bytes(job).get("picture_bytes"):
                job.log(f"Pictures: {', '.join(sizes)}.")
        files, results = [], []
        for k in range(options.variants):
            seed = (options.seed or 0) + k
            self._play(job, script, variant=k)
            made = self._views(job, seed, k) if options.review_views else self._mesh(job, seed, k)
            files += made
            asked = dataclasses.asdict(options.multiview)
            facts = {"version": __version__, "seed": seed, "device": device, "warnings": [WARNING], **asked}
            facts |= picture_bytes(job)
            results.append({"asset": made[-1].path.name, **source_facts(job.spec), **facts})
        files.sort(key=lambda file: file.kind != "mesh")
        if not options.review_views:
            preview = job.folder / "preview.png"
            preview.write_bytes(checker_png(64, seed_color(options.seed or 0)))
            files.append(OutputFile(preview, "preview", "image/png"))
        path = job.folder / "facts.json"
        path.write_text(json.dumps({"version": __version__, "results": results}))
        return [*files, OutputFile(path, "facts", "application/json")]

    def _play(self, job: Job, script: dict[str, str], *, variant: int) -> None:
        """The stages of one result."""
        options = job.spec.options
        stages = STAGES[: STAGES.index("multiview") + 1] if options.review_views else STAGES
        pause = float(script.get("slow", 0.0)) / (options.variants * len(stages) * STEPS)
        for i, stage in enumerate(stages):
            for step in range(STEPS):
                held = HELD if script.get("hold") == stage and step == 1 else 0.0
                self._pause(job, pause + held, deaf="deaf" in script)
                done = (i + step / STEPS) / len(stages)
                job.report(
                    stage,
                    (variant + done) / options.variants,
                    message=f"Playing {stage}",
                    stage_fraction=step / STEPS,
                    seconds_left=pause * ((len(stages) - i) * STEPS - step),
                )
                if script.get("die") == stage and step == 1:
                    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            if stage == "multiview" and "preview" in script:
                self._show(job, rounds=int(script["preview"] or 1), variant=variant)
            if stage == "refine" and "crash" in script:
                raise RuntimeError("The prompt asked for a fault.")
            if stage == "refine" and "fail" in script:
                reason, _, said = script["fail"].partition(":")
                error = MVGambaError(said.replace("_", " ") or f"The prompt asked for {reason}.")
                error.reason = reason
                raise error

    @staticmethod
    def _show(job: Job, *, rounds: int, variant: int) -> None:
        r, g, b = seed_color((job.spec.options.seed or 0) + variant)
        for n in range(1, rounds + 1):
            pictures, _, _ = cube_views((r * n // rounds, g * n // rounds, b * n // rounds), size=VIEW_SIZE)
            for i, picture in enumerate(pictures):
                job.preview(picture, "image/png", index=i, count=len(pictures), variant=variant)

    @staticmethod
    def _mesh(job: Job, seed: int, variant: int) -> list[OutputFile]:
        center, half = region_of(job.spec)
        path = job.folder / numbered("mesh.glb", variant)
        path.write_bytes(cube_glb(center, half, texture=checker_png(64, seed_color(seed))))
        return [OutputFile(path, "mesh", "model/gltf-binary")]

    @staticmethod
    def _views(job: Job, seed: int, variant: int) -> list[OutputFile]:
        pictures, matrices, focal = cube_views(seed_color(seed), size=VIEW_SIZE)
        files, frames = [], []
        z_up = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        for side, picture, c2w in zip(SIDES, pictures, matrices, strict=True):
            path = job.folder / numbered(f"{side}.png", variant)
            path.write_bytes(picture)
            files.append(OutputFile(path, "view", "image/png"))
            frame = {"file_path": path.name, "transform_matrix": (z_up @ c2w).tolist()}
            frames.append({**frame, "fl_x": focal, "fl_y": focal, "cx": VIEW_SIZE / 2, "cy": VIEW_SIZE / 2})
        path = job.folder / numbered("transforms.json", variant)
        path.write_text(json.dumps({"w": VIEW_SIZE, "h": VIEW_SIZE, "frames": frames}))
        return [*files, OutputFile(path, "cameras", "application/json")]

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


def visible_cards(count: int) -> list[int]:
    """Numbers of those of `count` cards that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if count == 0 or visible is None:
        return list(range(count))
    return [card for card in map(int, filter(str.isdecimal, visible.split(","))) if card < count]


def script_of(spec: JobSpec) -> dict[str, str]:
    """The words that direct this pipeline, with what stands behind their colon."""
    source = spec.source
    text = source.prompt if isinstance(source, TextSource | ImageSource | VariationSource) else ""
    text += f" {source.negative_prompt}" if isinstance(source, TextSource) else ""
    text = text.strip() or spec.label
    words = (word[1:].partition(":") for word in text.split() if word.startswith("#"))
    return {name: value for name, _, value in words}


def picture_bytes(job: Job) -> dict[str, Any]:
    """A fact about the pictures that a job was given, as they lie on the disk: by side, their size."""
    source = job.spec.source
    if not isinstance(source, ImageSource):
        return {}
    sides = {"front": source.image, **{other.side: other.image for other in source.others}}
    sizes = {side: job.blobs[sha256].stat().st_size for side, sha256 in sides.items()}
    return {"pictures": len(sizes), "picture_bytes": sizes}


def seed_color(seed: int) -> tuple[int, int, int]:
    """The same colour for the same seed, never dark."""
    rng = np.random.default_rng(seed)
    r, g, b = (int(v) for v in rng.integers(80, 256, 3))
    return r, g, b


def region_of(spec: JobSpec) -> tuple[np.ndarray, float]:
    """Centre and half edge of the cube: what the cameras of a capture look at, else the inside of the unit ball."""
    source = spec.source.object if isinstance(spec.source, VariationSource) else spec.source
    if not isinstance(source, CaptureSource):
        return np.zeros(3), 0.5
    cameras = [view.camera for view in source.views]
    c2w = np.array([c.c2w for c in cameras]).reshape(-1, 4, 4)
    origins, axes = c2w[:, :3, 3], -c2w[:, :3, 2]
    # the point nearest to all optical axes; a trace of the identity decides when they are parallel
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    center = np.linalg.solve(across.sum(0) + 1e-9 * np.eye(3), np.einsum("vij,vj->i", across, origins))
    depth = np.abs(np.einsum("vi,vi->v", center - origins, axes))
    seen = min(float(d) * c.height / (2 * c.fy) for d, c in zip(depth, cameras, strict=True))
    # its corners stay inside the picture
    return center, max(seen, 1e-6) / np.sqrt(3.0)
