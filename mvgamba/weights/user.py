"""The user's folder of weights: where it is, what is registered there, which licences were accepted, model cards."""

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from mvgamba.errors import DiskFull, OutputFailed
from mvgamba.weights import MANIFEST, Weights, users
from mvgamba.weights.header import write_config

VARIABLE = "MVGAMBA_WEIGHTS"
LICENCES = "accepted-licences.json"


def folder_for(environment: Mapping[str, str], *, platform: str = sys.platform, home: Path | None = None) -> Path:
    """Where a user's weights lie: `$MVGAMBA_WEIGHTS`, else `mvgamba/weights` where the platform keeps what can be had again."""
    if given := environment.get(VARIABLE):
        return Path(given)
    home = home or Path.home()
    if platform == "win32":
        base = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "mvgamba" / "weights"


def register(weights: Weights, user_folder: Path) -> Weights:
    """List weights whose file lies in the folder, in place of an entry of the same name; beside a `.safetensors`, its configuration.

    Where they are preferred, others of the same kind and model no longer are.
    Raises: OutputFailed, DiskFull, WeightsCorrupt.
    """
    weights = dataclasses.replace(weights, place=user_folder)
    others = [w for w in users(user_folder) if w.name != weights.name]
    if weights.preferred:
        rivals = (weights.kind, weights.model)
        others = [dataclasses.replace(w, preferred=w.preferred and (w.kind, w.model) != rivals) for w in others]
    with writing_to(user_folder):
        if weights.path.suffix == ".safetensors":
            write_config(weights.path)
        entries = [w.as_entry() for w in [*others, weights]]
        replace_text(user_folder / MANIFEST, json.dumps(entries, indent=1) + "\n")
    return weights


def forget(name: str, user_folder: Path) -> None:
    """Take an entry out of the list, if it is there; its files stay. Raises: OutputFailed, DiskFull, WeightsCorrupt."""
    entries = users(user_folder)
    left = [w.as_entry() for w in entries if w.name != name]
    if len(left) < len(entries):
        with writing_to(user_folder):
            replace_text(user_folder / MANIFEST, json.dumps(left, indent=1) + "\n")


def write_card(weights: Weights, user_folder: Path, facts: Mapping[str, str]) -> None:
    """A model card that says what is known, and that the rest is not. Raises: OutputFailed, DiskFull."""
    table = {"kind": f"{weights.kind} `{weights.model}`"} | dict(facts)
    table |= {"licence": weights.licence, "SHA-256": f"`{weights.sha256}`"}
    lines = [f"# {weights.name}", "", weights.about, "", "| | |", "|---|---|"]
    # a bar or a line break would end the cell
    cells = {key: value.replace("|", "\\|").replace("\n", " ") for key, value in table.items()}
    lines += [f"| {key} | {value} |" for key, value in cells.items()]
    with writing_to(user_folder):
        replace_text(user_folder / f"{weights.name}.md", "\n".join(lines) + "\n")


@runtime_checkable
class Licensed(Protocol):
    """What has a licence to accept: a file of weights, or a model of many files."""

    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def about(self) -> str: ...


def has_accepted(weights: Licensed, user_folder: Path) -> bool:
    """Whether the user has accepted this licence of these weights before."""
    return _accepted(user_folder).get(weights.name) == weights.licence


def accept(weights: Licensed, user_folder: Path) -> None:
    """Remember that the user accepted. Raises: OutputFailed, DiskFull."""
    with writing_to(user_folder):
        table = _accepted(user_folder) | {weights.name: weights.licence}
        replace_text(user_folder / LICENCES, json.dumps(table, indent=1) + "\n")


def _accepted(user_folder: Path) -> dict[str, str]:
    try:
        table = json.loads((user_folder / LICENCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # asked again
    return table if isinstance(table, dict) else {}


@contextlib.contextmanager
def writing_to(user_folder: Path) -> Iterator[None]:
    """Make the folder, and say in the house's words why nothing can be written there. Raises: OutputFailed, DiskFull."""
    try:
        user_folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise output_error(error, user_folder) from error


def output_error(error: OSError, user_folder: Path) -> OutputFailed:
    """What a failed write to the folder means."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return DiskFull(f"The disk of {user_folder} is full. Make room, or set {VARIABLE} to a folder elsewhere.")
    return OutputFailed(
        f"Weights cannot be written to {user_folder}: {error.strerror or error}. Set {VARIABLE} to a folder of your own."
    )


def replace_text(path: Path, text: str) -> None:
    """In one move, so that a reader meets the old or the new."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
