"""Scores as a table and as pictures."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from rich.table import Table
from torch import Tensor

from mvgamba.evaluation.image_scores import on_white
from mvgamba.types import PosedViews

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("psnr", "PSNR", "{:.2f}"),
    ("psnr_foreground", "fg PSNR", "{:.2f}"),
    ("ssim", "SSIM", "{:.3f}"),
    ("lpips", "LPIPS", "{:.3f}"),
    ("iou", "IoU", "{:.4f}"),
    ("f_score_0.02", "F@.02", "{:.3f}"),
    ("f_score_0.05", "F@.05", "{:.3f}"),
    ("chamfer", "Chamfer", "{:.4f}"),
    ("normal_consistency", "normals", "{:.3f}"),
    ("faces", "faces", "{:.0f}"),
    ("components", "parts", "{:.1f}"),
    ("watertight", "closed", "{:.2f}"),
    ("reconstructor", "start", "{}"),
    ("seconds", "seconds", "{:.1f}"),
    ("peak_memory_mib", "MiB", "{:.0f}"),
)
"""Key, heading and format of each score in a table."""
ON_REQUEST = {"lpips"}
"""Scores whose column is there only where they were asked for."""
SHEET_VIEWS = 6


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """A heading, a line for each object, their mean, and the mean of the baseline."""
    columns = [column for column in COLUMNS if column[0] not in ON_REQUEST or column[0] in report["mean"]]
    lines = [(row["name"] + (" (failed)" if row.get("error") else ""), row) for row in report["objects"]]
    lines.append(("mean", report["mean"]))
    if report.get("surfels_mean"):
        lines.append(("surfels, mean", report["surfels_mean"]))
    lines += [(f"{name}, mean", scores) for name, scores in report["baseline_means"].items()]
    return [["object", *(heading for _, heading, _ in columns)], *(_cells(*line, columns) for line in lines)]


def markdown_table(report: dict[str, Any]) -> str:
    """The table as Markdown, with what was handed over above it."""
    settings = report["settings"]
    more = [word for word, key in (("depth", "with_depth"), ("noise", "with_noise")) if settings[key]]
    size = settings["image_size"]
    protocol = "" if settings["protocol"] == "ours" else f"protocol {settings['protocol']}: "
    title = f"{protocol}{settings['num_views']} views of {size} x {size}, seed {settings['seed']}" + "".join(
        f", with {word}" for word in more
    )
    heading, *rows = table_rows(report)
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *rows]
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def terminal_table(report: dict[str, Any]) -> Table:
    """The table for a terminal."""
    heading, *rows = table_rows(report)
    table = Table(box=None, header_style="bold")
    table.add_column(heading[0])
    for name in heading[1:]:
        table.add_column(name, justify="right")
    last = len(report["objects"]) - 1
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index == last, style="bold" if row[0] == "mean" else None)
    return table


def comparison_sheet(truth: PosedViews, result: PosedViews) -> Image.Image:
    """Truth above result above error (three times enlarged), from some of the scoring cameras."""
    chosen = np.linspace(0, truth.num_views - 1, min(SHEET_VIEWS, truth.num_views)).round().astype(int).tolist()
    return _image(torch.cat([torch.cat(list(row[chosen]), dim=-1) for row in _rows(truth, result)], dim=-2))


def overview_sheet(strips: list[tuple[str, PosedViews, PosedViews]]) -> Image.Image:
    """Each object in a line: truth, result and error, from two of the scoring cameras."""
    lines = []
    for _, truth, result in strips:
        rows = _rows(truth, result)
        chosen = [0, truth.num_views // 2]
        lines.append(torch.cat([row[view] for view in chosen for row in rows], dim=-1))
    return _image(torch.cat(lines, dim=-2))


def _rows(truth: PosedViews, result: PosedViews) -> list[Float[Tensor, "V 3 H W"]]:
    a, b = on_white(truth), on_white(result)
    return [a, b, 1 - (3 * (a - b).abs()).clamp(0, 1)]


def _cells(name: str, scores: dict[str, Any], columns: list[tuple[str, str, str]]) -> list[str]:
    return [name, *(_cell(scores[key], form) if scores.get(key) is not None else "" for key, _, form in columns)]


def _cell(value: float | int | str, form: str) -> str:
    return value if isinstance(value, str) else form.format(float(value))


def _image(picture: Float[Tensor, "3 H W"]) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
