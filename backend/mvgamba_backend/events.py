"""What happened to a job, in order, for any number of watchers at any speed."""

import threading
from collections import deque
from dataclasses import dataclass

from mvgamba_backend.record import JobRecord, ProgressRecord

KEPT_NOTES = 200
"""Log lines that a late watcher still gets, and of every picture the latest."""


@dataclass(frozen=True)
class LogText:
    """Something that the user may want to know."""

    text: str


@dataclass(frozen=True)
class PreviewImage:
    """A small picture of what the job is making."""

    data: bytes
    media_type: str
    index: int
    count: int
    variant: int = 0
    """Of which result."""


Payload = JobRecord | ProgressRecord | LogText | PreviewImage


@dataclass(frozen=True)
class Event:
    """One thing that happened. `sequence` grows by one."""

    sequence: int
    payload: Payload


class EventLog:
    """The events of one job. Of reports, states and pictures only the latest is kept, so a slow watcher costs nothing."""

    def __init__(self, sequence: int) -> None:
        self._changed = threading.Condition()
        self._sequence = sequence
        self._state: Event | None = None
        self._progress: Event | None = None
        self._notes: deque[Event] = deque(maxlen=KEPT_NOTES)
        self._previews: dict[tuple[int, int], Event] = {}
        self._closed = False

    @property
    def sequence(self) -> int:
        """Of the latest event."""
        return self._sequence

    @property
    def is_closed(self) -> bool:
        """Whether nothing will follow."""
        return self._closed

    def next_sequence(self) -> int:
        """What the next event will have; only its one writer may ask."""
        return self._sequence + 1

    def append(self, payload: Payload) -> int:
        """Add an event; a state in which the job has ended closes the log. Returns its number."""
        with self._changed:
            self._sequence += 1
            event = Event(self._sequence, payload)
            match payload:
                case JobRecord():
                    self._state = event
                    self._closed = payload.state.is_final
                case ProgressRecord():
                    self._progress = event
                case PreviewImage(index=index, variant=variant):
                    self._previews[variant, index] = event
                case _:
                    self._notes.append(event)
            self._changed.notify_all()
            return event.sequence

    def notes_between(self, after: int, until: int) -> list[Event]:
        """Log lines and the latest of each preview with after < sequence <= until, in order."""
        with self._changed:
            kept = [e for e in (*self._notes, *self._previews.values()) if after < e.sequence <= until]
            return sorted(kept, key=lambda e: e.sequence)

    def wait_after(self, sequence: int, *, timeout: float) -> list[Event]:
        """Events behind `sequence`, in order; empty when `timeout` seconds brought none or the log was closed before."""
        with self._changed:
            self._changed.wait_for(lambda: self._sequence > sequence or self._closed, timeout)
            kept = (self._state, self._progress, *self._notes, *self._previews.values())
            found = [e for e in kept if e is not None and e.sequence > sequence]
            return sorted(found, key=lambda e: e.sequence)

    def wake(self) -> None:
        """Let waiting watchers look again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
