"""Looks at the backend again and again, so that the panel can say how it is."""

import dataclasses
import logging
import threading
from collections.abc import Callable

from ..core.backend import Endpoint
from ..core.backend_status import BackendState, BackendStatus, status_of_error
from ..core.errors import AddonError
from ..core.server_info import ServerInfo, check_version
from .backend_process import BackendPhase, BackendProcess
from .generation_client import GenerationClient, connect
from .remote import RemoteConnection, probe

log = logging.getLogger(__name__)

Backend = BackendProcess | RemoteConnection

SOON, OFTEN, SELDOM = 0.25, 2.0, 5.0
"""Seconds between two looks: while it starts, while it runs here, while it runs elsewhere or not at all."""
DESCRIBE_TIMEOUT = 5.0
PATIENCE = 2
"""Looks in a row without an answer after which a running backend counts as unreachable."""


class BackendWatcher:
    """Looks at one backend from a thread of its own. It never starts one, and `status` never waits."""

    def __init__(self, on_change: Callable[[BackendStatus], None] | None = None) -> None:
        """
        Args:
            on_change: Called from the thread with each status that differs from the one before.
        """
        self.on_change = on_change
        self.status = BackendStatus(BackendState.STOPPED)
        self._source: Backend | None = None
        self._wake = threading.Event()
        self._leaving = False
        self._thread: threading.Thread | None = None
        self._client: GenerationClient | None = None
        self._client_endpoint: Endpoint | None = None
        self._misses = 0

    def watch(self, source: Backend | None) -> None:
        """Look at this backend from now on; None for none."""
        if source is not self._source:
            self._source = source
            if isinstance(source, BackendProcess):
                source.on_phase = self.look_again
            is_remote = isinstance(source, RemoteConnection)
            address = source.command.address if isinstance(source, RemoteConnection) else ""
            state = BackendState.STARTING if is_remote else BackendState.STOPPED
            self._publish(BackendStatus(state, address=address, is_remote=is_remote))
        if source is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mvgamba-backend-watcher", daemon=True)
            self._thread.start()
        self.look_again()

    def look_again(self) -> None:
        """Do not wait for the next look."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; an open call is broken off."""
        self._leaving = True
        self._wake.set()
        client = self._client
        if client is not None:
            client.close()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None

    def _publish(self, status: BackendStatus) -> None:
        if status != self.status:
            log.debug("backend: %s", status.state)
            self.status = status
            if self.on_change is not None:
                self.on_change(status)

    def _run(self) -> None:
        while not self._leaving:
            self._wake.clear()
            source = self._source
            try:
                status = self._examine(source)
            except Exception as error:  # noqa: BLE001 - the last frame of a thread: it must go on looking
                log.exception("the backend could not be looked at")
                status = BackendStatus(BackendState.FAILED, "INTERNAL", str(error))
            if source is self._source and not self._leaving:
                self._publish(dataclasses.replace(status, pid=None if source is None else source.pid))
            self._wake.wait(_pause_after(self.status))
        self._drop_client()

    def _examine(self, source: Backend | None) -> BackendStatus:
        if source is None:
            self._drop_client()
            return BackendStatus(BackendState.STOPPED)
        if isinstance(source, RemoteConnection):
            return self._examine_remote(source)
        view = source.look()
        match view.phase:
            case BackendPhase.STOPPED:
                self._drop_client()
                return BackendStatus(BackendState.STOPPED)
            case BackendPhase.STARTING:
                self._drop_client()
                return BackendStatus(BackendState.STARTING)
            case BackendPhase.FAILED:
                self._drop_client()
                return status_of_error(AddonError(view.reason, view.message))
        assert view.endpoint is not None
        try:
            return self._status_of_info(self._describe(view.endpoint), address=view.endpoint.address)
        except AddonError as error:
            self._drop_client()
            if source.look().phase is not BackendPhase.RUNNING:  # it ended meanwhile: the next look says how
                self._wake.set()
                return self.status
            return self._status_of_miss(error, is_remote=False, address=view.endpoint.address)

    def _examine_remote(self, source: RemoteConnection) -> BackendStatus:
        remote = source.command
        try:
            # the first time step by step, for a sentence that says what is in the way
            info = probe(remote) if self._client_endpoint != remote.endpoint else self._describe(remote.endpoint)
            check_version(info.version, info.api)
            if self._client_endpoint != remote.endpoint:
                self._describe(remote.endpoint)
            return self._status_of_info(info, is_remote=True, address=remote.address)
        except AddonError as error:
            self._drop_client()
            return status_of_error(error, is_remote=True, address=remote.address)

    def _describe(self, endpoint: Endpoint) -> ServerInfo:
        if self._client is None or self._client_endpoint != endpoint:
            self._drop_client()
            self._client, self._client_endpoint = connect(endpoint), endpoint
        return self._client.describe(timeout=DESCRIBE_TIMEOUT)

    def _drop_client(self) -> None:
        client, self._client, self._client_endpoint = self._client, None, None
        if client is not None:
            client.close()

    def _status_of_info(self, info: ServerInfo, *, is_remote: bool = False, address: str) -> BackendStatus:
        self._misses = 0
        if info.problem:
            return BackendStatus(BackendState.FAILED, "UNAVAILABLE", info.problem, info, address, is_remote)
        state = BackendState.READY if info.is_ready else BackendState.LOADING
        return BackendStatus(state, info=info, address=address, is_remote=is_remote)

    def _status_of_miss(self, error: AddonError, *, is_remote: bool, address: str) -> BackendStatus:
        """One answer that does not come is no news: a machine under full load is slow."""
        self._misses += 1
        if self._misses < PATIENCE and self.status.is_answering:
            return self.status
        return status_of_error(error, is_remote=is_remote, address=address)


def _pause_after(status: BackendStatus) -> float:
    if status.state in (BackendState.STARTING, BackendState.LOADING):
        return SOON
    if status.is_answering and not status.is_remote:
        return OFTEN
    return SELDOM
