"""Figures of made views, before any mesh: how well they agree, and how a variation follows its strength.

    python tests/benchmarks/eval_views.py agreement -o OUT [--limit 12] [--candidates 4] [--no-recall]
    python tests/benchmarks/eval_views.py variation --objects GLBS -o OUT [--limit 12]

`agreement` makes the views of `prompts.json` and states the hull re-projection IoU (`multiview.consistency`) of the chosen sets, and how far
each is from the nearest training object (1 is the usual distance between two of those). `variation` renders GLBs, varies them at three
strengths under a prompt of another colour, and states the silhouette IoU with the source and the share of the pixels that have the colour.
"""

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mvgamba.data.prompted_samples import CaptionedGlbs
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.photograph import photograph_from_rig
from mvgamba.multiview import GENERATORS
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.multiview.protocol import GeneratorSettings, ViewsRequest
from mvgamba.types import PosedViews
from tests.benchmarks.made_by_command import circumstances, evenly
from tests.benchmarks.prompt_judge.colours import read_colour_names

HERE = Path(__file__).parent
STRENGTHS = (0.3, 0.6, 0.9)
COLOURS = ("red", "blue", "green", "yellow", "purple", "white", "orange", "brown")


def agreement(args: argparse.Namespace) -> tuple[dict[str, Any], list[list[PosedViews]]]:
    """Of the views of each prompt."""
    generator = GENERATORS.get("starter")(GeneratorSettings())
    known = json.loads((HERE / "prompts.json").read_text())["prompts"]
    chosen = set(evenly([prompt["id"] for prompt in known], args.limit))
    rows, shown = [], []
    for prompt in known:
        if prompt["id"] not in chosen:
            continue
        begin = time.perf_counter()
        request = ViewsRequest(
            prompt=prompt["text"], candidates=args.candidates, recall=not args.no_recall, seed=args.seed
        )
        made = generator.generate(request)
        rows.append(
            {
                "prompt": prompt["text"],
                "seen": prompt["seen"],
                "agreement": round(float(hull_agreement(made.views).mean()), 4),
                "nearest_distance": made.facts.get("nearest_distance"),
                "recalled": made.facts.get("recalled"),
                "seconds": round(time.perf_counter() - begin, 2),
            }
        )
        shown.append([made.views])
        print(rows[-1], flush=True)
    return {
        "samples": len(rows),
        "agreement": _mean(rows, "agreement"),
        "least_agreement": min(row["agreement"] for row in rows),
        "nearest_distance": _mean(rows, "nearest_distance"),
        "seconds": _mean(rows, "seconds"),
        "rows": rows,
    }, shown


def variation(args: argparse.Namespace) -> tuple[dict[str, Any], list[list[PosedViews]]]:
    """Of each object at each strength."""
    generator = GENERATORS.get("starter")(GeneratorSettings())
    names = read_colour_names()
    source = CaptionedGlbs(args.objects)
    chosen = set(evenly(source.names, args.limit))
    rows, shown = [], []
    for index, name in enumerate(source.names):
        if name not in chosen:
            continue
        start = photograph_from_rig(read_drawable(args.objects / name), samples=2)
        start = PosedViews(start.rgb, start.alpha, generator.cameras)
        captions = source.row(index)["captions"]
        assert isinstance(captions, list)
        article, _, noun = str(captions[0]).partition(" ")
        before = next(iter(names.shares(start)), None)
        colour = next(c for c in COLOURS[len(rows) % len(COLOURS) :] + COLOURS if c != before)
        prompt = f"a {colour} {noun if article in ('a', 'an') else captions[0]}"
        line: list[PosedViews] = [start]
        row: dict[str, Any] = {"object": name, "prompt": prompt, "iou": [], "share": []}
        for strength in STRENGTHS:
            made = generator.generate(
                ViewsRequest(prompt=prompt, start=start, strength=strength, candidates=args.candidates, seed=args.seed)
            )
            row["iou"].append(round(_silhouette_iou(start, made.views), 4))
            row["share"].append(round(names.shares(made.views).get(colour, 0.0), 4))
            line.append(made.views)
        row["share_before"] = round(names.shares(start).get(colour, 0.0), 4)
        rows.append(row)
        shown.append(line)
        print(row, flush=True)
    ious = np.array([row["iou"] for row in rows])
    return {
        "samples": len(rows),
        "strengths": STRENGTHS,
        "iou": ious.mean(0).round(4).tolist(),
        "falls": bool((np.diff(ious.mean(0)) < 0).all()),
        "share_before": _mean(rows, "share_before"),
        "share": np.array([row["share"] for row in rows]).mean(0).round(4).tolist(),
        "rows": rows,
    }, shown


def _silhouette_iou(one: PosedViews, other: PosedViews) -> float:
    a, b = one.alpha > 0.5, other.alpha > 0.5
    return float(((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp_min(1)).mean())


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return round(float(np.mean(values)), 4) if values else None


def _sheet(shown: list[list[PosedViews]], path: Path) -> None:
    lines = []
    for line in shown:
        pictures = [v.rgb * v.alpha + 1 - v.alpha for v in line]
        small = [F.interpolate(p, (72, 72), mode="area") for p in pictures]
        lines.append(torch.cat([torch.cat(list(p), -1) for p in small], -1))
    whole = (torch.cat(lines, 1).permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()
    Image.fromarray(whole).save(path)


def main() -> None:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(description="Figures of made views.")
    parser.add_argument("what", choices=("agreement", "variation"))
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the report and the sheet")
    parser.add_argument("--objects", type=Path, help="GLBs with an index.jsonl, for variation")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--limit", type=int, default=0, help="so many, spread over all; 0 means all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-recall", action="store_true", help="from noise")
    args = parser.parse_args()
    if args.what == "variation" and args.objects is None:
        parser.error("variation needs --objects")
    found, shown = agreement(args) if args.what == "agreement" else variation(args)
    args.out.mkdir(parents=True, exist_ok=True)
    report = {
        "date": datetime.date.today().isoformat(),
        "command": f"eval_views.py {args.what} --candidates {args.candidates} --seed {args.seed}"
        + (" --no-recall" if args.no_recall else ""),
        "machine": circumstances(),
        **found,
    }
    (args.out / f"{args.what}.json").write_text(json.dumps(report, indent=1) + "\n")
    _sheet(shown, args.out / f"{args.what}.png")
    print({name: value for name, value in found.items() if name != "rows"})


if __name__ == "__main__":
    main()
