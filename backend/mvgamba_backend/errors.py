"""The service's own errors, and the one table from an error's reason to the status of a call."""

import errno

from mvgamba.errors import DiskFull, MVGambaError, OutputFailed


class ServiceError(MVGambaError):
    """Something about jobs, blobs or the server itself."""


class BlobMissing(ServiceError):
    """A job names a blob that was not uploaded."""

    reason = "BLOB_MISSING"


class BlobMismatch(ServiceError):
    """An upload is not what its header promised."""

    reason = "BLOB_MISMATCH"


class RequestIdReused(ServiceError):
    """One request_id, two different jobs."""

    reason = "REQUEST_ID_REUSED"


class QueueFull(ServiceError):
    """As many jobs wait as the service takes."""

    reason = "QUEUE_FULL"


class TooManyWatchers(ServiceError):
    """As many streams are open as the service serves."""

    reason = "TOO_MANY_WATCHERS"


class JobUnknown(ServiceError):
    """There is no such job."""

    reason = "JOB_UNKNOWN"


class AssetUnknown(ServiceError):
    """There is no such asset."""

    reason = "ASSET_UNKNOWN"


class JobNotFinished(ServiceError):
    """The job must have ended first."""

    reason = "JOB_NOT_FINISHED"


class Unauthenticated(ServiceError):
    """The token is missing or wrong."""

    reason = "UNAUTHENTICATED"


class NotLocal(ServiceError):
    """The call is only served to this machine."""

    reason = "NOT_LOCAL"


class ShuttingDown(ServiceError):
    """The server is leaving."""

    reason = "SHUTTING_DOWN"


class WorkerDied(ServiceError):
    """The process that ran a job ended by itself or was killed."""

    reason = "WORKER_DIED"


STATUS_OF_REASON = {
    "INVALID_INPUT": "INVALID_ARGUMENT",
    "INVALID_CAMERAS": "INVALID_ARGUMENT",
    "INVALID_IMAGE": "INVALID_ARGUMENT",
    "BLOB_MISSING": "INVALID_ARGUMENT",
    "BLOB_MISMATCH": "DATA_LOSS",
    "REQUEST_ID_REUSED": "ALREADY_EXISTS",
    "QUEUE_FULL": "RESOURCE_EXHAUSTED",
    "TOO_MANY_WATCHERS": "RESOURCE_EXHAUSTED",
    "JOB_UNKNOWN": "NOT_FOUND",
    "ASSET_UNKNOWN": "NOT_FOUND",
    "JOB_NOT_FINISHED": "FAILED_PRECONDITION",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    "NOT_LOCAL": "PERMISSION_DENIED",
    "SHUTTING_DOWN": "UNAVAILABLE",
    "EMPTY_RECONSTRUCTION": "FAILED_PRECONDITION",
    "OUT_OF_MEMORY": "RESOURCE_EXHAUSTED",
    "DISK_FULL": "RESOURCE_EXHAUSTED",
    "OUTPUT_FAILED": "INTERNAL",
    # not the status UNAVAILABLE: that one invites to try again, and nothing would change
    "UNAVAILABLE": "FAILED_PRECONDITION",
    "WEIGHTS_MISSING": "FAILED_PRECONDITION",
    "WEIGHTS_CORRUPT": "FAILED_PRECONDITION",
    "WORKER_DIED": "ABORTED",
    "CANCELLED": "CANCELLED",
    "INTERNAL": "INTERNAL",
}
"""Names of gRPC statuses; the servicer turns them into codes, so that nobody else needs gRPC."""


def output_error(error: OSError, doing: str) -> OutputFailed:
    """What a failed write means for the caller."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {doing} failed. Make room in the data folder and try again.")
    return OutputFailed(f"{doing} failed: {error.strerror or error}. Check the data folder.")
