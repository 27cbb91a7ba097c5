"""The results on the disk as Blender knows them: read once, kept, and extended by what arrives."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import bpy

from ..core.errors import AddonError
from ..core.history import History, HistoryEntry, read_clean_history, read_entry, remove_entry
from ..core.jobs import JobRow, wait_until
from . import placer, session

log = logging.getLogger(__name__)

READ_TIMEOUT = 120.0
"""Seconds that a script waits for it."""


class HistoryBook:
    """What was last read. Reading happens beside Blender."""

    def __init__(self) -> None:
        self.history = History()
        self.is_read = False
        self.is_busy = False
        """Whether the folder is being read."""
        self.on_change: Callable[[], None] | None = None
        self._came_meanwhile: list[Path] = []
        """Added while the folder was read, which may have passed them by."""
        self._noted: set[str] = set()
        """Rows of the jobs list whose result was added, or tried."""

    def refresh(self, folder: Path, *, days: int = 0) -> None:
        """Read the folder anew, without waiting for it; captures older than `days` (0: none) that the open file has no
        result of are deleted before."""
        if self.is_busy:
            return
        self.is_busy = True
        used = used_requests()
        try:
            session.session().run(read_clean_history, folder, days, used, on_answer=self._take)
        except AddonError as error:
            log.warning("the history is read in Blender's own process: %s", error)
            self._take(read_clean_history(folder, days, used), None)

    def wait(self) -> History:
        """The history, read to its end. For scripts, where no timer fires."""
        wait_until(lambda: session.session().pump(place=False), lambda: not self.is_busy, timeout=READ_TIMEOUT)
        return self.history

    def _take(self, history: History | None, error: AddonError | None) -> None:
        self.is_busy = False
        if error is not None or history is None:
            log.warning("the history cannot be read: %s", error)
            return
        self.is_read = True
        self._change(history)
        came, self._came_meanwhile = self._came_meanwhile, []
        for folder in came:
            self.add(folder)

    def add(self, folder: Path) -> None:
        """One more result, or one that has changed."""
        if self.is_busy:
            self._came_meanwhile.append(folder)
        try:
            entry = read_entry(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("%s is not in the history: %s", folder.name, error)
            return
        others = [other for other in self.history.entries if other.folder != entry.folder]
        entries = sorted([entry, *others], key=lambda e: (e.created, e.request_id), reverse=True)
        self._change(History(tuple(entries), self.history.num_skipped))

    def note_arrived(self, rows: Iterable[JobRow]) -> None:
        """Add the results that jobs have brought since this was asked last, placed or not. The disk is looked at once for each."""
        arrived = {row.id: row.result_path for row in rows if row.result_path is not None}
        new = [path for row_id, path in arrived.items() if row_id not in self._noted]
        self._noted = set(arrived)
        for path in new:
            self.add(path.parent)

    def remove(self, entry: HistoryEntry) -> None:
        """Delete a result from the disk, for good. Raises: OSError."""
        remove_entry(entry.folder)
        left = tuple(other for other in self.history.entries if other is not entry)
        self._change(History(left, self.history.num_skipped))

    def _change(self, history: History) -> None:
        self.history = history
        if self.on_change is not None:
            self.on_change()


def used_requests() -> set[str]:
    """Identities of the requests that results of the open file came from."""
    objects = [obj.mvgamba for obj in bpy.data.objects]
    return {own.request_id for own in objects} | {item.request_id for own in objects for item in own.variants}


def note_placed(_context: bpy.types.Context, _obj: bpy.types.Object, row: JobRow) -> None:
    """Show in the history what was just placed. Has the form of what is called after placing."""
    if row.result_path is not None:
        book().add(row.result_path.parent)


_book: HistoryBook | None = None


def book() -> HistoryBook:
    """The one history while the extension is registered."""
    assert _book is not None, "the extension is not registered"
    return _book


def register() -> None:
    global _book
    _book = HistoryBook()
    placer.after_placing.append(note_placed)


def unregister() -> None:
    global _book
    placer.after_placing.remove(note_placed)
    _book = None
