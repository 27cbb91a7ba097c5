"""Results on the disk: one folder for each job, written when its result has arrived, read without Blender.

<jobs folder>/<request id>/
    meta.json           what the list shows; written last, so a folder without it is no result
    request.json        the whole request, to send it again
    mesh.glb, mesh_2.glb, ...
    preview.png         a small picture of the result
    view_00.png, ...    the captures
    input_front.png ... the pictures that were given
    made_0_00.png, ...  the views that were made, by variant and side
    facts.json          what the server told
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .facts import ResultFacts, read_facts
from .jobs import PreviewPicture
from .record import request_from_record, views_record
from .request import ImageInput, JobRequest

log = logging.getLogger(__name__)

META_NAME, REQUEST_NAME, FACTS_NAME, PREVIEW_NAME = "meta.json", "request.json", "facts.json", "preview.png"
_CAPTURES = ("view_*.png", "depth_*.npy", "*.part", "*.exr")
_DAY = 86_400.0


@dataclass(frozen=True)
class HistoryEntry:
    """One result on the disk."""

    request_id: str
    folder: Path
    label: str
    prompt: str
    kind: str
    """capture, text, image or variation."""
    created: str
    """UTC, as 2026-11-21T17:58:42.125+00:00."""
    seed: int
    job_id: str
    meshes: tuple[Path, ...]
    preview: Path | None

    @property
    def title(self) -> str:
        """What the list shows and the filter looks at."""
        return self.prompt or self.label

    def request(self) -> JobRequest:
        """The whole request, from the disk. Raises: ValueError, OSError."""
        record = json.loads((self.folder / REQUEST_NAME).read_text(encoding="utf-8"))
        return request_from_record(record, self.folder)

    def views(self, variant: int = 0) -> tuple[Path, ...]:
        """Pictures of front, right, back and left: those that the job has made of a variant, else those captured.

        Raises: ValueError, OSError, when the request cannot be read.
        """
        made = tuple(sorted(self.folder.glob(f"made_{variant}_*.png")))
        return made or tuple(v.image_path for v in self.request().views[:4] if v.image_path.is_file())

    def facts(self) -> tuple[ResultFacts, ...]:
        return read_facts(self.folder / FACTS_NAME)


@dataclass(frozen=True)
class History:
    """All results of a folder, newest first."""

    entries: tuple[HistoryEntry, ...] = ()
    num_skipped: int = 0
    """Folders with a result that cannot be read."""

    def find(self, request_id: str) -> HistoryEntry | None:
        return next((entry for entry in self.entries if entry.request_id == request_id), None)


def write_entry(
    folder: Path,
    request: JobRequest,
    *,
    job_id: str,
    meshes: Iterable[Path],
    facts: tuple[ResultFacts, ...] = (),
    pictures: Iterable[PreviewPicture] = (),
) -> None:
    """Make the folder of a finished job, in which `meshes` lie already, one of the history. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for picture in pictures:
        path = folder / f"made_{picture.variant}_{picture.index:02d}.png"
        path.write_bytes(picture.data)
        if picture.variant == 0:
            made.append(path)
    made.sort()
    kept = request
    if isinstance(request.source, ImageInput):
        kept = dataclasses.replace(request, source=_with_own_pictures(request.source, folder))
    preview = folder / PREVIEW_NAME
    if not preview.is_file():
        shown = [*made, *(view.image_path for view in request.views[:1] if view.image_path.is_file())]
        if shown:
            shutil.copyfile(shown[0], preview)
    _write_json(folder / REQUEST_NAME, {**json.loads(kept.settings_json()), "views": views_record(kept, folder)})
    _write_json(
        folder / META_NAME,
        {
            "request_id": request.request_id,
            "label": request.label,
            "prompt": getattr(request.source, "prompt", ""),
            "kind": request.kind,
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seed": facts[0].seed if facts and facts[0].seed is not None else request.options.seed,
            "job_id": job_id,
            "meshes": [path.name for path in meshes],
        },
    )


def read_clean_history(folder: Path, days: int, keep: set[str]) -> "History":
    """The history, after the captures older than `days` (0: none) are deleted but for those of the requests in `keep`."""
    try:
        count = remove_old_captures(folder, days=days, keep=keep)
        if count:
            log.info("deleted the captures of %d jobs older than %d days", count, days)
    except OSError as error:
        log.warning("old captures stay: %s", error)
    try:
        return read_history(folder)
    except OSError as error:
        log.warning("the history cannot be read: %s", error)
        return History()


def read_history(root: Path) -> History:
    """What lies in `root`. A folder that is damaged is passed over and counted, one without a result is passed over."""
    entries, num_skipped = [], 0
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as folders:
        for item in folders:
            if not item.is_dir():
                continue
            folder = Path(item.path)
            try:
                entries.append(read_entry(folder))
            except FileNotFoundError:
                num_skipped += any(folder.glob("mesh*.glb"))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("the result in %s cannot be read: %s", folder.name, error)
                num_skipped += 1
    entries.sort(key=lambda entry: (entry.created, entry.request_id), reverse=True)
    return History(tuple(entries), num_skipped)


def remove_entry(folder: Path) -> None:
    """Delete a result from the disk, for good. Raises: OSError."""
    # The list goes by meta.json: should the deletion stop half way, what is left is not shown as a result.
    (folder / META_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder)


def remove_unfinished(folder: Path) -> bool:
    """Delete the folder of a job without a result; whether there was none, and so it is gone."""
    if (folder / META_NAME).exists() or any(folder.glob("mesh*.glb")):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def remove_old_captures(root: Path, *, days: int, keep: Iterable[str] = (), now: float | None = None) -> int:
    """Delete captures that are older than `days`, but no result, and give how many folders had some.

    Args:
        days: 0 keeps all.
        keep: Identities of requests whose captures stay, whatever their age.
        now: Seconds since the epoch, by the clock that dates files.
    """
    if days <= 0 or not root.is_dir():
        return 0
    kept, oldest, count = set(keep), (time.time() if now is None else now) - _DAY * days, 0
    for folder in root.iterdir():
        if folder.name in kept or not folder.is_dir():
            continue
        old = [path for pattern in _CAPTURES for path in folder.glob(pattern) if path.stat().st_mtime < oldest]
        for path in old:
            path.unlink(missing_ok=True)
        count += bool(old)
        if old and not any(folder.iterdir()):
            folder.rmdir()
    return count


def read_entry(folder: Path) -> HistoryEntry:
    """One folder of the history. Raises: OSError, ValueError, KeyError, TypeError, AttributeError, when it is none."""
    meta = json.loads((folder / META_NAME).read_text(encoding="utf-8"))
    # Names alone count: nothing outside the folder is ever read or deleted.
    meshes = tuple(folder / Path(str(name)).name for name in meta["meshes"])
    if not meshes or not all(path.is_file() for path in meshes):
        raise ValueError("a mesh is missing")
    preview = folder / PREVIEW_NAME
    return HistoryEntry(
        request_id=folder.name,
        folder=folder,
        label=str(meta["label"]),
        prompt=str(meta["prompt"]),
        kind=str(meta["kind"]),
        created=str(meta["created"]),
        seed=int(meta["seed"]),
        job_id=str(meta["job_id"]),
        meshes=meshes,
        preview=preview if preview.is_file() else None,
    )


def _with_own_pictures(source: ImageInput, folder: Path) -> ImageInput:
    """The pictures that were given may be temporary files, or change: the history keeps its own."""

    def copy(path: Path, side: str) -> Path:
        own = folder / f"input_{side}{path.suffix}"
        if path == own or not path.is_file():
            return path
        shutil.copyfile(path, own)
        return Path(own.name)

    others = tuple(dataclasses.replace(other, image_path=copy(other.image_path, other.side)) for other in source.others)
    return dataclasses.replace(source, image_path=copy(source.image_path, "front"), others=others)


def _write_json(path: Path, table: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(table, indent=1, ensure_ascii=False, default=str), encoding="utf-8")
    os.replace(part, path)
