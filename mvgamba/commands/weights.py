"""`mvgamba weights`: what was learned, and whether it is whole."""

import argparse
import json

from mvgamba.commands.options import EXIT_FAILED, Subparsers


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    weights = commands.add_parser("weights", help="what was learned").add_subparsers(dest="action", required=True)
    weights.add_parser("list", parents=[common], help="the weights that come with the package").set_defaults(
        run=_weights_list
    )
    weights.add_parser("verify", parents=[common], help="whether they are whole").set_defaults(run=_weights_verify)


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
