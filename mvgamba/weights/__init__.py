"""Weights that come with the package: what they are, where they lie, and whether they are whole.

`manifest.json` lists them; each has a hash, and a model card says what they learned from and what they can do.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mvgamba.errors import WeightsCorrupt, WeightsMissing

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Weights:
    """One file of weights."""

    name: str
    kind: str
    """What it is a part of: reconstructor."""
    model: str
    """The name under which that part is chosen: ray."""
    file: str
    sha256: str
    licence: str
    about: str
    """One sentence."""

    @property
    def path(self) -> Path:
        return folder() / self.file

    @property
    def is_there(self) -> bool:
        return self.path.is_file()


def folder() -> Path:
    """Where the shipped weights lie."""
    return Path(str(resources.files("mvgamba.weights")))


def shipped() -> list[Weights]:
    """All that the manifest lists, there or not."""
    path = folder() / MANIFEST
    return [Weights(**entry) for entry in json.loads(path.read_text())] if path.is_file() else []


def default(kind: str, model: str) -> Weights | None:
    """The first of a kind for a model that is there."""
    return next((w for w in shipped() if w.kind == kind and w.model == model and w.is_there), None)


def verified(weights: Weights) -> Path:
    """The path of a file that is what the manifest says.

    Raises: WeightsMissing, WeightsCorrupt.
    """
    if not weights.is_there:
        raise WeightsMissing(f"The weights {weights.name} are not at {weights.path}. Install the package again.")
    found = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    if found != weights.sha256:
        raise WeightsCorrupt(
            f"The weights {weights.name} at {weights.path} are not those that were shipped (their SHA-256 is {found[:12]}..., "
            f"expected {weights.sha256[:12]}...). Install the package again."
        )
    return weights.path
