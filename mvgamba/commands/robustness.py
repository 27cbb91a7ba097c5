"""`mvgamba robustness`: what one bad photograph costs each way of reconstructing."""

import argparse
import dataclasses
import json
from pathlib import Path

from mvgamba.commands.options import EXIT_FAILED, Subparsers, add_options, options_of
from mvgamba.commands.terminal import Interruptible


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    robustness = commands.add_parser(
        "robustness",
        parents=[common],
        help="what one bad photograph costs: the learned reconstructor beside the refined hull",
        description="Photograph each GLB of a folder, spoil one of the views in several ways, reconstruct by each path and say what was lost. "
        "--reconstructor names the learned path (default ray).",
    )
    robustness.add_argument("folder", type=Path, help="a folder of GLB files")
    robustness.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for report.json, table.md, figure.png and sheet.png"
    )
    robustness.add_argument("--views", type=int, default=4, metavar="N", help="input views, 2 to 64 (default 4)")
    robustness.add_argument("--size", type=int, default=256, help="pixels of the input views (default 256)")
    robustness.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N objects; 0 means all")
    robustness.add_argument(
        "--condition",
        action="append",
        metavar="NAME",
        help="clean, noise-colours, noise-picture or shift; may be repeated (default all; clean is always measured)",
    )
    add_options(robustness)
    robustness.set_defaults(run=_robustness)


def _robustness(args: argparse.Namespace) -> int:
    from mvgamba.evaluation.robustness import CONDITIONS, RobustnessSettings, measure_robustness
    from mvgamba.pipeline import Result, check_options, generate
    from mvgamba.types import GenerateRequest, PosedViews

    options = check_options(options_of(args))
    asked = tuple(CONDITIONS) if args.condition is None else ("clean", *args.condition)
    settings = RobustnessSettings(
        num_views=args.views,
        image_size=args.size,
        limit=args.limit,
        seed=args.seed,
        learned="ray" if args.reconstructor == "auto" else args.reconstructor,
        conditions=tuple(dict.fromkeys(asked)),
    )
    with Interruptible() as cancel:

        def reconstruct(views: PosedViews, path: str) -> Result:
            return generate(GenerateRequest(views, dataclasses.replace(options, reconstructor=path)), None, cancel)

        report = measure_robustness(args.folder, args.out, reconstruct, settings)
    print(json.dumps(report, default=float) if args.json else (args.out / "table.md").read_text(encoding="utf-8"))
    return 0 if not report["failed"] else EXIT_FAILED
