"""What the panel says about the backend: plain data, kept fresh by a thread that nobody waits for."""

import enum
import logging
import threading
from dataclasses import dataclass

from .backend_process import BackendPhase, BackendProcess, Endpoint
from .client import GenerationClient, connect
from .errors import AddonError, sentence
from .i18n import tr
from .remote import RemoteConnection, probe
from .server_info import ServerInfo, check_version

log = logging.getLogger(__name__)

Backend = BackendProcess | RemoteConnection

SOON, OFTEN, SELDOM = 0.25, 2.0, 5.0
"""Seconds between two looks: while it starts, while it runs here, while it runs elsewhere or not at all."""
DESCRIBE_TIMEOUT = 5.0
PATIENCE = 2
"""Looks in a row without an answer after which a running backend counts as unreachable."""


class BackendState(enum.StrEnum):
    """What a person distinguishes."""

    NOT_INSTALLED = "not_installed"
    INSTALLING = "installing"
    UPDATING = "updating"
    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    """It answers, and still finds out what it can do."""
    READY = "ready"
    UNREACHABLE = "unreachable"
    WRONG_VERSION = "wrong_version"
    FAILED = "failed"


_STATE_OF_REASON = {
    "BACKEND_NOT_INSTALLED": BackendState.NOT_INSTALLED,
    "VERSION_MISMATCH": BackendState.WRONG_VERSION,
    "CONNECTION_LOST": BackendState.UNREACHABLE,
    "UNREACHABLE": BackendState.UNREACHABLE,
    "DEADLINE_EXCEEDED": BackendState.UNREACHABLE,
    "SHUTTING_DOWN": BackendState.UNREACHABLE,
}


@dataclass(frozen=True)
class BackendStatus:
    """One look at the backend."""

    state: BackendState
    reason: str = ""
    """Of core/errors.py, when something is wrong."""
    message: str = ""
    info: ServerInfo | None = None
    address: str = ""
    is_remote: bool = False

    @property
    def word(self) -> str:
        """One or two words, for the header."""
        return {
            BackendState.NOT_INSTALLED: lambda: tr("Not Installed"),
            BackendState.INSTALLING: lambda: tr("Installing"),
            BackendState.UPDATING: lambda: tr("Updating"),
            BackendState.STOPPED: lambda: tr("Not Connected") if self.is_remote else tr("Stopped"),
            BackendState.STARTING: lambda: tr("Connecting") if self.is_remote else tr("Starting"),
            BackendState.LOADING: lambda: tr("Loading"),
            BackendState.READY: lambda: tr("Busy") if self.is_busy else tr("Ready"),
            BackendState.UNREACHABLE: lambda: tr("Unreachable"),
            BackendState.WRONG_VERSION: lambda: tr("Wrong Version"),
            BackendState.FAILED: lambda: tr("Failed"),
        }[self.state]()

    @property
    def text(self) -> str:
        """One line, for the panel and the preferences."""
        if self.reason:
            return sentence(self.reason, self.message)
        where = self.address if self.is_remote else tr("Local")
        if self.info is None or self.state not in (BackendState.READY, BackendState.LOADING):
            return f"{where}: {self.word}"
        return f"{where}: {tr('version {version}').format(version=self.info.version)}"

    @property
    def is_busy(self) -> bool:
        return self.info is not None and self.info.num_running > 0

    @property
    def is_answering(self) -> bool:
        return self.state in (BackendState.LOADING, BackendState.READY)

    @property
    def lines(self) -> list[str]:
        """Devices, models and jobs, a line each; none unless it answers."""
        if self.info is None:
            return []
        found = [_device_line(d.name or d.id, d.memory_bytes, d.free_memory_bytes) for d in self.info.devices]
        able = [generator.name for generator in self.info.generators if generator.is_available]
        if able:
            found.append(tr("Weights: {names}").format(names=", ".join(able)))
        elif self.info.is_ready:
            found.append(tr("Weights for words and pictures are missing"))
        if self.info.num_running or self.info.num_queued:
            text = tr("Jobs: {running} running, {queued} waiting")
            found.append(text.format(running=self.info.num_running, queued=self.info.num_queued))
        return found


def _device_line(name: str, total: int, free: int) -> str:
    if not total:
        return name
    text = tr("{name}, {free} of {total} GB were free")
    return text.format(name=name, free=f"{free / 2**30:.1f}", total=f"{total / 2**30:.1f}")


def status_of_error(error: AddonError, *, is_remote: bool = False, address: str = "") -> BackendStatus:
    """What an error says about the backend that it came from."""
    state = _STATE_OF_REASON.get(error.reason, BackendState.FAILED)
    return BackendStatus(state, error.reason, error.message, None, address, is_remote)


class BackendWatcher:
    """Looks at one backend from a thread of its own. It never starts one, and `status` never waits."""

    def __init__(self) -> None:
        self.status = BackendStatus(BackendState.STOPPED)
        self._source: Backend | None = None
        self._wake = threading.Event()
        self._leaving = False
        self._changed = False
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

    def take_change(self) -> bool:
        """Whether the status has changed since this was asked last."""
        changed, self._changed = self._changed, False
        return changed

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
            self.status, self._changed = status, True

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
                self._publish(status)
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
