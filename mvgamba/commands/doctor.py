"""`mvgamba doctor`: what is installed, what would run."""

import argparse
import json

from mvgamba.commands.options import EXIT_FAILED, Subparsers, add_options, options_of, user_weights


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
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
    add_options(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from mvgamba.evaluation.doctor import examine, examine_plan, plan_to_text, to_text

    if args.plan:
        planned = examine_plan(options_of(args), views=args.views, image_size=args.image_size, has_depth=args.depth)
        print(json.dumps(planned) if args.json else plan_to_text(planned), flush=True)
        return 0 if planned["fits"] else EXIT_FAILED
    facts = examine(self_test=not args.no_self_test, weights_folder=user_weights())
    print(json.dumps(facts) if args.json else to_text(facts), flush=True)
    return 0 if facts["healthy"] else EXIT_FAILED
