"""The contact sheet: what was captured, said or shown and what came back, seen by cameras that were not inputs, with figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

EQUAL_PSNR = 50.0
"""What two equal pictures count as, in dB."""


@dataclass(frozen=True)
class Scores:
    """Means over the held-out views."""

    psnr: float
    """On white, whole frame, dB."""
    foreground_psnr: float
    """On white, where either picture shows something, dB."""
    iou: float
    """Of the silhouettes at alpha one half."""


@dataclass(frozen=True)
class SheetRow:
    """One prop."""

    name: str
    inputs: list[np.ndarray]
    """(H, W, 4) uint8; none for what was made of words."""
    sources: list[np.ndarray]
    """None for what had no source in the scene."""
    results: list[np.ndarray]
    seconds: dict[str, float]
    """By stage."""
    faces: int
    prompt: str = ""
    """What it was made of, where there is no picture of it."""
    said: str = ""
    """Instead of figures, where there is nothing to compare with."""


def score(sources: list[np.ndarray], results: list[np.ndarray]) -> Scores:
    """Compare RGBA pictures pair by pair."""
    psnr, foreground, iou = [], [], []
    for source, result in zip(sources, results, strict=True):
        a, b = on_white(source), on_white(result)
        covered_a, covered_b = source[..., 3] > 127, result[..., 3] > 127
        either = covered_a | covered_b
        error = ((a - b) ** 2).mean(axis=-1)
        psnr.append(_decibel(error.mean()))
        foreground.append(_decibel(error[either].mean()) if either.any() else EQUAL_PSNR)
        iou.append((covered_a & covered_b).sum() / max(1, either.sum()))
    return Scores(float(np.mean(psnr)), float(np.mean(foreground)), float(np.mean(iou)))


def on_white(picture: np.ndarray) -> np.ndarray:
    """Straight RGBA uint8 -> RGB in [0, 1] over white."""
    alpha = picture[..., 3:].astype(np.float64) / 255
    return picture[..., :3] / 255 * alpha + 1 - alpha


def draw_sheet(rows: list[SheetRow], path: Path, *, tile: int = 224, title: str = "") -> None:
    """Write the sheet: for each prop its first input, then pairs of source and result."""
    num_pairs = max(len(row.results) for row in rows)
    gap, caption, header = 10, 58, 44
    width = gap + (tile + gap) + num_pairs * (2 * tile + 2 + gap)
    height = header + len(rows) * (tile + caption)
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(13)
    draw.text((gap, 6), title, font=font, fill=(20, 20, 20))
    draw.text((gap, 25), "front input, or words", font=small, fill=(110, 110, 110))
    for k in range(num_pairs):
        left = gap + (tile + gap) + k * (2 * tile + 2 + gap)
        draw.text((left, 25), f"held-out view {k + 1}: source", font=small, fill=(110, 110, 110))
        draw.text((left + tile + 2, 25), "result", font=small, fill=(110, 110, 110))
    for index, row in enumerate(rows):
        top = header + index * (tile + caption)
        if row.inputs:
            sheet.paste(_tile(row.inputs[0], tile), (gap, top))
        else:
            draw.multiline_text((gap, top + tile // 3), row.prompt.replace(" ", "\n"), font=font, fill=(20, 20, 20))
        for k, result in enumerate(row.results):
            left = gap + (tile + gap) + k * (2 * tile + 2 + gap)
            if row.sources:
                sheet.paste(_tile(row.sources[k], tile), (left, top))
            sheet.paste(_tile(result, tile), (left + tile + 2, top))
        draw.text((gap, top + tile + 5), f"{row.name}, {row.faces} faces", font=font, fill=(20, 20, 20))
        figures = row.said
        if row.sources:
            scores = score(row.sources, row.results)
            figures = f"PSNR {scores.psnr:.1f} dB (foreground {scores.foreground_psnr:.1f} dB), silhouette IoU {scores.iou:.3f}"
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in row.seconds.items())
        left = gap + tile + gap
        draw.text((left, top + tile + 5), figures, font=font, fill=(20, 20, 20))
        total = sum(row.seconds.values())
        draw.text((left, top + tile + 26), f"{stages}; together {total:.1f} s", font=small, fill=(90, 90, 90))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _tile(picture: np.ndarray, size: int) -> Image.Image:
    rgb = (on_white(picture) * 255).round().astype(np.uint8)
    return Image.fromarray(rgb).resize((size, size), Image.Resampling.LANCZOS)


def _decibel(error: float) -> float:
    return min(EQUAL_PSNR, -10 * float(np.log10(max(float(error), 1e-12))))
