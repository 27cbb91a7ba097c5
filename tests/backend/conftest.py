"""Real service processes, real gRPC, real SQLite; only the pipeline plays."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from mvgamba_backend.engine.cube import checker_png
from mvgamba_rpc.v1 import generation_pb2 as pb
from mvgamba_rpc.v1 import generation_pb2_grpc

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
TIMEOUT = 30.0
FINAL = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


def environment() -> dict[str, str]:
    paths = (ROOT, ROOT / "protos", ROOT / "backend")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "MVGAMBA_TOKEN": TOKEN}


class Service:
    """One service process and a client of it."""

    def __init__(self, data_dir: Path, *arguments: str, pipeline: str = "fake", stdin: int = subprocess.PIPE) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.with_suffix(".log")
        command = [
            sys.executable,
            "-m",
            "mvgamba_backend",
            "serve",
            "--data-dir",
            str(data_dir),
            "--pipeline",
            pipeline,
        ]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log_path.read_text()
        self.hello = json.loads(line)
        self.channel = grpc.insecure_channel(self.hello["address"])
        self.stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        self.auth = (("authorization", f"Bearer {TOKEN}"),)

    def call(self, method: str, request, *, timeout: float = TIMEOUT):
        """Any method of the contract, with the token."""
        return getattr(self.stub, method)(request, metadata=self.auth, timeout=timeout)

    def create(self, prompt: str, *, request_id: str = "", **options) -> pb.Job:
        spec = pb.JobSpec(text=pb.TextSource(prompt=prompt), options=pb.Options(**options))
        return self.call("CreateJob", pb.CreateJobRequest(spec=spec, request_id=request_id)).job

    def get(self, job_id: str) -> pb.Job:
        return self.call("GetJob", pb.GetJobRequest(job_id=job_id)).job

    def cancel(self, job_id: str) -> pb.Job:
        return self.call("CancelJob", pb.CancelJobRequest(job_id=job_id)).job

    def watch(self, job_id: str, *, after: int = 0) -> list[pb.WatchJobResponse]:
        """All events until the job has ended."""
        return list(self.call("WatchJob", pb.WatchJobRequest(job_id=job_id, after_sequence=after)))

    def finish(self, job_id: str) -> pb.Job:
        """The job when it has ended."""
        job = self.watch(job_id)[-1].job
        assert job.state in FINAL
        return job

    def wait_for_stage(self, job_id: str, stage: int) -> pb.Job:
        stream = self.call("WatchJob", pb.WatchJobRequest(job_id=job_id))
        for event in stream:
            progress = event.job.progress if event.WhichOneof("event") == "job" else event.progress
            # its second report: the first comes before the stage is held
            if progress.stage == stage or event.job.state in FINAL:
                break
        stream.cancel()
        return self.get(job_id)

    def upload(self, data: bytes, *, sha256: str | None = None, offset: int = 0, size: int | None = None):
        sha256 = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
        header = pb.BlobHeader(sha256=sha256, size_bytes=len(data) if size is None else size, offset=offset)

        def messages() -> Iterator[pb.UploadBlobRequest]:
            yield pb.UploadBlobRequest(header=header)
            for begin in range(offset, len(data), 1 << 20):
                yield pb.UploadBlobRequest(chunk=data[begin : begin + (1 << 20)])

        return self.call("UploadBlob", messages())

    def download(self, asset_id: str, *, offset: int = 0) -> bytes:
        chunks = self.call("DownloadAsset", pb.DownloadAssetRequest(asset_id=asset_id, offset=offset))
        return b"".join(c.chunk for c in chunks)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        """As a crash does it."""
        self.process.kill()
        self.process.wait()
        self.close()

    def end(self) -> int:
        """As a polite system does it; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.close()
        return status

    def close(self) -> None:
        self.channel.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def env() -> dict[str, str]:
    """What a service of the tests has around it."""
    return environment()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services in a folder of this test; all are ended with it."""
    started: list[Service] = []

    def start(*arguments: str, name: str = "data", **more) -> Service:
        started.append(Service(tmp_path / name, *arguments, **more))
        return started[-1]

    yield start
    for service in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.end()


@pytest.fixture(scope="module")
def service_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Start services that serve all tests of a module, and must still leave politely afterwards."""
    started: list[Service] = []

    def start(*arguments: str, **more) -> Service:
        started.append(Service(tmp_path_factory.mktemp("service") / "data", *arguments, **more))
        return started[-1]

    yield start
    for service in started:
        assert service.end() == 0


@pytest.fixture(scope="module")
def service(service_factory: Callable[..., Service]) -> Service:
    """One service for all tests of a module; each leaves it as it was."""
    return service_factory("--cancel-grace", "1")


class Refusal:
    """How a call was refused."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        self.metadata = dict(error.trailing_metadata() or ())
        self.reason: str = self.metadata.get("mvgamba-reason", "")


@pytest.fixture
def refused() -> Callable[..., Refusal]:
    """Call something that must be refused, and say how it was."""

    def refused(call: Callable, *arguments, **named) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            result = call(*arguments, **named)
            if hasattr(result, "__iter__"):
                list(result)
        return Refusal(caught.value)

    return refused


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until something is so."""

    def eventually(condition: Callable[[], object], *, timeout: float = 15.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "it never came so"
            time.sleep(0.02)

    return eventually


def rgba_png(size: int) -> bytes:
    """A picture with alpha, without Pillow: the checker with its header and rows changed to RGBA."""
    import struct
    import zlib

    rows = b"".join(
        b"\0" + bytes([200, 100, 50, 255 if size // 4 <= y < 3 * size // 4 else 0]) * size for y in range(size)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0))
    return checker_png(8, (0, 0, 0))[:8] + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def capture() -> Callable[..., pb.CaptureSource]:
    """Two views of the point (1, 2, 3), inline."""

    def capture(*, size: int = 16, image: bytes | None = None) -> pb.CaptureSource:
        png = rgba_png(size) if image is None else image
        front = [1, 0, 0, 1, 0, 1, 0, 2, 0, 0, 1, 7, 0, 0, 0, 1]
        right = [0, 0, 1, 5, 0, 1, 0, 2, -1, 0, 0, 3, 0, 0, 0, 1]
        focal = 2.0 * size
        return pb.CaptureSource(
            views=[
                pb.PosedView(
                    image=pb.Image(png=png),
                    camera=pb.Camera(
                        camera_to_world=c2w, fx=focal, fy=focal, cx=size / 2, cy=size / 2, width=size, height=size
                    ),
                )
                for c2w in (front, right)
            ]
        )

    return capture
