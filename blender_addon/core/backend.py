"""How a backend is started and where it listens, as plain data."""

import errno
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import AddonError

_TAIL_BYTES = 64_000


@dataclass(frozen=True)
class Endpoint:
    """Where a running backend listens and the token it wants."""

    address: str
    token: str
    has_tls: bool = False
    ca_path: Path | None = None
    """PEM file of the authority that signed its certificate; None for those that the system's gRPC trusts."""


@dataclass(frozen=True)
class BackendCommand:
    """How to start the backend."""

    command: tuple[str, ...]
    """The executable and what precedes `serve`."""
    data_dir: Path
    log_path: Path
    arguments: tuple[str, ...] = ()
    """After `serve`, e.g. to choose another pipeline."""
    environment: Mapping[str, str] | None = None
    """Added to that of this process."""
    port: int = 0
    """0: the system chooses."""


def find_backend(configured: str) -> tuple[str, ...] | None:
    """The command of the preferences, else of the environment (MVGAMBA_BACKEND), else what is on the search path."""
    if configured:
        return (configured,) if shutil.which(configured) else None
    from_environment = os.environ.get("MVGAMBA_BACKEND", "")
    if from_environment:
        return tuple(shlex.split(from_environment, posix=sys.platform != "win32"))
    found = shutil.which("mvgamba-backend")
    return (found,) if found else None


def log_tail(path: Path, *, num_lines: int = 200) -> list[str]:
    """The last lines of a log; none when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-num_lines:]


def folder_error(error: OSError, folder: Path) -> AddonError:
    """What it means for a person that a folder could not be made or written to."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    where = error.filename or folder
    return AddonError("DISK_FULL" if full else "FOLDER_NOT_WRITABLE", f"{where}: {error.strerror or error}")
