"""Weights that were learned: what they are, where they lie, and whether they are whole.

Some come with the package; others lie in the user's folder, where `mvgamba weights pull` and `import` put them. In both,
`manifest.json` lists them with a hash, and beside each file lie its configuration and a model card. See the README.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing

MANIFEST = "manifest.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a file or an entry may be called, so that neither leads out of the folder."""

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Weights:
    """One file of weights."""

    name: str
    kind: str
    """What it is a part of: reconstructor, generator, memory."""
    model: str
    """The name under which that part is chosen: ray, mvgamba."""
    file: str
    sha256: str
    licence: str
    about: str
    """One sentence."""
    url: str | None = None
    """Where `mvgamba weights pull` gets it; None if it is published nowhere."""
    preferred: bool = False
    """In the user's folder only: taken before what comes with the package."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Files that lie beside it and belong to it, with the SHA-256 of each."""
    place: Path | None = None
    """The user's folder, or None for what comes with the package. Never read from a manifest."""

    @property
    def path(self) -> Path:
        return (self.place or folder()) / self.file

    @property
    def is_there(self) -> bool:
        return self.path.is_file()

    @property
    def is_users(self) -> bool:
        return self.place is not None

    def as_entry(self) -> dict[str, Any]:
        """As a manifest has it."""
        values = dataclasses.asdict(self)
        del values["place"]
        return {key: value for key, value in values.items() if value not in (None, False, {})}


def folder() -> Path:
    """Where the shipped weights lie."""
    return Path(str(resources.files("mvgamba.weights")))


def shipped() -> list[Weights]:
    """All that the package's manifest lists, there or not."""
    return read_manifest(folder())


def users(user_folder: Path | None) -> list[Weights]:
    """All that the user's manifest lists. Raises: WeightsCorrupt if that cannot be read."""
    return [] if user_folder is None else read_manifest(user_folder, place=user_folder)


def known(user_folder: Path | None) -> list[Weights]:
    """Shipped ones, then the user's; of an entry that the package only names, the copy that was pulled."""
    own = users(user_folder)
    names = {w.name for w in own}
    return [w for w in shipped() if w.is_there or w.name not in names] + own


def default(kind: str, model: str, user_folder: Path | None = None) -> Weights | None:
    """The weights that are used unless others are named: the user's preferred ones, else shipped ones, else the user's."""
    there = [w for w in known(user_folder) if w.kind == kind and w.model == model and w.is_there]
    return min(there, key=lambda w: not (w.is_users and w.preferred), default=None)


def hashes_of(name: str, kind: str, user_folder: Path | None = None) -> dict[str, str]:
    """SHA-256 by name, for the record of a result; none for weights that no manifest lists."""
    return {w.name: w.sha256 for w in known(user_folder) if w.kind == kind and w.name == name}


def memory_of(generator: Weights, user_folder: Path | None = None) -> Weights | None:
    """What remembers the objects that a generator was taught with, or None: weights of the user's own have what was imported with them."""
    if not generator.is_users:
        return default("memory", generator.model, user_folder)
    name = memory_name(generator.name)
    return next((w for w in users(user_folder) if (w.kind, w.name) == ("memory", name) and w.is_there), None)


def memory_name(generator: str) -> str:
    """Of the entry for the memory of a user's generator."""
    return f"{generator}-memory"


def state_of(user_folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Something that is another as soon as weights were installed in the folder, removed or changed: names, times and sizes of what lies there."""
    try:
        with os.scandir(user_folder) as entries:
            found = [(e.name, e.stat()) for e in entries if not e.name.endswith(".partial")]
    except OSError:  # there is none yet, or a file went while it was looked at
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found))


def verified(weights: Weights) -> Path:
    """The path of a file that is what the manifest says, as are those that belong to it.

    Raises: WeightsMissing, WeightsCorrupt.
    """
    cure = "Import or pull them again." if weights.is_users else "Install the package again."
    if not weights.is_there:
        if weights.url is not None:
            cure = f"Run `mvgamba weights pull {weights.name}`."
        raise WeightsMissing(f"The weights {weights.name} are not at {weights.path}. {cure}")
    for file, expected in {weights.file: weights.sha256, **weights.parts}.items():
        path = weights.path.with_name(file)
        if not path.is_file():
            raise WeightsMissing(f"{path}, which belongs to the weights {weights.name}, is not there. {cure}")
        found = sha256_of(path)
        if found != expected:
            origin = "imported" if weights.is_users else "shipped"
            raise WeightsCorrupt(
                f"The weights {weights.name} at {path} are not those that were {origin} (their SHA-256 is {found[:12]}..., "
                f"expected {expected[:12]}...). {cure}"
            )
    return weights.path


def check_name(name: str) -> None:
    """Raises: InvalidInput, unless the user may give this name to weights."""
    if not PLAIN_NAME.fullmatch(name):
        raise InvalidInput(f"The name {name!r} cannot be used; give --name of letters, digits, '.', '_' and '-'.")
    if name in {w.name for w in shipped()}:
        raise InvalidInput(f"{name} is the name of weights that come with the package; give another --name.")


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(where: Path, *, place: Path | None = None) -> list[Weights]:
    """The entries of a folder's manifest, none if it has none. Raises: WeightsCorrupt, naming the file."""
    path = where / MANIFEST
    if not path.is_file():
        return []
    try:
        entries = [Weights(**{**entry, "place": place}) for entry in json.loads(path.read_text(encoding="utf-8"))]
        wrong = [n for w in entries for n in (w.name, w.file, *w.parts) if not PLAIN_NAME.fullmatch(n)]
        wrong += [h for w in entries for h in (w.sha256, *w.parts.values()) if not SHA256.fullmatch(h)]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsCorrupt(f"{path} is not a list of weights: {error}. Put it right or delete it.") from error
    if wrong:
        raise WeightsCorrupt(
            f"{path} has {wrong[0]!r}; names are of letters, digits, '.', '_' and '-', hashes of 64 hexadecimal digits. "
            "Put it right or delete it."
        )
    return entries
