"""Weights by name: what can be had, and bringing it into the user's folder."""

import dataclasses
import difflib
from pathlib import Path

from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.weights import Weights, known, read_manifest, sha256_of, shipped
from mvgamba.weights.download import Report, copy, download
from mvgamba.weights.user import register, write_card


def entry_named(name: str, user_folder: Path, *, offline: Path | None = None) -> Weights:
    """The entry of a name: in the manifest of the folder `offline` if that has one, else among those that are known.

    Raises: InvalidInput, naming what comes nearest.
    """
    entries = {w.name: w for w in known(user_folder)}
    if offline is not None:
        if not offline.is_dir():
            raise InvalidInput(f"--from {offline} is not a folder.")
        entries |= {w.name: w for w in read_manifest(offline)}
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    there = f"Nearest: {', '.join(near)}." if near else f"There are: {', '.join(sorted(entries)) or 'none'}."
    raise InvalidInput(f"No weights are named {name!r}. {there}")


def check_pullable(entry: Weights, *, offline: Path | None = None) -> None:
    """Raises: InvalidInput or Unavailable, if there is nothing to pull or nowhere to pull it from."""
    if any(w.name == entry.name and w.is_there for w in shipped()):
        raise InvalidInput(f"{entry.name} comes with the package; there is nothing to pull.")
    if offline is None and entry.url is None:
        raise Unavailable(
            f"The weights {entry.name} are published at no URL. Take the file from somebody who has it, with --from FOLDER."
        )
    if not entry.file.endswith(".safetensors"):
        raise Unavailable(
            f"{entry.file} of {entry.name} is not a .safetensors file; use `mvgamba weights import` for it."
        )


def pull(
    entry: Weights,
    user_folder: Path,
    *,
    offline: Path | None = None,
    preferred: bool = False,
    report: Report = lambda done, of: None,
) -> Weights:
    """Bring the file of an entry into the user's folder, checked, with its configuration and card, and register it.

    Args:
        offline: A folder that holds the file, instead of the entry's URL.
    Raises: InvalidInput, Unavailable, WeightsCorrupt, DiskFull, OutputFailed.
    """
    check_pullable(entry, offline=offline)
    target = user_folder / entry.file
    if target.is_file() and sha256_of(target) == entry.sha256:
        pass  # only its place in the manifest may change
    elif offline is not None:
        copy(offline / entry.file, target, entry.sha256)
    else:
        assert entry.url is not None
        download(entry.url, target, entry.sha256, report=report)
    pulled = register(dataclasses.replace(entry, preferred=preferred), user_folder)
    write_card(pulled, user_folder, {"from": entry.url or "a folder"})
    return pulled
