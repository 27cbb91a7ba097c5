"""Small pictures in the panels: those that a running job shows, and the views of a review."""

import logging
from collections.abc import Iterator
from pathlib import Path

import bpy
import bpy.utils.previews

from .. import api
from ..core.jobs import JobRow
from ..scene.session import session

log = logging.getLogger(__name__)

_icons: "bpy.utils.previews.ImagePreviewCollection | None" = None
_shown: dict[str, bytes | Path] = {}
"""What each icon was made of."""


def icon_of(row: JobRow, variant: int, index: int) -> int:
    """The icon of one view of a job, 0 when there is none. Quick enough for drawing: files are only read by `refresh`."""
    preview = None if _icons is None else _icons.get(_name(row, variant, index))
    return 0 if preview is None else preview.icon_id


def refresh() -> None:
    """Bring the icons up to what the jobs show now. Main thread, not while drawing."""
    if _icons is None or bpy.app.background:
        return
    shown = [row for row in session().board.rows if not row.can_clear]
    wanted = {name: picture for row in shown for name, picture in _pictures(row)}
    for name in set(_shown) - set(wanted):
        _forget(name)
    for name, picture in wanted.items():
        if _shown.get(name) is not picture:
            _forget(name)
            _show(name, picture)


def _pictures(row: JobRow) -> Iterator[tuple[str, bytes | Path]]:
    if row.views:
        for variant, views in enumerate(row.views):
            for index, view in enumerate(views):
                yield _name(row, variant, index), view.image_path
    else:
        for (variant, index), picture in row.previews.items():
            yield _name(row, variant, index), picture.data


def _show(name: str, picture: bytes | Path) -> None:
    assert _icons is not None
    _shown[name] = picture
    try:
        if isinstance(picture, bytes):
            row, _, which = name.partition("/")
            path = api.jobs_folder() / row / f"preview_{which}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        else:
            path = picture
        _icons.load(name, str(path), "IMAGE")
    except OSError as error:
        log.debug("no preview: %s", error)


def _forget(name: str) -> None:
    _shown.pop(name, None)
    if _icons is not None and name in _icons:
        del _icons[name]


def _name(row: JobRow, variant: int, index: int) -> str:
    return f"{row.id}/{variant}_{index}"


def register() -> None:
    global _icons
    _icons = bpy.utils.previews.new()


def unregister() -> None:
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    _icons = None
    _shown.clear()
