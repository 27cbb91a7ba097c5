"""What a word of quality stands for, how much memory a job with it takes, and which cheaper settings there are.

The peak of main memory of a stage is a sum over what grows with the settings (`_loads`), each times bytes per unit
(`_BYTES`). The bytes were fitted to peaks of the resident set measured stage by stage in processes of their own, for 8 to 64
views of 256 to 1024 pixels, all qualities, textures of 512 to 8192 pixels and 5,000 to 200,000 faces, on a bumpy ball; then raised until no measured peak lay above the plan. What an object is like moves a peak by about
as much as the margin: the plan is for one that fills the pictures. The service's worker holds 40 to 65 MiB more, and fitting a texture of 4096 pixels to
views of 448 took 0.4 GiB more than was planned: both are in since `tests/benchmarks/bench_memory.py` has measured workers.

Device memory is counted from the sizes of the tensors on the device. It has not been compared with a device yet.
"""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from mvgamba.errors import InvalidInput, OutOfMemory
from mvgamba.refinement.refine import RefineOptions
from mvgamba.types import GenerateOptions

log = logging.getLogger(__name__)

GIB = 2**30
MIB = 2**20
FILL_VIEWS = 16
"""From which what no input sees is rendered for the texture."""


@dataclass(frozen=True)
class Preset:
    """What a word of quality stands for. Times are for two CPU cores and 8 views of 256 x 256."""

    hull_resolution: int
    surfels: int
    refine: RefineOptions
    fuse_views: int
    fuse_size: int
    fuse_resolution: int
    swell: float
    """How far short of the outline refined surfels end, in the normalised frame."""
    weights: dict[str, float]
    """Expected share of the time of each stage."""
    optimise_texture: bool = False
    """Fit the baked texture to the views."""


PRESETS = {
    "draft": Preset(
        hull_resolution=64,
        surfels=8_000,
        refine=RefineOptions(steps=50, coarse_steps=30, image_size=192),
        fuse_views=24,
        fuse_size=192,
        fuse_resolution=128,
        swell=0.009,
        weights={"prepare": 1.0, "reconstruct": 1.0, "refine": 5.0, "mesh": 2.0, "texture": 4.0, "export": 0.2},
    ),
    "standard": Preset(
        hull_resolution=96,
        surfels=20_000,
        refine=RefineOptions(),
        fuse_views=32,
        fuse_size=320,
        fuse_resolution=160,
        swell=0.006,
        weights={"prepare": 1.0, "reconstruct": 1.0, "refine": 16.0, "mesh": 4.0, "texture": 5.0, "export": 0.2},
    ),
    "high": Preset(
        hull_resolution=128,
        surfels=40_000,
        refine=RefineOptions(steps=300, coarse_steps=80, image_size=384),
        fuse_views=48,
        fuse_size=384,
        fuse_resolution=256,
        swell=0.004,
        weights={"prepare": 1.0, "reconstruct": 1.0, "refine": 60.0, "mesh": 10.0, "texture": 16.0, "export": 0.2},
        optimise_texture=True,
    ),
}


@dataclass(frozen=True)
class Job:
    """The sizes that decide what a job takes."""

    num_views: int
    height: int
    width: int
    has_depth: bool
    preset: Preset
    target_faces: int
    texture_size: int
    refine: bool = True
    device: str = "cpu"

    @property
    def view_pixels(self) -> int:
        return self.num_views * self.height * self.width


def job_of(options: GenerateOptions, *, num_views: int, height: int, width: int, has_depth: bool) -> Job:
    """The sizes of a job with these options.

    Raises:
        InvalidInput: The quality is unknown, or there are no views or pixels.
    """
    if options.quality not in PRESETS:
        raise InvalidInput(f"quality is {options.quality!r}; it must be one of {', '.join(PRESETS)}.")
    for name, value in (("views", num_views), ("height", height), ("width", width)):
        if value < 1:
            raise InvalidInput(f"{name} is {value}; it must be at least 1.")
    return Job(
        num_views,
        height,
        width,
        has_depth,
        PRESETS[options.quality],
        options.target_faces,
        options.texture_size,
        options.refine,
        options.device,
    )


@dataclass(frozen=True)
class Plan:
    """Peak bytes of each stage."""

    stages: dict[str, int]
    """Main memory of the whole process, libraries and views included."""
    device_stages: dict[str, int]
    """Device memory on CUDA; empty on the CPU."""

    @property
    def peak(self) -> int:
        return max(self.stages.values())

    @property
    def device_peak(self) -> int:
        return max(self.device_stages.values(), default=0)

    @property
    def peak_stage(self) -> str:
        return max(self.stages, key=self.stages.__getitem__)


_STAGES = ("prepare", "reconstruct", "refine", "mesh", "texture", "export")


def plan(job: Job) -> Plan:
    """The peak of each stage for a job, never less than what was measured for settings like these."""
    loads = _loads(job)
    names = [s for s in _STAGES if job.refine or s != "refine"]
    stages = {s: int(_BASE[s] * MIB + sum(_BYTES[s].get(k, 0.0) * n for k, n in loads.items())) for s in names}
    return Plan(stages, _device_stages(job, names) if job.device.startswith("cuda") else {})


def _loads(job: Job) -> dict[str, float]:
    """What grows with the settings, as counts."""
    preset, texels = job.preset, job.texture_size**2
    counts = {
        "view_pixels": job.view_pixels,
        "depth_pixels": job.view_pixels if job.has_depth else 0,
        "pixels_of_a_view": job.height * job.width,
        "fit_pixels": job.num_views * min(job.height * job.width, preset.refine.image_size**2) if job.refine else 0,
        "surfels": preset.surfels,
        "survey_pixels": preset.fuse_views * preset.fuse_size**2,
        "fill_pixels": FILL_VIEWS * preset.fuse_size**2,
        "cells": preset.fuse_resolution**3,
        "faces": job.target_faces,
        "texels": texels,
        "looks": job.num_views * min(texels, 1 << 18),
        "fitted_texels": texels if preset.optimise_texture else 0,
        "fitted_pixels": job.view_pixels if preset.optimise_texture else 0,
    }
    return {name: float(count) for name, count in counts.items()}


_BASE: dict[str, float] = {
    "prepare": 490.0,
    "reconstruct": 500.0,
    "refine": 548.0,
    "mesh": 565.0,
    "texture": 425.0,
    "export": 682.0,
}
"""MiB: interpreter, libraries and compiled kernels."""

_BYTES: dict[str, dict[str, float]] = {
    "prepare": {"view_pixels": 21.4, "depth_pixels": 7.72, "pixels_of_a_view": 40.7},
    "reconstruct": {"view_pixels": 20.8, "depth_pixels": 15.7, "surfels": 750.0},
    "refine": {"view_pixels": 20.7, "depth_pixels": 13.2, "fit_pixels": 161.0, "surfels": 3820.0},
    "mesh": {"view_pixels": 65.5, "fit_pixels": 22.6, "cells": 11.0, "survey_pixels": 146.0, "faces": 285.0},
    "texture": {"view_pixels": 238.0, "fill_pixels": 519.0, "texels": 98.8, "looks": 23.6, "fitted_texels": 30.0},
    "export": {
        "view_pixels": 68.3,
        "depth_pixels": 73.4,
        "cells": 11.0,
        "survey_pixels": 50.5,
        "texels": 6.59,
        "looks": 7.31,
    },
}
"""By stage, of each unit of each load."""


def _device_stages(job: Job, names: list[str]) -> dict[str, int]:
    """Counted from the shapes of the tensors; 0.6 GiB for the context and the compiled kernels."""
    preset, views = job.preset, job.view_pixels * 4 * (6 if job.has_depth else 5)
    context = int(0.6 * GIB)
    vertices = preset.surfels // 2
    size = min(preset.refine.image_size, max(job.height, job.width))
    # the inverse of the system of the smooth coordinates, kept dense, with its factor and a copy while it is made
    inverse = 12 * min(vertices, 16_384) ** 2 if vertices <= 16_384 else 0
    # targets of two sizes, planes with their gradients, and 64 tile entries of 48 bytes a surfel and view
    fit = job.num_views * size**2 * 4 * 7 + preset.refine.views_per_step * (size**2 * 4 * 60 + preset.surfels * 64 * 48)
    survey = preset.fuse_views * preset.fuse_size**2 * 4 * 10 * 3 + 4 * preset.surfels * 64 * 48
    cells = preset.fuse_resolution**3 * 4 * 6
    more = {"refine": inverse + fit, "mesh": survey + cells, "texture": survey}
    return {s: context + views + more.get(s, 0) for s in names}


@dataclass(frozen=True)
class Memory:
    """Bytes that a job may still take."""

    available: int
    """Of main memory, by the system and by the limit of the control group."""
    resident: int
    """That this process already holds."""
    device_available: int | None = None
    budget: int | None = None
    """That the whole process may hold at most, of main memory and as much again on the device; None for what there is."""

    @property
    def limit(self) -> int:
        """That the process may hold of main memory."""
        there = self.resident + self.available
        return there if self.budget is None else min(there, self.budget)

    @property
    def device_limit(self) -> int | None:
        """That the job may take on the device; None on the CPU."""
        if self.device_available is None or self.budget is None:
            return self.device_available
        return min(self.device_available, self.budget)

    def within(self, mib: int | None) -> "Memory":
        """The same with a budget of MiB, see `GenerateOptions.memory_mib`."""
        return dataclasses.replace(self, budget=None if mib is None else mib * MIB)


def free_memory(device: str = "cpu") -> Memory:
    """What this machine has left for this process now."""
    available = psutil.virtual_memory().available
    headroom = control_group_headroom()
    if headroom is not None:
        available = min(available, headroom)
    on_device = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else None
    return Memory(available, psutil.Process().memory_info().rss, on_device)


def give_back_freed() -> None:
    """Return to the system what earlier jobs of this process have freed, where the C library keeps it otherwise (glibc).

    Else the peak of a job lies on top of the holes that the one before has left.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def control_group_headroom(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes below the tightest limit of the control groups (version 1 or 2) this process is in; None without a limit.

    The page cache of a group counts as free, as the system gives it back before it refuses.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    rooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit_name, used_name, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit_name, used_name = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = base / path.lstrip("/")
        while True:
            room = _room_of(group, limit_name, used_name, cache)
            if room is not None:
                rooms.append(room)
            if group == base or base not in group.parents:
                break
            group = group.parent
    return min(rooms, default=None)


def _room_of(group: Path, limit_name: str, used_name: str, cache: str) -> int | None:
    try:
        limit = (group / limit_name).read_text(encoding="utf-8").strip()
        used = int((group / used_name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) >= 1 << 60:
        return None
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        stat = {}
    return max(0, int(limit) - used + int(stat.get(cache, 0)))


@dataclass(frozen=True)
class Fitted:
    """A job that fits, and what was given up for it."""

    job: Job
    plan: Plan
    reduced: list[str]
    """One sentence for each cheaper setting; empty when nothing had to be given up."""


def fit_to_memory(job: Job, memory: Memory, *, when_short: str = "reduce") -> Fitted:
    """The job as it is if it fits; else with cheaper settings, one at a time, until it does.

    Each step takes the first setting of the ladder that lowers the peak that is too high.

    Raises:
        OutOfMemory: It does not fit even so, or cheaper settings were not wanted.
    """
    wanted = plan(job)
    reduced: list[str] = []
    now = wanted
    while (lack := _lack(now, memory)) is not None:
        step = _cheaper(job, now, lack) if when_short == "reduce" else None
        if step is None:
            raise OutOfMemory(_short(wanted, now, memory, tried=bool(reduced)))
        job, sentence = step
        reduced.append(sentence)
        now = plan(job)
    return Fitted(job, now, reduced)


def _lack(planned: Plan, memory: Memory) -> str | None:
    """Which memory is too short: main, device or neither."""
    if planned.peak > memory.limit:
        return "main"
    if memory.device_limit is not None and planned.device_peak > memory.device_limit:
        return "device"
    return None


def _short(wanted: Plan, least: Plan, memory: Memory, *, tried: bool) -> str:
    in_gib = lambda n: f"{n / GIB:.2f} GiB"  # noqa: E731
    if _lack(least, memory) == "device":
        assert memory.device_available is not None
        needs, has, cheapest = wanted.device_peak, memory.device_available, least.device_peak
        by_budget = memory.device_limit != has
        kind, remedy = "device memory", "run on the CPU"
    else:
        by_budget = memory.limit == memory.budget
        held = 0 if by_budget else memory.resident  # a budget is of the whole process
        needs, has, cheapest = wanted.peak - held, memory.available, least.peak - held
        kind, remedy = "main memory" if by_budget else "more main memory", "close other programs"
    there = f"{in_gib(has)} are free"
    if by_budget:
        assert memory.budget is not None
        there, remedy = f"its budget is {in_gib(memory.budget)}", "allow it more memory"
    least_text = f", and {in_gib(cheapest)} with the cheapest settings" if tried else ""
    return (
        f"The job needs {in_gib(needs)} of {kind}{least_text}; {there}. "
        f"Use fewer or smaller views, a smaller texture or draft quality, or {remedy}."
    )


def _cheaper(job: Job, planned: Plan, lack: str) -> tuple[Job, str] | None:
    """The first rung of the ladder that lowers the peak by a few percent, else the first that lowers it at all."""
    before = planned.peak if lack == "main" else planned.device_peak
    for enough in (0.95, 1.0):
        for rung in _LADDER:
            step = rung(job)
            if step is not None:
                after = plan(step[0])
                if (after.peak if lack == "main" else after.device_peak) < enough * before:
                    return step
    return None


Step = tuple[Job, str]


def _fewer_views_a_step(job: Job) -> Step | None:
    views = job.preset.refine.views_per_step
    if views == 1 or not job.refine:
        return None
    refine = dataclasses.replace(job.preset.refine, views_per_step=1)
    return _with(job, refine=refine), f"Refinement compares 1 view in a step instead of {views}."


def _coarser_grid(job: Job) -> Step | None:
    now = job.preset.fuse_resolution
    if now <= 96:
        return None
    new = max(96, round(0.8 * now))
    return _with(
        job, fuse_resolution=new
    ), f"The surface is extracted from a grid of {new} points a side instead of {now}."


def _smaller_survey(job: Job) -> Step | None:
    views, size = job.preset.fuse_views, job.preset.fuse_size
    if views <= 16:
        return None
    new = max(16, round(0.75 * views))
    return _with(job, fuse_views=new), f"The surface is looked at from {new} sides at {size} pixels instead of {views}."


def _smaller_texture(job: Job) -> Step | None:
    now = job.texture_size
    if now <= 512:
        return None
    new = max(512, now // 2)
    return dataclasses.replace(job, texture_size=new), f"The texture has {new} pixels a side instead of {now}."


def _fewer_faces(job: Job) -> Step | None:
    now = job.target_faces
    if now <= 20_000:
        return None
    new = max(20_000, now // 2)
    return dataclasses.replace(job, target_faces=new), f"The mesh has at most {new} triangles instead of {now}."


def _smaller_views(job: Job) -> Step | None:
    if min(job.height, job.width) < 512:
        return None
    height, width = job.height // 2, job.width // 2
    sentence = f"The views are averaged down to {width} x {height} pixels from {job.width} x {job.height}."
    return dataclasses.replace(job, height=height, width=width), sentence


def _draft(job: Job) -> Step | None:
    draft, now = PRESETS["draft"], job.preset
    if now.surfels <= draft.surfels:
        return None
    least = {k: min(getattr(now, k), getattr(draft, k)) for k in ("fuse_views", "fuse_size", "fuse_resolution")}
    refine = dataclasses.replace(
        draft.refine, views_per_step=min(now.refine.views_per_step, draft.refine.views_per_step)
    )
    return dataclasses.replace(job, preset=dataclasses.replace(draft, refine=refine, **least)), "The quality is draft."


def _with(job: Job, **changes: object) -> Job:
    return dataclasses.replace(job, preset=dataclasses.replace(job.preset, **changes))  # type: ignore[arg-type]


_LADDER: tuple[Callable[[Job], Step | None], ...] = (
    _fewer_views_a_step,
    _smaller_survey,
    _coarser_grid,
    _fewer_faces,
    _smaller_texture,
    _smaller_views,
    _draft,
)
"""What costs the result least comes first."""
