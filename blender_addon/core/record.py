"""A request as JSON and back: what a result remembers in the file, and what lies beside it on the disk."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from .request import CapturedView, ImageInput, JobOptions, JobRequest, SidePicture, Target, TextInput, VariationInput

_SOURCES = {"text": TextInput, "image": ImageInput, "variation": VariationInput}


def views_record(request: JobRequest, folder: Path) -> list[dict[str, Any]]:
    """The captured views as JSON, their files relative to `folder` where they lie in it."""
    return [
        {
            "image": _relative(view.image_path, folder),
            "depth": None if view.depth_path is None else _relative(view.depth_path, folder),
            "c2w": np.asarray(view.c2w, dtype=float).tolist(),
            "fovy": view.fovy,
            "width": view.width,
            "height": view.height,
            "shift": list(view.shift),
        }
        for view in request.views
    ]


def request_from_record(record: str | dict[str, Any], folder: Path | None = None) -> JobRequest:
    """The request that was stored, under the identity that it had.

    What a newer version has written and this one does not know is passed over; what is missing has its default.

    Args:
        record: `JobRequest.settings_json`, perhaps with the "views" of `views_record`.
        folder: Where the files of the views lie.
    Raises:
        ValueError: It is not such a record.
    """
    try:
        table: dict[str, Any] = json.loads(record) if isinstance(record, str) else record
        kind = table["kind"]
        source = _build(_SOURCES[kind], table["source"]) if kind in _SOURCES else None
        if isinstance(source, ImageInput):
            others = tuple(SidePicture(_absolute(row["image_path"], folder), row["side"]) for row in source.others)
            source = dataclasses.replace(source, image_path=_absolute(str(source.image_path), folder), others=others)
        identity = {"request_id": table["request_id"]} if table.get("request_id") else {}
        return JobRequest(
            str(table.get("label", "")),
            tuple(_view(row, folder) for row in table.get("views", ())),
            _build(JobOptions, table["options"]),
            _build(Target, {"scene_name": "", "filepath": "", "source_names": (), "source_uids": (), **_target(table)}),
            dict(table.get("capture", {})),
            source=source,
            **identity,
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"this is not the record of a request: {error!r}") from error


def _target(table: dict[str, Any]) -> dict[str, Any]:
    stored = table.get("target")
    return stored if isinstance(stored, dict) else {}


def _build(cls: type, stored: dict[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(cls)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items() if name in names}
    return cls(**values)


def _view(row: dict[str, Any], folder: Path | None) -> CapturedView:
    c2w = np.array(row["c2w"], dtype=np.float64).reshape(4, 4)
    depth = None if row.get("depth") is None else _absolute(row["depth"], folder)
    x, y = row.get("shift", (0.0, 0.0))
    return CapturedView(_absolute(row["image"], folder), c2w, row["fovy"], row["width"], row["height"], depth, (x, y))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _absolute(path: str, folder: Path | None) -> Path:
    return Path(path) if folder is None else folder / path
