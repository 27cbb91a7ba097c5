"""`mvgamba views`: posed images -> GLB."""

import argparse
import json
import time
from pathlib import Path

from mvgamba.commands.options import Subparsers, add_options, options_of
from mvgamba.commands.terminal import Interruptible, display


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    views = commands.add_parser(
        "views",
        parents=[common],
        help="posed images -> GLB",
        description="Reconstruct the object that a folder of posed RGBA images shows. The GLB overlays the captured object.",
    )
    views.add_argument("folder", type=Path, help="holds transforms.json and images, or a COLMAP text model")
    views.add_argument("-o", "--out", type=Path, required=True, help="the GLB to write")
    add_options(views)
    views.set_defaults(run=_views)


def _views(args: argparse.Namespace) -> int:
    # torch takes seconds to load: bad arguments should not wait for it
    from mvgamba.io.captures import read_captures
    from mvgamba.io.outputs import check_writable
    from mvgamba.pipeline import check_options, generate
    from mvgamba.types import GenerateRequest

    options = check_options(options_of(args))
    check_writable(args.out)
    views = read_captures(args.folder)
    begin = time.perf_counter()
    with Interruptible() as cancel, display(args) as report:
        result = generate(GenerateRequest(views, options), report, cancel)
        cancel.raise_if_cancelled()
        result.write_glb(args.out)
    seconds = time.perf_counter() - begin
    if args.json:
        print(
            json.dumps({"event": "done", "out": str(args.out), "total_seconds": round(seconds, 2), **result.facts}),
            flush=True,
        )
    else:
        facts = result.facts
        print(f"{args.out}: {len(result.mesh.faces)} faces, {result.mesh.albedo.shape[0]} px texture, {seconds:.1f} s")
        print(f"Started from {facts['reconstructor']} ({facts['reconstructor_because']})")
    return 0
