"""The library's pipeline in a worker. Of the service only this module and `previews` load torch."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvgamba import __version__
from mvgamba.errors import InvalidImage
from mvgamba.evaluation.doctor import examine
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.photograph import photograph_from_rig
from mvgamba.io.capture_writing import VIEW_NAMES, write_captures
from mvgamba.io.images import read_rgba
from mvgamba.multiview.framing import prepared_image, prepared_sides
from mvgamba.pipeline import generate, only_views
from mvgamba.progress import Progress, Report
from mvgamba.types import (
    Cameras,
    GenerateOptions,
    GenerateRequest,
    MultiviewOptions,
    PosedViews,
    SourceImage,
    TextPrompt,
    Variation,
)
from mvgamba.weights.user import folder_for
from mvgamba_backend.engine.pipeline import Job, numbered, source_facts
from mvgamba_backend.engine.previews import Previews
from mvgamba_backend.engine.protocol import Description, OutputFile
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobSpec,
    Options,
    TextSource,
    VariationSource,
)

GLB, JSON, PNG = "model/gltf-binary", "application/json", "image/png"


class RealPipeline:
    """`mvgamba.pipeline.generate` for jobs that came over the wire, with the weights of the user who runs the service."""

    def __init__(self) -> None:
        self.weights_folder = folder_for(os.environ)

    def describe(self) -> Description:
        return description_from_facts(examine(self_test=False, weights_folder=self.weights_folder))

    def run(self, job: Job) -> list[OutputFile]:
        begin, wanted = time.monotonic(), job.spec.options
        source, doubts = source_from_spec(job.spec, job.blobs)
        said = _Said(job)
        said(doubts)
        files: list[OutputFile] = []
        results: list[dict[str, Any]] = []
        for k in range(wanted.variants):
            options = options_from_spec(wanted, weights_folder=self.weights_folder, variant=k)
            if options.seconds is not None:
                left = max(options.seconds - (time.monotonic() - begin), 0.1)
                options = dataclasses.replace(options, seconds=left / (wanted.variants - k))
            make = self._views if wanted.review_views else self._mesh
            made, facts = make(job, GenerateRequest(source, options), k, doubts)
            said(facts["warnings"])
            said([f"Memory is short: {sentence}" for sentence in facts.get("reduced", [])])
            files += made
            results.append({"asset": made[-1].path.name, **source_facts(job.spec), **facts})
        path = job.folder / "facts.json"
        path.write_text(json.dumps({"version": __version__, "results": results}, indent=1), encoding="utf-8")
        return [*files, OutputFile(path, "facts", JSON)]

    def _mesh(
        self, job: Job, request: GenerateRequest, variant: int, doubts: Sequence[str]
    ) -> tuple[list[OutputFile], dict[str, Any]]:
        report, previews = _reporting(job, variant)
        result = generate(request, report=report, cancel=job.cancel, show=previews.show)
        result.facts["warnings"] = [*doubts, *result.facts["warnings"]]
        path = job.folder / numbered("mesh.glb", variant)
        result.write_glb(path)
        return [OutputFile(path, "mesh", GLB)], result.facts

    def _views(
        self, job: Job, request: GenerateRequest, variant: int, doubts: Sequence[str]
    ) -> tuple[list[OutputFile], dict[str, Any]]:
        report, previews = _reporting(job, variant)
        made = only_views(request, report=report, cancel=job.cancel, show=previews.show)
        previews.show(made.views)
        previews.flush()
        count, folder = made.views.num_views, job.folder / f"views_{variant}"
        sides = VIEW_NAMES if count <= len(VIEW_NAMES) else tuple(f"{i:03d}" for i in range(count))
        pictures = write_captures(made.views, folder, names=tuple(numbered(side, variant) for side in sides))
        cameras = (folder / "transforms.json").rename(folder / numbered("transforms.json", variant))
        facts = {**made.facts, "warnings": [*doubts, *made.warnings]}
        return [*(OutputFile(p, "view", PNG) for p in pictures), OutputFile(cameras, "cameras", JSON)], facts


class _Said:
    """Tells the user each sentence once, however many variants have cause for it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._sentences: set[str] = set()

    def __call__(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            if sentence not in self._sentences:
                self._sentences.add(sentence)
                self._job.log(sentence)


def _reporting(job: Job, variant: int) -> tuple[Report, Previews]:
    """Reports as shares of the whole job, and previews of which the last are shown before the next stage begins."""
    previews, count = Previews(job, variant=variant), job.spec.options.variants
    which = "" if count == 1 else f"Variant {variant + 1} of {count}: "

    def report(progress: Progress) -> None:
        if progress.stage != "multiview":
            previews.flush()
        left = progress.seconds_left if count == 1 else None
        fraction = (variant + progress.fraction) / count
        job.report(progress.stage, fraction, message=which + progress.message, seconds_left=left)

    return report, previews


def source_from_spec(
    spec: JobSpec, blobs: dict[str, Path]
) -> tuple[TextPrompt | SourceImage | Variation | PosedViews, Sequence[str]]:
    """What it is made from, and what is doubtful about that. Raises: InvalidImage, InvalidCameras, InvalidInput."""
    match spec.source:
        case TextSource(prompt=prompt, negative_prompt=negative):
            return TextPrompt(prompt, negative), ()
        case ImageSource(prompt=prompt, elevation=elevation):
            picture, doubts = read_pictures(spec.source, blobs)
            return dataclasses.replace(picture, prompt=prompt, elevation=elevation), doubts
        case VariationSource(object=thing):
            views = (
                views_from_capture(thing, blobs)
                if isinstance(thing, CaptureSource)
                else photograph_from_rig(read_drawable(blobs[thing.sha256]))
            )
            return Variation(views, spec.source.prompt, spec.source.negative_prompt, spec.source.strength), ()
        case CaptureSource():
            return views_from_capture(spec.source, blobs), ()


def options_from_spec(options: Options, *, weights_folder: Path | None = None, variant: int = 0) -> GenerateOptions:
    """With the seed of one variant."""
    assert options.seed is not None, "the service draws a seed before it queues a job"
    return GenerateOptions(
        quality=options.quality,  # type: ignore[arg-type]  # checked against the same words
        reconstructor=options.reconstructor,
        weights_folder=weights_folder,
        refine=options.refine,
        target_faces=options.target_faces,
        texture_size=options.texture_size,
        seed=options.seed + variant,
        # the worker sees only its own device, whatever number that has outside
        device=re.sub(r":\d+$", "", options.device),
        seconds=options.seconds,
        memory_mib=options.memory_mib,
        multiview=MultiviewOptions(
            options.multiview.generator,
            options.multiview.candidates,
            options.multiview.recall,
            steps=options.multiview.steps,
            guidance=options.multiview.guidance,
            distil=options.multiview.distil_steps,
        ),
    )


def views_from_capture(source: CaptureSource, blobs: dict[str, Path]) -> PosedViews:
    """Pictures in float32, cameras in float64. Raises: InvalidImage."""
    first = source.views[0].camera
    size = (first.height, first.width)
    rgb = torch.empty(len(source.views), 3, *size)
    alpha = torch.empty(len(source.views), 1, *size)
    depths = []
    for i, view in enumerate(source.views):
        pixels = torch.from_numpy(read_rgba(blobs[view.image], name=f"The image of view {i}"))
        if tuple(pixels.shape[:2]) != size:
            raise InvalidImage(f"The image of view {i} has {tuple(pixels.shape[:2])} pixels, its camera {size}.")
        rgb[i], alpha[i] = pixels[..., :3].permute(2, 0, 1), pixels[..., 3]
        if view.depth is not None:
            depths.append(read_depth(blobs[view.depth], size, name=f"The depth of view {i}"))
    cameras = Cameras(
        torch.stack([_c2w(v.camera) for v in source.views]),
        torch.stack([_intrinsics(v.camera) for v in source.views]),
        *size,
    )
    return PosedViews(rgb, alpha, cameras, torch.stack(depths) if depths else None)


def read_depth(path: Path, size: tuple[int, int], *, name: str) -> torch.Tensor:
    """(1, H, W), along the view axis, 0 where nothing is, from raw float32 or .npy. Raises: InvalidImage."""
    data = path.read_bytes()
    try:
        if data.startswith(b"\x93NUMPY"):
            depth = np.load(path, allow_pickle=False)
        else:
            depth = np.frombuffer(data, "<f4").reshape(size)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidImage(f"{name} cannot be read ({error}). Send float32, {size[0]} rows of {size[1]}.") from error
    depth = np.squeeze(depth)
    if depth.shape != size or depth.dtype.kind not in "fiu":
        raise InvalidImage(f"{name} has shape {depth.shape}; numbers of shape {size} are needed.")
    depth = depth.astype(np.float32)
    valid = np.isfinite(depth) & (depth > 0) & (depth < 1e9)  # Blender writes 1e10 where nothing is
    return torch.from_numpy(np.where(valid, depth, np.float32(0)))[None]


def read_pictures(source: ImageSource, blobs: dict[str, Path]) -> tuple[SourceImage, Sequence[str]]:
    """The object in a picture, with its other sides where there are more, and what is doubtful about that. Raises: InvalidImage."""
    if not source.others:
        ready = prepared_image(blobs[source.image], name="The image", background=source.background)
    else:
        sides = [("front", blobs[source.image]), *((other.side, blobs[other.image]) for other in source.others)]
        names = [f"The image of the {side}" for side, _ in sides]
        ready = prepared_sides(sides, names=names, background=source.background)
    return ready.image, ready.warnings


def _c2w(camera: CameraSpec) -> torch.Tensor:
    """With its rotation made exactly orthonormal: what came over the wire may have been through float32."""
    matrix = torch.tensor(camera.c2w, dtype=torch.float64).reshape(4, 4)
    u, _, vt = torch.linalg.svd(matrix[:3, :3])
    matrix[:3, :3] = u @ vt
    return matrix


def _intrinsics(camera: CameraSpec) -> torch.Tensor:
    return torch.tensor(
        [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]], dtype=torch.float64
    )


def description_from_facts(facts: dict[str, Any]) -> Description:
    """What `mvgamba doctor` knows, as the service tells it."""
    memory = facts["memory_gib"]
    devices = []
    for device, name in facts["devices"].items():
        total, free = int(memory["total"] * 2**30), int(memory["free"] * 2**30)
        if device.startswith("cuda"):
            free, total = torch.cuda.mem_get_info(device)
        devices.append({"id": device, "name": name, "memory_bytes": total, "free_memory_bytes": free})
    kernels = [
        {"operation": operation, "device": device, "variant": row["uses"] or "", "why_not": row["why_not"]}
        for device, table in facts["kernels"].items()
        for operation, row in table.items()
    ]
    models = [
        {"id": name, "kind": "reconstructor", "available": True, "why_not": ""} for name in facts["reconstructors"]
    ]
    models += [{"id": name, "kind": "multiview", **row} for name, row in facts["generators"].items()]
    takes = {source for row in facts["generators"].values() if row["available"] for source in row["sources"]}
    sources = ["capture", *(source for source in ("text", "image", "variation") if source in takes)]
    versions = {name: version for name, version in {**facts["versions"], **facts["optional"]}.items() if version}
    return Description(versions, devices, models, kernels, sources=sources)
