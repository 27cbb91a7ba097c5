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
import torch.nn.functional as F

from mvgamba import __version__
from mvgamba.cameras import resize_cameras
from mvgamba.distilling import DistilOptions, distil
from mvgamba.distilling import placed as surfels_placed
from mvgamba.errors import EmptyReconstruction, InvalidInput, OutOfMemory, Unavailable
from mvgamba.io.glb import write_glb
from mvgamba.multiview.distillation import StarterPrior
from mvgamba.multiview.protocol import GeneratedViews
from mvgamba.multiview.starter_generator import StarterGenerator
from mvgamba.planning import PRESETS, Fitted, Job, Preset, fit_to_memory, free_memory, give_back_freed, job_of
from mvgamba.progress import CancelToken, Progress, Report, StageReporter
from mvgamba.reconstructor import RECONSTRUCTORS
from mvgamba.reconstructor.agreement import contradicting_view
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews, normalise_views
from mvgamba.reconstructor.protocol import Reconstructor, ReconstructorSettings
from mvgamba.refinement.colors import painted
from mvgamba.refinement.refine import refine
from mvgamba.refinement.targets import least_match
from mvgamba.render import render_surfels
from mvgamba.surfacing import mesh_of, textured_mesh, with_scaffold
from mvgamba.types import (
    Cameras,
    GenerateOptions,
    GenerateRequest,
    PosedViews,
    Reconstruction,
    Similarity,
    SourceImage,
    Surfels,
    TextPrompt,
    TexturedMesh,
    Variation,
)
from mvgamba.view_making import ChosenGenerator, ShowViews, load_generator, make_views, placed
from mvgamba.weights import default, sha256_of

log = logging.getLogger(__name__)

MOST_LEARNED_VIEWS = 8
"""With more, the views themselves say more than what was learned from other objects."""
MULTIVIEW_WEIGHT = 8.0
"""Expected time of making views, as `Preset.weights` counts."""
LEAST_MATCH = 0.85
"""Least overlap of the learned start with a silhouette of the inputs (intersection over union). Where it is lower, and lower than that of the
hull's surfels, thin parts are gone or the views are unlike those it has learned from; the hull is better then. Good starts have 0.9 and more. The
hull is asked as well because soft surfels meet the edge-on view of a thin thing badly whoever placed them: of a rug 0.60 and the hull's 0.52."""


@dataclass(frozen=True, eq=False)
class Result:
    """A finished job."""

    mesh: TexturedMesh
    """In the world of the captures (+Y up)."""
    surfels: Surfels
    """In the normalised frame, on the device of the job."""
    to_world: Similarity
    seconds: dict[str, float]
    """Wall time of each stage."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which path was taken and how well the inputs are matched: what a person is shown and a file carries along."""
    made_views: PosedViews | None = None
    """Of a prompt, an image or a variation: what was made of it and then reconstructed."""

    def write_glb(self, path: Path | str) -> None:
        """Raises: OutputFailed, DiskFull."""
        write_glb(self.mesh, Path(path), extras={"mvgamba": self.facts})


def generate(
    request: GenerateRequest,
    report: Report | None = None,
    cancel: CancelToken | None = None,
    show: ShowViews | None = None,
) -> Result:
    """Run a request to its end.

    Args:
        show: Given the views while a generator makes them, and the finished ones.
    Raises:
        InvalidInput: The source or an option cannot be used (see the subclasses).
        Unavailable: A device, model or variant was asked for that cannot run here, or whose depth cannot be fused.
        EmptyReconstruction: The views gave no surface.
        OutOfMemory: Memory does not suffice, by the plan before the start or in the end.
        Cancelled: The token was set.
    """
    options = check_options(request.options)
    try:
        if isinstance(request.source, PosedViews):
            return _from_views(request.source, options, report, cancel)
        return _from_made_views(request.source, options, report, cancel, show)
    except MemoryError as error:
        raise OutOfMemory("Main memory is used up. Choose draft quality, a smaller texture or fewer views.") from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"Device memory is used up: {error}. Choose draft quality or the CPU.") from error


def _from_made_views(
    source: TextPrompt | SourceImage | Variation,
    options: GenerateOptions,
    report: Report | None,
    cancel: CancelToken | None,
    show: ShowViews | None,
) -> Result:
    """The views first, then what is done with any views; each gets its share of the progress."""
    begin = time.perf_counter()
    share = MULTIVIEW_WEIGHT / (MULTIVIEW_WEIGHT + sum(PRESETS[options.quality].weights.values()))

    def tell(fraction: float) -> None:
        if report is not None:
            report(Progress("multiview", share * fraction, "Making views"))

    tell(0.0)
    chosen = load_generator(source, options)
    if options.multiview.distil:
        _check_distilling(source, chosen)
    made = make_views(
        source,
        options,
        redraw=lambda views, own: _redrawn(views, own, options),
        report=tell,
        show=show,
        cancel=cancel,
        chosen=chosen,
    )
    seconds = time.perf_counter() - begin
    for sentence in made.warnings:
        log.debug("%s", sentence)  # it may quote the prompt
        if report is not None:
            report(Progress("multiview", share, sentence))
    if show is not None:
        show(made.views)

    def rest(progress: Progress) -> None:
        if report is not None:
            report(dataclasses.replace(progress, fraction=share + (1 - share) * progress.fraction))

    left = None if options.seconds is None else max(options.seconds - seconds, 0.1)
    distil = None
    if options.multiview.distil:
        assert isinstance(chosen.generator, StarterGenerator)
        distil = _distiller(source, made, chosen.generator, options, cancel)
    result = _from_views(made.views, dataclasses.replace(options, seconds=left), rest, cancel, distil)
    times = {"multiview": seconds, **result.seconds}
    facts = {
        **result.facts,
        **made.facts,
        "weights_sha256": result.facts["weights_sha256"] | made.facts["weights_sha256"],
        "warnings": [*made.warnings, *result.facts["warnings"]],
        "seconds": {k: round(v, 2) for k, v in times.items()},
    }
    return dataclasses.replace(result, seconds=times, facts=facts, made_views=made.views)


def only_views(
    request: GenerateRequest,
    report: Report | None = None,
    cancel: CancelToken | None = None,
    show: ShowViews | None = None,
) -> GeneratedViews:
    """The views of a prompt, an image or a variation, to be looked at before they are reconstructed.

    Raises:
        InvalidInput, Unavailable, Cancelled: As `generate`; and for views that are posed already.
    """
    options, source = check_options(request.options), request.source
    if isinstance(source, PosedViews):
        raise InvalidInput("Posed views are there already; views are made of a prompt, an image or a variation.")

    def tell(fraction: float) -> None:
        if report is not None:
            report(Progress("multiview", fraction, "Making views"))

    return make_views(
        source, options, redraw=lambda views, own: _redrawn(views, own, options), report=tell, show=show, cancel=cancel
    )


def _redrawn(views: PosedViews, cameras: Cameras, options: GenerateOptions) -> PosedViews:
    """What cameras about the unit ball would see of an object, the ball being around it: a quick reconstruction, drawn."""
    quick = dataclasses.replace(options, quality="draft", seconds=None)
    job = _fitted(views, quick).job
    host = normalise_views(_resized(views.to("cpu"), job))
    settings = ReconstructorSettings(
        job.preset.hull_resolution, job.preset.surfels, weights_folder=options.weights_folder
    )
    start, *_ = _start(*choose_reconstructor(views, quick), quick, settings, host)
    if start.scaffold is None:
        start = with_scaffold(start.surfels, host, job.preset)
    surfels = refine(start, host.views, job.preset.refine, seed=options.seed).surfels
    small = cameras.c2w.clone()
    small[:, :3, 3] *= NORMALISED_RADIUS
    near = dataclasses.replace(cameras, c2w=small)
    drawn = render_surfels(surfels, near, background=surfels.means.new_zeros(3))
    place = dataclasses.replace(host.to_world, scale=NORMALISED_RADIUS * host.to_world.scale)
    straight = (drawn.rgb / drawn.alpha.clamp_min(1e-4)).clamp(0, 1)
    return PosedViews(straight, drawn.alpha.clamp(0, 1), dataclasses.replace(cameras, c2w=placed(cameras.c2w, place)))


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
    if options.seconds is not None and not (math.isfinite(options.seconds) and options.seconds > 0):
        raise InvalidInput(f"seconds is {options.seconds}; it must be a positive number, or None for no limit.")
    if options.when_short not in ("reduce", "fail"):
        raise InvalidInput(f"when_short is {options.when_short!r}; it must be reduce or fail.")
    if options.memory_mib is not None and options.memory_mib < 1:
        raise InvalidInput(f"memory_mib is {options.memory_mib}; it must be at least 1, or None for what is free.")
    # A CUDA device is taken when it is asked for; by itself only once `make gpu` has passed on one.
    device = "cpu" if options.device == "auto" else options.device
    if options.reconstructor != "auto":
        RECONSTRUCTORS.get(options.reconstructor)
    return dataclasses.replace(options, device=device)


def choose_reconstructor(views: PosedViews, options: GenerateOptions) -> tuple[str, str]:
    """The name of the reconstructor for these views, and the reason in a few words."""
    if options.reconstructor != "auto":
        return options.reconstructor, "asked for"
    if views.depth is not None:
        return "hull", "the views have depth, which leaves nothing to guess"
    if not 2 <= views.num_views <= MOST_LEARNED_VIEWS:
        return "hull", f"{views.num_views} views: the learned one is better with 2 to {MOST_LEARNED_VIEWS}"
    if options.weights is None and default("reconstructor", "ray", options.weights_folder) is None:
        return "hull", "no trained weights are installed"
    return "ray", "trained weights are installed"


def _weights_of_reconstructor(name: str, options: GenerateOptions) -> dict[str, Any]:
    """Facts: what they are called and their SHA-256; of the hull, which learned nothing, none."""
    if name == "hull":
        return {"reconstructor_weights": None, "weights_sha256": {}}
    if options.weights is not None:
        file = options.weights
        return {"reconstructor_weights": file.name, "weights_sha256": {file.name: sha256_of(file)}}
    found = default("reconstructor", name, options.weights_folder)
    if found is None:
        return {"reconstructor_weights": None, "weights_sha256": {}}
    return {"reconstructor_weights": found.name, "weights_sha256": {found.name: found.sha256}}


Distil = Callable[[Surfels, Similarity, Callable[[float], None]], Surfels]
"""Surfels of the normalised frame, its place, and who is told the fraction done -> the surfels as a generator expects them."""


def _check_distilling(source: TextPrompt | SourceImage | Variation, chosen: ChosenGenerator) -> None:
    """Raises: InvalidInput, before minutes have gone into views."""
    if not isinstance(chosen.generator, StarterGenerator) or isinstance(source, Variation):
        raise InvalidInput("Score distillation (--refine sds) is for words and pictures, by the starter generator.")


def _distiller(
    source: TextPrompt | SourceImage | Variation,
    made: GeneratedViews,
    generator: StarterGenerator,
    options: GenerateOptions,
    cancel: CancelToken | None,
) -> Distil:
    """By the generator that has made the views."""
    picture = source if isinstance(source, SourceImage) else None
    elevation = math.radians(made.facts.get("elevation_deg", 0.0))
    prompt = made.facts.get("read_as", made.facts["prompt"])
    prior = StarterPrior(generator.model, prompt, picture=picture, elevation=elevation)

    def pulled(surfels: Surfels, to_world: Similarity, report: Callable[[float], None]) -> Surfels:
        wishes = DistilOptions(steps=options.multiview.distil)
        start = surfels_placed(surfels, to_world).to(generator.device)
        done = distil(start, prior, wishes, seed=options.seed, report=report, cancel=cancel)
        return surfels_placed(done.surfels.to(surfels.means.device), to_world.inverse())

    return pulled


def _from_views(
    views: PosedViews,
    options: GenerateOptions,
    report: Report | None,
    cancel: CancelToken | None,
    distil: Distil | None = None,
) -> Result:
    begin = time.perf_counter()
    fitted = _fitted(views, options)
    job, preset = fitted.job, fitted.job.preset
    weights = dict(preset.weights) if options.refine else {k: v for k, v in preset.weights.items() if k != "refine"}
    tell = StageReporter(report, cancel, weights)
    clock = _Clock()
    warnings: list[str] = []
    with clock("prepare"):
        views = views.to("cpu")
        wrong = contradicting_view(views)
    if wrong is not None:
        warnings.append(
            f"View {wrong} was left out: its silhouette contradicts those of all the other views. Check its image, alpha and camera."
        )
        views = views[[i for i in range(views.num_views) if i != wrong]]
    name, because = choose_reconstructor(views, options)
    facts: dict[str, Any] = {
        "version": __version__,
        "views": views.num_views,
        "left_out": [] if wrong is None else [wrong],
        "warnings": warnings,
        "quality": options.quality,
        "seed": options.seed,
        "device": options.device,
        "used_depth": views.depth is not None,
        "reduced": fitted.reduced,
    }
    for sentence in fitted.reduced:
        log.warning("Memory is short: %s", sentence)
        tell("prepare", 0.0, f"Memory is short: {sentence}")
    for sentence in warnings:
        log.warning("%s", sentence)
        tell("prepare", 0.0, sentence)
    if views.num_views < 4:
        log.warning("%d views show little of an object: sides that no view sees are guessed.", views.num_views)

    with clock("prepare"):
        tell("prepare", 0.0, "Finding the object")
        host = normalise_views(_resized(views, job))
        # bounds and origins stay on the host: grids are laid out there
        normalised = dataclasses.replace(
            host, views=host.views.to(options.device), silhouettes=host.silhouettes.to(options.device)
        )
    with clock("reconstruct"):
        tell("reconstruct", 0.0, "Reconstructing")
        settings = ReconstructorSettings(
            resolution=preset.hull_resolution,
            faces=preset.surfels,
            weights=options.weights,
            weights_folder=options.weights_folder,
            device=options.device,
        )
        start, name, because = _start(name, because, options, settings, host)
        facts |= {"reconstructor": name, "reconstructor_because": because} | _weights_of_reconstructor(name, options)
        if distil is not None:
            # most of this stage, as it takes minutes
            distilling = lambda done: tell("reconstruct", 0.1 + 0.9 * done, "Distilling")  # noqa: E731
            start = Reconstruction(distil(start.surfels, normalised.to_world, distilling), guess=start.guess)
            facts["distilled"] = options.multiview.distil
        guess = None if start.guess is None else start.guess.to(options.device)
        start = dataclasses.replace(start, surfels=start.surfels.to(options.device), guess=guess)
        if options.refine and start.scaffold is None:
            start = with_scaffold(start.surfels, normalised, preset)
        surfels = start.surfels
        if start.guess is not None and not options.refine and distil is None:  # that has moved the colours as well
            surfels = painted(start, normalised.views)
    if options.refine:
        with clock("refine"):
            tell("refine", 0.0, "Refining")
            wishes = preset.refine
            if options.seconds is not None:
                left = seconds_for_refinement(options.seconds, time.perf_counter() - begin, clock.seconds, preset)
                wishes = dataclasses.replace(wishes, seconds=left)
            refined = refine(start, normalised.views, wishes, seed=options.seed, report=tell.stage("refine"))
            surfels = refined.surfels
            facts |= {"input_psnr": round(refined.psnr, 2), "steps": refined.steps, "stopped": refined.stopped}
    with clock("mesh"):
        tell("mesh", 0.0, "Extracting the mesh")
        mesh = mesh_of(surfels, normalised, host, job, tell)
        facts["faces"] = len(mesh.faces)
    with clock("texture"):
        tell("texture", 0.0, "Unwrapping")
        textured = textured_mesh(mesh, surfels, host, job, tell)
    with clock("export"):
        tell("export", 0.0, "Placing")
        world = normalised.to_world.apply(torch.from_numpy(textured.vertices.astype(np.float64))).numpy()
        textured = dataclasses.replace(textured, vertices=world)
        tell("export", 1.0, "Done")
    facts["seconds"] = {k: round(v, 2) for k, v in clock.seconds.items()}
    log.info("made %d faces in %.1f s", len(textured.faces), sum(clock.seconds.values()))
    return Result(textured, surfels, normalised.to_world, clock.seconds, facts)


def _start(
    name: str, because: str, options: GenerateOptions, settings: ReconstructorSettings, views: NormalisedViews
) -> tuple[Reconstruction, str, str]:
    """A first reconstruction, by whom, and why by them: a learned one that nobody asked for has to match the silhouettes."""
    chosen: Reconstructor = RECONSTRUCTORS.get(name)(settings)
    if name == "hull" or options.reconstructor != "auto":
        return chosen.reconstruct(views), name, because
    try:
        start = chosen.reconstruct(views)
        match = least_match(start.surfels, views.views)
    except EmptyReconstruction:
        match = -1.0
    if match >= LEAST_MATCH:
        return start, name, because
    carver: Reconstructor = RECONSTRUCTORS.get("hull")(settings)
    hull = carver.reconstruct(views)
    wanted = min(LEAST_MATCH, least_match(hull.surfels, views.views))
    if match >= wanted:
        return start, name, because
    because = f"the learned start meets a silhouette by {match:.2f} only"
    log.warning("Going on from the visual hull: %s (at least %.2f is wanted).", because, wanted)
    return hull, "hull", because


def _fitted(views: PosedViews, options: GenerateOptions) -> Fitted:
    """The job in the memory there is, or in its budget. Raises: OutOfMemory."""
    height, width = views.cameras.height, views.cameras.width
    job = job_of(options, num_views=views.num_views, height=height, width=width, has_depth=views.depth is not None)
    give_back_freed()
    memory = free_memory(options.device).within(options.memory_mib)
    return fit_to_memory(job, memory, when_short=options.when_short)


def _resized(views: PosedViews, job: Job) -> PosedViews:
    """The views averaged down to the size of the job, colours by coverage; depth as it is at the nearest pixel."""
    size = (job.height, job.width)
    if size == (views.cameras.height, views.cameras.width):
        return views
    alpha = F.interpolate(views.alpha, size, mode="area")
    rgb = F.interpolate(views.rgb * views.alpha, size, mode="area") / alpha.clamp_min(1e-6)
    depth = None if views.depth is None else F.interpolate(views.depth, size, mode="nearest")
    return PosedViews(rgb.clamp(0, 1), alpha, resize_cameras(views.cameras, *size), depth)


def seconds_for_refinement(budget: float, elapsed: float, measured: dict[str, float], preset: Preset) -> float:
    """What a budget leaves for refinement after `elapsed` seconds, when meshing, texture and export are paid for.

    Their cost is that of the preset, times how much slower or faster than expected this machine was so far (`measured`,
    seconds by stage); at least a tenth of a second, as refinement takes a few steps in any case.
    """
    known = sum(preset.weights[stage] for stage in measured)
    pace = min(max(sum(measured.values()) / known, 0.5), 3.0) if known else 1.0
    after = pace * sum(preset.weights[stage] for stage in ("mesh", "texture", "export"))
    left = budget - elapsed - after
    if left < 0.1:
        log.warning(
            "%.1f s are too few for this job: %.1f s have passed and the stages after refinement take about %.1f s.",
            budget, elapsed, after,
        )  # fmt: skip
    return max(left, 0.1)


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
