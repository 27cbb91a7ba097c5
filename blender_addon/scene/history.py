"""The results on the disk as Blender knows them: read once in a thread, kept, and extended by what arrives."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import bpy

from ..core.history import History, HistoryEntry, read_entry, read_history, remove_entry, remove_old_captures
from ..core.jobs import JobRow
from . import session

log = logging.getLogger(__name__)

POLL_DELAY = 0.2
"""Seconds between two looks whether the reading has ended."""


class HistoryBook:
    """What was last read. Main thread only; reading happens in a thread that knows nothing of Blender."""

    def __init__(self) -> None:
        self.history = History()
        self.is_read = False
        self.on_change: Callable[[], None] | None = None
        self._arrived: queue.SimpleQueue[History] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._came_meanwhile: list[Path] = []
        """Added while the thread was reading, which may have passed them by."""
        self._noted: set[str] = set()
        """Rows of the jobs list whose result was added, or tried."""
        self._tick = self.pump

    @property
    def is_busy(self) -> bool:
        return self._thread is not None

    def refresh(self, folder: Path, *, days: int = 0) -> None:
        """Read the folder anew, without waiting for it; captures older than `days` (0: none) that the open file has no
        result of are deleted before."""
        if self._thread is not None:
            return
        used = used_requests()

        def read() -> None:
            try:
                count = remove_old_captures(folder, days=days, keep=used)
                if count:
                    log.info("deleted the captures of %d jobs older than %d days", count, days)
            except OSError as error:
                log.warning("old captures stay: %s", error)
            try:
                self._arrived.put(read_history(folder))
            except OSError as error:
                log.warning("the history cannot be read: %s", error)
                self._arrived.put(History())

        self._thread = threading.Thread(target=read, name="mvgamba-history", daemon=True)
        self._thread.start()
        if not bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.register(self._tick, first_interval=POLL_DELAY, persistent=True)

    def pump(self) -> float | None:
        """Take over what was read; when to look again."""
        try:
            self._change(self._arrived.get_nowait())
            self.is_read = True
        except queue.Empty:
            return POLL_DELAY if self._thread is not None and self._thread.is_alive() else self._end()
        self._end()
        came, self._came_meanwhile = self._came_meanwhile, []
        for folder in came:
            self.add(folder)
        return None

    def wait(self) -> History:
        """The history, read to its end. For scripts, where no timer fires."""
        if self._thread is not None:
            self._thread.join()
            self.pump()
        return self.history

    def add(self, folder: Path) -> None:
        """One more result, or one that has changed."""
        if self._thread is not None:
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

    def close(self) -> None:
        """Let go of the thread and the timer."""
        if bpy.app.timers.is_registered(self._tick):
            bpy.app.timers.unregister(self._tick)
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None

    def _end(self) -> None:
        self._thread = None

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
    session.after_placing.append(note_placed)


def unregister() -> None:
    global _book
    session.after_placing.remove(note_placed)
    if _book is not None:
        _book.close()
        _book = None
