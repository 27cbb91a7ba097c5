"""Objects to evaluate: GLB files, and scanned objects as their publishers pack them."""

import json
from pathlib import Path

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.scanned import read_scanned, scanned_mesh


def objects_of(folder: Path) -> list[Path]:
    """The objects of a folder by name: GLB files, and folders and zips of scanned ones; or those that its `index.jsonl` lists.

    Raises: InvalidInput if there are none, or two of one name.
    """
    if folder.is_file() and _is_object(folder):
        return [folder]
    index = folder / "index.jsonl"
    if index.is_file():
        paths = _listed(index)
    else:
        paths = sorted(p for p in folder.iterdir() if _is_object(p)) if folder.is_dir() else []
        if not paths and folder.is_dir() and scanned_mesh(folder) is not None:
            return [folder]
    if not paths:
        raise InvalidInput(
            f"{folder} holds no .glb files and no scanned objects. Give a folder of them, or one with an index.jsonl."
        )
    names = [object_name(path) for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{folder} holds more than one object named {twice}; rename one, for results go by name.")
    return paths


def object_name(path: Path) -> str:
    """Under which results of an object are written."""
    return path.stem if path.suffix in (".glb", ".zip") and not path.is_dir() else path.name


def read_object(path: Path) -> Drawable:
    """Raises: InvalidInput, naming what cannot be read."""
    return read_drawable(path) if path.suffix == ".glb" else read_scanned(path)


def _is_object(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".glb" or (path.suffix == ".zip" and scanned_mesh(path) is not None)
    return path.is_dir() and scanned_mesh(path) is not None


def _listed(index: Path) -> list[Path]:
    lines = index.read_text(encoding="utf-8").splitlines()
    try:
        paths = [index.parent / json.loads(line)["file"] for line in lines if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{index} must hold one JSON object with a `file` on each line: {error}") from error
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise InvalidInput(f"{index} lists {missing[0].name}, which is not there.")
    return paths
