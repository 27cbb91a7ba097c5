"""`mvgamba eval`: GLBs -> photographs -> reconstructions -> scores."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from mvgamba.commands.options import EXIT_FAILED, Subparsers, add_options, options_of
from mvgamba.commands.terminal import Interruptible


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    evaluate = commands.add_parser(
        "eval",
        parents=[common],
        help="GLBs -> renders -> reconstructions -> scores",
        description="Photograph each object of a folder, reconstruct it from the pictures, and score the result from other cameras.",
    )
    evaluate.add_argument(
        "folder", type=Path, help="a folder of GLB files, or of scanned objects (OBJ folders or zips)"
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for report.json, table.md and the sheets"
    )
    evaluate.add_argument("--views", type=int, default=8, help="input views, 1 to 64 (default 8)")
    evaluate.add_argument("--size", type=int, default=256, help="pixels of the input views (default 256)")
    evaluate.add_argument("--limit", type=int, default=0, help="only the first N objects; 0 means all")
    evaluate.add_argument("--depth", action="store_true", help="hand over depth as well")
    evaluate.add_argument("--protocol", default="ours", help="ours (default), gso16 or sparse4: rigs after papers")
    evaluate.add_argument(
        "--baseline",
        default="hull",
        metavar="NAMES",
        help="to compare with, separated by commas: hull (default), refined-hull, nearest; or none",
    )
    evaluate.add_argument("--training-objects", type=Path, metavar="DIR", help="where the baseline nearest looks")
    evaluate.add_argument("--surfels", action="store_true", help="score the surfels too, without a mesh")
    evaluate.add_argument("--lpips", type=Path, metavar="PATH", help="score LPIPS too: folder or file of its weights")
    evaluate.add_argument("--noise", action="store_true", help="disturb exposure, colour and edges of the inputs")
    add_options(evaluate)
    evaluate.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    from rich.console import Console

    from mvgamba.errors import InvalidInput
    from mvgamba.evaluation.baseline import coloured_hull
    from mvgamba.evaluation.drawable import drawable_of
    from mvgamba.evaluation.lpips import load_lpips
    from mvgamba.evaluation.nearest import NearestObject
    from mvgamba.evaluation.report import terminal_table
    from mvgamba.evaluation.run import EvaluationSettings, evaluate_folder
    from mvgamba.pipeline import check_options, generate
    from mvgamba.types import GenerateRequest, PosedViews

    options = check_options(options_of(args))
    settings = EvaluationSettings(
        num_views=args.views,
        image_size=args.size,
        limit=args.limit,
        with_depth=args.depth,
        with_noise=args.noise,
        seed=args.seed,
        protocol=args.protocol,
        with_surfels=args.surfels,
    )
    perceptual = None if args.lpips is None else load_lpips(args.lpips)
    with Interruptible() as cancel:

        def reconstruct(views: PosedViews) -> Any:
            return generate(GenerateRequest(views, options), None, cancel)

        def refined_hull(views: PosedViews) -> Any:
            plain = dataclasses.replace(options, reconstructor="hull", refine=True)
            return drawable_of(generate(GenerateRequest(views, plain), None, cancel).mesh)

        known: dict[str, Any] = {"hull": coloured_hull, "refined-hull": refined_hull}
        wanted = [] if args.baseline == "none" else args.baseline.split(",")
        if unknown := [name for name in wanted if name not in {*known, "nearest"}]:
            raise InvalidInput(f"--baseline names {unknown[0]!r}; there are hull, refined-hull, nearest and none.")
        if "nearest" in wanted:
            if args.training_objects is None:
                raise InvalidInput("The baseline nearest needs --training-objects DIR, the objects to look among.")
            known["nearest"] = NearestObject(args.training_objects, args.out / "nearest.npz")
        baselines = {name: known[name] for name in wanted}
        report = evaluate_folder(args.folder, args.out, reconstruct, settings, baselines, perceptual=perceptual)
    if args.json:
        print(json.dumps(report, default=float), flush=True)
    elif (console := Console()).is_terminal and console.width >= 120:
        console.print(terminal_table(report))
    else:
        print((args.out / "table.md").read_text(encoding="utf-8"))
    return 0 if not report.get("failed") else EXIT_FAILED
