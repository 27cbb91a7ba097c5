"""The weights as the panel shows them: read last, and what is being done with them."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import AddonError
from .i18n import tr
from .weights import (
    Checked,
    Transfer,
    WeightsEntry,
    WeightsProgram,
    WeightsState,
    download,
    list_weights,
    part_text,
    take_in,
    verify,
)

log = logging.getLogger(__name__)


@dataclass
class WeightsWork:
    """What is being done. One thing at a time: two would write the same list."""

    kind: str
    """download, verify or import."""
    name: str
    """Of the weights; empty for all of them, or for what has no name yet."""
    progress: Transfer | None = None
    is_stopping: bool = False

    @property
    def text(self) -> str:
        """For the row."""
        if self.is_stopping:
            return tr("Stopping")
        match self.kind:
            case "download":
                return part_text(self.progress.done, self.progress.of) if self.progress else tr("Asking the server")
            case "verify":
                return tr("Checking")
            case _:
                return tr("Taking in")

    @property
    def fraction(self) -> float:
        """Of a download, 0 while nothing is known."""
        return self.progress.done / self.progress.of if self.progress is not None and self.progress.of else 0.0


class WeightsBook:
    """No method waits; `run` calls elsewhere and brings the answers."""

    def __init__(self, run: Callable[..., int], stop: Callable[[int], None]) -> None:
        """
        Args:
            run: As `ClientProcess.run`.
            stop: As `ClientProcess.stop_run`.
        """
        self._run, self._stop = run, stop
        self._entries: tuple[WeightsEntry, ...] = ()
        self._checked: dict[str, Checked] = {}
        self._program: WeightsProgram | None = None
        self._number = 0
        self._listing = 0
        """Counts the lists that were asked for: only the last one is believed."""
        self.work: WeightsWork | None = None
        self.error: AddonError | None = None
        """Why the last thing failed."""
        self.note = ""
        """What the last thing came to, when it went well."""
        self.is_read = False
        self.on_list: Callable[[], None] | None = None
        """Called when `entries` are others."""
        self._is_listing = False
        self._changed = False

    @property
    def entries(self) -> tuple[WeightsEntry, ...]:
        """As read last; damaged where a look through all bytes has found that."""
        return tuple(
            dataclasses.replace(entry, state=WeightsState.DAMAGED) if self._is_found_damaged(entry) else entry
            for entry in self._entries
        )

    def find(self, name: str) -> WeightsEntry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def checked(self, name: str) -> Checked | None:
        """What the last look through all bytes of these found; None before one."""
        return self._checked.get(name)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self.work is not None or self._is_listing

    def forget(self) -> None:
        """They are another backend's from now on."""
        self._entries, self._checked, self.is_read, self._changed = (), {}, False, True
        self._program, self.error, self.note = None, None, ""
        self._listing += 1
        self._is_listing = False
        if self.on_list is not None:
            self.on_list()

    def refresh(self, program: WeightsProgram) -> None:
        """Read the list anew. Raises: AddonError, CLIENT_FAILED."""
        if program != self._program:
            self.forget()
        self._program, self.error = program, None
        self._listing += 1
        number = self._listing
        self._run(list_weights, program, on_answer=lambda found, error: self._listed(number, found, error))
        self._is_listing = True

    def fail(self, error: AddonError) -> None:
        """Nothing could be begun."""
        self.error, self._changed = error, True

    def download(self, program: WeightsProgram, name: str) -> None:
        """Fetch these, or go on with that; the licence has been accepted. Raises: AddonError, CLIENT_FAILED."""
        self._begin(WeightsWork("download", name), program, download, name)

    def verify(self, program: WeightsProgram, names: Sequence[str] = ()) -> None:
        """Read these through, or all that lie there. Raises: AddonError, CLIENT_FAILED."""
        self._begin(WeightsWork("verify", names[0] if len(names) == 1 else ""), program, verify, tuple(names))

    def take_in(self, program: WeightsProgram, path: Path, name: str, licence: str, *, is_default: bool) -> None:
        """Keep a file or a folder. Raises: AddonError, CLIENT_FAILED."""
        self._begin(WeightsWork("import", name), program, take_in, path, name, licence, is_default)

    def stop(self) -> None:
        """End what is being done; what was fetched is kept."""
        if self.work is not None:
            self.work.is_stopping, self._changed = True, True
            self._stop(self._number)

    def take_change(self) -> bool:
        """Whether anything has changed since this was asked last."""
        changed, self._changed = self._changed, False
        return changed

    def _begin(self, work: WeightsWork, program: WeightsProgram, function: Callable[..., bool], *rest: Any) -> None:
        assert self.work is None
        if program != self._program:
            self.forget()
        self._program = program
        self._number = self._run(
            function,
            program,
            *rest,
            on_answer=lambda is_done, error: self._ended(program, is_done, error),
            on_report=self._reported,
        )
        self.work, self.error, self.note, self._changed = work, None, "", True

    def _reported(self, news: object) -> None:
        match news:
            case Transfer():
                if self.work is not None:
                    self.work.progress = news
            case Checked(name):
                self._checked[name] = news
        self._changed = True

    def _ended(self, program: WeightsProgram, is_done: bool | None, error: AddonError | None) -> None:
        work, self.work, self._changed = self.work, None, True
        assert work is not None
        if work.kind != "verify":
            self._checked.pop(work.name, None)  # they are others now
            if not work.name:
                self._checked.clear()
        elif is_done:
            wrong = [one.name for one in self._checked.values() if not one.is_whole]
            text = tr("Damaged: {names}") if wrong else tr("All bytes are as they should be")
            self.note = text.format(names=", ".join(wrong))
        if program == self._program:  # else the list is another one meanwhile
            try:
                self.refresh(program)
            except AddonError as failed:
                log.warning("the list of weights is not read: %s", failed)
        self.error = error

    def _listed(self, number: int, found: tuple[WeightsEntry, ...] | None, error: AddonError | None) -> None:
        if number != self._listing:
            return
        self._is_listing, self._changed = False, True
        if found is not None:
            self._entries, self.is_read = found, True
            if self.on_list is not None:
                self.on_list()
        else:
            self.error = self.error or error

    def _is_found_damaged(self, entry: WeightsEntry) -> bool:
        checked = self._checked.get(entry.name)
        return (
            checked is not None and not checked.is_whole and entry.state in (WeightsState.PACKAGE, WeightsState.THERE)
        )
