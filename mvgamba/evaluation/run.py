"""`mvgamba eval`: photograph objects, reconstruct them from the photographs, and score the results from other cameras."""

import dataclasses
import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from mvgamba.errors import Cancelled, InvalidInput, MVGambaError, OutputFailed
from mvgamba.evaluation.baseline import coloured_hull
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.image_scores import image_scores
from mvgamba.evaluation.lpips import Perceptual, lpips_scores
from mvgamba.evaluation.nearest import NearestObject
from mvgamba.evaluation.objects import object_name, objects_of, read_object
from mvgamba.evaluation.photograph import disturbed, photograph
from mvgamba.evaluation.report import comparison_sheet, markdown_table, overview_sheet
from mvgamba.evaluation.rig import PROTOCOLS, cameras_around, protocol_angles, random_placement, scored_angles
from mvgamba.evaluation.surface_scores import mesh_facts, surface_scores
from mvgamba.io.glb import write_glb
from mvgamba.pipeline import Result
from mvgamba.render import render_surfels
from mvgamba.types import Cameras, PosedViews, TexturedMesh

log = logging.getLogger(__name__)

Reconstruct = Callable[[PosedViews], TexturedMesh | Result]
"""Photographs in, a mesh in the world of their cameras out, or all that the pipeline says of it."""
Baseline = Callable[[PosedViews], Drawable]
"""Photographs in, something to compare with out, in the world of their cameras."""
HULL: dict[str, Baseline] = {"hull": coloured_hull}


@dataclass(frozen=True)
class EvaluationSettings:
    """What is handed over and how it is scored."""

    num_views: int = 8
    image_size: int = 256
    """Pixels of the input views and of the views that score."""
    limit: int = 0
    """Only the first objects; 0 means all."""
    with_depth: bool = False
    with_noise: bool = False
    seed: int = 0
    protocol: str = "ours"
    """One of `PROTOCOLS`."""
    with_surfels: bool = False
    """Score the surfels themselves too, where the reconstruction gives them."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_views <= 64:
            raise InvalidInput(f"num_views is {self.num_views}; it must lie between 1 and 64.")
        if not 16 <= self.image_size <= 2048:
            raise InvalidInput(f"image_size is {self.image_size}; it must lie between 16 and 2048 pixels.")
        if self.protocol not in PROTOCOLS:
            raise InvalidInput(f"protocol is {self.protocol!r}; it must be one of {', '.join(PROTOCOLS)}.")


@dataclass(frozen=True, eq=False)
class Subject:
    """A placed object, the photographs a reconstruction gets of it, and the cameras that will score."""

    drawable: Drawable
    inputs: PosedViews
    scored_cameras: Cameras
    truth: PosedViews


def object_seed(name: str, seed: int) -> int:
    """Each object stands at a place of its own, the same one whatever else is in the folder."""
    return (zlib.crc32(name.encode()) + seed) % 2**31


def photograph_subject(drawable: Drawable, settings: EvaluationSettings) -> Subject:
    """Place an object by the seed and photograph it from the input and from the scoring cameras."""
    placement = random_placement(drawable, settings.seed)
    placed = drawable.placed(placement)
    angles = protocol_angles(settings.protocol, settings.num_views, settings.seed)
    inputs = photograph(
        placed,
        cameras_around(drawable, placement, angles, settings.image_size),
        with_depth=settings.with_depth,
    )
    scored = cameras_around(drawable, placement, scored_angles(settings.protocol), settings.image_size)
    return Subject(
        placed,
        disturbed(inputs, settings.seed) if settings.with_noise else inputs,
        scored,
        photograph(placed, scored),
    )


def score_result(
    subject: Subject, result: Drawable | None, *, seed: int = 0, perceptual: Perceptual | None = None
) -> tuple[dict[str, Any], PosedViews]:
    """All scores of a result in the world of the subject's cameras, and the pictures they were made of.

    None stands for a result that is missing: it is scored as an empty mesh.
    """
    if result is None or len(result.faces) == 0:
        pictures = _blank(subject.truth)
        seen = image_scores(subject.truth, pictures) | lpips_scores(subject.truth, pictures, perceptual)
        return seen | surface_scores(subject.drawable, None), pictures
    pictures = photograph(result, subject.scored_cameras)
    scores: dict[str, Any] = image_scores(subject.truth, pictures) | lpips_scores(subject.truth, pictures, perceptual)
    scores |= surface_scores(subject.drawable, result, seed=seed)
    return scores | mesh_facts(result.vertices, result.faces), pictures


def evaluate_folder(
    folder: Path,
    out: Path,
    reconstruct: Reconstruct,
    settings: EvaluationSettings | None = None,
    baselines: Mapping[str, Baseline] = HULL,
    *,
    perceptual: Perceptual | None = None,
) -> dict[str, Any]:
    """Evaluate every object of a folder; write `report.json`, `table.md`, `sheet.png` and for each object a GLB and a sheet.

    An object that cannot be reconstructed counts as an empty mesh and is listed under `failed`. What is written is
    complete after every object, so that a run that is stopped keeps what it had.

    Args:
        baselines: By name; each gets the same photographs and is scored by the same code.
        perceptual: Scores `lpips` too, see `load_lpips`. None leaves that score out.
    Returns: what `report.json` holds: `settings`, `objects`, `mean`, `baseline_means`, `paths`, `failed`.
    Raises:
        InvalidInput: There is no object, or one cannot be read.
        OutputFailed: `out` cannot be written.
        Cancelled: `reconstruct` was told to stop.
    """
    settings = settings or EvaluationSettings()
    paths = objects_of(folder)
    paths = paths[: settings.limit] if settings.limit else paths
    folder_for(out)
    objects: list[dict[str, Any]] = []
    strips: list[tuple[str, PosedViews, PosedViews]] = []
    report: dict[str, Any] = {}
    for path in paths:
        name = object_name(path)
        subject = photograph_subject(
            read_object(path), dataclasses.replace(settings, seed=object_seed(name, settings.seed))
        )
        row, result = _reconstruct_one(name, subject, reconstruct, out, settings, perceptual)
        scores, pictures = score_result(subject, result, perceptual=perceptual)
        row |= scores
        if baselines:
            row["baselines"] = {other: _baseline(other, subject, make, perceptual) for other, make in baselines.items()}
        objects.append(row)
        strips.append((name, subject.truth, pictures))
        comparison_sheet(subject.truth, pictures).save(out / f"{name}.png")
        report = summary(objects, settings)
        write_text(out / "report.json", json.dumps(report, indent=1, default=float))
        write_text(out / "table.md", markdown_table(report))
        log.info("%s: %.2f dB in %.1f s", name, row["psnr"], row["seconds"])
    overview_sheet(strips).save(out / "sheet.png")
    return report


def summary(objects: list[dict[str, Any]], settings: EvaluationSettings) -> dict[str, Any]:
    """The report over the objects so far."""
    report: dict[str, Any] = {"settings": dataclasses.asdict(settings), "objects": objects, "mean": _mean(objects)}
    names = list(objects[0].get("baselines", {}))
    report["baseline_means"] = {name: _mean([row["baselines"][name] for row in objects]) for name in names}
    starts = [row["reconstructor"] for row in objects if "reconstructor" in row]
    report["paths"] = {name: starts.count(name) for name in sorted(set(starts))}
    surfels = [row["surfels"] for row in objects if "surfels" in row]
    report["surfels_mean"] = _mean(surfels) if surfels else None
    report["failed"] = [row["name"] for row in objects if row.get("error")]
    return report


def _mean(rows: list[dict[str, Any]]) -> dict[str, float]:
    numeric = [name for name, value in rows[0].items() if isinstance(value, (bool, int, float))]
    return {name: float(np.mean([float(row[name]) for row in rows if name in row])) for name in numeric}


def _reconstruct_one(
    name: str,
    subject: Subject,
    reconstruct: Reconstruct,
    out: Path,
    settings: EvaluationSettings,
    perceptual: Perceptual | None,
) -> tuple[dict[str, Any], Drawable | None]:
    """Run the reconstruction, write its GLB, and read it back, so that what a file loses counts."""
    row: dict[str, Any] = {"name": name, "error": None}
    surfels: PosedViews | None = None
    begin = time.perf_counter()
    with _PeakMemory() as memory:
        try:
            made = reconstruct(subject.inputs)
            row["seconds"] = time.perf_counter() - begin
            mesh = made if isinstance(made, TexturedMesh) else made.mesh
            write_glb(mesh, out / f"{name}.glb")
            if isinstance(made, Result):
                row |= {key: made.facts.get(key) for key in ("reconstructor", "reconstructor_because")}
                if settings.with_surfels:
                    surfels = surfels_seen(made, subject.scored_cameras)
                    row["surfels"] = image_scores(subject.truth, surfels)
            result = read_drawable(out / f"{name}.glb")
        except Cancelled:
            raise
        except MVGambaError as error:
            log.warning("%s failed: %s", name, error)
            row["error"], result = f"{error.reason}: {error}", None
            row.setdefault("seconds", time.perf_counter() - begin)
    row["peak_memory_mib"] = memory.peak / 2**20
    if surfels is not None:
        row["surfels"] |= lpips_scores(subject.truth, surfels, perceptual)
    return row, result


def surfels_seen(result: Result, cameras: Cameras) -> PosedViews:
    """The surfels of a result as cameras of the world see them, without a mesh."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] = result.to_world.inverse_apply(c2w[:, :3, 3])
    c2w[:, :3, :3] = result.to_world.rotation.to(c2w).T @ c2w[:, :3, :3]
    drawn = render_surfels(result.surfels.to("cpu"), dataclasses.replace(cameras, c2w=c2w), background=torch.zeros(3))
    return PosedViews((drawn.rgb / drawn.alpha.clamp_min(1e-6)).clamp(0, 1), drawn.alpha.clamp(0, 1), cameras)


def _baseline(name: str, subject: Subject, make: Baseline, perceptual: Perceptual | None) -> dict[str, Any]:
    begin = time.perf_counter()
    try:
        made = make(subject.inputs)
    except Cancelled:
        raise
    except MVGambaError as error:
        log.warning("no %s to compare with: %s", name, error)
        made = None
    which = {"object": make.last} if isinstance(make, NearestObject) else {}
    return which | {"seconds": time.perf_counter() - begin} | score_result(subject, made, perceptual=perceptual)[0]


def _blank(views: PosedViews) -> PosedViews:
    return PosedViews(views.rgb * 0 + 1, views.alpha * 0, views.cameras)


def folder_for(out: Path) -> None:
    """Make a folder for a report. Raises: OutputFailed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{out} cannot be made a folder for the report: {error.strerror or error}.") from error


def write_text(path: Path, text: str) -> None:
    """Raises: OutputFailed."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputFailed(f"{path} cannot be written: {error.strerror or error}.") from error


class _PeakMemory:
    """The largest resident set of this process while it is entered, looked at every 50 ms."""

    def __enter__(self) -> "_PeakMemory":
        self._process = psutil.Process()
        self.peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mvgamba-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._process.memory_info().rss)
