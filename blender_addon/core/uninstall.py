"""Taking away what Set Up has installed: the files that it makes, by their names, and nothing that lies beside them."""

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from .errors import AddonError
from .i18n import tr
from .setup_program import (
    CACHE,
    CANCEL,
    ENVIRONMENT,
    LOCK,
    LOG,
    PROGRAM,
    STATE,
    SetupState,
    executable,
    try_lock,
    write_state,
)

log = logging.getLogger(__name__)

MEASURE_TIME = 0.5
"""Seconds in which the size of an installation is added up while a person waits for the question."""


def installed_size(folder: Path, *, seconds: float = MEASURE_TIME) -> tuple[int, bool]:
    """Bytes of the environment and its downloads, and whether all of it was counted in this time."""
    end, total, open_folders = time.monotonic() + seconds, 0, [folder / ENVIRONMENT, folder / CACHE]
    while open_folders:
        with contextlib.suppress(OSError), os.scandir(open_folders.pop()) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    open_folders.append(Path(item.path))
                else:
                    total += item.stat(follow_symlinks=False).st_size
        if time.monotonic() > end:
            return total, not open_folders
    return total, True


def uninstall(folder: Path, keep: Iterable[Path] = ()) -> None:
    """Remove what a set-up has made in a folder, and the folder when nothing else is in it. May take seconds.

    What it has removed half of is no backend any more, and it can be called again.

    Args:
        keep: Folders of results; refused when one of them lies in what would be removed.
    Raises:
        AddonError: UNINSTALL_FAILED, naming the file.
    """
    if not (folder / PROGRAM).is_file():
        text = tr("{folder} was not made by Set Up")
        raise AddonError("UNINSTALL_FAILED", text.format(folder=folder))
    trees = [folder / ENVIRONMENT, folder / CACHE]
    for path in keep:
        if any(path.resolve().is_relative_to(tree.resolve()) for tree in trees):
            text = tr("{folder} holds results: move them first")
            raise AddonError("UNINSTALL_FAILED", text.format(folder=path))
    try:
        lock = try_lock(folder)
        if lock is None:
            raise AddonError("UNINSTALL_FAILED", tr("a set-up is running"))
        try:
            # First what makes it a backend, so that nobody takes half of it for one.
            write_state(folder, SetupState(is_installing=True))
            executable(folder, "mvgamba-backend").unlink(missing_ok=True)
            for tree in trees:
                if tree.is_dir() or tree.is_symlink():
                    _remove_tree(tree)
        finally:
            os.close(lock)  # Windows removes no file that is open
        # The program is the sign that the folder is ours, and so the last.
        for name in (LOG, CANCEL, LOCK, STATE + ".new", STATE, PROGRAM):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise _failed(error.filename or folder, error) from error
    with contextlib.suppress(OSError):  # somebody's files are in it
        folder.rmdir()
    log.info("uninstalled the backend")


def _remove_tree(tree: Path) -> None:
    """As `shutil.rmtree`, whose error names a file without its folder. Raises: AddonError."""

    def fail(_function: object, path: str, error: BaseException) -> None:
        raise _failed(path, error) from error

    if sys.version_info >= (3, 12):
        shutil.rmtree(tree, onexc=fail)
    else:
        shutil.rmtree(tree, onerror=lambda function, path, error: fail(function, path, error[1]))


def _failed(path: str | Path, error: BaseException) -> AddonError:
    return AddonError("UNINSTALL_FAILED", f"{path}: {getattr(error, 'strerror', None) or error}")
