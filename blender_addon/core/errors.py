"""One table: the reason a job or an action failed -> a sentence for the row and the buttons that help."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .i18n import tr


class AddonError(Exception):
    """Something a person can act on. `reason` is the stable upper-case word of the table below."""

    def __init__(self, reason: str, message: str = "", *, retryable: bool = False) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        """True when the same call may succeed later without anybody doing anything: the server is away."""

    def __reduce__(self) -> tuple[Any, ...]:
        # it crosses from the client's process to that of Blender
        return _rebuilt, (self.reason, self.message, self.retryable)


def _rebuilt(reason: str, message: str, retryable: bool) -> AddonError:
    return AddonError(reason, message, retryable=retryable)


@dataclass(frozen=True)
class Button:
    """One thing a person can do about an error."""

    say: Callable[[], str]
    operator: str
    kinds: frozenset[str] = frozenset()
    """Which jobs it helps (capture, text, image, variation); empty for all."""
    needs_job: bool = False
    """Whether it acts on the job that failed."""

    @property
    def label(self) -> str:
        return self.say()


_RETRY = Button(lambda: tr("Retry"), "mvgamba.retry", needs_job=True)
_LOG = Button(lambda: tr("Open Log"), "mvgamba.open_log")
_DIAGNOSTICS = Button(lambda: tr("Copy Diagnostics"), "mvgamba.copy_diagnostics")
_PREFERENCES = Button(lambda: tr("Open Preferences"), "mvgamba.open_preferences")
_SYSTEM = Button(lambda: tr("Open System Preferences"), "mvgamba.open_system_preferences")
_SET_UP = Button(lambda: tr("Set Up"), "mvgamba.backend_setup")
_UPDATE = Button(lambda: tr("Update Backend"), "mvgamba.backend_update")
_UNINSTALL = Button(lambda: tr("Uninstall"), "mvgamba.backend_uninstall")
_AUTO_PORT = Button(lambda: tr("Use Automatic Port"), "mvgamba.use_automatic_port")
_REMOTE = Button(lambda: tr("Use Remote"), "mvgamba.use_remote")
_ALLOW = Button(lambda: tr("Allow This Host"), "mvgamba.allow_remote")
_LOW_MEMORY = Button(lambda: tr("Retry Low Memory"), "mvgamba.retry_low_memory", needs_job=True)
_UNLOAD = Button(lambda: tr("Unload"), "mvgamba.backend_unload")
_FOLDER = Button(lambda: tr("Change Folder"), "mvgamba.change_folder")
_MORE_VIEWS = Button(
    lambda: tr("Retry With More Views"), "mvgamba.retry_more_views", frozenset({"capture"}), needs_job=True
)
_MADE = frozenset({"text", "image", "variation"})
_NEW_SEED = Button(lambda: tr("New Seed"), "mvgamba.new_seed", _MADE, needs_job=True)
_APPROVE = Button(lambda: tr("Approve Views"), "mvgamba.retry_with_review", _MADE, needs_job=True)
_DOWNLOAD = Button(lambda: tr("Download"), "mvgamba.weights_download")
_VERIFY = Button(lambda: tr("Verify"), "mvgamba.weights_verify")
_WEIGHTS_FOLDER = Button(lambda: tr("Change Folder"), "mvgamba.change_weights_folder")
_PLACE = Button(lambda: tr("Place Again"), "mvgamba.place_result", needs_job=True)


@dataclass(frozen=True)
class Remedy:
    """What the row says and which buttons stand beside it."""

    say: Callable[[], str] = field(repr=False)
    buttons: tuple[Button, ...] = (_RETRY,)
    shows_detail: bool = True
    """Whether the message of the server or of the system follows the sentence."""

    @property
    def sentence(self) -> str:
        return self.say()

    @property
    def button(self) -> str:
        """Label of the first button."""
        return self.buttons[0].label

    @property
    def operator(self) -> str:
        """What the first button does."""
        return self.buttons[0].operator

    def buttons_for(self, kind: str) -> tuple[Button, ...]:
        """Those that help a job of this kind (`JobRequest.kind`)."""
        return tuple(button for button in self.buttons if not button.kinds or kind in button.kinds)


REMEDIES: dict[str, Remedy] = {
    # The tree of the library.
    "INVALID_INPUT": Remedy(lambda: tr("The backend could not use what it was given")),
    "INVALID_CAMERAS": Remedy(lambda: tr("The cameras do not see a common object")),
    "INVALID_IMAGE": Remedy(lambda: tr("A picture cannot be used")),
    "EMPTY_RECONSTRUCTION": Remedy(lambda: tr("The result has no surface"), (_MORE_VIEWS, _NEW_SEED, _APPROVE)),
    "OUTPUT_FAILED": Remedy(lambda: tr("The backend could not write the result"), (_LOG, _FOLDER)),
    "DISK_FULL": Remedy(lambda: tr("Disk is full"), (_FOLDER, _RETRY)),
    "OUT_OF_MEMORY": Remedy(lambda: tr("Not enough memory"), (_LOW_MEMORY, _UNLOAD)),
    "UNAVAILABLE": Remedy(lambda: tr("The backend cannot run what was asked for"), (_LOG,)),
    "WEIGHTS_MISSING": Remedy(lambda: tr("Weights are missing"), (_DOWNLOAD, _PREFERENCES)),
    "WEIGHTS_CORRUPT": Remedy(lambda: tr("Weights are damaged"), (_VERIFY, _DOWNLOAD)),
    "NO_CUDA_DEVICE": Remedy(lambda: tr("No NVIDIA GPU was found"), (_REMOTE, _PREFERENCES)),
    "UNSUPPORTED_DEVICE": Remedy(lambda: tr("The GPU is not supported"), (_REMOTE, _PREFERENCES)),
    "DRIVER_TOO_OLD": Remedy(lambda: tr("The NVIDIA driver is too old"), (_REMOTE, _DIAGNOSTICS)),
    "CANCELLED": Remedy(lambda: tr("Cancelled"), shows_detail=False),
    "INTERNAL": Remedy(lambda: tr("Backend error, see its log"), (_DIAGNOSTICS, _LOG, _RETRY)),
    # The service.
    "UNAUTHENTICATED": Remedy(lambda: tr("Backend refused the token"), (_PREFERENCES,)),
    "QUEUE_FULL": Remedy(lambda: tr("The backend's queue is full"), shows_detail=False),
    "JOB_UNKNOWN": Remedy(lambda: tr("The backend no longer knows this job"), shows_detail=False),
    "ASSET_UNKNOWN": Remedy(lambda: tr("The backend no longer has this result"), shows_detail=False),
    "JOB_NOT_FINISHED": Remedy(lambda: tr("The job has not ended yet"), shows_detail=False),
    "REQUEST_ID_REUSED": Remedy(lambda: tr("The job was sent twice with other settings"), shows_detail=False),
    "BLOB_MISSING": Remedy(lambda: tr("The backend lost a part of what was sent"), shows_detail=False),
    "BLOB_MISMATCH": Remedy(lambda: tr("What was sent arrived damaged"), shows_detail=False),
    "TOO_MANY_WATCHERS": Remedy(lambda: tr("The backend has too many watchers"), shows_detail=False),
    "NOT_LOCAL": Remedy(lambda: tr("Only the backend's own machine may ask for this"), shows_detail=False),
    "WORKER_DIED": Remedy(lambda: tr("The backend's worker stopped"), (_LOW_MEMORY, _LOG)),
    "MESSAGE_TOO_LARGE": Remedy(lambda: tr("The capture is too large for the backend")),
    "DEADLINE_EXCEEDED": Remedy(lambda: tr("The backend took too long to answer")),
    "VERSION_MISMATCH": Remedy(lambda: tr("Backend and extension are of different versions"), (_UPDATE, _PREFERENCES)),
    "SHUTTING_DOWN": Remedy(lambda: tr("The backend is stopping"), shows_detail=False),
    # Starting and reaching it.
    "BACKEND_NOT_INSTALLED": Remedy(lambda: tr("Backend is not installed"), (_SET_UP, _PREFERENCES)),
    "BACKEND_START_FAILED": Remedy(lambda: tr("Backend stopped"), (_LOG, _DIAGNOSTICS)),
    "BACKEND_STOPPED": Remedy(lambda: tr("The backend was stopped"), shows_detail=False),
    "PORT_IN_USE": Remedy(lambda: tr("Another program uses the port"), (_AUTO_PORT, _PREFERENCES)),
    "BIND_DENIED": Remedy(lambda: tr("The system does not give this port"), (_AUTO_PORT, _PREFERENCES)),
    "CONNECTION_LOST": Remedy(lambda: tr("Connection to the backend was lost"), shows_detail=False),
    "UNREACHABLE": Remedy(lambda: tr("The backend does not answer"), (_PREFERENCES, _RETRY)),
    "TLS_ERROR": Remedy(lambda: tr("No secure connection to the backend"), (_PREFERENCES,)),
    "ADDRESS_INVALID": Remedy(lambda: tr("The address of the backend cannot be used"), (_PREFERENCES,)),
    "REMOTE_NOT_ALLOWED": Remedy(lambda: tr("Nothing has been sent to this host before"), (_ALLOW, _PREFERENCES)),
    "ONLINE_ACCESS_OFF": Remedy(lambda: tr("Online access is off"), (_SYSTEM, _PREFERENCES)),
    "FOLDER_NOT_WRITABLE": Remedy(lambda: tr("The folder cannot be written to"), (_FOLDER,)),
    # Setting it up.
    "PYTHON_NOT_FOUND": Remedy(lambda: tr("No suitable Python was found"), (_PREFERENCES,)),
    "SETUP_FAILED": Remedy(lambda: tr("Set-up failed"), (_SET_UP, _LOG)),
    "SETUP_CORRUPT": Remedy(lambda: tr("A package is damaged"), (_SET_UP, _LOG)),
    "UNINSTALL_FAILED": Remedy(lambda: tr("Not all of the backend was removed"), (_UNINSTALL,)),
    # Its weights.
    "LICENCE_NOT_ACCEPTED": Remedy(lambda: tr("Nothing comes before its licence is accepted"), (_DOWNLOAD,)),
    "WEIGHTS_NOT_FETCHED": Remedy(lambda: tr("The weights were not fetched"), (_DOWNLOAD,)),
    "WEIGHTS_REFUSED": Remedy(lambda: tr("These weights cannot be used"), (_PREFERENCES,)),
    "WEIGHTS_FOLDER": Remedy(lambda: tr("The folder of the weights cannot be written to"), (_WEIGHTS_FOLDER,)),
    "WEIGHTS_DISK_FULL": Remedy(lambda: tr("There is no room for the weights"), (_WEIGHTS_FOLDER,)),
    # The extension itself.
    "CLIENT_FAILED": Remedy(lambda: tr("The extension's own process has ended"), (_RETRY, _DIAGNOSTICS)),
    "DOWNLOAD_CORRUPT": Remedy(lambda: tr("The result arrived damaged"), shows_detail=False),
    "CAPTURE_FAILED": Remedy(lambda: tr("The capture failed")),
    "PLACE_FAILED": Remedy(lambda: tr("The result could not be imported"), (_PLACE,)),
    "INVALID_TARGET": Remedy(lambda: tr("The result cannot be placed like that")),
}


def remedy(reason: str) -> Remedy:
    """The row for a reason; one that this version does not know is shown as an internal error."""
    return REMEDIES.get(reason, REMEDIES["INTERNAL"])


def sentence(reason: str, detail: str = "") -> str:
    """What a person reads, one line, without a final period."""
    row = remedy(reason)
    detail = " ".join(detail.split()).rstrip(".")
    return f"{row.sentence}: {detail}" if detail and row.shows_detail else row.sentence
