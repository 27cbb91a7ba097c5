"""A job as the service keeps it: its state, how far it is, what came of it."""

import enum
from dataclasses import dataclass, field

from mvgamba_backend.spec import JobSpec


class JobState(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class ProgressRecord:
    """How far a job is."""

    stage: str = ""
    """One of `mvgamba.progress.STAGES`, or empty before it runs."""
    fraction: float = 0.0
    """Of the whole job."""
    stage_fraction: float | None = None
    message: str = ""
    seconds_left: float | None = None
    queue_position: int = 0


@dataclass(frozen=True)
class JobFailure:
    """Why a job has failed."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AssetRecord:
    """A file that came of a job."""

    name: str
    kind: str
    """mesh, preview, view, cameras or facts."""
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class JobRecord:
    """One job. Times are seconds since 1970."""

    id: str
    request_id: str
    request_digest: str
    """Of the spec as it was asked for, before defaults were filled in."""
    spec: JobSpec
    created: float
    state: JobState = JobState.QUEUED
    progress: ProgressRecord = field(default_factory=ProgressRecord)
    failure: JobFailure | None = None
    assets: tuple[AssetRecord, ...] = ()
    started: float | None = None
    ended: float | None = None
    sequence: int = 0
    """Of the latest event."""
    attempt: int = 0
