"""`mvgamba weights`: what was learned, whether it is whole, and taking in more."""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mvgamba.commands.options import EXIT_FAILED, Subparsers, die_with_stdin, hub_endpoint, user_weights

if TYPE_CHECKING:
    from mvgamba.weights import Weights
    from mvgamba.weights.hub import Record
    from mvgamba.weights.standing import Standing
    from mvgamba.weights.user import Licensed


def add(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add to the command line."""
    weights = commands.add_parser("weights", help="what was learned").add_subparsers(dest="action", required=True)
    weights.add_parser("list", parents=[common], help="those of the package and your own").set_defaults(run=_list)
    tied = argparse.ArgumentParser(add_help=False)
    tied.add_argument("--die-with-stdin", action="store_true", help="end when standard input is closed, for programs")

    verify = weights.add_parser("verify", parents=[common, tied], help="whether they are whole")
    verify.add_argument("names", nargs="*", metavar="NAME", help="only these")
    verify.set_defaults(run=_tied(_verify))

    pull = weights.add_parser("pull", parents=[common, tied], help="fetch weights into your folder")
    pull.add_argument("what", metavar="NAME|URL", help="a name from `list`, or the https address of a file")
    pull.add_argument("--from", dest="offline", type=Path, metavar="FOLDER", help="take the file from a folder instead")
    pull.add_argument("--sha256", metavar="HEX", help="what a file from a URL must hash to")
    pull.add_argument("--accept-licence", action="store_true", help="do not ask, for scripts")
    _add_entry_options(pull)
    pull.set_defaults(run=_tied(_pull))

    take = weights.add_parser(
        "import",
        parents=[common, tied],
        help="take in a file of weights",
        description="Check a file of weights, convert it if need be, and keep it in your folder of weights.",
    )
    take.add_argument(
        "file", type=Path, help="ray weights (.safetensors) or an MVGamba checkpoint (.pth, .safetensors)"
    )
    take.add_argument("--kind", choices=("reconstructor",), default="reconstructor")
    _add_entry_options(take)
    take.set_defaults(run=_tied(_import))

    generator = weights.add_parser(
        "import-generator",
        parents=[common, tied],
        help="take in a folder of MVDream or ImageDream",
        description="Check a folder with the published layout, key by key, and keep a copy in your folder of weights.",
    )
    generator.add_argument("folder", type=Path, help="with model_index.json, unet/, vae/ and so on")
    generator.add_argument("--accept-licence", action="store_true", help="do not ask, for scripts")
    generator.set_defaults(run=_tied(_import_generator))


def _tied(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that ends early when it was asked to, with `--die-with-stdin`."""

    def run_tied(args: argparse.Namespace) -> int:
        if args.die_with_stdin:
            die_with_stdin()
        return run(args)

    return run_tied


def _add_entry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="N", help="what a file is called from now on (default: as the file)")
    parser.add_argument("--licence", metavar="L", default="unknown", help="of a file (default unknown)")
    parser.add_argument("--default", action="store_true", help="use them before those that come with the package")


def _list(args: argparse.Namespace) -> int:
    from mvgamba.weights import known
    from mvgamba.weights.standing import standings

    folder = user_weights()
    entries = {weights.name: weights for weights in known(folder)}
    for standing in standings(folder):
        if args.json:
            facts = dataclasses.asdict(entries[standing.name]) if standing.name in entries else {}
            facts.pop("place", None)
            facts |= dataclasses.asdict(standing) | {"path": str(standing.path)}
            facts |= {"is_there": standing.is_there, "origin": "user" if standing.is_users else "package"}
            print(json.dumps(facts | {"bytes": facts.pop("size")}))
        else:
            mark = ", used by default" if standing.is_default else ""
            print(f"{standing.name}  ({standing.kind} {standing.model}, {_state(standing)}, {standing.licence}{mark})")
            print(f"  {standing.about}\n  {standing.path}")
            if standing.missing:
                print(f"  needs {' and '.join(standing.missing)}: pip install mvgamba[multiview]")
    return 0


def _state(standing: "Standing") -> str:
    """How it stands, in words."""
    match standing.state:
        case "package" | "there":
            return f"{standing.fetched / 2**20:.1f} MiB"
        case "partial":
            return f"{standing.fetched / 2**20:.1f} MiB of it, not pulled whole: run pull again"
        case "damaged":
            return "damaged: pull or import it again"
        case "absent":
            return "not pulled yet" if standing.can_pull else "not there"


def _verify(args: argparse.Namespace) -> int:
    from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
    from mvgamba.weights import known, verified
    from mvgamba.weights.hub import verify_model
    from mvgamba.weights.standing import standings

    entries = {weights.name: weights for weights in known(user_weights())}
    stood = {standing.name: standing for standing in standings(user_weights())}
    if unknown := [name for name in args.names if name not in stood]:
        raise InvalidInput(f"No weights are named {unknown[0]!r}. There are: {', '.join(stood)}.")
    wrong = 0
    for name in args.names or stood:
        standing, state = stood[name], "whole"
        if standing.state == "partial":
            state, said = "partial", "not pulled whole: run pull again"
        elif standing.state == "absent" and (standing.can_pull or name not in entries):
            if not args.names and name not in entries:
                continue  # models that nobody asked about
            state, said = "absent", "not pulled yet"
        else:
            try:
                said = "whole"
                if name in entries:
                    verified(entries[name])
                else:
                    verify_model(standing.path)
            except (WeightsMissing, WeightsCorrupt) as error:
                wrong, state, said = wrong + 1, "damaged", str(error)
        line = {"event": "verified", "name": name, "state": state, "said": said}
        print(json.dumps(line) if args.json else f"{name}: {said}", flush=True)
    return EXIT_FAILED if wrong else 0


def _pull(args: argparse.Namespace) -> int:
    from mvgamba.weights.download import is_url
    from mvgamba.weights.hub import HUB_MODELS
    from mvgamba.weights.pull import check_pullable, entry_named, pull

    folder = user_weights()
    if is_url(args.what):
        return _pull_url(args, folder)
    if args.what in HUB_MODELS:
        return _pull_model(args, folder)
    entry = entry_named(args.what, folder, offline=args.offline)
    check_pullable(entry, offline=args.offline)
    _agree(args, entry, folder)
    with _bytes(args) as report:
        pulled = pull(entry, folder, offline=args.offline, preferred=args.default, report=report)
    _say(args, pulled)
    return 0


def _pull_url(args: argparse.Namespace, folder: Path) -> int:
    from mvgamba.errors import InvalidInput
    from mvgamba.weights import PLAIN_NAME, SHA256, Weights, check_name
    from mvgamba.weights.download import check_url, download

    check_url(args.what)
    sha256 = (args.sha256 or "").lower()
    if not SHA256.fullmatch(sha256):
        raise InvalidInput(
            f"--sha256 is {args.sha256!r}; a file from a URL needs the 64 hexadecimal digits that it must hash to, from "
            "somebody you trust."
        )
    file = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(args.what).path)).name
    if not PLAIN_NAME.fullmatch(file):
        raise InvalidInput(f"{args.what} does not end in the plain name of a file.")
    name = args.name or Path(file).stem
    check_name(name)
    entry = Weights(name, "reconstructor", "", file, sha256, args.licence, f"From {args.what}.")
    _agree(args, entry, folder)
    arrived = folder / "arrived" / file
    with _bytes(args) as report:
        download(args.what, arrived, sha256, report=report)
    try:
        return _take_in(args, arrived, folder, name=name, kind="reconstructor", origin=args.what)
    finally:
        arrived.unlink(missing_ok=True)


def _pull_model(args: argparse.Namespace, folder: Path) -> int:
    from mvgamba.weights.hub import HUB_MODELS, pull_model

    if args.offline is not None:
        return _take_in_generator(args, args.offline, folder)
    model = HUB_MODELS[args.what]
    _agree(args, model, folder)
    with _bytes(args) as report:
        record = pull_model(model, folder, endpoint=hub_endpoint(), report=report)
    _say_generator(args, record, folder)
    return 0


def _import_generator(args: argparse.Namespace) -> int:
    return _take_in_generator(args, args.folder, user_weights())


def _take_in_generator(args: argparse.Namespace, source: Path, folder: Path) -> int:
    from mvgamba.multiview.mvdream.generator import check_folder
    from mvgamba.weights.hub import HUB_MODELS, take_in_model

    name = check_folder(source)
    _agree(args, HUB_MODELS[name], folder)
    _say_generator(args, take_in_model(source, name, folder, licence=HUB_MODELS[name].licence), folder)
    return 0


def _say_generator(args: argparse.Namespace, record: "Record", folder: Path) -> None:
    from mvgamba.weights.hub import folder_of

    path = folder_of(record.name, folder)
    if args.json:
        facts = {"name": record.name, "revision": record.revision, "files": len(record.files), "bytes": record.size}
        print(json.dumps({"event": "done", "path": str(path), **facts}), flush=True)
    else:
        print(f"{path}\n  {len(record.files)} files, {record.size / 2**20:.1f} MiB, revision {record.revision}")


def _import(args: argparse.Namespace) -> int:
    return _take_in(args, args.file, user_weights(), name=args.name, kind=args.kind, origin=None)


def _take_in(
    args: argparse.Namespace, file: Path, folder: Path, *, name: str | None, kind: str, origin: str | None
) -> int:
    from mvgamba.multiview.starter_import import import_starter
    from mvgamba.reconstructor.weight_files import import_weights
    from mvgamba.weights.header import read_header

    if file.suffix == ".safetensors" and file.is_file() and read_header(file).get("kind") == "starter":
        taken = import_starter(file, folder, name=name, licence=args.licence, preferred=args.default)
        _say(args, taken)
        return 0
    taken = import_weights(
        file, folder, name=name, kind=kind, licence=args.licence, preferred=args.default, origin=origin
    )
    _say(args, taken)
    return 0


def _agree(args: argparse.Namespace, entry: "Licensed", folder: Path) -> None:
    """Ask for the licence, once. Raises: Unavailable, if it is refused or nobody can be asked."""
    from mvgamba.errors import Unavailable
    from mvgamba.weights.user import accept, has_accepted

    if has_accepted(entry, folder):
        return
    if not args.accept_licence:
        asked = f"{entry.name} is under the licence: {entry.licence}."
        if args.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Unavailable(f"{asked} If you accept it, say so with --accept-licence. Nothing was fetched.")
        print(f"{asked} {entry.about}\nDo you accept it? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Unavailable(f"The licence of {entry.name} was not accepted. Nothing was fetched.")
    accept(entry, folder)


def _say(args: argparse.Namespace, weights: "Weights") -> None:
    if args.json:
        print(json.dumps({"event": "done", "path": str(weights.path), **weights.as_entry()}), flush=True)
    else:
        print(f"{weights.path}\n  {weights.about}")
        print("  " + _how_to_use(weights))


def _how_to_use(weights: "Weights") -> str:
    if weights.model == "mvgamba":
        return "Four square views a quarter turn apart: mvgamba views CAPTURE/ -o OUT.glb --reconstructor mvgamba"
    if weights.preferred:
        return "Used from now on."
    if weights.kind == "generator":
        return "Import it with --default to have it used by `mvgamba text` and `mvgamba image`."
    return f"mvgamba views CAPTURE/ -o OUT.glb --weights {weights.path}"


@contextlib.contextmanager
def _bytes(args: argparse.Namespace) -> Iterator[Callable[[int, int | None], None]]:
    """Progress of a download as JSON lines, four a second, or as a bar."""
    if args.json:
        last = 0.0

        def line(done: int, of: int | None) -> None:
            nonlocal last
            if done == of or time.monotonic() - last > 0.25:
                last = time.monotonic()
                print(json.dumps({"event": "progress", "bytes": done, "of": of}), flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Fetching", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
