"""`mvgamba prepare` and `mvgamba train`: objects -> samples -> weights."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvgamba.commands import plan
from mvgamba.commands.options import Subparsers

if TYPE_CHECKING:
    from mvgamba.training.config import TrainConfig
    from mvgamba.training.task import Task


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    prepare = commands.add_parser(
        "prepare",
        parents=[common],
        help="objects -> training samples",
        description="Photograph the GLBs of a folder for training and write the samples as shards. Goes on where it was left.",
    )
    prepare.add_argument("folder", type=Path, help="GLB files, in folders below as well")
    prepare.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards")
    prepare.add_argument("--variants", type=int, default=4, help="photographs of each object from as many sides")
    prepare.add_argument(
        "--model", choices=["ray", "mvgamba", "starter"], default="ray", help="which the samples are for (default ray)"
    )
    prepare.add_argument(
        "--varied", action="store_true", help="stretched and composed objects on many rigs, not only turned ones"
    )
    prepare.add_argument("--first", type=int, default=0, help="with --varied: number of the first variant (default 0)")
    prepare.add_argument("--size", type=int, help="pixels of a view (default 128; 64 for starter)")
    prepare.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="samples -> weights").add_subparsers(dest="model", required=True)
    reconstructor = train.add_parser(
        "reconstructor",
        parents=[common],
        help="the ray network, or the published MVGamba network",
        description="Train a network by a configuration file. Goes on from the checkpoint in the run's folder.",
    )
    reconstructor.add_argument(
        "--lpips", type=Path, metavar="PATH", help="for losses.perceptual: folder or file of the weights of LPIPS"
    )
    generator = train.add_parser(
        "generator",
        parents=[common],
        help="the starter generator: words and pictures to views",
        description="Train the starter generator by a configuration file. Goes on from the checkpoint in the run's folder.",
    )
    generator.set_defaults(lpips=None)
    for parser, models in ((reconstructor, ("ray", "mvgamba")), (generator, ("starter",))):
        parser.add_argument("--config", type=Path, required=True, help="JSON: the fields of TrainConfig")
        parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the run")
        parser.add_argument(
            "--pictures",
            type=int,
            default=500,
            metavar="N",
            help="steps between pictures of what it says; 0 for none (default 500)",
        )
        parser.add_argument("--cpu", action="store_true", help="do not look for a GPU")
        parser.set_defaults(run=_train, models=models)
    memory = train.add_parser(
        "memory",
        parents=[common],
        help="what the starter generator remembers of its training objects",
        description="Write a picture and a table of the objects of a folder of prompted samples.",
    )
    memory.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="folder of prompted samples")
    memory.add_argument("-o", "--out", type=Path, required=True, help="folder for the two files")
    memory.set_defaults(run=_write_memory)
    _add_personalise(train, common)
    plan.add(train, common)


def _add_personalise(train: Subparsers, common: argparse.ArgumentParser) -> None:
    parser = train.add_parser(
        "personalise",
        parents=[common],
        help="a word for one object, from a few pictures of it",
        description="Teach the starter generator a new word: `a WORD NOUN` is then the object of the pictures.",
    )
    parser.add_argument("pictures", type=Path, nargs="*", help="3 to 8 RGBA pictures of the object, cut out")
    parser.add_argument("--word", required=True, help="one that means nothing yet, such as sks")
    parser.add_argument("--noun", required=True, help="what kind of thing it is, such as barrel")
    parser.add_argument("-o", "--out", type=Path, required=True, help="NAME.safetensors: what is added to the weights")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the starter generator, instead of its own")
    parser.add_argument("--full", action="store_true", help="change all weights and write them all")
    parser.add_argument("--rank", type=int, default=8, help="of the additions (default 8)")
    parser.add_argument("--steps", type=int, default=200, help="(default 200)")
    parser.add_argument("--rate", type=float, metavar="R", help="of learning (default 1e-3, with --full 3e-5)")
    parser.add_argument("--keep", type=float, default=1.0, help="weight of the distance to the old weights (default 1)")
    parser.add_argument("--prior", type=float, default=1.0, help="weight of views of other such things (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.set_defaults(run=_personalise)


def _prepare(args: argparse.Namespace) -> int:
    from mvgamba.data import GlbFolder
    from mvgamba.data.prompted_samples import CaptionedGlbs, write_prompted_shards
    from mvgamba.data.shards import write_shards
    from mvgamba.data.variation import VariedGlbs
    from mvgamba.data.view_samples import write_view_shards
    from mvgamba.errors import InvalidInput

    size = args.size if args.size is not None else 64 if args.model == "starter" else 128
    for name, value, least in (("variants", args.variants, 1), ("size", size, 16), ("workers", args.workers, 1)):
        if value < least:
            raise InvalidInput(f"--{name} is {value}; it must be at least {least}.")
    if args.model != "mvgamba" and size % 8:
        raise InvalidInput(f"--size is {size}; it must be a multiple of 8.")

    def report(done: int, of: int) -> None:
        print(f"shard {done} of {of}", file=sys.stderr, flush=True)

    how: Any = {"variants": args.variants, "size": size, "workers": args.workers, "report": report}
    turned = GlbFolder(args.folder)
    if args.model == "starter":
        if args.varied:
            raise InvalidInput("--varied is for the models that learn from captures; leave it out for starter.")
        made = write_prompted_shards(CaptionedGlbs(args.folder), args.out, **how)
    else:
        write = write_shards if args.model == "ray" else write_view_shards
        made = write(VariedGlbs(turned, args.first) if args.varied else turned, args.out, **how)
    if args.json:
        print(json.dumps({"written": made.written, "skipped": made.skipped}))
    else:
        print(f"{args.out}: {made.written} samples, {len(made.skipped)} left out")
        for name, why in made.skipped.items():
            print(f"  {name}: {why}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from mvgamba.errors import InvalidInput
    from mvgamba.training.trainer import TrainConfig, Trainer

    if args.pictures < 0:
        raise InvalidInput(f"--pictures is {args.pictures}; it must be at least 0.")
    config = TrainConfig.read(args.config)
    if config.model not in args.models:
        raise InvalidInput(
            f"{args.config} is for the model {config.model!r}; here it must be {' or '.join(args.models)}."
        )
    task = None if args.lpips is None else _perceptual_task(config, args.lpips)
    trainer = Trainer(config, args.out, cpu=args.cpu, task=task)

    def report(step: int, losses: dict[str, float], seconds: float) -> None:
        if args.json:
            print(json.dumps({"step": step, "seconds_left": round(seconds), **losses}), flush=True)
        else:
            print(
                f"step {step} of {trainer.config.steps}: loss {losses['total']:.4f}, {_in_words(losses)}, "
                f"{seconds / 60:.0f} minutes left",
                file=sys.stderr,
                flush=True,
            )

    trainer.run(pictures_every=args.pictures, report=report)
    written = trainer.write_weights()
    if written is not None:
        print(written)
    trainer.close()
    return 0


def _write_memory(args: argparse.Namespace) -> int:
    from mvgamba.training.remembering import remember
    from mvgamba.weights import sha256_of

    for path in remember(args.data, args.out):
        size, sha256 = path.stat().st_size, sha256_of(path)
        if args.json:
            print(json.dumps({"event": "done", "path": str(path), "bytes": size, "sha256": sha256}), flush=True)
        else:
            print(f"{path}: {size} bytes, SHA-256 {sha256}")
    return 0


def _personalise(args: argparse.Namespace) -> int:
    import torch

    from mvgamba.commands.options import user_weights
    from mvgamba.commands.terminal import Interruptible
    from mvgamba.errors import Unavailable
    from mvgamba.io.outputs import check_writable
    from mvgamba.multiview.protocol import GeneratorSettings
    from mvgamba.multiview.starter_generator import model_from_settings
    from mvgamba.training.personalise import PersonaliseOptions, personalise, read_pictures

    check_writable(args.out, suffix=".safetensors")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("--device is cuda, but torch sees no CUDA device here. Use --device cpu.")
    options = PersonaliseOptions(
        full=args.full, rank=args.rank, steps=args.steps, learning_rate=args.rate, keep=args.keep, prior=args.prior,
        seed=args.seed,
    )  # fmt: skip
    pictures = read_pictures(args.pictures)
    model, _ = model_from_settings(GeneratorSettings(args.weights, user_weights(), args.device))

    def report(step: int, losses: dict[str, float], seconds: float) -> None:
        if args.json:
            print(json.dumps({"step": step, "seconds_left": round(seconds), **losses}), flush=True)
        else:
            words = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"step {step} of {options.steps}: {words}, {seconds:.0f} s left", file=sys.stderr, flush=True)

    with Interruptible() as cancel:
        made = personalise(
            model.to(args.device), pictures, word=args.word, noun=args.noun, options=options, report=report, cancel=cancel
        )  # fmt: skip
    made.write(args.out)
    if args.json:
        print(json.dumps({"event": "done", "file": str(args.out), "warnings": list(made.warnings), **made.facts}))
    else:
        print(args.out)
    return 0


def _perceptual_task(config: "TrainConfig", weights: Path) -> "Task":
    from mvgamba.errors import InvalidInput
    from mvgamba.evaluation.lpips import load_lpips
    from mvgamba.training.surfel_loss import SurfelLossWeights
    from mvgamba.training.surfel_task import SurfelTask

    if not isinstance(config.losses, SurfelLossWeights):
        raise InvalidInput(
            f"--lpips is for the model 'mvgamba', whose losses are rendered; the run trains {config.model!r}. Leave it out."
        )
    if config.losses.perceptual == 0:
        raise InvalidInput("--lpips is of no use while losses.perceptual is 0; give it a weight, or leave --lpips out.")
    return SurfelTask(config, perceptual=load_lpips(weights))


def _in_words(losses: dict[str, float]) -> str:
    if "psnr" in losses:
        return f"{losses['psnr']:.2f} dB"
    if "pictured" in losses:
        return f"{losses['pictured']:.4f} with a picture, {losses['spoken']:.4f} with words"
    return f"depth off by {losses['depth_error']:.4f}"
