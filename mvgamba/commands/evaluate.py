"""`mvgamba eval`: GLBs -> photographs -> reconstructions -> scores."""

import argparse
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
    evaluate.add_argument("--views", type=int, default=8, choices=(4, 8, 12, 16, 24), help="input views (default 8)")
    evaluate.add_argument("--size", type=int, default=256, help="pixels of the input views (default 256)")
    evaluate.add_argument("--limit", type=int, default=0, help="only the first N objects; 0 means all")
    evaluate.add_argument("--depth", action="store_true", help="hand over depth as well")
    evaluate.add_argument("--noise", action="store_true", help="disturb exposure, colour and edges of the inputs")
    add_options(evaluate)
    evaluate.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    from rich.console import Console

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
    )
    with Interruptible() as cancel:

        def reconstruct(views: PosedViews) -> Any:
            return generate(GenerateRequest(views, options), None, cancel).mesh

        report = evaluate_folder(args.folder, args.out, reconstruct, settings)
    if args.json:
        print(json.dumps(report, default=float), flush=True)
    elif (console := Console()).is_terminal and console.width >= 120:
        console.print(terminal_table(report))
    else:
        print((args.out / "table.md").read_text(encoding="utf-8"))
    return 0 if not report.get("failed") else EXIT_FAILED
