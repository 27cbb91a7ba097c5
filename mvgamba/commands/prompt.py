"""`mvgamba text`, `mvgamba image` and `mvgamba vary`: words, pictures or a result -> GLB."""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mvgamba.commands.options import Subparsers, add_options, options_of
from mvgamba.commands.terminal import Interruptible, display

if TYPE_CHECKING:
    from mvgamba.types import GenerateOptions, PosedViews, SourceImage, TextPrompt, Variation

    Source = TextPrompt | SourceImage | Variation


DISTIL_STEPS = 150


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    text = commands.add_parser(
        "text",
        parents=[common],
        help="words -> GLB",
        description="Make a textured mesh of what a few words describe. Its front faces +Z; it fits into a ball of radius 1.",
    )
    text.add_argument("prompt", help="one object, such as: a red wooden barrel")
    text.add_argument("--negative", default="", metavar="WORDS", help="what it should not be")
    text.set_defaults(run=_text)

    image = commands.add_parser(
        "image",
        parents=[common],
        help="one picture -> GLB",
        description="Make a textured mesh of the object in a picture. The picture's camera looks along -Z at it.",
    )
    image.add_argument("picture", type=Path, nargs="+", help="one object; a transparent or plain background does best")
    image.add_argument(
        "--sides",
        metavar="NAMES",
        help="of several pictures of the object, in their order, separated by commas: front, right, back, left, top, bottom",
    )
    image.add_argument(
        "--background",
        choices=("auto", "keep-alpha", "remove", "none"),
        default="auto",
        help="alpha where the picture has it, else the background is removed (auto); or: alpha as it is, removed whatever alpha says, there is none",
    )
    image.add_argument("--prompt", default="", metavar="WORDS", help="what it shows")
    image.add_argument(
        "--elevation",
        type=float,
        metavar="DEGREES",
        help="of the camera over the horizon; found out where it is not given",
    )
    image.set_defaults(run=_image)

    vary = commands.add_parser(
        "vary",
        parents=[common],
        help="a result and words -> a changed result in its place",
        description="Change an object by words: a GLB, or a folder of posed images. The new one stands where the old one stood.",
    )
    vary.add_argument("result", type=Path, help="a GLB, or a folder as for `mvgamba views`")
    vary.add_argument("--prompt", required=True, metavar="WORDS", help="what it should become")
    vary.add_argument("--negative", default="", metavar="WORDS", help="what it should not be")
    vary.add_argument("--strength", type=float, default=0.6, help="0 keeps the object, 1 forgets it (default 0.6)")
    vary.set_defaults(run=_vary)

    for parser in (text, image, vary):
        parser.add_argument("-o", "--out", type=Path, required=True, help="the GLB to write")
        parser.add_argument(
            "--variants", type=int, default=1, metavar="N", help="results with seeds one after the other"
        )
        parser.add_argument(
            "--generator", default="auto", metavar="NAME", help="auto (the best there is), starter, mvdream, imagedream"
        )
        parser.add_argument(
            "--candidates",
            type=int,
            default=4,
            metavar="N",
            help="sets of views, of which the best is taken (default 4)",
        )
        parser.add_argument(
            "--no-recall", action="store_true", help="begin from noise, not from an object that is remembered"
        )
        parser.add_argument(
            "--refine",
            choices=("views", "sds"),
            default="views",
            help="fit the surfels to the views (default); or first pull them to what the starter generator takes them for (sds, minutes)",
        )
        parser.add_argument("--steps", type=int, metavar="N", help="of the sampler")
        parser.add_argument("--guidance", type=float, metavar="G", help="how strictly words or picture are followed")
        parser.add_argument(
            "--views",
            type=Path,
            metavar="DIR",
            help="write the views as well: pictures, and cameras for `mvgamba views`",
        )
        parser.add_argument(
            "--views-only",
            action="store_true",
            help="stop after the views (needs --views); mend them, then `mvgamba views DIR`",
        )
        add_options(parser)


def _text(args: argparse.Namespace) -> int:
    from mvgamba.types import TextPrompt

    return _make(args, TextPrompt(args.prompt, args.negative))


def _image(args: argparse.Namespace) -> int:
    import math

    from mvgamba.errors import InvalidInput

    if args.elevation is not None and not -60 <= args.elevation <= 60:
        raise InvalidInput(f"--elevation is {args.elevation}; it must lie between -60 and 60 degrees.")
    source, warnings = _pictures(args.picture, args.sides, args.background.replace("-", "_"))
    elevation = None if args.elevation is None else math.radians(args.elevation)
    return _make(args, dataclasses.replace(source, prompt=args.prompt, elevation=elevation), warnings)


def _pictures(paths: list[Path], sides: str | None, background: str) -> tuple["SourceImage", tuple[str, ...]]:
    """The picture of the front with those of the other sides, if there are any."""
    from mvgamba.errors import InvalidInput
    from mvgamba.multiview.framing import prepared_image, prepared_sides

    names = [] if sides is None else [name.strip() for name in sides.split(",")]
    if len(paths) == 1 and not names:
        ready = prepared_image(paths[0], background=background)
        return ready.image, ready.warnings
    if len(names) != len(paths):
        raise InvalidInput(
            f"--sides names {len(names)} sides for {len(paths)} pictures; name one for each, such as --sides front,left."
        )
    ready = prepared_sides(list(zip(names, paths, strict=True)), background=background)
    return ready.image, ready.warnings


def _vary(args: argparse.Namespace) -> int:
    from mvgamba.errors import InvalidInput
    from mvgamba.types import Variation

    if not 0 <= args.strength <= 1:
        raise InvalidInput(f"--strength is {args.strength}; it must lie between 0 (keep it) and 1 (forget it).")
    return _make(args, Variation(_views_of(args.result), args.prompt, args.negative, args.strength))


def _views_of(result: Path) -> "PosedViews":
    """Of a GLB from the cameras of the starter generator about it, or as a folder has them."""
    from mvgamba.errors import InvalidInput
    from mvgamba.evaluation.drawable import read_drawable
    from mvgamba.evaluation.photograph import photograph_from_rig
    from mvgamba.io.captures import read_captures

    if not result.exists():
        raise InvalidInput(f"{result} does not exist; name a GLB, or a folder of posed images.")
    return read_captures(result) if result.is_dir() else photograph_from_rig(read_drawable(result))


def _make(args: argparse.Namespace, source: "Source", warnings: tuple[str, ...] = ()) -> int:
    from mvgamba.errors import InvalidInput
    from mvgamba.io.outputs import check_writable
    from mvgamba.pipeline import check_options
    from mvgamba.types import MultiviewOptions

    if not 1 <= args.variants <= 64:
        raise InvalidInput(f"--variants is {args.variants}; it must lie between 1 and 64.")
    if args.views_only and args.views is None:
        raise InvalidInput("--views-only needs --views DIR, where the views are written.")
    multiview = MultiviewOptions(
        args.generator,
        args.candidates,
        not args.no_recall,
        steps=args.steps,
        guidance=args.guidance,
        distil=DISTIL_STEPS if args.refine == "sds" else 0,
    )
    options = check_options(dataclasses.replace(options_of(args), multiview=multiview))
    outs = [args.out]
    if args.variants > 1:
        outs = [args.out.with_name(f"{args.out.stem}_{i + 1}{args.out.suffix}") for i in range(args.variants)]
    for out in outs:
        check_writable(out)
    for i, out in enumerate(outs):
        folder = None if args.views is None else args.views if len(outs) == 1 else args.views / out.stem
        seeded = check_options(dataclasses.replace(options, seed=options.seed + i))
        _one(args, source, seeded, out, folder, warnings)
    return 0


def _one(
    args: argparse.Namespace,
    source: "Source",
    options: "GenerateOptions",
    out: Path,
    folder: Path | None,
    warnings: tuple[str, ...],
) -> None:
    from mvgamba.io.capture_writing import write_captures
    from mvgamba.pipeline import generate, only_views
    from mvgamba.types import GenerateRequest

    begin = time.perf_counter()
    request = GenerateRequest(source, options)
    with Interruptible() as cancel, display(args) as report:
        if args.views_only:
            made = only_views(request, report, cancel)
            facts, views, written = {**made.facts, "warnings": [*made.warnings]}, made.views, folder
        else:
            result = generate(request, report, cancel)
            cancel.raise_if_cancelled()
            result.write_glb(out)
            assert result.made_views is not None
            facts, views, written = result.facts, result.made_views, out
    if folder is not None:
        write_captures(views, folder)
    seconds, said = time.perf_counter() - begin, [*warnings, *facts["warnings"]]
    if args.json:
        line = {"event": "done", "out": str(written), "total_seconds": round(seconds, 2), **facts, "warnings": said}
        print(json.dumps(line), flush=True)
        return
    for sentence in said:
        print(f"Note: {sentence}")
    print(
        f"{written}: {seconds:.1f} s, seed {options.seed}, views by {facts['generator']} ({facts['generator_because']})"
    )
