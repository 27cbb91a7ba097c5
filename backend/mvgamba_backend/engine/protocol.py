"""What the service asks of an engine, and what it hears from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mvgamba_backend.spec import JobSpec

MAX_PREVIEW_BYTES = 64 << 10
"""Of a picture that is shown while a job runs."""


@dataclass(frozen=True)
class EngineSettings:
    """How to run jobs."""

    pipeline: str
    """real or fake."""
    work_dir: Path
    """Holds one folder for each running job."""
    cancel_grace: float
    """Seconds that a job has to stop by itself."""
    idle_exit: float
    """Seconds without a job after which memory is freed; 0: never."""
    fake_devices: int = 0
    """See `ServiceConfig`."""


@dataclass(frozen=True)
class Task:
    """A job on its way to a worker."""

    job_id: str
    spec: JobSpec
    blobs: dict[str, Path]
    """sha256 -> file, for everything that the spec names."""


@dataclass(frozen=True)
class OutputFile:
    """A file that a worker wrote."""

    path: Path
    kind: str
    """mesh, preview, view, cameras or facts."""
    media_type: str


@dataclass(frozen=True)
class Description:
    """What the workers can do here."""

    versions: dict[str, str] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)
    """id, name, memory_bytes, free_memory_bytes."""
    models: list[dict[str, Any]] = field(default_factory=list)
    """id, kind, available, why_not, sources."""
    kernels: list[dict[str, Any]] = field(default_factory=list)
    """operation, device, variant, why_not."""
    sources: list[str] = field(default_factory=list)
    problem: str = ""
    """Why the rest is empty: the pipeline does not load."""


class Listener(Protocol):
    """Hears what happens to jobs, from the engine's threads."""

    def on_progress(self, job_id: str, stage: str, fraction: float, **more: Any) -> None:
        """`more`: message, stage_fraction, seconds_left."""

    def on_log(self, job_id: str, text: str) -> None: ...

    def on_preview(
        self, job_id: str, data: bytes, media_type: str, index: int, count: int, variant: int = 0
    ) -> None: ...

    def on_done(self, job_id: str, files: list[OutputFile]) -> None:
        """The files may be moved away; the rest of their folder goes when this returns."""

    def on_failed(self, job_id: str, reason: str, message: str, metadata: dict[str, str]) -> None: ...

    def on_cancelled(self, job_id: str) -> None: ...

    def on_room(self) -> None:
        """A place may have become free."""


class Engine(Protocol):
    """Runs jobs, as many at once as there are devices. Methods return at once and may be called from any thread."""

    def start(self, listener: Listener) -> None: ...

    def has_room(self, device: str) -> bool:
        """Whether a job for this device (auto, cpu, cuda, cuda:N) would begin now, or be refused because there is no such device."""

    def run(self, task: Task) -> None:
        """Begin a job for which there is room. One for a device that is not here fails with UNAVAILABLE."""

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop, and end it by force when it has not after the grace."""

    def describe(self, *, timeout: float = 0.0) -> Description | None:
        """What can be done here.

        Args:
            timeout: Seconds to wait for what holds now; 0 for what was known last. A worker that has a job is not waited for.
        Returns: None when it is not known in time.
        """

    def stop(self) -> None:
        """End everything; running jobs are lost to the engine and no more is heard of them."""
