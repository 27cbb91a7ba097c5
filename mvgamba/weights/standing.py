"""How all the weights stand that can be used here or had: with the package, pulled, cut short, damaged, not there."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.weights import Weights, default, known
from mvgamba.weights.download import partial_of
from mvgamba.weights.hub import HUB_MODELS, LIBRARIES, HubModel, arriving_folder_of, folder_of, read_record
from mvgamba.weights.user import has_accepted

State = Literal["package", "there", "partial", "damaged", "absent"]


@dataclass(frozen=True)
class Standing:
    """One file of weights, or one model of many files."""

    name: str
    kind: str
    model: str
    about: str
    licence: str
    state: State
    """damaged: as far as shows without reading it through; `mvgamba weights verify` does that."""
    path: Path
    """Where it lies, or would."""
    size: int | None
    """Bytes; about, of a model of the hub that nobody has asked for yet. None where it is not known."""
    fetched: int
    """Bytes that lie there."""
    can_pull: bool
    """Whether `mvgamba weights pull NAME` knows where to get it."""
    is_accepted: bool
    """Whether the user has accepted its licence before."""
    is_default: bool = False
    is_users: bool = True
    revision: str | None = None
    missing: tuple[str, ...] = ()
    """Packages without which it cannot be used here."""

    @property
    def is_there(self) -> bool:
        return self.state in ("package", "there")


def standings(user_folder: Path) -> list[Standing]:
    """Of the package, of the user, and the hub's models, there or not. Raises: WeightsCorrupt, if the user's list cannot be read."""
    files = [_of_file(weights, user_folder) for weights in known(user_folder)]
    return files + [_of_model(model, user_folder) for model in HUB_MODELS.values()]


def _of_file(weights: Weights, user_folder: Path) -> Standing:
    partial = partial_of(user_folder / weights.file, weights.sha256)
    state: State
    if weights.is_there:
        state, size = "there" if weights.is_users else "package", weights.path.stat().st_size
        fetched = size
    else:
        size, fetched = None, partial.stat().st_size if partial.is_file() else 0
        state = "partial" if fetched else "absent"
    return Standing(
        name=weights.name,
        kind=weights.kind,
        model=weights.model,
        about=weights.about,
        licence=weights.licence,
        state=state,
        path=weights.path,
        size=size,
        fetched=fetched,
        can_pull=weights.url is not None and weights.file.endswith(".safetensors"),
        is_accepted=has_accepted(weights, user_folder),
        is_default=default(weights.kind, weights.model, user_folder) == weights,
        is_users=weights.is_users,
    )


def _of_model(model: HubModel, user_folder: Path) -> Standing:
    whole, arriving = folder_of(model.name, user_folder), arriving_folder_of(model.name, user_folder)
    path = whole if whole.is_dir() or not arriving.is_dir() else arriving
    state: State = "there" if path == whole else "partial"
    size, revision = model.size, None
    try:
        record = read_record(path)
        size, revision = record.size, record.revision
        if state == "there" and not all((path / file.path).is_file() for file in record.files):
            state = "damaged"
    except WeightsMissing:  # nobody has put it there, or by hand
        state = "damaged" if whole.is_dir() else "absent"
    except WeightsCorrupt:
        state = "damaged"
    return Standing(
        name=model.name,
        kind="generator",
        model=model.name,
        about=model.about,
        licence=model.licence,
        state=state,
        path=path,
        size=size,
        fetched=sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if state != "absent" else 0,
        can_pull=True,
        is_accepted=has_accepted(model, user_folder),
        revision=revision,
        missing=tuple(name for name in LIBRARIES if importlib.util.find_spec(name) is None),
    )
