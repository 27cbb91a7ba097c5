"""The command line: `mvgamba-backend serve`. The only place that reads arguments, environment and the token."""

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path

from mvgamba import __version__
from mvgamba.errors import MVGambaError
from mvgamba_backend.config import ServiceConfig
from mvgamba_backend.spec import Limits

EXIT_BAD_CONFIGURATION = 2
_LOG_BYTES = 4 << 20


def main(argv: list[str] | None = None) -> int:
    """Console entry point. Returns the exit status: 0 left when asked to, 2 the configuration cannot be served."""
    arguments = _parser().parse_args(argv)
    return int(arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    defaults = ServiceConfig(Path(), "")
    parser = argparse.ArgumentParser(prog="mvgamba-backend", description="Textured meshes over gRPC.")
    parser.add_argument("--version", action="version", version=f"mvgamba-backend {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the service until it is told to leave",
        description="Run the service. One JSON line on stdout says where it listens. The token comes from MVGAMBA_TOKEN or "
        "--token-stdin; without either one is drawn and stands in that line.",
    )
    add = serve.add_argument
    add("--data-dir", type=Path, required=True, help="jobs, uploads and results; made when missing")
    add("--host", default=defaults.host, help="address to listen on; any but this machine's own needs TLS")
    add("--port", type=int, default=defaults.port, help="0, the default, lets the system choose")
    add("--token-stdin", action="store_true", help="read the token from the first line of stdin")
    add("--tls-cert", type=Path, metavar="PEM", help="certificate chain")
    add("--tls-key", type=Path, metavar="PEM", help="private key")
    add("--parent-pid", type=int, metavar="PID", help="leave when this process has ended")
    add("--die-with-stdin", action="store_true", help="leave when stdin is closed")
    add("--engine", default=defaults.engine, choices=("local",), help="where jobs run")
    add("--pipeline", default=defaults.pipeline, choices=("real", "fake"), help="fake plays, for tests of clients")
    add("--fake-devices", type=int, default=0, metavar="N", help="CUDA devices that the fake pipeline plays")
    add("--queue-limit", type=int, default=defaults.limits.queue_limit, metavar="N", help="jobs that may wait")
    add(
        "--cancel-grace",
        type=float,
        default=defaults.cancel_grace,
        metavar="S",
        help="before a job is stopped by force",
    )
    add("--idle-exit", type=float, default=defaults.idle_exit, metavar="S", help="free a worker's memory; 0: never")
    add(
        "--min-free-mib",
        type=int,
        default=defaults.min_free_bytes >> 20,
        metavar="MIB",
        help="take nothing with less room",
    )
    add("--log-file", type=Path, metavar="FILE", help="instead of stderr")
    add("--verbose", action="store_true", help="log more")
    serve.set_defaults(run=_serve)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    complaints = os.fdopen(os.dup(2), "w", encoding="utf-8")
    try:
        _set_up_logging(arguments.log_file, verbose=arguments.verbose)
        token, is_drawn = _token(from_stdin=arguments.token_stdin)
        config = ServiceConfig(
            data_dir=arguments.data_dir.absolute(),
            token=token,
            host=arguments.host,
            port=arguments.port,
            tls_cert=arguments.tls_cert,
            tls_key=arguments.tls_key,
            engine=arguments.engine,
            pipeline=arguments.pipeline,
            fake_devices=arguments.fake_devices,
            parent_pid=arguments.parent_pid,
            die_with_stdin=arguments.die_with_stdin,
            log_file=arguments.log_file,
            cancel_grace=arguments.cancel_grace,
            idle_exit=arguments.idle_exit,
            min_free_bytes=arguments.min_free_mib << 20,
            limits=Limits(queue_limit=arguments.queue_limit),
        )
        from mvgamba_backend.server import serve

        serve(config, show_token=is_drawn)
    except MVGambaError as error:
        print(error, file=complaints)
        return EXIT_BAD_CONFIGURATION
    finally:
        complaints.close()
    return 0


def _token(*, from_stdin: bool) -> tuple[str, bool]:
    """The token, and whether nobody knows it yet."""
    # out of the environment, so that worker processes do not hand it on
    given = os.environ.pop("MVGAMBA_TOKEN", None)
    if from_stdin:
        given = ""
        while not given.endswith("\n"):  # byte by byte: what follows is not ours to take
            byte = os.read(0, 1).decode("latin-1")
            if not byte:
                break
            given += byte
        given = given.strip()
    if given is None:
        return secrets.token_urlsafe(32), True
    return given, False


def _set_up_logging(file: Path | None, *, verbose: bool) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file() and file.stat().st_size > _LOG_BYTES:
            file.replace(file.with_name(file.name + ".1"))
        with file.open("ab") as log:
            # the descriptor itself, so that worker processes and crashes of native code write there as well
            os.dup2(log.fileno(), 2)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s service %(process)d %(levelname)s %(name)s: %(message)s",
    )


if __name__ == "__main__":
    sys.exit(main())
