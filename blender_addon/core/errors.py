"""One table: the reason a job or an action failed -> a sentence for the row and a button that helps."""

from dataclasses import dataclass


class AddonError(Exception):
    """Something a person can act on. `reason` is the stable upper-case word of the table below."""

    def __init__(self, reason: str, message: str = "", *, retryable: bool = False) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        """True when the same call may succeed later without anybody doing anything: the server is away."""


@dataclass(frozen=True)
class Remedy:
    """What the row says and which button stands beside it."""

    sentence: str
    button: str = "Retry"
    operator: str = "mvgamba.retry"
    shows_detail: bool = True
    """Whether the server's own message follows the sentence."""


_PREFERENCES = ("Open Preferences", "mvgamba.open_preferences")
_LOG = ("Open Log", "mvgamba.open_log")

REMEDIES: dict[str, Remedy] = {
    # The tree of the library.
    "INVALID_INPUT": Remedy("The backend could not use what it was given"),
    "INVALID_CAMERAS": Remedy("The cameras do not see a common object"),
    "INVALID_IMAGE": Remedy("A picture cannot be used"),
    "EMPTY_RECONSTRUCTION": Remedy("The result has no surface", "Retry With More Views", "mvgamba.retry_more_views"),
    "OUTPUT_FAILED": Remedy("The backend could not write the result", *_LOG),
    "DISK_FULL": Remedy("Disk is full", *_PREFERENCES),
    "OUT_OF_MEMORY": Remedy("Not enough memory", "Retry as Draft", "mvgamba.retry_draft"),
    "UNAVAILABLE": Remedy("The backend cannot run what was asked for", *_LOG),
    "WEIGHTS_MISSING": Remedy("Weights are missing", *_PREFERENCES),
    "WEIGHTS_CORRUPT": Remedy("Weights are damaged", *_PREFERENCES),
    "CANCELLED": Remedy("Cancelled", shows_detail=False),
    "INTERNAL": Remedy("Backend error, see its log", *_LOG),
    # The service.
    "UNAUTHENTICATED": Remedy("Backend refused the token", *_PREFERENCES),
    "QUEUE_FULL": Remedy("The backend's queue is full", shows_detail=False),
    "JOB_UNKNOWN": Remedy("The backend no longer knows this job", shows_detail=False),
    "ASSET_UNKNOWN": Remedy("The backend no longer has this result", shows_detail=False),
    "JOB_NOT_FINISHED": Remedy("The job has not ended yet", shows_detail=False),
    "REQUEST_ID_REUSED": Remedy("The job was sent twice with other settings", shows_detail=False),
    "BLOB_MISSING": Remedy("The backend lost a part of the capture", shows_detail=False),
    "BLOB_MISMATCH": Remedy("The capture arrived damaged", shows_detail=False),
    "TOO_MANY_WATCHERS": Remedy("The backend has too many watchers", shows_detail=False),
    "NOT_LOCAL": Remedy("Only the backend's own machine may ask for this", shows_detail=False),
    "WORKER_DIED": Remedy("The backend's worker stopped", "Retry as Draft", "mvgamba.retry_draft"),
    "MESSAGE_TOO_LARGE": Remedy("The capture is too large for the backend"),
    "DEADLINE_EXCEEDED": Remedy("The backend took too long to answer"),
    "VERSION_MISMATCH": Remedy("Backend and add-on are of different versions", *_PREFERENCES),
    "SHUTTING_DOWN": Remedy("The backend is stopping", shows_detail=False),
    # The extension itself.
    "BACKEND_NOT_INSTALLED": Remedy("Backend is not installed", "Set Path", "mvgamba.open_preferences"),
    "BACKEND_START_FAILED": Remedy("Backend stopped", *_LOG),
    "CONNECTION_LOST": Remedy("Connection to the backend was lost", shows_detail=False),
    "DOWNLOAD_CORRUPT": Remedy("The result arrived damaged", shows_detail=False),
    "CAPTURE_FAILED": Remedy("The capture failed"),
    "PLACE_FAILED": Remedy("The result could not be imported", "Place Again", "mvgamba.place_result"),
    "INVALID_TARGET": Remedy("The result cannot be placed like that"),
    "ONLINE_ACCESS_OFF": Remedy("Allow Online Access is off", *_PREFERENCES, shows_detail=False),
}


def remedy(reason: str) -> Remedy:
    """The row for a reason; one that this version does not know is shown as an internal error."""
    return REMEDIES.get(reason, REMEDIES["INTERNAL"])


def sentence(reason: str, detail: str = "") -> str:
    """What a person reads, one line, without a final period."""
    row = remedy(reason)
    detail = " ".join(detail.split()).rstrip(".")
    return f"{row.sentence}: {detail}" if detail and row.shows_detail else row.sentence
