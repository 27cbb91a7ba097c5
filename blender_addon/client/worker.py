"""One thread for one job: send, watch, reconnect, cancel, download. It talks to the board in events only."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from ..core.errors import AddonError
from ..core.facts import ResultFacts, read_facts
from ..core.history import FACTS_NAME, PREVIEW_NAME, write_entry
from ..core.jobs import (
    Accepted,
    AssetInfo,
    Captured,
    ConnectionLost,
    Downloaded,
    Downloading,
    Event,
    Failed,
    JobUpdate,
    PreviewPicture,
    Updated,
    ViewsReady,
    WasCancelled,
)
from ..core.mesh_file import prepare
from ..core.request import CapturedView, JobRequest, views_from_transforms
from ..core.shots import StageRender

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
PATIENCE = 90.0
"""Seconds without any answer after which a lost job is given up."""


class JobClient(Protocol):
    """What a worker asks of a connection. Every call raises AddonError, retryable when the server is away."""

    def create(self, request: JobRequest, *, should_stop: Callable[[], bool]) -> str: ...

    def watch(self, job_id: str, *, after_sequence: int) -> Iterator[JobUpdate]: ...

    def cancel(self, job_id: str) -> None: ...

    def download(
        self, asset: AssetInfo, path: Path, *, report: Callable[[int], None], should_stop: Callable[[], bool]
    ) -> None: ...

    def close(self) -> None: ...


class _Stopped(Exception):
    """The extension is leaving; nobody listens any more."""


class _CancelledHere(Exception):
    """Cancelled before the server had the job, or while its result was on the way."""


class JobWorker:
    """Carries one request to its end in a thread of its own."""

    def __init__(
        self,
        request: JobRequest,
        *,
        connect: Callable[[], JobClient],
        post: Callable[[Event], None],
        result_path: Path,
        render: StageRender | None = None,
        patience: float = PATIENCE,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            on_end: Called as the last thing that the thread does.
        """
        self.request = request
        self._connect = connect
        self._post = post
        self._result_path = result_path
        self._render = render
        self._patience = patience
        self._on_end = on_end
        self._cancel = threading.Event()
        self._stop = threading.Event()
        self._client: JobClient | None = None
        self._job_id = ""
        self._sequence = 0
        self._pictures: dict[tuple[int, int], PreviewPicture] = {}
        self._thread = threading.Thread(target=self._run, name=f"mvgamba-job-{request.request_id[:8]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Ask for the end; returns at once. The server's answer arrives as an event."""
        self._cancel.set()
        if self._job_id:
            threading.Thread(target=self._send_cancel, name="mvgamba-cancel", daemon=True).start()

    def stop(self) -> None:
        """Leave the job to the server and end the thread."""
        self._stop.set()
        client = self._client
        if client is not None:
            client.close()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        request_id = self.request.request_id
        try:
            if self._render is not None:
                self._take_pictures(self._render)
            self._persist(self._create)
            assets = self._persist(self._watch)
            if self.request.options.review_views:
                self._post(ViewsReady(request_id, self._fetch_views(assets)))
            else:
                first, *more = self._fetch_meshes(assets)
                prepare([first, *more])
                facts = self._fetch_facts(assets)
                self._remember([first, *more], facts)
                self._post(Downloaded(request_id, first, tuple(more), facts))
        except _Stopped:
            log.debug("left job %s to the server", self._job_id)
        except _CancelledHere:
            self._post(WasCancelled(request_id))
        except AddonError as error:
            self._post(Failed(request_id, error.reason, error.message))
        except Exception as error:  # noqa: BLE001 - the last frame of a thread: nobody above could tell the user
            log.exception("job %s stopped by an error of the add-on", request_id)
            self._post(Failed(request_id, "INTERNAL", str(error)))
        finally:
            if self._client is not None:
                self._client.close()
            if self._on_end is not None:
                self._on_end()

    def _take_pictures(self, render: StageRender) -> None:
        total = render.num_views

        def report(done: int) -> None:
            self._post(Captured(self.request.request_id, done, total))

        if not render.run(report=report, should_stop=self._is_leaving):
            raise _Stopped if self._stop.is_set() else _CancelledHere

    def _persist(self, action: Callable[[JobClient], T]) -> T:
        """Do `action`, again and again while the server is away, until the patience ends."""
        delay, waited, lost = FIRST_DELAY, 0.0, False
        while True:
            sequence = self._sequence
            try:
                if self._client is None:
                    self._client = self._connect()
                if self._stop.is_set():
                    raise _Stopped
                return action(self._client)
            except AddonError as error:
                if self._stop.is_set():
                    raise _Stopped from error
                if not error.retryable:
                    raise
                if self._cancel.is_set() and not self._job_id:
                    raise _CancelledHere from error
                if self._sequence > sequence:  # it did answer in between: a new loss, a new patience
                    delay, waited, lost = FIRST_DELAY, 0.0, False
                if waited >= self._patience:
                    raise AddonError("CONNECTION_LOST", error.message) from error
                log.info("no answer for job %s (%s), trying again in %.1f s", self._job_id, error.reason, delay)
            if not lost:
                self._post(ConnectionLost(self.request.request_id))
                lost = True
            client, self._client = self._client, None
            if client is not None:
                client.close()
            if self._stop.wait(delay):
                raise _Stopped
            waited += delay
            delay = min(2.0 * delay, LONGEST_DELAY)

    def _create(self, client: JobClient) -> None:
        if self._cancel.is_set():
            raise _CancelledHere
        try:
            self._job_id = client.create(self.request, should_stop=self._is_leaving)
        except AddonError:
            if self._cancel.is_set():
                raise _CancelledHere from None
            raise
        self._post(Accepted(self.request.request_id, self._job_id))
        if self._cancel.is_set():
            client.cancel(self._job_id)

    def _watch(self, client: JobClient) -> tuple[AssetInfo, ...]:
        if self._cancel.is_set():
            client.cancel(self._job_id)  # the loss of the connection may have swallowed it
        assets: tuple[AssetInfo, ...] = ()
        for update in client.watch(self._job_id, after_sequence=self._sequence):
            self._sequence = max(self._sequence, update.sequence)
            self._post(Updated(self.request.request_id, update))
            if update.preview is not None:
                self._pictures[update.preview.variant, update.preview.index] = update.preview
            if update.assets is not None:
                assets = update.assets
            match update.state:
                case "succeeded":
                    return assets
                case "failed":
                    raise AddonError(update.reason or "INTERNAL", update.error_message or "")
                case "cancelled":
                    raise _CancelledHere
        raise AddonError("CONNECTION_LOST", "the watch ended early", retryable=True)

    def _fetch_meshes(self, assets: tuple[AssetInfo, ...]) -> list[Path]:
        """The GLBs of a finished job: the first where it was asked for, the further variants beside it."""
        meshes = [asset for asset in assets if asset.media_type == "model/gltf-binary"]
        if not meshes:
            raise AddonError("ASSET_UNKNOWN", "the finished job has no GLB")
        first = self._result_path
        paths = [first, *(first.with_stem(f"{first.stem}_{i}") for i in range(2, len(meshes) + 1))]
        self._fetch(dict(zip(paths, meshes, strict=True)))
        return paths

    def _fetch_facts(self, assets: tuple[AssetInfo, ...]) -> tuple[ResultFacts, ...]:
        """What the results were made with, and a picture of them, beside them. A result without these is still one."""
        folder = self._result_path.parent
        names = {"facts": FACTS_NAME, "preview": PREVIEW_NAME}
        for asset in assets:
            if asset.kind in names:
                try:
                    self._fetch({folder / names[asset.kind]: asset})
                except AddonError as error:
                    log.warning("job %s: no %s (%s)", self._job_id, asset.kind, error.reason)
        return read_facts(folder / FACTS_NAME)

    def _remember(self, meshes: list[Path], facts: tuple[ResultFacts, ...]) -> None:
        """Leave what the history needs beside the result."""
        try:
            write_entry(
                self._result_path.parent,
                self.request,
                job_id=self._job_id,
                meshes=meshes,
                facts=facts,
                pictures=self._pictures.values(),
            )
        except OSError as error:
            log.warning("job %s is not in the history: %s", self._job_id, error)

    def _fetch_views(self, assets: tuple[AssetInfo, ...]) -> tuple[tuple[CapturedView, ...], ...]:
        """The pictures and cameras of a review, in a folder of their own; one set for each variant."""
        folder = self._result_path.with_suffix("")
        files = {folder / Path(asset.name).name: asset for asset in assets if asset.kind in ("view", "cameras")}
        cameras = [path for path, asset in files.items() if asset.kind == "cameras"]
        if not cameras:
            raise AddonError("ASSET_UNKNOWN", "the finished job has no views")
        self._fetch(files)
        try:
            return tuple(views_from_transforms(path) for path in cameras)
        except ValueError as error:
            raise AddonError("VERSION_MISMATCH", str(error)) from error

    def _fetch(self, files: dict[Path, AssetInfo]) -> None:
        """Several files as one download."""
        total, before = sum(asset.size_bytes for asset in files.values()), 0
        for path, asset in files.items():
            self._persist(lambda client, p=path, a=asset, b=before: self._download(client, a, p, before=b, total=total))
            before += asset.size_bytes

    def _download(self, client: JobClient, asset: AssetInfo, path: Path, *, before: int, total: int) -> None:
        def report(received: int) -> None:
            self._post(Downloading(self.request.request_id, before + received, total))

        report(0)
        try:
            client.download(asset, path, report=report, should_stop=self._is_leaving)
        except AddonError:
            if self._cancel.is_set():
                raise _CancelledHere from None
            raise

    def _is_leaving(self) -> bool:
        return self._stop.is_set() or self._cancel.is_set()

    def _send_cancel(self) -> None:
        client = self._client
        if client is None:
            return  # between two connections: the next watch says it
        try:
            client.cancel(self._job_id)
        except AddonError as error:
            log.info("cancelling job %s: %s", self._job_id, error.reason)
