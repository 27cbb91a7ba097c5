"""How well subjects are told from backgrounds: objects before each kind of background, and the overlap with what is known.

    python tests/benchmarks/score_backgrounds.py [--objects GLBS/] [--count 8] [--size 448] [--remover plain] [--sheet OUT.png]

Without `--objects` two of our own making are taken. Prints a table of intersection over union at alpha one half with date and
machine; the sheet shows the worst cut-outs of each kind on magenta.
"""

import argparse
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from mvgamba.errors import InvalidImage
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.io.images import Picture
from mvgamba.multiview.background import cut_out
from mvgamba.types import Similarity
from tests.mvgamba.multiview.backdrops import iou, over
from tests.mvgamba.multiview.objects import crate, cut_out_of, mug

KINDS = (
    "plain",
    "white",
    "graded",
    "floor and wall",
    "icon",
    "same hue",
    "plain + shadow",
    "white + shadow",
    "graded + shadow",
    "plain + noise",
    "plain + jpeg",
    "graded + shadow + noise + jpeg",
    "clutter",
)
SHOWN = 8


def in_unit_ball(drawable: Drawable) -> Drawable:
    shift = torch.from_numpy(-drawable.center / drawable.radius)
    return drawable.placed(Similarity(1 / drawable.radius, torch.eye(3, dtype=torch.float64), shift))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=Path, help="folder of GLB files")
    parser.add_argument("--count", type=int, default=8, help="objects at most, spread over the folder")
    parser.add_argument("--size", type=int, default=448, help="edge of the pictures in pixels")
    parser.add_argument("--remover", default="plain")
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    drawables = [mug(), crate()]
    if args.objects:
        paths = sorted(args.objects.glob("*.glb"))
        drawables = [read_drawable(path) for path in paths[:: max(1, len(paths) // args.count)][: args.count]]
    rng = np.random.default_rng(0)
    objects = [
        cut_out_of(in_unit_ball(d), size=args.size, azimuth=rng.uniform(-1, 1), elevation=rng.uniform(0.05, 0.5))
        for d in drawables
    ]
    print(
        f"{date.today()}, {platform.processor() or platform.machine()}, {len(objects)} objects of {args.size} pixels\n"
    )
    print("| background | mean | median | worst | below 0.9 | of these with a warning or an error | processor s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    lines = []
    for kind in args.kinds:
        scores, said, tiles = [], [], []
        begin = time.process_time()
        for seed, true in enumerate(objects):
            pixels = over(true, kind, seed=seed)
            try:
                found = cut_out(Picture(pixels.astype(np.float32) / 255, None), remover=args.remover)
                rgba = np.dstack([found.rgb, found.alpha])
                said.append(bool(found.warnings))
            except InvalidImage:
                rgba = np.zeros((*pixels.shape[:2], 4), np.float32)
                said.append(True)
            scores.append(iou(rgba[..., 3], true[..., 3]))
            tiles.append((scores[-1], pixels, rgba))
        seconds = (time.process_time() - begin) / len(objects)
        values = np.array(scores)
        poor = values < 0.9
        warned = int((poor & np.array(said)).sum())
        print(
            f"| {kind} | {values.mean():.3f} | {np.median(values):.3f} | {values.min():.3f} | {poor.sum()} of {len(values)} "
            f"| {warned if poor.any() else ''} | {seconds:.2f} |",
            flush=True,
        )
        lines.append((kind, sorted(tiles, key=lambda tile: tile[0])[:SHOWN]))
    if args.sheet:
        draw(lines, args.sheet)


def draw(lines: list, path: Path, tile: int = 120) -> None:
    sheet = Image.new("RGB", (2 * SHOWN * tile, len(lines) * (tile + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (kind, tiles) in enumerate(lines):
        top = row * (tile + 14)
        for column, (score, pixels, rgba) in enumerate(tiles):
            alone = rgba[..., :3] * rgba[..., 3:] + np.array([1.0, 0, 1]) * (1 - rgba[..., 3:])
            for i, image in enumerate((pixels, (alone * 255).astype(np.uint8))):
                at = ((2 * column + i) * tile, top)
                sheet.paste(Image.fromarray(image).resize((tile, tile), Image.Resampling.LANCZOS), at)
            pen.text(
                (2 * column * tile + 2, top + tile), f"{kind}: {score:.3f}" if not column else f"{score:.3f}", fill=0
            )
    sheet.save(path)


if __name__ == "__main__":
    main()
