"""The command line: `mvgamba views DIR -o OUT.glb`, `mvgamba eval`, `mvgamba doctor`.

The only place that reads arguments and environment, sets up logging and prints.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from mvgamba import __version__
from mvgamba.errors import Cancelled, MVGambaError
from mvgamba.progress import CancelToken, Progress

EXIT_BAD_INPUT = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Console entry point. Returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # before torch is loaded: threads that wait by spinning made a job four times slower on a machine where others work too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # likewise: large tensors in pages of 2 MiB (Linux); writing to fresh memory is five times as fast
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(args.run(args))
    except Cancelled:
        _say_error(args, "CANCELLED", "Stopped; nothing was written.")
        return EXIT_INTERRUPTED
    except MVGambaError as error:
        _say_error(args, error.reason, str(error))
        return EXIT_BAD_INPUT if error.reason.startswith("INVALID") else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mvgamba", description="Posed views of an object to a textured mesh.")
    parser.add_argument("--version", action="version", version=f"mvgamba {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, one object a line, instead of text")
    common.add_argument("--verbose", action="store_true", help="log what happens to stderr")

    views = commands.add_parser(
        "views",
        parents=[common],
        help="posed images -> GLB",
        description="Reconstruct the object that a folder of posed RGBA images shows. The GLB overlays the captured object.",
    )
    views.add_argument("folder", type=Path, help="holds transforms.json and images, or a COLMAP text model")
    views.add_argument("-o", "--out", type=Path, required=True, help="the GLB to write")
    _add_options(views)
    views.set_defaults(run=_views)

    evaluate = commands.add_parser(
        "eval",
        parents=[common],
        help="GLBs -> renders -> reconstructions -> scores",
        description="Photograph each GLB of a folder, reconstruct it from the pictures, and score the result from other cameras.",
    )
    evaluate.add_argument("folder", type=Path, help="a folder of GLB files")
    evaluate.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for report.json, table.md and the sheets"
    )
    evaluate.add_argument("--views", type=int, default=8, choices=(4, 8, 12, 16, 24), help="input views (default 8)")
    evaluate.add_argument("--size", type=int, default=256, help="pixels of the input views (default 256)")
    evaluate.add_argument("--limit", type=int, default=0, help="only the first N objects; 0 means all")
    evaluate.add_argument("--depth", action="store_true", help="hand over depth as well")
    evaluate.add_argument("--noise", action="store_true", help="disturb exposure, colour and edges of the inputs")
    _add_options(evaluate)
    evaluate.set_defaults(run=_eval)

    prepare = commands.add_parser(
        "prepare",
        parents=[common],
        help="objects -> training samples",
        description="Photograph the GLBs of a folder for training and write the samples as shards. Goes on where it was left.",
    )
    prepare.add_argument("folder", type=Path, help="GLB files, in folders below as well")
    prepare.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards")
    prepare.add_argument("--variants", type=int, default=4, help="photographs of each object from as many sides")
    prepare.add_argument("--size", type=int, default=128, help="pixels of a view (default 128)")
    prepare.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="samples -> weights").add_subparsers(dest="model", required=True)
    reconstructor = train.add_parser(
        "reconstructor",
        parents=[common],
        help="the ray network",
        description="Train the ray network by a configuration file. Goes on from the checkpoint in the run's folder.",
    )
    reconstructor.add_argument("--config", type=Path, required=True, help="JSON: the fields of TrainConfig")
    reconstructor.add_argument("-o", "--out", type=Path, required=True, help="folder of the run")
    reconstructor.add_argument("--cpu", action="store_true", help="do not look for a GPU")
    reconstructor.set_defaults(run=_train_reconstructor)

    weights = commands.add_parser("weights", help="what was learned").add_subparsers(dest="action", required=True)
    weights.add_parser("list", parents=[common], help="the weights that come with the package").set_defaults(
        run=_weights_list
    )
    weights.add_parser("verify", parents=[common], help="whether they are whole").set_defaults(run=_weights_verify)

    doctor = commands.add_parser(
        "doctor", parents=[common], help="what is installed, what would run, and a short self-test"
    )
    doctor.add_argument("--no-self-test", action="store_true", help="leave the self-test out")
    doctor.add_argument("--plan", action="store_true", help="only say how much memory a job with these settings takes")
    doctor.add_argument("--views", type=int, default=8, metavar="N", help="of the plan: input views (default 8)")
    doctor.add_argument(
        "--image-size", type=int, default=256, metavar="N", help="of the plan: edge of an input view in pixels"
    )
    doctor.add_argument("--depth", action="store_true", help="of the plan: the views have depth")
    _add_options(doctor)
    doctor.set_defaults(run=_doctor)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quality", choices=("draft", "standard", "high"), default="standard")
    parser.add_argument(
        "--reconstructor", default="auto", metavar="NAME", help="auto (the best for the views), hull, ray, mvgamba"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the learned reconstructor, instead of its own")
    parser.add_argument("--no-refine", action="store_true", help="keep the surfels as the reconstructor gives them")
    parser.add_argument(
        "--faces", type=int, default=20_000, metavar="N", help="upper limit of triangles (default 20000)"
    )
    parser.add_argument(
        "--texture", type=int, default=1024, metavar="N", help="edge of the texture in pixels (default 1024)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed and settings, same result")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="time for the job: refinement gets what the other stages leave"
    )
    parser.add_argument(
        "--when-short",
        choices=("reduce", "fail"),
        default="reduce",
        help="when memory is short: take cheaper settings and say which (default), or fail",
    )


def _options(args: argparse.Namespace) -> Any:
    from mvgamba.types import GenerateOptions

    return GenerateOptions(
        quality=args.quality,
        reconstructor=args.reconstructor,
        weights=args.weights,
        refine=not args.no_refine,
        target_faces=args.faces,
        texture_size=args.texture,
        seed=args.seed,
        device=args.device,
        seconds=args.seconds,
        when_short=args.when_short,
    )


def _views(args: argparse.Namespace) -> int:
    # torch takes seconds to load: bad arguments should not wait for it
    from mvgamba.io.captures import read_captures
    from mvgamba.io.outputs import check_writable
    from mvgamba.pipeline import check_options, generate
    from mvgamba.types import GenerateRequest

    options = check_options(_options(args))
    check_writable(args.out)
    views = read_captures(args.folder)
    begin = time.perf_counter()
    with _Interruptible() as cancel, _display(args) as report:
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
        print(f"{args.out}: {len(result.mesh.faces)} faces, {result.mesh.albedo.shape[0]} px texture, {seconds:.1f} s")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from rich.console import Console

    from mvgamba.evaluation.report import terminal_table
    from mvgamba.evaluation.run import EvaluationSettings, evaluate_folder
    from mvgamba.pipeline import check_options, generate
    from mvgamba.types import GenerateRequest, PosedViews

    options = check_options(_options(args))
    settings = EvaluationSettings(
        num_views=args.views,
        image_size=args.size,
        limit=args.limit,
        with_depth=args.depth,
        with_noise=args.noise,
        seed=args.seed,
    )
    with _Interruptible() as cancel:

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


def _prepare(args: argparse.Namespace) -> int:
    from mvgamba.data import GlbFolder
    from mvgamba.data.shards import write_shards
    from mvgamba.errors import InvalidInput

    for name, value, least in (("variants", args.variants, 1), ("size", args.size, 16), ("workers", args.workers, 1)):
        if value < least:
            raise InvalidInput(f"--{name} is {value}; it must be at least {least}.")
    if args.size % 8:
        raise InvalidInput(f"--size is {args.size}; it must be a multiple of 8.")

    def report(done: int, of: int) -> None:
        print(f"shard {done} of {of}", file=sys.stderr, flush=True)

    made = write_shards(
        GlbFolder(args.folder), args.out, variants=args.variants, size=args.size, workers=args.workers, report=report
    )
    if args.json:
        print(json.dumps({"written": made.written, "skipped": made.skipped}))
    else:
        print(f"{args.out}: {made.written} samples, {len(made.skipped)} left out")
        for name, why in made.skipped.items():
            print(f"  {name}: {why}")
    return 0


def _train_reconstructor(args: argparse.Namespace) -> int:
    from mvgamba.training.trainer import TrainConfig, Trainer

    trainer = Trainer(TrainConfig.read(args.config), args.out, cpu=args.cpu)

    def report(step: int, losses: dict[str, float], seconds: float) -> None:
        if args.json:
            print(json.dumps({"step": step, "seconds_left": round(seconds), **losses}), flush=True)
        else:
            print(
                f"step {step} of {trainer.config.steps}: loss {losses['total']:.4f}, depth off by "
                f"{losses['depth_error']:.4f}, {seconds / 60:.0f} minutes left",
                file=sys.stderr,
                flush=True,
            )

    trainer.run(report=report)
    print(trainer.write_weights())
    trainer.close()
    return 0


def _weights_list(args: argparse.Namespace) -> int:
    import dataclasses

    from mvgamba.weights import shipped

    for weights in shipped():
        if args.json:
            print(json.dumps(dataclasses.asdict(weights) | {"is_there": weights.is_there}))
        else:
            size = f"{weights.path.stat().st_size / 2**20:.1f} MiB" if weights.is_there else "not there"
            print(f"{weights.name}  ({weights.kind} {weights.model}, {size}, {weights.licence})\n  {weights.about}")
    return 0


def _weights_verify(args: argparse.Namespace) -> int:
    from mvgamba.errors import WeightsCorrupt, WeightsMissing
    from mvgamba.weights import shipped, verified

    wrong = 0
    for weights in shipped():
        try:
            verified(weights)
            said = "whole"
        except (WeightsMissing, WeightsCorrupt) as error:
            wrong, said = wrong + 1, str(error)
        print(json.dumps({"name": weights.name, "said": said}) if args.json else f"{weights.name}: {said}")
    return EXIT_FAILED if wrong else 0


def _doctor(args: argparse.Namespace) -> int:
    from mvgamba.evaluation.doctor import examine, examine_plan, plan_to_text, to_text

    if args.plan:
        planned = examine_plan(_options(args), views=args.views, image_size=args.image_size, has_depth=args.depth)
        print(json.dumps(planned) if args.json else plan_to_text(planned), flush=True)
        return 0 if planned["fits"] else EXIT_FAILED
    facts = examine(self_test=not args.no_self_test)
    print(json.dumps(facts) if args.json else to_text(facts), flush=True)
    return 0 if facts["healthy"] else EXIT_FAILED


class _Interruptible:
    """Ctrl-C and SIGTERM set the token; a second Ctrl-C ends at once."""

    def __enter__(self) -> CancelToken:
        self.token = CancelToken()
        self._old = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        return self.token

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.token.is_cancelled:
            os._exit(EXIT_INTERRUPTED)
        self.token.cancel()


class _JsonLines:
    def __enter__(self) -> "_JsonLines":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        line = {"event": "progress", "stage": progress.stage, "fraction": round(progress.fraction, 4)}
        print(json.dumps(line), flush=True)


class _Bar:
    """One bar for the whole job, with the stage before it and the time left behind it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("Starting", total=1.0)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.fraction, description=progress.message or None)


def _display(args: argparse.Namespace) -> "_JsonLines | _Bar":
    return _JsonLines() if args.json else _Bar()


def _say_error(args: argparse.Namespace, reason: str, message: str) -> None:
    if args.json:
        print(json.dumps({"event": "error", "reason": reason, "message": message}), flush=True)
    print(f"mvgamba: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
