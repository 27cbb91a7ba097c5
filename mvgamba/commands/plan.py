"""`mvgamba train plan`: what training a published preset would take, before anybody rents GPUs."""

import argparse
import dataclasses
import json

from mvgamba.commands.options import Subparsers


def add(train: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the verbs of `mvgamba train`."""
    plan = train.add_parser(
        "plan",
        parents=[common],
        help="time and memory of a published preset on 1 to 256 GPUs, on paper",
        description="Count the work of one training step and say what it takes on 1 to 256 GPUs. No GPU is used or needed.",
    )
    plan.add_argument("--preset", choices=("paper", "released"), default="paper")
    plan.add_argument(
        "--gpu", default="h100", metavar="NAME", help="h100 (default), h200, a100-80, a100-40, l40s, rtx4090"
    )
    plan.add_argument("--batch", type=int, default=512, metavar="N", help="over all GPUs (default 512, as the paper)")
    plan.add_argument("--objects", type=int, default=80_000, metavar="N", help="of an epoch (default 80000)")
    plan.add_argument("--epochs", type=int, default=300, metavar="N", help="default 300")
    plan.add_argument("--keep", action="store_true", help="keep what layers computed instead of computing it again")
    plan.add_argument("--check", action="store_true", help="measure steps of reduced size here, beside what is counted")
    plan.add_argument(
        "--trial", action="store_true", help="share a small step among the processes of `accelerate launch --cpu`"
    )
    plan.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    if args.check:
        return _check(args)
    if args.trial:
        return _trial(args)
    from mvgamba.errors import InvalidInput
    from mvgamba.reconstructor.presets import PRESETS
    from mvgamba.training.scale_out import GPUS, launch_commands, parameters, plan, to_markdown

    if args.gpu not in GPUS:
        raise InvalidInput(f"--gpu is {args.gpu!r}; it must be one of {', '.join(GPUS)}.")
    config = PRESETS[args.preset]
    rows = plan(
        config,
        GPUS[args.gpu],
        batch=args.batch,
        objects=args.objects,
        epochs=args.epochs,
        recompute=not args.keep,
    )
    if args.json:
        for row in rows:
            facts = dataclasses.asdict(row) | {"step_seconds": row.step_seconds, "days": row.days}
            print(json.dumps(facts | {"launch": launch_commands(row.gpus)}))
        return 0
    print(
        f"{args.preset}: {parameters(config):,} parameters, {config.num_tokens:,} tokens, batch {args.batch}, {args.gpu}"
    )
    print(
        f"{rows[0].steps:,} steps. On paper: no GPU has run it; see mvgamba/training/MANY_GPUS.md for what is assumed.\n"
    )
    print(to_markdown(rows) + "\n")
    print("How accelerate starts 8 and 32 processes (the loop that trains this preset is not here yet):")
    for gpus in (8, 32):
        print("\n".join(launch_commands(gpus)))
    return 0


def _check(args: argparse.Namespace) -> int:
    from mvgamba.reconstructor.presets import PRESETS
    from mvgamba.training.step_profile import check_step, measure_rates

    config = PRESETS[args.preset]
    rates = measure_rates(config)
    if not args.json:
        print(
            f"alone, one thread: products {rates.matrix_flops / 1e9:.0f} GFLOP/s, streams {rates.bandwidth / 1e9:.0f} GB/s"
        )
    for size, layers, recompute in ((112, 2, False), (112, 4, True), (224, 2, False), (224, 4, False), (224, 4, True)):
        reduced = config.replace(image_size=size, num_layers=layers)
        found = check_step(reduced, rates, recompute=recompute)
        if args.json:
            print(json.dumps(dataclasses.asdict(found)), flush=True)
        else:
            print(
                f"{found.tokens} tokens, {layers} layers{', recomputed' if recompute else ''}: {found.seconds:.2f} s, counted "
                f"{found.expected_seconds:.2f}; {found.kept / 2**20:.0f} MiB kept, counted {found.expected_kept / 2**20:.0f}",
                flush=True,
            )
    return 0


def _trial(args: argparse.Namespace) -> int:
    from mvgamba.reconstructor.presets import PRESETS
    from mvgamba.training.step_profile import share_step

    config = PRESETS[args.preset].replace(width=128, num_layers=2, image_size=112, mlp_width=256)
    share = share_step(config, batch=8)
    if not share.is_first:
        return 0
    if args.json:
        print(json.dumps(dataclasses.asdict(share)))
    else:
        spent = ", ".join(f"{s:.2f}" for s in share.cpu_seconds)
        print(
            f"{share.processes} processes share a batch of {share.batch}: {spent} s of CPU a step each; "
            f"{share.reduced_bytes:,} bytes of gradients reduced by each ({share.parameters:,} parameters)"
        )
    return 0
