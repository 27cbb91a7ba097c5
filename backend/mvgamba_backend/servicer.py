"""The calls of the contract: unpack, ask, pack. What a call may not do comes back as a status with its reason."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from mvgamba import __version__
from mvgamba.errors import Cancelled, InvalidInput, MVGambaError
from mvgamba_backend import convert
from mvgamba_backend.checks import is_sha256
from mvgamba_backend.config import ServiceConfig, is_loopback
from mvgamba_backend.errors import STATUS_OF_REASON, NotLocal, output_error
from mvgamba_backend.jobs import HEARTBEAT, Jobs
from mvgamba_backend.words import KnownWords, look_up
from mvgamba_rpc.v1 import generation_pb2 as pb
from mvgamba_rpc.v1 import generation_pb2_grpc

log = logging.getLogger(__name__)

DOMAIN = "mvgamba"
REASON_KEY = "mvgamba-reason"
DEFAULT_PAGE, LARGEST_PAGE = 50, 500
MAX_REQUEST_ID = 100
MAX_FIND_BLOBS = 1000
DEFAULT_SUGGESTIONS, MOST_SUGGESTIONS = 8, 100
MAX_WORD = 64
"""Characters of the beginning of a word."""
READY_TIMEOUT = 120.0
"""Longest wait for the pipeline to load, whatever deadline the client has."""


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Every method runs in a thread of its own."""

    def __init__(self, jobs: Jobs, config: ServiceConfig, *, shut_down: Callable[[], None]) -> None:
        self._jobs = jobs
        self._words = KnownWords(config.pipeline)
        self._config = config
        self._shut_down = shut_down

    def CreateJob(self, request: pb.CreateJobRequest, context: grpc.ServicerContext) -> pb.CreateJobResponse:
        with answering(context):
            if len(request.request_id) > MAX_REQUEST_ID:
                raise InvalidInput(
                    f"request_id has {len(request.request_id)} characters; at most {MAX_REQUEST_ID} are taken."
                )
            spec, inline = convert.spec_from_proto(request.spec, self._config.limits)
            job = self._jobs.create(spec, request_id=request.request_id, inline=inline)
            return pb.CreateJobResponse(job=convert.job_to_proto(job))

    def GetJob(self, request: pb.GetJobRequest, context: grpc.ServicerContext) -> pb.GetJobResponse:
        with answering(context):
            return pb.GetJobResponse(job=convert.job_to_proto(self._jobs.get(request.job_id)))

    def ListJobs(self, request: pb.ListJobsRequest, context: grpc.ServicerContext) -> pb.ListJobsResponse:
        with answering(context):
            size = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
            if request.page_token and not request.page_token.isdecimal():
                raise InvalidInput(f"page_token is {request.page_token[:80]!r}; give the one of the page before.")
            jobs, following = self._jobs.page(
                before=int(request.page_token) if request.page_token else None,
                size=size,
                states=convert.states_from_proto(list(request.states)),
            )
            return pb.ListJobsResponse(
                jobs=map(convert.job_to_proto, jobs), next_page_token="" if following is None else str(following)
            )

    def WatchJob(self, request: pb.WatchJobRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchJobResponse]:
        with answering(context):
            latest, spoke = 0, time.monotonic()
            for event in self._jobs.watch(request.job_id, after_sequence=request.after_sequence):
                if not context.is_active():
                    return
                if event is not None:
                    latest, spoke = max(latest, event.sequence), time.monotonic()
                    yield convert.event_to_proto(event)
                elif time.monotonic() - spoke >= HEARTBEAT:
                    spoke = time.monotonic()
                    yield convert.heartbeat_to_proto(latest)

    def CancelJob(self, request: pb.CancelJobRequest, context: grpc.ServicerContext) -> pb.CancelJobResponse:
        with answering(context):
            return pb.CancelJobResponse(job=convert.job_to_proto(self._jobs.cancel(request.job_id)))

    def DeleteJob(self, request: pb.DeleteJobRequest, context: grpc.ServicerContext) -> pb.DeleteJobResponse:
        with answering(context):
            self._jobs.delete(request.job_id)
            return pb.DeleteJobResponse()

    def FindBlobs(self, request: pb.FindBlobsRequest, context: grpc.ServicerContext) -> pb.FindBlobsResponse:
        with answering(context):
            if len(request.sha256) > MAX_FIND_BLOBS:
                raise InvalidInput(f"sha256 has {len(request.sha256)} entries; at most {MAX_FIND_BLOBS} are taken.")
            return pb.FindBlobsResponse(blobs=[self._blob_status(sha256) for sha256 in request.sha256])

    def UploadBlob(
        self, request_iterator: Iterator[pb.UploadBlobRequest], context: grpc.ServicerContext
    ) -> pb.UploadBlobResponse:
        with answering(context):
            first = next(request_iterator, None)
            if first is None or first.WhichOneof("content") != "header":
                raise InvalidInput("The first message of an upload must be its header.")
            header, limits, blobs = first.header, self._config.limits, self._jobs.blobs
            if not is_sha256(header.sha256):
                raise InvalidInput(
                    f"header.sha256 is {header.sha256[:80]!r}; 64 lower-case hexadecimal digits are needed."
                )
            if header.size_bytes > limits.max_blob_bytes:
                raise InvalidInput(
                    f"header.size_bytes is {header.size_bytes}; at most {limits.max_blob_bytes} are taken."
                )
            if header.offset > header.size_bytes:
                raise InvalidInput(f"header.offset is {header.offset}, behind the end at {header.size_bytes}.")
            if not blobs.has(header.sha256):
                blobs.receive(
                    self._chunks(request_iterator, context),
                    sha256=header.sha256,
                    size=header.size_bytes,
                    offset=header.offset,
                )
            blobs.touch(header.sha256)
            return pb.UploadBlobResponse(sha256=header.sha256, size_bytes=header.size_bytes)

    def DownloadAsset(
        self, request: pb.DownloadAssetRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadAssetResponse]:
        with answering(context):
            asset, path = self._jobs.asset(*convert.asset_id_from_proto(request.asset_id))
            if request.offset > asset.size_bytes:
                raise InvalidInput(f"offset is {request.offset}, behind the end of the asset at {asset.size_bytes}.")
            with path.open("rb") as file:
                file.seek(request.offset)
                offset, sha256 = request.offset, asset.sha256
                while True:
                    chunk = file.read(self._config.limits.chunk_bytes)
                    if not chunk and not sha256:
                        return
                    yield pb.DownloadAssetResponse(
                        offset=offset, chunk=chunk, size_bytes=asset.size_bytes, sha256=sha256
                    )
                    offset, sha256 = offset + len(chunk), ""

    def DescribeServer(
        self, request: pb.DescribeServerRequest, context: grpc.ServicerContext
    ) -> pb.DescribeServerResponse:
        with answering(context):
            end = time.monotonic() + min(context.time_remaining() or READY_TIMEOUT, READY_TIMEOUT)
            description = self._jobs.describe(timeout=0.0)
            while request.wait_until_ready:
                fresh = self._jobs.describe(timeout=0.5)
                if fresh is not None or not context.is_active() or time.monotonic() >= end:
                    description = fresh or description
                    break
            queued, running = self._jobs.counts()
            return convert.description_to_proto(
                description,
                self._config.limits,
                version=__version__,
                api=["v1"],
                pipeline=self._config.pipeline,
                engine=self._config.engine,
                queued_jobs=queued,
                running_jobs=running,
            )

    def LookUpWords(self, request: pb.LookUpWordsRequest, context: grpc.ServicerContext) -> pb.LookUpWordsResponse:
        with answering(context):
            most = self._config.limits.max_prompt_characters
            if len(request.prompt) > most:
                raise InvalidInput(f"prompt has {len(request.prompt)} characters; at most {most} are taken.")
            if len(request.prefix) > MAX_WORD:
                raise InvalidInput(f"prefix has {len(request.prefix)} characters; at most {MAX_WORD} are taken.")
            count = request.max_suggestions or DEFAULT_SUGGESTIONS
            if count > MOST_SUGGESTIONS:
                raise InvalidInput(f"max_suggestions is {count}; at most {MOST_SUGGESTIONS} are given.")
            known = self._words.of(request.generator or "auto")
            found = look_up(request.prompt, request.prefix, known, num_suggestions=count, list_all=request.list_all)
            return convert.words_to_proto(found)

    def Shutdown(self, request: pb.ShutdownRequest, context: grpc.ServicerContext) -> pb.ShutdownResponse:
        with answering(context):
            if not is_local(context.peer()):
                raise NotLocal("Shutdown is only served to this machine.")
            self._shut_down()
            return pb.ShutdownResponse()

    def _blob_status(self, sha256: str) -> pb.BlobStatus:
        if not is_sha256(sha256):
            raise InvalidInput(f"sha256 holds {sha256[:80]!r}; 64 lower-case hexadecimal digits are needed.")
        blobs = self._jobs.blobs
        head = blobs.head(sha256, 0)
        if head is None:
            return pb.BlobStatus(sha256=sha256, received_bytes=blobs.received(sha256))
        blobs.touch(sha256)
        return pb.BlobStatus(sha256=sha256, complete=True, received_bytes=head[0])

    @staticmethod
    def _chunks(messages: Iterator[pb.UploadBlobRequest], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            for message in messages:
                if message.WhichOneof("content") != "chunk":
                    raise InvalidInput("Only the first message of an upload may be a header.")
                yield message.chunk
        except grpc.RpcError as error:  # the client has left; what came is kept
            raise Cancelled("The upload broke off.") from error


def is_local(peer: str) -> bool:
    """`peer` is such as ipv4:127.0.0.1:50000, ipv6:%5B::1%5D:50000."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "")
    return kind == "unix" or is_loopback(host)


# ---------------------------------------------------------------- errors


class _Status(grpc.Status):
    """What `abort_with_status` wants."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, Any], ...]) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata


def status_of(error: MVGambaError) -> grpc.Status:
    """The status of a call that ended with `error`: code, message, and the reason twice."""
    code = grpc.StatusCode[STATUS_OF_REASON.get(error.reason, "INTERNAL")]
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    rich = status_pb2.Status(code=code.value[0], message=str(error), details=[detail])
    metadata = ((REASON_KEY, error.reason), ("grpc-status-details-bin", rich.SerializeToString()))
    return _Status(code, str(error), metadata)


@contextmanager
def answering(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what goes wrong inside into the status of the call."""
    try:
        yield
        return
    except MVGambaError as known:
        error = known
    except OSError as failed:
        log.exception("a file could not be read or written")
        error = output_error(failed, "reading or writing the data folder")
    except Exception:
        number = uuid.uuid4().hex[:4].upper()
        log.exception("error %s in a call", number)
        error = MVGambaError(f"Error {number} in the service. Its log has the details.")
    context.abort_with_status(status_of(error))
