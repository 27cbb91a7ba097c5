"""Arguments that several commands take, and exit states."""

import _thread
import argparse
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvgamba.types import GenerateOptions

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = object

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
"""As a shell says of a program whose output nobody reads any more."""
GRACE = 2.0
"""Seconds that a command may take to put away what it began, when it is to end."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of a job."""
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
        "--memory",
        type=int,
        metavar="MIB",
        help="that the job may hold at most, of main memory and as much again on a CUDA device (default: what is free)",
    )
    parser.add_argument(
        "--when-short",
        choices=("reduce", "fail"),
        default="reduce",
        help="when memory is short: take cheaper settings and say which (default), or fail",
    )


def user_weights() -> Path:
    """The user's folder of weights, from the environment."""
    from mvgamba.weights.user import folder_for

    return folder_for(os.environ)


def hub_endpoint() -> str | None:
    """Address of a mirror of the Hugging Face hub, from the environment, by the name that the hub's own client uses; None for the hub."""
    return os.environ.get("HF_ENDPOINT") or None


def die_with_stdin() -> None:
    """End this program soon after its standard input is closed: whoever started it has gone, or wants it to end. Main thread only."""
    # a signal of its own, because a parent that ignores Ctrl+C has its children ignore it
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        if hasattr(signal, "pthread_kill"):
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGTERM)  # also ends a wait for a server
        else:
            _thread.interrupt_main(signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def options_of(args: argparse.Namespace) -> "GenerateOptions":
    """What the arguments of `add_options` say."""
    from mvgamba.types import GenerateOptions

    return GenerateOptions(
        quality=args.quality,
        reconstructor=args.reconstructor,
        weights=args.weights,
        weights_folder=user_weights(),
        refine=not args.no_refine,
        target_faces=args.faces,
        texture_size=args.texture,
        seed=args.seed,
        device=args.device,
        seconds=args.seconds,
        when_short=args.when_short,
        memory_mib=args.memory,
    )
