"""The life of jobs: accepted, queued, run by an engine, watched, ended, kept."""

import logging
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvgamba.errors import OutputFailed
from mvgamba_backend.checks import MAX_SEED, PNG_HEAD_BYTES, check_images, check_spec
from mvgamba_backend.config import ServiceConfig
from mvgamba_backend.engine import (
    ENGINES,
    MAX_PREVIEW_BYTES,
    Description,
    Engine,
    EngineSettings,
    OutputFile,
    Task,
)
from mvgamba_backend.errors import (
    AssetUnknown,
    BlobMissing,
    JobNotFinished,
    JobUnknown,
    QueueFull,
    RequestIdReused,
    ShuttingDown,
    TooManyWatchers,
    output_error,
)
from mvgamba_backend.events import Event, EventLog, LogText, Payload, PreviewImage
from mvgamba_backend.record import AssetRecord, JobFailure, JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import JobMesh, JobSpec, VariationSource
from mvgamba_backend.store import ContentFolder, JobDatabase

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
"""Seconds of silence after which a watcher is told that the server lives."""
MAX_ATTEMPTS = 2
"""How often a job is begun that is found running after a crash of the service."""
_SEQUENCE_BLOCK = 1000
_KEPT_LOGS = 64


class Jobs:
    """Every job of a data folder. Methods may be called from any thread.

    What a client was told is in the database before. Progress is not: it would be a write for each report, so numbers of events
    are reserved in blocks and a restart goes on behind the block.
    """

    def __init__(self, config: ServiceConfig) -> None:
        data = config.data_dir
        self._config = config
        self._database = JobDatabase(data / "jobs.sqlite3")
        self.blobs = ContentFolder(data / "blobs", min_free_bytes=config.min_free_bytes)
        self.assets = ContentFolder(data / "assets")
        self._engine: Engine = ENGINES.get(config.engine)(
            EngineSettings(config.pipeline, data / "work", config.cancel_grace, config.idle_exit, config.fake_devices)
        )
        self._lock = threading.RLock()
        self._content_lock = threading.Lock()
        """Taken before `_lock` by whoever lets a job name content, or removes content that no job names."""
        self._unwritten: dict[str, JobRecord] = {}
        """Jobs whose end could not be written; the database has them as running."""
        self._live: OrderedDict[str, JobRecord] = OrderedDict()
        """Jobs that have not ended, in the order in which they came."""
        self._logs: OrderedDict[str, EventLog] = OrderedDict()
        self._reserved: dict[str, int] = {}
        self._began: dict[str, float] = {}
        """Of jobs that were begun, by a clock that nobody sets."""
        self._num_watchers = 0
        self._stopping = False

    def start(self) -> None:
        """Take up what a service before this one has left."""
        for job in self._database.unfinished():
            self._resume(job)
        self.blobs.sweep(self._database.blobs_in_use(), older_than=self._config.keep_uploads)
        self.assets.sweep(self._database.assets_in_use(), older_than=0.0)
        self._engine.start(self)
        self.on_room()

    def stop(self) -> None:
        """End the workers; jobs that ran go back to the queue of the next service."""
        with self._lock:
            self._stopping = True
            logs = list(self._logs.values())
        self._engine.stop()
        with self._lock:
            left = list(self._unwritten.values())
            for job in self._live.values():
                state = JobState.CANCELLED if job.state is JobState.CANCELLING else JobState.QUEUED
                ended = time.time() if state.is_final else None
                left.append(replace(job, state=state, ended=ended, sequence=self._reserved[job.id]))
            for job in left:
                try:
                    self._database.update(job)
                except OutputFailed as error:
                    log.error("job %s could not be written: %s", job.id, error)
            self._database.close()
        for events in logs:
            events.wake()

    # ---------------------------------------------------------------- calls

    def create(self, spec: JobSpec, *, request_id: str = "", inline: Iterable[bytes] = ()) -> JobRecord:
        """Queue a job, or give the one that this request_id has made already.

        Args:
            inline: Contents that came with the request and that the spec names.
        Raises:
            InvalidInput, InvalidCameras, InvalidImage, BlobMissing, QueueFull, DiskFull, RequestIdReused, ShuttingDown;
            where a variation names a job: JobUnknown, JobNotFinished, AssetUnknown.
        """
        digest = spec.digest()
        request_id = request_id or uuid.uuid4().hex
        with self._lock:
            self._check_running()
            if (known := self._known_request(request_id, digest)) is not None:
                return known
            self._check_queue()
        check_spec(spec, self._config.limits)
        with self._content_lock:
            spec = self._with_mesh_of_job(spec)
            self._check_content(spec, inline)
            if spec.options.seed is None:
                seed = secrets.randbelow(MAX_SEED - spec.options.variants + 1)
                spec = replace(spec, options=replace(spec.options, seed=seed))
            with self._lock:
                self._check_running()
                if (known := self._known_request(request_id, digest)) is not None:
                    return known
                self._check_queue()
                return self._accept(JobRecord(uuid.uuid4().hex, request_id, digest, spec, created=time.time()))

    def get(self, job_id: str) -> JobRecord:
        """Raises: JobUnknown."""
        with self._lock:
            return self._record(job_id)

    def page(self, *, before: int | None, size: int, states: Iterable[JobState]) -> tuple[list[JobRecord], int | None]:
        """Newest first, and where the next page begins."""
        with self._lock:
            self._check_running()
            jobs, following = self._database.page(before=before, size=size, states=states)
            return [self._record(job.id) for job in jobs], following

    def cancel(self, job_id: str) -> JobRecord:
        """Raises: JobUnknown."""
        with self._lock:
            job = self._record(job_id)
            if job.state is JobState.QUEUED:
                self._end(job_id, JobState.CANCELLED)
                self._tell_positions()
            elif job.state is JobState.RUNNING:
                self._change(job_id, state=JobState.CANCELLING)
                self._engine.cancel(job_id)
            return self._record(job_id)

    def delete(self, job_id: str) -> None:
        """Raises: JobUnknown, JobNotFinished."""
        with self._content_lock:
            with self._lock:
                job = self._record(job_id)
                if not job.state.is_final:
                    raise JobNotFinished(f"Job {job_id} is {job.state.value}; cancel it first.")
                self._database.delete(job_id)
                self._logs.pop(job_id, None)
                self._unwritten.pop(job_id, None)
                blobs = {sha256 for _, sha256 in job.spec.blobs()} - self._database.blobs_in_use()
                assets = {a.sha256 for a in job.assets} - self._database.assets_in_use()
            self.blobs.discard(blobs)
            self.assets.discard(assets)

    def asset(self, job_id: str, name: str) -> tuple[AssetRecord, Path]:
        """Raises: JobUnknown, AssetUnknown."""
        job = self.get(job_id)
        for asset in job.assets:
            if asset.name == name and self.assets.has(asset.sha256):
                return asset, self.assets.path(asset.sha256)
        raise AssetUnknown(f"Job {job_id} has no asset {name[:80]!r}; it has {[a.name for a in job.assets]}.")

    def watch(self, job_id: str, *, after_sequence: int) -> Iterator[Event | None]:
        """A snapshot, the notes that were missed, then what happens until the job has ended.

        None at least once a second while nothing happens, so that the caller can see whether anybody still listens.
        Raises: JobUnknown, TooManyWatchers, ShuttingDown.
        """
        with self._lock:
            if self._num_watchers >= self._config.max_watchers:
                raise TooManyWatchers(f"{self._num_watchers} watches are open; close one.")
            job = self._record(job_id)
            events = self._logs.get(job_id)
            self._num_watchers += 1
        try:
            yield Event(job.sequence, job)
            if events is not None:
                yield from events.notes_between(after_sequence, job.sequence)
            if job.state.is_final or events is None:
                return
            seen = job.sequence
            while True:
                for event in (found := events.wait_after(seen, timeout=1.0)):
                    seen = event.sequence
                    yield event
                    if isinstance(event.payload, JobRecord) and event.payload.state.is_final:
                        return
                if not found:
                    if events.is_closed:
                        raise ShuttingDown("The service is leaving; the job goes on when it is back.")
                    yield None
        finally:
            with self._lock:
                self._num_watchers -= 1

    def describe(self, *, timeout: float) -> Description | None:
        return self._engine.describe(timeout=timeout)

    def counts(self) -> tuple[int, int]:
        """How many jobs wait and how many run."""
        with self._lock:
            queued = len(self._queued())
            return queued, len(self._live) - queued

    # ---------------------------------------------------------------- what the engine says

    def on_room(self) -> None:
        with self._lock:
            self._dispatch()

    def on_progress(self, job_id: str, stage: str, fraction: float, **more: Any) -> None:
        with self._lock:
            job = self._live.get(job_id)
            if job is None or job_id not in self._began:
                return
            new_stage = stage != job.progress.stage
            fraction = min(max(fraction, job.progress.fraction), 1.0)
            if more.get("seconds_left") is None:
                more["seconds_left"] = _estimate_seconds_left(time.monotonic() - self._began[job_id], fraction)
            progress = ProgressRecord(stage, fraction, **more)
            self._live[job_id] = replace(job, progress=progress)
            if new_stage:
                self._save(job_id)
            self._emit(job_id, progress)

    def on_log(self, job_id: str, text: str) -> None:
        self._note(job_id, LogText(text[:2000]))

    def on_preview(self, job_id: str, data: bytes, media_type: str, index: int, count: int, variant: int = 0) -> None:
        if len(data) <= MAX_PREVIEW_BYTES:
            self._note(job_id, PreviewImage(data, media_type, index, count, variant))

    def on_done(self, job_id: str, files: list[OutputFile]) -> None:
        with self._content_lock:
            try:
                assets = []
                for file in files:
                    sha256, size = self.assets.adopt(file.path)
                    assets.append(AssetRecord(file.path.name, file.kind, file.media_type, size, sha256))
            except OSError as error:
                output = output_error(error, "keeping the result")
                self.on_failed(job_id, output.reason, str(output), {"stage": "export"})
                return
            with self._lock:
                job = self._live.get(job_id)
                if job is not None and job.state is JobState.CANCELLING:
                    self._end(job_id, JobState.CANCELLED)  # that is what the person was told
                elif job is not None:
                    progress = replace(job.progress, fraction=1.0, message="")
                    self._end(job_id, JobState.SUCCEEDED, assets=tuple(assets), progress=progress)

    def on_failed(self, job_id: str, reason: str, message: str, metadata: dict[str, str]) -> None:
        with self._lock:
            job = self._live.get(job_id)
            if job is not None:
                facts = {"stage": job.progress.stage, **metadata}
                self._end(job_id, JobState.FAILED, failure=JobFailure(reason, message, facts))

    def on_cancelled(self, job_id: str) -> None:
        with self._lock:
            if job_id in self._live:
                self._end(job_id, JobState.CANCELLED)

    # ---------------------------------------------------------------- inside, with the lock held

    def _accept(self, job: JobRecord) -> JobRecord:
        job = replace(job, sequence=_SEQUENCE_BLOCK)
        self._database.insert(job)
        self._live[job.id] = job
        self._logs[job.id] = EventLog(0)
        self._reserved[job.id] = job.sequence
        log.info("job %s accepted: %s, %s", job.id, job.spec.kind, job.spec.options.quality)
        self._emit(job.id, job)
        self._tell_positions()
        self._dispatch()
        return self._record(job.id)

    def _resume(self, job: JobRecord) -> None:
        """A job that the service before did not end."""
        self._live[job.id] = job
        self._logs[job.id] = EventLog(job.sequence)
        self._reserved[job.id] = job.sequence
        if job.state is JobState.CANCELLING:
            self._end(job.id, JobState.CANCELLED)
        elif job.state is JobState.RUNNING and job.attempt >= MAX_ATTEMPTS:
            text = f"The service ended {job.attempt} times while this job ran, so it is not begun again."
            self._end(job.id, JobState.FAILED, failure=JobFailure("WORKER_DIED", text, {"stage": job.progress.stage}))
        else:
            self._change(job.id, state=JobState.QUEUED)
            self._tell_positions()

    def _with_mesh_of_job(self, spec: JobSpec) -> JobSpec:
        """The mesh of the job that a variation names becomes an upload of its own, so that it outlives that job.

        Raises: JobUnknown, JobNotFinished, AssetUnknown.
        """
        source = spec.source
        if not isinstance(source, VariationSource) or not isinstance(source.object, JobMesh):
            return spec
        wanted = source.object
        with self._lock:
            job = self._record(wanted.job_id)
        if not job.state.is_final:
            raise JobNotFinished(f"Job {wanted.job_id} is {job.state.value}; vary it when it has succeeded.")
        meshes = {asset.name: asset.sha256 for asset in job.assets if asset.kind == "mesh"}
        if wanted.asset not in meshes or not self.assets.has(meshes[wanted.asset]):
            raise AssetUnknown(
                f"Job {wanted.job_id} ({job.state.value}) has no mesh {wanted.asset[:80]!r}; it has {sorted(meshes)}."
            )
        self.blobs.share(self.assets, meshes[wanted.asset])
        kept = replace(wanted, sha256=meshes[wanted.asset])
        return replace(spec, source=replace(source, object=kept))

    def _check_content(self, spec: JobSpec, inline: Iterable[bytes]) -> None:
        """Take in what came along, and see that everything is there. Raises: BlobMissing, InvalidImage, DiskFull."""
        self.blobs.check_room()
        for data in inline:
            self.blobs.put(data)
        for path, sha256 in spec.blobs():
            if not self.blobs.has(sha256):
                raise BlobMissing(f"{path} names {sha256}, which was not uploaded. Upload it and send the job again.")
            self.blobs.touch(sha256)
        check_images(spec, self._config.limits, lambda sha256: self.blobs.head(sha256, PNG_HEAD_BYTES))

    def _dispatch(self) -> None:
        """Begin what there is room for, in order; a job that waits for one device does not hold up another's."""
        if self._stopping:
            return
        begun = False
        for job in self._queued():
            if self._engine.has_room(job.spec.options.device):
                self._began[job.id] = time.monotonic()
                self._change(
                    job.id,
                    state=JobState.RUNNING,
                    started=time.time(),
                    attempt=job.attempt + 1,
                    progress=replace(job.progress, queue_position=0),
                )
                blobs = {sha256: self.blobs.path(sha256) for _, sha256 in job.spec.blobs()}
                self._engine.run(Task(job.id, job.spec, blobs))
                begun = True
        if begun:
            self._tell_positions()

    def _queued(self) -> list[JobRecord]:
        return [job for job in self._live.values() if job.state is JobState.QUEUED]

    def _tell_positions(self) -> None:
        for position, job in enumerate(self._queued()):
            if job.progress.queue_position != position:
                progress = replace(job.progress, queue_position=position)
                self._live[job.id] = replace(job, progress=progress)
                self._emit(job.id, progress)

    def _record(self, job_id: str) -> JobRecord:
        """The job as it stands, with the number of its latest event. Raises: JobUnknown, ShuttingDown."""
        self._check_running()
        live = self._live.get(job_id)
        if live is not None:
            return replace(live, sequence=self._logs[job_id].sequence)
        stored = self._unwritten.get(job_id) or self._database.get(job_id)
        if stored is None:
            raise JobUnknown(f"There is no job {job_id[:80]!r}; it was deleted, or belongs to another data folder.")
        return stored

    def _change(self, job_id: str, **changes: Any) -> None:
        """Change a job that has not ended, write it, tell it."""
        self._live[job_id] = replace(self._live[job_id], **changes)
        self._save(job_id)
        self._emit(job_id, self._live[job_id])

    def _end(self, job_id: str, state: JobState, **changes: Any) -> None:
        """Write how a job has ended, then tell it."""
        events = self._logs[job_id]
        job = replace(self._live[job_id], state=state, ended=time.time(), sequence=events.next_sequence(), **changes)
        # only what is kept, so that a job reads the same before and after a restart
        kept = ProgressRecord(job.progress.stage, job.progress.fraction, message=job.progress.message)
        job = replace(job, progress=kept)
        try:
            self._database.update(job)
        except OutputFailed as error:
            log.error("the end of job %s could not be written: %s", job_id, error)
            job = replace(job, state=JobState.FAILED, failure=JobFailure(error.reason, str(error)), assets=())
            self._unwritten[job_id] = job
        del self._live[job_id], self._reserved[job_id]
        self._began.pop(job_id, None)
        events.append(job)
        log.info("job %s %s%s", job_id, state.value, f": {job.failure.reason}" if job.failure else "")
        closed = [i for i, e in self._logs.items() if e.is_closed]
        for old in closed[: max(0, len(closed) - _KEPT_LOGS)]:
            del self._logs[old]

    def _save(self, job_id: str) -> None:
        self._database.update(replace(self._live[job_id], sequence=self._reserved[job_id]))

    def _emit(self, job_id: str, payload: Payload) -> None:
        events = self._logs[job_id]
        number = events.next_sequence()
        if number > self._reserved[job_id]:
            self._reserved[job_id] = number + _SEQUENCE_BLOCK
            self._save(job_id)
        events.append(replace(payload, sequence=number) if isinstance(payload, JobRecord) else payload)

    def _note(self, job_id: str, payload: Payload) -> None:
        with self._lock:
            if job_id in self._live:
                self._emit(job_id, payload)

    def _known_request(self, request_id: str, digest: str) -> JobRecord | None:
        known = self._database.by_request_id(request_id)
        if known is None:
            return None
        if known.request_digest != digest:
            raise RequestIdReused(f"request_id {request_id!r} belongs to job {known.id}, which has another spec.")
        return self._record(known.id)

    def _check_queue(self) -> None:
        waiting, limit = len(self._queued()), self._config.limits.queue_limit
        if waiting >= limit:
            raise QueueFull(f"{waiting} jobs wait already, and the queue holds {limit}. Try again when one has ended.")

    def _check_running(self) -> None:
        if self._stopping:
            raise ShuttingDown("The service is leaving.")


def _estimate_seconds_left(elapsed: float, fraction: float) -> float | None:
    """By rule of three, once enough is known; the shares of the stages are their expected times."""
    if fraction < 0.05 or elapsed < 1.0:
        return None
    return elapsed * (1.0 - fraction) / fraction
