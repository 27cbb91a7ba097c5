"""The answer of `mvgamba robustness` as a table, a figure and a sheet of pictures."""

from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from mvgamba.evaluation.image_scores import on_white
from mvgamba.types import PosedViews

PANELS = (("psnr", "PSNR lost (dB)", "{:.2f}"), ("iou", "IoU lost", "{:.3f}"))
COLOURS = ("#2b6cb0", "#dd8a2c", "#5a9a5a")
INK, GREY = "#222222", "#999999"
PANEL, MARGIN, BAR = (560, 360), 56, 30
TILE = 128
CAPTION = 18


def robustness_table(report: dict[str, Any]) -> str:
    """Markdown: what was done, scores by condition and path, and what was lost."""
    settings = report["settings"]
    paths = [settings["learned"], "hull", "auto"]
    names = {"hull": "hull + refinement"}
    size = settings["image_size"]
    count = len({row["name"] for row in report["objects"]})
    lines = [
        f"{count} objects, {settings['num_views']} views of {size} x {size}, seed {settings['seed']}; one view that is not the first is spoiled",
        "",
        "| inputs | path | PSNR | IoU | PSNR lost | IoU lost | squared error added (1e-3) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for condition, by_path in report["mean"].items():
        for path in paths:
            lost = report.get("loss", {}).get(condition, {}).get(path)
            cells = ["", "", ""]
            if lost:
                cells = [f"{lost['psnr']:.2f}", f"{lost['iou']:.4f}", f"{1e3 * lost['squared_error']:.2f}"]
            scores = [f"{by_path[path]['psnr']:.2f}", f"{by_path[path]['iou']:.4f}"]
            lines.append("| " + " | ".join([condition, names.get(path, path), *scores, *cells]) + " |")
    lines.append("")
    for condition, less in report.get("loses_less", {}).items():
        said = "; ".join(f"{k.replace('_', ' ')}: {names.get(p, p)}" for k, p in less.items())
        lines.append(f"- {condition}, who loses less: {said}")
    lines += ["", *(f"{name}: {what}." for name, what in report["conditions"].items())]
    if report["failed"]:
        lines += ["", "Failed: " + ", ".join(f"{f['name']} ({f['condition']}, {f['path']})" for f in report["failed"])]
    return "\n".join([*lines, ""])


def figure(report: dict[str, Any]) -> Image.Image:
    """Bars: what each path loses by condition, in PSNR and in IoU. Without clean inputs there is nothing to compare with."""
    paths = [report["settings"]["learned"], "hull", "auto"]
    width, height = PANEL
    image = Image.new("RGB", (width * len(PANELS), height + 40), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    loss = report.get("loss") or {}
    if not loss:
        draw.text((MARGIN, MARGIN), "Clean inputs and another condition are needed to show a loss.", INK, font)
        return image
    for index, (key, heading, form) in enumerate(PANELS):
        values = {c: [by_path[p][key] for p in paths] for c, by_path in loss.items()}
        _panel(draw, index * width, heading, values, form, font)
    for index, path in enumerate(paths):
        x = MARGIN + 180 * index
        draw.rectangle((x, height + 12, x + 14, height + 26), COLOURS[index])
        draw.text((x + 20, height + 12), {"hull": "hull + refinement"}.get(path, path), INK, font)
    return image


def _panel(
    draw: ImageDraw.ImageDraw, left: int, heading: str, values: dict[str, list[float]], form: str, font: Any
) -> None:
    """Groups of bars from a zero line; a gain hangs below it."""
    width, height = PANEL
    every = [v for group in values.values() for v in group] + [0.0]
    highest, lowest = max(every), min(every)
    span = max(highest - lowest, 1e-9)
    top, bottom = MARGIN, height - MARGIN
    at = lambda v: bottom - (v - lowest) / span * (bottom - top)  # noqa: E731
    draw.text((left + MARGIN, 12), heading, INK, font)
    draw.line((left + MARGIN, at(0.0), left + width - 16, at(0.0)), GREY)
    step = (width - MARGIN - 16) / len(values)
    for number, (condition, group) in enumerate(values.items()):
        start = left + MARGIN + number * step + (step - BAR * len(group)) / 2
        for index, value in enumerate(group):
            x, y = start + index * BAR, at(value)
            draw.rectangle((x + 2, min(y, at(0.0)), x + BAR - 2, max(y, at(0.0))), COLOURS[index])
            label = form.format(value)
            draw.text((x + BAR / 2, y - 3 if value >= 0 else y + 13), label, INK, ImageFont.load_default(10), "mb")
        draw.text((start + BAR * len(group) / 2, height - 24), condition, INK, font, "mm")


def picture_sheet(strips: list[tuple[str, list[PosedViews]]], headings: tuple[str, ...]) -> Image.Image:
    """A line for each object and condition: its pictures on white, with what it is above them."""
    font = ImageFont.load_default(12)
    image = Image.new("RGB", (TILE * len(headings), CAPTION + (TILE + CAPTION) * len(strips)), "white")
    draw = ImageDraw.Draw(image)
    for column, heading in enumerate(headings):
        draw.text((column * TILE + 4, 2), heading, INK, font)
    for line, (caption, pictures) in enumerate(strips):
        top = CAPTION + line * (TILE + CAPTION)
        draw.text((4, top + 2), caption, INK, font)
        for column, views in enumerate(pictures):
            pixels = (on_white(views)[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
            image.paste(Image.fromarray(pixels.numpy()).resize((TILE, TILE)), (column * TILE, top + CAPTION))
    return image
