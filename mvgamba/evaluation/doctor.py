"""What is installed here, what would run and why, and whether it works: the answer of `mvgamba doctor`."""

import importlib.metadata
import importlib.util
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from mvgamba import __version__
from mvgamba.errors import MVGambaError, OutOfMemory, WeightsCorrupt
from mvgamba.kernels import all_kernels
from mvgamba.kernels.rasterize_surfels import DEPTH_MEANS
from mvgamba.multiview import GENERATORS
from mvgamba.multiview.mvdream.generator import IMAGEDREAM, MVDREAM, require_libraries, weights_path
from mvgamba.multiview.protocol import GeneratorSettings
from mvgamba.planning import GIB, fit_to_memory, free_memory, job_of, plan
from mvgamba.reconstructor import RECONSTRUCTORS
from mvgamba.types import GenerateOptions
from mvgamba.weights import default, known, verified
from mvgamba.weights.hub import HUB_MODELS

PACKAGES = (
    "torch",
    "numpy",
    "warp-lang",
    "scipy",
    "scikit-image",
    "trimesh",
    "xatlas",
    "fast-simplification",
    "grpcio",
    "protobuf",
)
OPTIONAL = {
    "mamba-ssm": "mamba_ssm",
    "diff-surfel-rasterization": "diff_surfel_rasterization",
    "gsplat": "gsplat",
    "nvdiffrast": "nvdiffrast",
    "diffusers": "diffusers",
}

GENERATOR_SOURCES = {
    "starter": ("text", "image", "variation"),
    "mvdream": ("text", "variation"),
    "imagedream": ("image",),
}
"""What each multi-view generator can begin from."""
CUDA_NOTE = (
    "Jobs run on the CPU unless --device cuda is given. That has not been run on a GPU yet: the CUDA kernels are compiled ahead "
    "of time and checked block by block on a CPU. `make gpu` checks them on this device."
)


def examine(*, self_test: bool = True, weights_folder: Path | None = None) -> dict[str, Any]:
    """All facts as plain values. `healthy` is False when the self-test fails or memory or disk are too short for a job.

    Args:
        weights_folder: Of the user; None for only the weights that come with the package.
    """
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(tempfile.gettempdir())
    facts: dict[str, Any] = {
        "versions": {"mvgamba": __version__, "python": platform.python_version(), "platform": platform.platform()}
        | {name: _version(name) for name in PACKAGES},
        "optional": {
            name: _version(name) if importlib.util.find_spec(module) else None for name, module in OPTIONAL.items()
        },
        "devices": _devices(),
        "kernels": {},
        "weights": {kind: _weights_of(kind, weights_folder) for kind in ("reconstructor", "generator")},
        "reconstructors": RECONSTRUCTORS.names(),
        "generators": {name: _generator(name, weights_folder) for name in GENERATORS.names()},
        "memory_gib": {"total": round(memory.total / 2**30, 1), "free": round(memory.available / 2**30, 1)},
        "disk_gib": {"free": round(disk.free / 2**30, 1)},
    }
    for device in facts["devices"]:
        table = {}
        for name, kernel in all_kernels().items():
            reasons = kernel.explain(device)
            chosen = next((v for v, reason in reasons.items() if reason is None), None)
            table[name] = {"uses": chosen, "why_not": {v: r for v, r in reasons.items() if r is not None}}
        facts["kernels"][device] = table
    facts["depth_means"] = dict(DEPTH_MEANS)
    facts["notes"] = [CUDA_NOTE] if torch.cuda.is_available() else []
    problems = []
    usual = plan(job_of(GenerateOptions(), num_views=8, height=512, width=512, has_depth=False)).peak
    if memory.available < usual:
        problems.append(
            f"{memory.available / GIB:.1f} GiB of memory is free; standard quality from 8 views of 512 x 512 takes up to {usual / GIB:.1f} GiB. "
            "Close other programs."
        )
    if disk.free < 2**29:
        problems.append(f"Less than 0.5 GiB is free in {tempfile.gettempdir()}. Make room or set TMPDIR.")
    if self_test:
        facts["self_test"] = _self_test()
        if not facts["self_test"]["passed"]:
            problems.append(f"The self-test failed: {facts['self_test']['message']}")
    facts["problems"] = problems
    facts["healthy"] = not problems
    return facts


def _weights_of(kind: str, user_folder: Path | None) -> str | None:
    """Names of weights that are there, each with what is wrong with it."""
    found = []
    for weights in known(user_folder):
        if weights.kind == kind and weights.is_there:
            try:
                verified(weights)
                found.append(weights.name)
            except WeightsCorrupt:
                found.append(f"{weights.name} (damaged: its hash is not that of the manifest)")
    return ", ".join(found) or None


def _generator(name: str, user_folder: Path | None) -> dict[str, Any]:
    """Whether a multi-view generator could be made here, why not, and what it takes. Its weights are checked, not loaded."""
    why_not = ""
    try:
        found = default("generator", name, user_folder)
        if name in HUB_MODELS:
            require_libraries()
            weights_path(
                GeneratorSettings(weights_folder=user_folder),
                {recipe.name: recipe for recipe in (MVDREAM, IMAGEDREAM)}[name],
            )
        elif found is None:
            why_not = f"No weights of {name} are installed."
        else:
            verified(found)
            GENERATORS.get(name)
    except MVGambaError as error:
        why_not = str(error)
    except ImportError as error:
        why_not = f"It cannot be loaded: {error}."
    return {"available": not why_not, "why_not": why_not, "sources": list(GENERATOR_SOURCES.get(name, ()))}


def to_text(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = ["Versions"]
    lines += [f"  {name:<22}{version}" for name, version in facts["versions"].items()]
    lines += ["Optional packages"] + [
        f"  {name:<26}{version or 'not installed'}" for name, version in facts["optional"].items()
    ]
    lines += [f"Memory   {facts['memory_gib']['free']} of {facts['memory_gib']['total']} GiB free"]
    lines += [f"Disk     {facts['disk_gib']['free']} GiB free for temporary files"]
    for device, table in facts["kernels"].items():
        lines.append(f"Kernels on {device}")
        for name, row in table.items():
            why = "; ".join(f"not {v}: {r}" for v, r in row["why_not"].items())
            lines.append(f"  {name:<20}{row['uses']}" + (f"   ({why})" if why else ""))
    centres = ", ".join(name for name, meaning in facts["depth_means"].items() if meaning == "centre")
    lines.append(
        f"Depth of surfels  where the ray meets the disc; of {centres} that of its centre, which is never fused"
    )
    lines.append(f"Reconstructors  {', '.join(facts['reconstructors'])}")
    for name, row in facts["generators"].items():
        usable = f"from {', '.join(row['sources'])}" if row["available"] else f"not available: {row['why_not']}"
        lines.append(f"Generator  {name:<12}{usable}")
    lines += [f"Weights  {kind}: {where or 'none'}" for kind, where in facts["weights"].items()]
    if "self_test" in facts:
        test = facts["self_test"]
        lines.append(f"Self-test  {'passed' if test['passed'] else 'FAILED'} in {test['seconds']} s: {test['message']}")
    lines += [f"Note: {note}" for note in facts["notes"]]
    lines += [f"Problem: {problem}" for problem in facts["problems"]]
    lines.append("Healthy." if facts["healthy"] else "Not healthy.")
    return "\n".join(lines)


def examine_plan(options: GenerateOptions, *, views: int, image_size: int, has_depth: bool = False) -> dict[str, Any]:
    """How much memory a job would take, what is free, and what would be done about it, as plain values.

    Raises: InvalidInput, Unavailable for options that no job could have.
    """
    from mvgamba.pipeline import check_options

    options = check_options(options)
    job = job_of(options, num_views=views, height=image_size, width=image_size, has_depth=has_depth)
    wanted, memory = plan(job), free_memory(options.device).within(options.memory_mib)
    in_gib = lambda table: {k: round(v / GIB, 2) for k, v in table.items()}  # noqa: E731
    facts: dict[str, Any] = {
        "settings": {
            "quality": options.quality,
            "views": views,
            "image_size": image_size,
            "depth": has_depth,
            "faces": options.target_faces,
            "texture": options.texture_size,
            "refine": options.refine,
            "device": options.device,
        },
        "stages_gib": in_gib(wanted.stages),
        "device_stages_gib": in_gib(wanted.device_stages),
        "peak_gib": round(wanted.peak / GIB, 2),
        "free_gib": round(memory.available / GIB, 2),
        "budget_gib": None if memory.budget is None else round(memory.budget / GIB, 2),
        "device_peak_gib": None if not wanted.device_stages else round(wanted.device_peak / GIB, 2),
        "device_free_gib": None if memory.device_available is None else round(memory.device_available / GIB, 2),
        "reduced": [],
        "problem": None,
    }
    try:
        facts["reduced"] = fit_to_memory(job, memory, when_short=options.when_short).reduced
    except OutOfMemory as error:
        facts["problem"] = str(error)
    facts["fits"] = facts["problem"] is None
    return facts


def plan_to_text(facts: dict[str, Any]) -> str:
    """The same for a person."""
    s = facts["settings"]
    depth = " with depth" if s["depth"] else ""
    lines = [
        f"{s['quality']} on {s['device']}: {s['views']} views of {s['image_size']} x {s['image_size']}{depth}, "
        f"at most {s['faces']} faces, a texture of {s['texture']} pixels",
        f"  {'stage':<14}{'memory':>10}" + ("   on the device" if facts["device_stages_gib"] else ""),
    ]
    for stage, gib in facts["stages_gib"].items():
        on_device = f"{facts['device_stages_gib'][stage]:>12.2f} GiB" if facts["device_stages_gib"] else ""
        lines.append(f"  {stage:<14}{gib:>6.2f} GiB{on_device}")
    lines.append(f"  {'peak':<14}{facts['peak_gib']:>6.2f} GiB of {facts['free_gib']:.2f} GiB that are free")
    if facts["device_peak_gib"] is not None:
        lines.append(
            f"  {'on the device':<14}{facts['device_peak_gib']:>6.2f} GiB of {facts['device_free_gib']:.2f} GiB that are free "
            "(counted, not yet measured on a GPU)"
        )
    if facts["budget_gib"] is not None:
        lines.append(f"  {'budget':<14}{facts['budget_gib']:>6.2f} GiB")
    lines += [f"Memory is short: {sentence}" for sentence in facts["reduced"]]
    lines.append(facts["problem"] or ("It fits as it is." if not facts["reduced"] else "It fits with these settings."))
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    devices = {"cpu": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            devices[f"cuda:{i}"] = f"{p.name}, {p.total_memory / 2**30:.0f} GiB, sm_{p.major}{p.minor}"
    return devices


def _self_test() -> dict[str, Any]:
    """A sphere, photographed by hand from six sides, through the whole pipeline in draft quality."""
    from mvgamba.cameras import fibonacci_cameras
    from mvgamba.io.glb import write_glb
    from mvgamba.pipeline import generate
    from mvgamba.types import GenerateOptions, GenerateRequest, PosedViews

    begin = time.perf_counter()
    size, radius, distance = 64, 0.5, 2.0
    cameras = fibonacci_cameras(6, radius=distance, fovy=0.8, height=size, width=size)
    at = torch.arange(size) + 0.5
    x, y = torch.meshgrid(at - size / 2, at - size / 2, indexing="xy")
    focal = float(cameras.intrinsics[0, 0, 0])
    # the outline of a sphere is the circle where rays touch it
    outline = focal * radius / (distance**2 - radius**2) ** 0.5
    alpha = (outline - torch.hypot(x, y) + 0.5).clamp(0, 1).expand(6, 1, size, size).contiguous()
    rgb = torch.tensor([0.8, 0.3, 0.2]).view(1, 3, 1, 1).expand(6, 3, size, size).contiguous()
    options = GenerateOptions(quality="draft", target_faces=1000, texture_size=128)
    try:
        mesh = generate(GenerateRequest(PosedViews(rgb, alpha, cameras), options)).mesh
        with tempfile.TemporaryDirectory() as folder:
            write_glb(mesh, Path(folder) / "sphere.glb")
    except (MVGambaError, RuntimeError, ValueError, ImportError, OSError) as error:
        return {
            "passed": False,
            "seconds": round(time.perf_counter() - begin, 1),
            "message": f"{type(error).__name__}: {error}",
        }
    seconds = round(time.perf_counter() - begin, 1)
    radii = ((mesh.vertices - mesh.vertices.mean(0)) ** 2).sum(1) ** 0.5
    off = abs(float(radii.mean()) / radius - 1)
    passed = off < 0.1
    return {
        "passed": passed,
        "seconds": seconds,
        "message": f"a sphere came back with {len(mesh.faces)} faces and a radius off by {100 * off:.1f} %",
    }
