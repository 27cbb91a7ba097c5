"""What the panel says about the backend, as plain data."""

import enum
from dataclasses import dataclass

from .errors import AddonError, sentence
from .i18n import tr
from .server_info import ServerInfo


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
    pid: int | None = None
    """Of a backend that runs as a process of ours."""

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

    def lacks(self, device: str) -> bool:
        """Whether jobs for this device are known to be refused."""
        return self.info is not None and self.info.lacks(device)

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
