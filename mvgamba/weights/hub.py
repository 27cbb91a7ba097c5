"""Models of many files from the Hugging Face hub, whole or not at all: MVDream and ImageDream as they are published for diffusers.

What is fetched is listed by the hub at the first pull: the revision, and for each file its size and hash (SHA-256 of large files, git's own of small
ones). That list is written down beside the files before the first of them comes, so that a pull which is cut goes on with the same revision. The
hub's word at that time is all that says what should come: no hash is known here beforehand. Afterwards the list is what `verify` compares with.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mvgamba.errors import DiskFull, InvalidInput, Unavailable, WeightsCorrupt, WeightsMissing
from mvgamba.weights import PLAIN_NAME, SHA256, sha256_of
from mvgamba.weights.download import Report, download, fetch_bytes
from mvgamba.weights.user import VARIABLE, replace_text, writing_to

log = logging.getLogger(__name__)

ENDPOINT = "https://huggingface.co"
RECORD = "mvgamba-files.json"
SMALL = 32 << 20
"""Bytes up to which a file may come without a SHA-256, read in one go."""

LIBRARIES = ("diffusers", "transformers", "accelerate")
"""What runs these models beside the package itself: `pip install mvgamba[multiview]`."""

_COMMON = ("scheduler", "tokenizer", "text_encoder", "unet", "vae")
_HEX = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubModel:
    """A model that `mvgamba weights pull` knows by name."""

    name: str
    repository: str
    licence: str
    about: str
    folders: tuple[str, ...]
    """Components; only these, `model_index.json` and no code are fetched."""
    size: int
    """Bytes, about: the hub says at the first pull."""


HUB_MODELS = {
    model.name: model
    for model in (
        HubModel(
            "mvdream",
            "ashawkey/mvdream-sd2.1-diffusers",
            "CreativeML OpenRAIL (as MVDream's README says of its weights; the card on the hub counts)",
            "Views from a prompt: MVDream on Stable Diffusion 2.1, about 2.6 GB.",
            _COMMON,
            2_600_000_000,
        ),
        HubModel(
            "imagedream",
            "ashawkey/imagedream-ipmv-diffusers",
            "Apache-2.0 (as MVGamba's appendix lists it; the card on the hub counts)",
            "Views from an image: ImageDream with pixel control, about 4 GB.",
            (*_COMMON, "image_encoder", "feature_extractor"),
            4_000_000_000,
        ),
    )
}


@dataclass(frozen=True)
class HubFile:
    """One file of a model."""

    path: str
    """Within the model, with slashes."""
    size: int
    sha256: str | None
    git: str | None = None
    """SHA-1 of git's blob, for a small file whose SHA-256 the hub does not tell."""


@dataclass(frozen=True)
class Record:
    """What a folder holds, or is to hold."""

    name: str
    origin: str
    revision: str
    licence: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def folder_of(name: str, user_folder: Path) -> Path:
    """Where a model lies once it is whole."""
    return user_folder / name


def arriving_folder_of(name: str, user_folder: Path) -> Path:
    """Where it lies until then."""
    return user_folder / f"{name}.partial"


def pull_model(
    model: HubModel,
    user_folder: Path,
    *,
    endpoint: str | None = None,
    report: Report = lambda done, of: None,
    pause: float = 1.0,
) -> Record:
    """Fetch what is missing of a model, or damaged. It gets its folder's name when every file has its hash.

    Args:
        endpoint: Address of a mirror of the hub, instead of the hub's own.
    Raises: InvalidInput, Unavailable, WeightsMissing, WeightsCorrupt, DiskFull, OutputFailed.
    """
    endpoint = (endpoint or ENDPOINT).rstrip("/")
    target, arriving = folder_of(model.name, user_folder), arriving_folder_of(model.name, user_folder)
    if target.is_dir():
        try:
            verify_model(target)
            return read_record(target)
        except (WeightsMissing, WeightsCorrupt):
            _take_up(target, arriving)
    record = read_record(arriving) if (arriving / RECORD).is_file() else _listed(model, endpoint)
    with writing_to(arriving):
        replace_text(arriving / RECORD, _as_text(record))
    before = 0
    files = []
    for file in record.files:
        path = arriving.joinpath(*file.path.split("/"))
        if not path.is_file():
            url = f"{endpoint}/{model.repository}/resolve/{record.revision}/{file.path}"
            _fetch(url, file, path, lambda done, of, base=before: report(base + done, record.size), pause)  # type: ignore[misc]
        # hashed on arrival; what an earlier call left is hashed once more at the end
        files.append(file if file.sha256 else dataclasses.replace(file, sha256=sha256_of(path)))
        before += file.size
        report(before, record.size)
    record = dataclasses.replace(record, files=tuple(files))
    with writing_to(arriving):
        replace_text(arriving / RECORD, _as_text(record))
    try:
        verify_model(arriving)
    except (WeightsMissing, WeightsCorrupt):
        _drop_damaged(arriving)  # so that the next call fetches them anew
        raise
    with writing_to(user_folder):
        os.replace(arriving, target)
    return record


def _take_up(target: Path, arriving: Path) -> None:
    """Let a damaged model count as one that is arriving. Raises: WeightsMissing or WeightsCorrupt, if it did not come from a hub, OutputFailed."""
    if not read_record(target).origin.startswith("http"):
        verify_model(target)  # the hub may have another one: only what was imported tells what is right
    log.warning("%s is damaged: what is wrong is fetched anew", target.name)
    with writing_to(target.parent):
        _drop_damaged(target)
        shutil.rmtree(arriving, ignore_errors=True)
        os.replace(target, arriving)


def _drop_damaged(folder: Path) -> None:
    """Delete the files that are not what the record says."""
    for file in read_record(folder).files:
        path = folder.joinpath(*file.path.split("/"))
        if path.is_file() and file.sha256 is not None and sha256_of(path) != file.sha256:
            path.unlink()


def take_in_model(source: Path, name: str, user_folder: Path, *, licence: str) -> Record:
    """Copy the files of a model from a folder that has been checked, also over one that is damaged.

    Raises: InvalidInput, if a whole one is there, DiskFull, OutputFailed.
    """
    model = HUB_MODELS[name]
    target = folder_of(name, user_folder)
    is_damaged = (target / RECORD).is_file() and not _is_whole(target)  # without a record it was put there by hand
    if target.exists() and not is_damaged:
        raise InvalidInput(f"{target} is there already. Delete it first if it is to be replaced.")
    paths = wanted([p.relative_to(source).as_posix() for p in sorted(source.rglob("*")) if p.is_file()], model)
    need = sum((source / path).stat().st_size for path in paths)
    arriving = target.with_name(f"{name}.{os.getpid()}.partial")
    with writing_to(user_folder):
        _check_room(need, user_folder)
        try:
            files = []
            for path in paths:
                copied = arriving.joinpath(*path.split("/"))
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / path, copied)
                files.append(HubFile(path, copied.stat().st_size, sha256_of(copied)))
            record = Record(name, f"the folder {source.name}", "unknown", licence, tuple(files))
            replace_text(arriving / RECORD, _as_text(record))
            if is_damaged:
                shutil.rmtree(target)
            os.replace(arriving, target)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
    return record


def _is_whole(folder: Path) -> bool:
    try:
        verify_model(folder)
    except (WeightsMissing, WeightsCorrupt):
        return False
    return True


def verify_model(folder: Path) -> None:
    """Raises: WeightsMissing or WeightsCorrupt, naming the first file that is not what the record says."""
    for file in read_record(folder).files:
        path = folder.joinpath(*file.path.split("/"))
        if not path.is_file():
            raise WeightsMissing(f"{path} is missing. Pull or import the model again.")
        found = sha256_of(path)
        if file.sha256 is not None and found != file.sha256:
            raise WeightsCorrupt(
                f"{path} is not what came (its SHA-256 is {found[:12]}..., expected {file.sha256[:12]}...). Pull or import "
                "the model again."
            )


def read_record(folder: Path) -> Record:
    """Raises: WeightsMissing, WeightsCorrupt."""
    path = folder / RECORD
    if not path.is_file():
        raise WeightsMissing(
            f"{folder} has no {RECORD}: it was put there by hand. Use `mvgamba weights import-generator`."
        )
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(HubFile(**file) for file in table.pop("files"))
        record = Record(**table, files=files)
        for file in files:
            _check_path(file.path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsCorrupt(f"{path} is not a list of files: {error}. Delete {folder} and pull again.") from error
    return record


def models_there(user_folder: Path) -> list[Path]:
    """Folders of known models in the user's folder, whole or arriving."""
    names = [name for model in HUB_MODELS for name in (model, f"{model}.partial")]
    return [user_folder / name for name in names if (user_folder / name / RECORD).is_file()]


def wanted(paths: Sequence[str], model: HubModel) -> list[str]:
    """Of the files of a repository those that are fetched: settings, vocabularies and tensors; pickled ones only where there are no others.

    Raises: WeightsCorrupt, if what every such model has is not among them, or a path leads elsewhere.
    """
    chosen = []
    for path in paths:
        parent, name = PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name
        if path == "model_index.json" or (parent in model.folders and name.endswith((".json", ".txt", ".safetensors"))):
            chosen.append(path)
    for folder in model.folders:
        if not any(path.startswith(f"{folder}/") and path.endswith(".safetensors") for path in chosen):
            chosen += [path for path in paths if path.startswith(f"{folder}/") and path.endswith(".bin")]
    for path in chosen:
        _check_path(path)
    missing = [
        folder for folder in ("model_index.json", *model.folders) if not any(p.startswith(folder) for p in chosen)
    ]
    if missing:
        raise WeightsCorrupt(
            f"There is no {missing[0]} among the files of {model.name}; it is another model or another layout."
        )
    return sorted(chosen)


def _check_path(path: str) -> None:
    if not all(PLAIN_NAME.fullmatch(part) for part in path.split("/")):
        raise WeightsCorrupt(f"A file is called {path!r}; expected plain names of letters, digits, '.', '_' and '-'.")


def _listed(model: HubModel, endpoint: str) -> Record:
    """What the hub has of a model now. Raises: Unavailable, WeightsCorrupt."""
    base = f"{endpoint}/api/models/{model.repository}"
    try:
        revision = json.loads(fetch_bytes(f"{base}/revision/main", limit=SMALL))["sha"]
        rows = json.loads(fetch_bytes(f"{base}/tree/{revision}?recursive=true", limit=SMALL))
        files = {row["path"]: _file_of(row) for row in rows if row["type"] == "file"}
        if not _HEX.fullmatch(revision):
            raise ValueError(f"revision {revision!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable(f"{base} gave no list of files that is understood here: {error!r}.") from error
    chosen = tuple(files[path] for path in wanted(list(files), model))
    return Record(model.name, f"{endpoint}/{model.repository}", revision, model.licence, chosen)


def _file_of(row: dict[str, Any]) -> HubFile:
    """Raises: ValueError, if a file has no hash of a known kind."""
    lfs = row.get("lfs")
    if lfs:
        if not SHA256.fullmatch(lfs["oid"]):
            raise ValueError(f"hash {lfs['oid']!r} of {row['path']}")
        return HubFile(row["path"], int(lfs["size"]), lfs["oid"])
    if not _HEX.fullmatch(row["oid"]):
        raise ValueError(f"hash {row['oid']!r} of {row['path']}")
    return HubFile(row["path"], int(row["size"]), None, row["oid"])


def _fetch(url: str, file: HubFile, path: Path, report: Report, pause: float) -> None:
    with writing_to(path.parent):
        pass
    if file.sha256 is not None:
        _check_room(
            max(0, file.size - sum(p.stat().st_size for p in path.parent.glob(f"{path.name}.*.partial"))), path.parent
        )
        download(url, path, file.sha256, report=report, pause=pause)
        return
    data = fetch_bytes(url, limit=SMALL)
    found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if found != file.git:
        raise WeightsCorrupt(
            f"{url} has the git hash {found[:12]}..., expected {(file.git or '')[:12]}... It was not kept."
        )
    with writing_to(path.parent):
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        os.replace(partial, path)


def _check_room(need: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DiskFull(
            f"{need / 2**20:.0f} MiB more are needed and {free / 2**20:.0f} MiB are free in {folder}. Make room, or set {VARIABLE} to a "
            "folder elsewhere."
        )


def _as_text(record: Record) -> str:
    return json.dumps(dataclasses.asdict(record), indent=1) + "\n"
