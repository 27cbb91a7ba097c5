"""One connection to a backend, in the words of the extension: no message and no gRPC error leaves this module."""

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from ..core.backend import Endpoint
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.jobs import AssetInfo, JobUpdate
from ..core.request import JobRequest
from ..core.server_info import ServerInfo, WordsFound
from .convert import request_to_proto, server_from_proto, update_from_proto, words_from_proto
from .rpc import generation_pb2 as pb
from .rpc.generation_pb2_grpc import GenerationServiceStub

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
"""Measured best on loopback, and the most that the contract takes."""
MOMENT = 0.5
"""Seconds that a person may be kept waiting by a call that is made where they click."""
SHORT, LONG = 10.0, 120.0
"""Seconds that a small call and a transfer may take."""
_CHANNEL_OPTIONS = (
    # A server that hangs or a cable that was pulled is noticed within half a minute; the server's heartbeat every ten
    # seconds keeps these pings within what servers allow.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.enable_http_proxy", 0),
)
# What the server does not name itself.
_REASONS = {
    grpc.StatusCode.UNAVAILABLE: "CONNECTION_LOST",
    grpc.StatusCode.UNAUTHENTICATED: "UNAUTHENTICATED",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.NOT_FOUND: "JOB_UNKNOWN",
    grpc.StatusCode.UNIMPLEMENTED: "VERSION_MISMATCH",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    grpc.StatusCode.CANCELLED: "CONNECTION_LOST",
}


def connect(endpoint: Endpoint) -> "GenerationClient":
    """A client of the backend at `endpoint`. Nothing is sent yet."""
    return GenerationClient(endpoint)


class GenerationClient:
    """Calls block, so they belong into a worker thread; `close` may come from any thread and ends them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._channel = _open_channel(endpoint)
        self._stub = GenerationServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {endpoint.token}"),)

    def close(self) -> None:
        self._channel.close()

    def create(self, request: JobRequest, *, should_stop: Callable[[], bool]) -> str:
        """Upload what the server does not have yet and queue the job; its id. Repeating it makes no second job."""
        with _translated():
            hashes = {path: file_sha256(path) for path in request.files()}
            files = {digest: path for path, digest in hashes.items()}
            found = self._stub.FindBlobs(
                pb.FindBlobsRequest(sha256=list(files)), metadata=self._metadata, timeout=SHORT
            )
            for blob in found.blobs:
                if should_stop():
                    raise AddonError("CANCELLED")
                if not blob.complete:
                    self._upload(blob.sha256, files[blob.sha256], blob.received_bytes)
            message = request_to_proto(request, hashes)
            return self._stub.CreateJob(message, metadata=self._metadata, timeout=3 * SHORT).job.id

    def watch(self, job_id: str, *, after_sequence: int) -> Iterator[JobUpdate]:
        """Everything that happens to a job from here on; ends when the job has ended."""
        message = pb.WatchJobRequest(job_id=job_id, after_sequence=after_sequence)
        with _translated():
            for event in self._stub.WatchJob(message, metadata=self._metadata):
                yield update_from_proto(event)

    def describe(self, *, wait_until_ready: bool = False, timeout: float | None = None) -> ServerInfo:
        """What the server can make; to wait may take it seconds, while it loads."""
        message = pb.DescribeServerRequest(wait_until_ready=wait_until_ready)
        timeout = timeout or (LONG if wait_until_ready else SHORT)
        with _translated():
            return server_from_proto(self._stub.DescribeServer(message, metadata=self._metadata, timeout=timeout))

    def look_up_words(
        self,
        prompt: str = "",
        *,
        prefix: str = "",
        max_suggestions: int = 0,
        generator: str = "",
        list_all: bool = False,
    ) -> WordsFound:
        """Which words of a prompt are known there, what `prefix` may become, and everything that is known (64 KiB at most)."""
        message = pb.LookUpWordsRequest(
            prompt=prompt, prefix=prefix, max_suggestions=max_suggestions, generator=generator, list_all=list_all
        )
        with _translated():
            return words_from_proto(self._stub.LookUpWords(message, metadata=self._metadata, timeout=SHORT))

    def knows(self, job_id: str) -> bool:
        """Whether the server still has a finished job; False too when it does not answer within a moment."""
        try:
            with _translated():
                message = pb.GetJobRequest(job_id=job_id)
                job = self._stub.GetJob(message, metadata=self._metadata, timeout=MOMENT).job
                return job.state == pb.JOB_STATE_SUCCEEDED
        except AddonError:
            return False

    def cancel(self, job_id: str) -> None:
        with _translated():
            self._stub.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=self._metadata, timeout=SHORT)

    def download(
        self, asset: AssetInfo, path: Path, *, report: Callable[[int], None], should_stop: Callable[[], bool]
    ) -> None:
        """Fetch a file into `path`, which appears only when it is whole; goes on where an earlier attempt ended.

        Raises:
            AddonError: DOWNLOAD_CORRUPT, DISK_FULL, or as the server says.
        """
        part = path.with_name(path.name + ".part")
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            offset = min(part.stat().st_size, asset.size_bytes) if part.exists() else 0
            with part.open("r+b" if offset else "wb") as file:
                file.truncate(offset)
                file.seek(offset)
                message = pb.DownloadAssetRequest(asset_id=asset.id, offset=offset)
                for answer in self._stub.DownloadAsset(message, metadata=self._metadata, timeout=LONG):
                    if should_stop():
                        raise AddonError("CANCELLED")
                    file.write(answer.chunk)
                    report(file.tell())
            if part.stat().st_size != asset.size_bytes or file_sha256(part) != asset.sha256:
                part.unlink()
                raise AddonError("DOWNLOAD_CORRUPT", f"{asset.size_bytes} bytes were promised")
            os.replace(part, path)

    def _upload(self, digest: str, path: Path, offset: int) -> None:
        def messages() -> Iterator[pb.UploadBlobRequest]:
            header = pb.BlobHeader(sha256=digest, size_bytes=path.stat().st_size, offset=offset)
            yield pb.UploadBlobRequest(header=header)
            with path.open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield pb.UploadBlobRequest(chunk=chunk)

        self._stub.UploadBlob(messages(), metadata=self._metadata, timeout=LONG)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of gRPC and of the disk leave as AddonError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    except ValueError as error:
        if "closed channel" not in str(error):
            raise
        raise AddonError("CONNECTION_LOST", "the connection was closed", retryable=True) from error
    except OSError as error:
        reason = "DISK_FULL" if error.errno == errno.ENOSPC else "CAPTURE_FAILED"
        raise AddonError(reason, f"{error.filename}: {error.strerror}") from error


def _open_channel(endpoint: Endpoint) -> grpc.Channel:
    """Raises: AddonError, TLS_ERROR, when the certificate file cannot be used."""
    if not endpoint.has_tls:
        return grpc.insecure_channel(endpoint.address, options=_CHANNEL_OPTIONS)
    trusted = None
    if endpoint.ca_path is not None:
        try:
            trusted = endpoint.ca_path.read_bytes()
        except OSError as error:
            text = tr("the certificate file {path} cannot be read: {why}")
            raise AddonError("TLS_ERROR", text.format(path=endpoint.ca_path, why=error.strerror)) from error
        if b"-----BEGIN CERTIFICATE-----" not in trusted:
            text = tr("{path} holds no certificate; a PEM file is needed")
            raise AddonError("TLS_ERROR", text.format(path=endpoint.ca_path))
    return grpc.secure_channel(endpoint.address, grpc.ssl_channel_credentials(trusted), options=_CHANNEL_OPTIONS)


def tls_problem(details: str) -> str:
    """A sentence for what gRPC says of a handshake that failed; empty when it says nothing of one."""
    if "Hostname Verification" in details:
        return tr("its certificate is for another name than the address")
    if "andshake" not in details:
        return ""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return tr("its certificate is not one of a trusted authority; set the CA file")
    if "WRONG_VERSION_NUMBER" in details:
        return tr("it does not speak TLS; switch TLS off, or start it with a certificate")
    if "security handshaker" in details:
        return tr("the certificate file cannot be used")
    return details.rpartition("last error:")[2].strip()


def error_from_rpc(error: grpc.RpcError) -> AddonError:
    """The server's own reason when it gave one, else one for the status."""
    code, details = error.code(), error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == "mvgamba-reason":
            return AddonError(value, details, retryable=code is grpc.StatusCode.UNAVAILABLE)
    problem = tls_problem(details) if code is grpc.StatusCode.UNAVAILABLE else ""
    if problem:
        return AddonError("TLS_ERROR", problem)
    # A channel that was closed under a call says CANCELLED; the worker knows whether it meant to.
    retryable = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return AddonError(_REASONS.get(code, "INTERNAL"), details, retryable=retryable)


def file_sha256(path: Path) -> str:
    """64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
