"""The command line: `mvgamba text "a barrel" -o OUT.glb`, `mvgamba views DIR -o OUT.glb`, `mvgamba eval`, `mvgamba doctor` and the rest of `mvgamba.commands`.

The only place that reads environment, sets up logging and says errors.
"""

import argparse
import json
import logging
import os
import sys

from mvgamba import __version__
from mvgamba.commands import doctor, evaluate, learn, prompt, robustness, views, vocabulary, weights
from mvgamba.commands.options import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREAD
from mvgamba.errors import Cancelled, MVGambaError


def main(argv: list[str] | None = None) -> int:
    """Console entry point. Returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 141 nobody reads the output."""
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
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # whoever read has enough, as in `mvgamba vocabulary | head`; what is left must not be written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    except Cancelled:
        _say_error(args, "CANCELLED", "Stopped; nothing was written.")
        return EXIT_INTERRUPTED
    except MVGambaError as error:
        _say_error(args, error.reason, str(error))
        return EXIT_BAD_INPUT if error.reason.startswith("INVALID") else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mvgamba", description="A prompt, an image or posed views of an object to a textured mesh."
    )
    parser.add_argument("--version", action="version", version=f"mvgamba {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, one object a line, instead of text")
    common.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    for family in (prompt, views, vocabulary, evaluate, robustness, learn, weights, doctor):
        family.add(commands, common)
    return parser


def _say_error(args: argparse.Namespace, reason: str, message: str) -> None:
    if args.json:
        print(json.dumps({"event": "error", "reason": reason, "message": message}), flush=True)
    print(f"mvgamba: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
