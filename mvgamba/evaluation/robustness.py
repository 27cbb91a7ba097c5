"""`mvgamba robustness`: what one bad photograph among the inputs costs each way of reconstructing.

After the figure on robustness in the paper of MVGamba (figure 6a): there one of the views that are not the first is spoiled. The first is never
spoiled, since that is the picture a person gave.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvgamba.errors import Cancelled, InvalidInput, MVGambaError
from mvgamba.evaluation.drawable import Drawable, drawable_of
from mvgamba.evaluation.objects import object_name, objects_of, read_object
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around, input_angles, random_placement
from mvgamba.evaluation.robustness_report import figure, picture_sheet, robustness_table
from mvgamba.evaluation.run import (
    EvaluationSettings,
    Subject,
    folder_for,
    object_seed,
    photograph_subject,
    score_result,
    write_text,
)
from mvgamba.pipeline import Result
from mvgamba.types import PosedViews

log = logging.getLogger(__name__)

CONDITIONS = {
    "clean": "every view as it was photographed",
    "noise-colours": "one view's colours are uniform noise within its own silhouette; its alpha is right",
    "noise-picture": "every pixel of one view, colour and alpha, is uniform noise: its silhouette is dust all over the frame",
    "shift": "one view was photographed 15 degrees further round the orbit than its camera says",
}
"""Name and definition of what is done to the inputs."""
SHIFT = math.radians(15)
HULL, AUTO = "hull", "auto"
KEPT = ("psnr", "psnr_foreground", "ssim", "iou", "chamfer", "f_score_0.02", "f_score_0.05")
"""Scores that a report holds."""

ReconstructBy = Callable[[PosedViews, str], Result]
"""Photographs and the name of a reconstructor in; a finished job out."""


@dataclass(frozen=True)
class RobustnessSettings:
    """What is spoiled and who is compared."""

    num_views: int = 4
    image_size: int = 256
    limit: int = 0
    """Only the first objects; 0 means all."""
    seed: int = 0
    learned: str = "ray"
    """The reconstructor that is compared with the refined hull."""
    conditions: tuple[str, ...] = tuple(CONDITIONS)

    def __post_init__(self) -> None:
        unknown = [c for c in self.conditions if c not in CONDITIONS]
        if unknown:
            raise InvalidInput(f"condition is {unknown[0]!r}; it must be one of {', '.join(CONDITIONS)}.")
        if not 2 <= self.num_views <= 64:
            raise InvalidInput(
                f"num_views is {self.num_views}; it must lie between 2 and 64, as the first is never spoiled."
            )
        if self.learned in (HULL, AUTO):
            raise InvalidInput(
                f"The reconstructor to compare with the hull is {self.learned!r}; name a learned one: ray or mvgamba."
            )

    @property
    def paths(self) -> tuple[str, ...]:
        """The reconstructors of a report: the learned one, the hull, and what the pipeline takes by itself."""
        return (self.learned, HULL, AUTO)


def spoiled_view(num_views: int, seed: int) -> int:
    """Which view is spoiled: any but the first, by the seed."""
    return int(np.random.default_rng([seed, 2]).integers(1, num_views))


def spoil(drawable: Drawable, subject: Subject, condition: str, *, view: int, seed: int) -> PosedViews:
    """The inputs of a subject with one view spoiled as `CONDITIONS` says.

    Args:
        drawable: The object before it was placed.
        seed: That of the subject; it places the object and draws the noise.
    """
    rgb, alpha, cameras = subject.inputs.rgb.clone(), subject.inputs.alpha.clone(), subject.inputs.cameras
    noise = torch.rand(4, cameras.height, cameras.width, generator=torch.Generator().manual_seed(seed))
    if condition in ("noise-colours", "noise-picture"):
        rgb[view] = noise[:3]
    if condition == "noise-picture":
        alpha[view] = noise[3:]
    if condition == "shift":
        azimuth, elevation = input_angles(cameras.num_views, seed)[view]
        placement = random_placement(drawable, seed)
        beside = cameras_around(drawable, placement, [(azimuth + SHIFT, elevation)], cameras.height)
        taken = photograph(subject.drawable, beside)
        rgb[view], alpha[view] = taken.rgb[0], taken.alpha[0]
    return dataclasses.replace(subject.inputs, rgb=rgb, alpha=alpha)


def measure_robustness(
    folder: Path, out: Path, reconstruct: ReconstructBy, settings: RobustnessSettings | None = None
) -> dict[str, Any]:
    """Reconstruct every GLB of a folder from clean and from spoiled views, by each path; write `report.json`, `table.md`,
    `figure.png` and `sheet.png`.

    What is written is complete after every object. A reconstruction that fails counts as an empty mesh and is listed.
    The pipeline is as good as its word that equal settings give equal results: what `auto` chose is not run a second time.

    Returns: what `report.json` holds: `settings`, `conditions`, `objects`, `mean`, `loss`, `loses_less`, `failed`.
    Raises: InvalidInput, OutputFailed, Cancelled.
    """
    settings = settings or RobustnessSettings()
    paths = objects_of(folder)
    paths = paths[: settings.limit] if settings.limit else paths
    folder_for(out)
    rows: list[dict[str, Any]] = []
    strips: list[tuple[str, list[PosedViews]]] = []
    report: dict[str, Any] = {}
    for path in paths:
        name = object_name(path)
        drawable, seed = read_object(path), object_seed(name, settings.seed)
        subject = photograph_subject(
            drawable, EvaluationSettings(num_views=settings.num_views, image_size=settings.image_size, seed=seed)
        )
        view = spoiled_view(settings.num_views, seed)
        for condition in settings.conditions:
            inputs = spoil(drawable, subject, condition, view=view, seed=seed)
            row, pictures = _by_all_paths(subject, inputs, reconstruct, settings)
            rows.append({"name": name, "condition": condition, "spoiled_view": view} | row)
            beside = _nearest_camera(subject, view)
            pictures = [inputs[[view]], *(p[[beside]] for p in (subject.truth, *pictures))]
            strips.append((f"{name}: {condition}", pictures))
            log.info("%s, %s: %s", name, condition, {p: round(row[p]["psnr"], 2) for p in settings.paths})
        report = robustness_summary(rows, settings)
        write_text(out / "report.json", json.dumps(report, indent=1, default=float))
        write_text(out / "table.md", robustness_table(report))
        figure(report).save(out / "figure.png")
        picture_sheet(strips, ("spoiled input", "truth", *settings.paths)).save(out / "sheet.png")
    return report


def robustness_summary(rows: list[dict[str, Any]], settings: RobustnessSettings) -> dict[str, Any]:
    """Means, losses and who loses less.

    By condition and path: mean scores; what is lost against clean inputs (PSNR, IoU, and squared error of the pictures, which is
    added and not lost), and which of the learned one and the hull loses less."""
    conditions = [c for c in settings.conditions if any(row["condition"] == c for row in rows)]
    mean = {
        c: {
            p: {k: float(np.mean([r[p][k] for r in rows if r["condition"] == c])) for k in KEPT} for p in settings.paths
        }
        for c in conditions
    }
    report: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "conditions": {c: CONDITIONS[c] for c in conditions},
        "objects": rows,
        "mean": mean,
        "failed": [
            {"name": r["name"], "condition": r["condition"], "path": p, "error": r[p]["error"]}
            for r in rows
            for p in settings.paths
            if r[p]["error"]
        ],
    }
    if "clean" in mean:
        loss = {
            c: {
                p: {k: mean["clean"][p][k] - mean[c][p][k] for k in ("psnr", "iou")}
                | {"squared_error": _squared_error(rows, c, p) - _squared_error(rows, "clean", p)}
                for p in settings.paths
            }
            for c in conditions
            if c != "clean"
        }
        report["loss"] = loss
        rivals = (settings.learned, HULL)
        report["loses_less"] = {
            c: {k: rivals[int(np.argmin([by_path[p][k] for p in rivals]))] for k in ("psnr", "iou", "squared_error")}
            for c, by_path in loss.items()
        }
    return report


def _squared_error(rows: list[dict[str, Any]], condition: str, path: str) -> float:
    """Mean over the objects of what their PSNR says: decibels lost weigh more the better a path was when it was clean."""
    return float(np.mean([10 ** (-r[path]["psnr"] / 10) for r in rows if r["condition"] == condition]))


def _by_all_paths(
    subject: Subject, inputs: PosedViews, reconstruct: ReconstructBy, settings: RobustnessSettings
) -> tuple[dict[str, Any], list[PosedViews]]:
    """Scores by path, and what the scoring cameras see of each."""
    row: dict[str, Any] = {}
    seen: dict[str, PosedViews] = {}
    for path in (AUTO, settings.learned, HULL):
        if AUTO in row and row[AUTO]["reconstructor"] == path:
            row[path], seen[path] = row[AUTO], seen[AUTO]
            continue
        row[path], seen[path] = _by_one_path(subject, inputs, path, reconstruct)
    return row, [seen[path] for path in settings.paths]


def _by_one_path(
    subject: Subject, inputs: PosedViews, path: str, reconstruct: ReconstructBy
) -> tuple[dict[str, Any], PosedViews]:
    mesh, facts, error = None, {}, None
    try:
        result = reconstruct(inputs, path)
        mesh, facts = drawable_of(result.mesh), result.facts
    except Cancelled:
        raise
    except MVGambaError as failure:
        log.warning("%s failed: %s", path, failure)
        error = f"{failure.reason}: {failure}"
    scores, pictures = score_result(subject, mesh)
    told = {k: facts.get(k) for k in ("reconstructor", "reconstructor_because", "left_out")}
    return {k: scores[k] for k in KEPT} | told | {"error": error}, pictures


def _nearest_camera(subject: Subject, view: int) -> int:
    """The scoring camera that looks most like an input view, so that a picture shows the side that was spoiled."""
    back = subject.scored_cameras.c2w[:, :3, 2]
    return int((back @ subject.inputs.cameras.c2w[view, :3, 2]).argmax())
