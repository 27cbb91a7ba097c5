"""A request -> a textured mesh in the place of the object: the one way through all rooms."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvgamba.cameras import fibonacci_cameras
from mvgamba.errors import InvalidInput, OutOfMemory, Unavailable
from mvgamba.io.glb import write_glb
from mvgamba.meshing import Grid, clean_mesh, decimate, drop_small_parts, extract_surface, fuse
from mvgamba.progress import CancelToken, Report, StageReporter
from mvgamba.reconstructor import RECONSTRUCTORS
from mvgamba.reconstructor.hull import hull_field
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews, normalise_views
from mvgamba.reconstructor.protocol import Reconstructor, ReconstructorSettings
from mvgamba.refinement.refine import RefineOptions, refine
from mvgamba.refinement.snap import snap_to_silhouettes
from mvgamba.render import render_surfels
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.texturing.bake import bake_texture
from mvgamba.texturing.unwrap import unwrap
from mvgamba.types import (
    Cameras,
    GenerateOptions,
    GenerateRequest,
    Mesh,
    PosedViews,
    Reconstruction,
    RenderOutput,
    Similarity,
    Surfels,
    TexturedMesh,
)

log = logging.getLogger(__name__)


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
        weights={"prepare": 1.0, "reconstruct": 1.0, "refine": 60.0, "mesh": 10.0, "texture": 8.0, "export": 0.2},
    ),
}


@dataclass(frozen=True, eq=False)
class Result:
    """A finished job."""

    mesh: TexturedMesh
    """In the world of the captures (+Y up)."""
    surfels: Surfels
    """In the normalised frame."""
    to_world: Similarity
    seconds: dict[str, float]
    """Wall time of each stage."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which path was taken and how well the inputs are matched: what a person is shown and a file carries along."""

    def write_glb(self, path: Path | str) -> None:
        """Raises: OutputFailed, DiskFull."""
        write_glb(self.mesh, Path(path), extras={"mvgamba": self.facts})


def generate(request: GenerateRequest, report: Report | None = None, cancel: CancelToken | None = None) -> Result:
    """Run a request to its end.

    Raises:
        InvalidInput: The source or an option cannot be used (see the subclasses).
        Unavailable: A device, model or variant was asked for that cannot run here.
        EmptyReconstruction: The views gave no surface.
        OutOfMemory: Memory did not suffice.
        Cancelled: The token was set.
    """
    options = check_options(request.options)
    if not isinstance(request.source, PosedViews):
        raise Unavailable(
            "Prompts and single images need a multi-view generator, and none is installed yet. Give posed views of the object."
        )
    try:
        return _from_views(request.source, options, report, cancel)
    except MemoryError as error:
        raise OutOfMemory("Main memory is used up. Choose draft quality, a smaller texture or fewer views.") from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"Device memory is used up: {error}. Choose draft quality or the CPU.") from error


def check_options(options: GenerateOptions) -> GenerateOptions:
    """The options with `auto` resolved. Raises: InvalidInput, Unavailable."""
    if options.quality not in PRESETS:
        raise InvalidInput(f"quality is {options.quality!r}; it must be one of {', '.join(PRESETS)}.")
    if not 100 <= options.target_faces <= 500_000:
        raise InvalidInput(f"target_faces is {options.target_faces}; it must lie between 100 and 500,000.")
    if not 128 <= options.texture_size <= 8192:
        raise InvalidInput(f"texture_size is {options.texture_size}; it must lie between 128 and 8192 pixels.")
    if not 0 <= options.seed < 2**31:
        raise InvalidInput(f"seed is {options.seed}; it must lie between 0 and 2147483647.")
    if options.device not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"device is {options.device!r}; it must be auto, cpu or cuda.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("device is cuda, but torch sees no CUDA device here. Use --device cpu.")
    if options.device == "cuda":
        raise Unavailable("The captures pipeline runs on the CPU in this version. Use --device cpu or auto.")
    reconstructor = "hull" if options.reconstructor == "auto" else options.reconstructor
    RECONSTRUCTORS.get(reconstructor)
    return dataclasses.replace(options, reconstructor=reconstructor, device="cpu")


def _from_views(
    views: PosedViews, options: GenerateOptions, report: Report | None, cancel: CancelToken | None
) -> Result:
    preset = PRESETS[options.quality]
    weights = dict(preset.weights) if options.refine else {k: v for k, v in preset.weights.items() if k != "refine"}
    tell = StageReporter(report, cancel, weights)
    clock = _Clock()
    facts: dict[str, Any] = {
        "views": views.num_views,
        "quality": options.quality,
        "reconstructor": options.reconstructor,
        "seed": options.seed,
        "used_depth": views.depth is not None,
    }
    if views.num_views < 4:
        log.warning("%d views show little of an object: sides that no view sees are guessed.", views.num_views)

    with clock("prepare"):
        tell("prepare", 0.0, "Finding the object")
        normalised = normalise_views(views)
    with clock("reconstruct"):
        tell("reconstruct", 0.0, "Reconstructing")
        settings = ReconstructorSettings(resolution=preset.hull_resolution, faces=preset.surfels, device=options.device)
        reconstructor: Reconstructor = RECONSTRUCTORS.get(options.reconstructor)(settings)
        start = reconstructor.reconstruct(normalised)
        if options.refine and start.scaffold is None:
            start = _with_scaffold(start.surfels, normalised, preset)
        surfels = start.surfels
    if options.refine:
        with clock("refine"):
            tell("refine", 0.0, "Refining")
            refined = refine(start, normalised.views, preset.refine, seed=options.seed, report=tell.stage("refine"))
            surfels = refined.surfels
            facts["input_psnr"] = round(refined.psnr, 2)
    with clock("mesh"):
        tell("mesh", 0.0, "Extracting the mesh")
        mesh = _mesh(surfels, normalised, preset, options, tell)
        facts["faces"] = len(mesh.faces)
    with clock("texture"):
        tell("texture", 0.0, "Unwrapping")
        textured = _texture(mesh, surfels, normalised, preset, options.texture_size, tell)
    with clock("export"):
        tell("export", 0.0, "Placing")
        world = normalised.to_world.apply(torch.from_numpy(textured.vertices.astype(np.float64))).numpy()
        textured = dataclasses.replace(textured, vertices=world)
        tell("export", 1.0, "Done")
    facts["seconds"] = {k: round(v, 2) for k, v in clock.seconds.items()}
    log.info("made %d faces in %.1f s", len(textured.faces), sum(clock.seconds.values()))
    return Result(textured, surfels, normalised.to_world, clock.seconds, facts)


def _with_scaffold(surfels: Surfels, views: NormalisedViews, preset: Preset) -> Reconstruction:
    """Free surfels -> surfels on the triangles of their own surface, which is what refinement moves."""
    field = _fused(surfels, views, preset, swell=0.0)
    mesh = decimate(clean_mesh(extract_surface(field)), preset.surfels)
    vertices, faces = np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int64)
    count = len(faces)
    lying = surfels_on_faces(
        torch.from_numpy(vertices), torch.from_numpy(faces), torch.full((count,), 0.95), torch.full((count, 3), 0.5)
    )
    return Reconstruction(lying, Mesh(vertices, faces))


def _fused(
    surfels: Surfels,
    views: NormalisedViews,
    preset: Preset,
    *,
    swell: float,
    report: Callable[[float], None] | None = None,
) -> Grid:
    """Depth of the surfels from all around as one field, cut to what silhouettes and depth of the inputs allow."""
    cameras = _survey(preset.fuse_views, preset.fuse_size)
    outputs = []
    for i in range(0, cameras.num_views, 4):
        if report is not None:
            report(i / cameras.num_views)
        outputs.append(render_surfels(surfels, cameras[slice(i, i + 4)]))
    rendered = RenderOutput(
        *(torch.cat([getattr(o, f.name) for o in outputs]) for f in dataclasses.fields(RenderOutput))
    )
    solid = Grid(*hull_field(views, resolution=preset.fuse_resolution))
    fused = fuse(rendered, cameras, low=views.low, high=views.high, resolution=preset.fuse_resolution)
    return Grid(torch.minimum(fused.field + swell, solid.resample(fused).field), fused.origin, fused.spacing)


def _mesh(
    surfels: Surfels, views: NormalisedViews, preset: Preset, options: GenerateOptions, tell: StageReporter
) -> Mesh:
    """Surfels -> depth from all around -> TSDF, cut to the silhouettes -> a clean mesh whose outlines are those of the inputs."""
    # refined surfels end short of the outline by about the width of their soft edge
    swell = preset.swell if options.refine else 0.0
    field = _fused(surfels, views, preset, swell=swell, report=lambda f: tell("mesh", 0.4 * f, "Extracting the mesh"))
    mesh = extract_surface(field)
    tell("mesh", 0.6, "Cleaning the mesh")
    mesh = clean_mesh(mesh)
    tell("mesh", 0.7, "Simplifying the mesh")
    mesh = decimate(mesh, options.target_faces)
    if options.refine:
        tell("mesh", 0.8, "Fitting the outlines")
        mesh = snap_to_silhouettes(mesh, views.silhouettes, views.views.cameras)
    # what simplifying and fitting have made tiny is a crumb, not a part
    return drop_small_parts(mesh, min_fraction=0.012)


def _survey(count: int, size: int) -> Cameras:
    """Cameras all around the object, close enough for it to fill the frame."""
    fovy = 0.75
    radius = 1.04 * NORMALISED_RADIUS / math.sin(0.5 * fovy)
    return fibonacci_cameras(count, radius=radius, fovy=fovy, height=size, width=size)


def _texture(
    mesh: Mesh, surfels: Surfels, views: NormalisedViews, preset: Preset, texture_size: int, tell: StageReporter
) -> TexturedMesh:
    """The input views on the mesh; where none of them looks, what the surfels show."""
    unwrapped = unwrap(mesh, texture_size=texture_size)
    tell("texture", 0.3, "Baking the texture")
    cameras = _survey(16, preset.fuse_size)
    rendered = render_surfels(surfels, cameras, background=torch.zeros(3))
    straight = (rendered.rgb / rendered.alpha.clamp_min(1e-4)).clamp(0, 1)
    fill = PosedViews(straight, rendered.alpha.clamp(0, 1), cameras)
    return bake_texture(
        unwrapped,
        views.views,
        texture_size=texture_size,
        fill_views=fill,
        report=lambda fraction: tell("texture", 0.35 + 0.65 * fraction),
    )


class _Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin
