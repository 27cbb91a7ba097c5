"""Where a result should go, looked at before the work begins."""

import os
import tempfile
from pathlib import Path

from mvgamba.errors import OutputFailed


def check_writable(path: Path, *, suffix: str = ".glb") -> None:
    """Raises: OutputFailed if a file cannot be written there, so that nobody waits for a result that has no place."""
    if path.suffix.lower() != suffix:
        raise OutputFailed(f"{path} does not end in {suffix}, which is what is written. Name the output NAME{suffix}.")
    if path.is_dir():
        raise OutputFailed(f"{path} is a folder; name a file.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputFailed(f"The folder {folder} does not exist. Make it first.")
    try:
        handle, probe = tempfile.mkstemp(dir=folder, prefix=".mvgamba-")
    except OSError as error:
        raise OutputFailed(f"Nothing can be written to {folder}: {error.strerror}. Choose another folder.") from error
    os.close(handle)
    os.unlink(probe)
