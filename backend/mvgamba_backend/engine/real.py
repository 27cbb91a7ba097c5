"""The library's pipeline in a worker. Of the service only this module loads torch."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvgamba.errors import InvalidImage
from mvgamba.evaluation.doctor import examine
from mvgamba.io.images import read_rgb, read_rgba
from mvgamba.pipeline import generate
from mvgamba.progress import Progress
from mvgamba.types import (
    Cameras,
    GenerateOptions,
    GenerateRequest,
    PosedViews,
    SourceImage,
    TextPrompt,
)
from mvgamba.weights.user import folder_for
from mvgamba_backend.engine.pipeline import Job
from mvgamba_backend.engine.protocol import Description, OutputFile
from mvgamba_backend.spec import CameraSpec, CaptureSource, ImageSource, JobSpec, TextSource

GLB = "model/gltf-binary"


class RealPipeline:
    """`mvgamba.pipeline.generate` for jobs that came over the wire, with the weights of the user who runs the service."""

    def __init__(self) -> None:
        self.weights_folder = folder_for(os.environ)

    def describe(self) -> Description:
        return description_from_facts(examine(self_test=False, weights_folder=self.weights_folder))

    def run(self, job: Job) -> list[OutputFile]:
        def report(progress: Progress) -> None:
            job.report(progress.stage, progress.fraction, message=progress.message, seconds_left=progress.seconds_left)

        request = request_from_spec(job.spec, job.blobs, weights_folder=self.weights_folder)
        result = generate(request, report=report, cancel=job.cancel)
        path = job.folder / "mesh.glb"
        result.write_glb(path)
        return [OutputFile(path, "mesh", GLB)]


def request_from_spec(spec: JobSpec, blobs: dict[str, Path], *, weights_folder: Path | None = None) -> GenerateRequest:
    """Raises: InvalidImage, InvalidCameras."""
    source: TextPrompt | SourceImage | PosedViews
    match spec.source:
        case TextSource(prompt=prompt, negative_prompt=negative):
            source = TextPrompt(prompt, negative)
        case ImageSource(image=image):
            source = _source_image(blobs[image])
        case CaptureSource():
            source = views_from_capture(spec.source, blobs)
    options = spec.options
    assert options.seed is not None, "the service draws a seed before it queues a job"
    return GenerateRequest(
        source,
        GenerateOptions(
            quality=options.quality,  # type: ignore[arg-type]  # checked against the same words
            reconstructor=options.reconstructor,
            weights_folder=weights_folder,
            refine=options.refine,
            target_faces=options.target_faces,
            texture_size=options.texture_size,
            seed=options.seed,
            # the worker sees only its own device, whatever number that has outside
            device=re.sub(r":\d+$", "", options.device),
            seconds=options.seconds,
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


def _source_image(path: Path) -> SourceImage:
    try:
        pixels = read_rgba(path, name="The image")
    except InvalidImage:
        color = read_rgb(path, name="The image")
        pixels = np.concatenate([color, np.ones_like(color[..., :1])], -1)
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return SourceImage(planes[:3], planes[3:])


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
    versions = {name: version for name, version in {**facts["versions"], **facts["optional"]}.items() if version}
    return Description(versions, devices, models, kernels, sources=["capture"])
