"""The child: reads jobs from stdin, runs one at a time, writes what happens to stdout. Both are JSON lines.

It is run as `python -m mvgamba_backend.engine.worker`. It ends when stdin closes, whatever it is doing: its parent is gone.
"""

import argparse
import base64
import json
import logging
import os
import queue
import sys
import threading
import traceback
import uuid
from pathlib import Path
from typing import Any, TextIO

from mvgamba.errors import Cancelled, MVGambaError, OutOfMemory
from mvgamba.progress import CancelToken
from mvgamba_backend.engine.pipeline import PIPELINES, Job, Pipeline
from mvgamba_backend.engine.protocol import Description
from mvgamba_backend.errors import output_error
from mvgamba_backend.spec import spec_from_json

log = logging.getLogger(__name__)


class Channel:
    """The way to the parent. Any thread may send."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, kind: str, **message: Any) -> None:
        line = json.dumps({"type": kind, **message})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class WorkerJob(Job):
    """A job whose reports go to the parent."""

    def __init__(self, message: dict[str, Any], channel: Channel, cancel: CancelToken) -> None:
        super().__init__(
            spec_from_json(message["spec"]),
            {sha256: Path(path) for sha256, path in message["blobs"].items()},
            Path(message["folder"]),
            cancel,
        )
        self.id: str = message["job_id"]
        self._channel = channel

    def report(self, stage: str, fraction: float, **more: Any) -> None:
        self._channel.send("progress", job_id=self.id, stage=stage, fraction=fraction, **more)

    def log(self, text: str) -> None:
        self._channel.send("log", job_id=self.id, text=text)

    def preview(self, data: bytes, media_type: str, *, index: int, count: int, variant: int = 0) -> None:
        encoded = base64.b64encode(data).decode("ascii")
        place = {"index": index, "count": count, "variant": variant}
        self._channel.send("preview", job_id=self.id, data=encoded, media_type=media_type, **place)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--fake-devices", type=int)
    arguments = parser.parse_args()
    settings = {} if arguments.fake_devices is None else {"num_cuda": arguments.fake_devices}
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s worker %(process)d %(levelname)s %(name)s: %(message)s",
    )
    channel = Channel(_take_stdout())
    jobs: queue.SimpleQueue[tuple[dict[str, Any], CancelToken]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), name="listen", daemon=True).start()
    problem: MVGambaError | None = None
    pipeline: Pipeline | None = None
    try:
        pipeline = PIPELINES.get(arguments.pipeline)(**settings)
        description = pipeline.describe()
    except Exception as error:  # noqa: BLE001 - whatever keeps the pipeline from loading is the answer to every job
        problem = _problem(error)
        description = Description(problem=str(problem))
    channel.send("ready", description=vars(description))
    while True:
        message, cancel = jobs.get()
        if message["type"] == "describe":
            if pipeline is not None and problem is None:
                try:
                    description = pipeline.describe()
                except Exception as error:  # noqa: BLE001 - as at the start, but what was loaded still runs jobs
                    description = Description(problem=str(_problem(error)))
            channel.send("ready", description=vars(description))
            continue
        job = WorkerJob(message, channel, cancel)
        try:
            if problem is not None or pipeline is None:
                raise problem or RuntimeError("there is no pipeline")
            cancel.raise_if_cancelled()
            files = pipeline.run(job)
            channel.send(
                "done",
                job_id=job.id,
                files=[{"path": str(f.path), "kind": f.kind, "media_type": f.media_type} for f in files],
            )
        except Cancelled:
            channel.send("cancelled", job_id=job.id)
        except Exception as error:  # noqa: BLE001 - the last frame: the parent must hear of it
            reason, text = explain(error)
            # after a fault that nobody foresaw, or with memory in pieces, the next job deserves a fresh process
            leaving = problem is not None or reason in ("INTERNAL", "OUT_OF_MEMORY")
            channel.send("failed", job_id=job.id, reason=reason, message=text, metadata={}, leaving=leaving)
            if leaving:
                sys.stderr.flush()
                os._exit(0)  # not sys.exit: the thread that reads stdin cannot be joined


def _problem(error: Exception) -> MVGambaError:
    log.error("the pipeline does not load", exc_info=error)
    problem = MVGambaError(f"The pipeline does not load: {type(error).__name__}: {error}")
    problem.reason = "UNAVAILABLE"
    return problem


def explain(error: BaseException) -> tuple[str, str]:
    """(reason, message) for a failed job."""
    match error:
        case MVGambaError():
            return error.reason, str(error)
        case MemoryError():
            return OutOfMemory.reason, "Main memory is used up. Choose draft quality, a smaller texture or fewer views."
        case OSError() if error.errno is not None:
            output = output_error(error, "writing the result")
            return output.reason, str(output)
        case _:
            number = uuid.uuid4().hex[:4].upper()
            log.error("error %s\n%s", number, "".join(traceback.format_exception(error)))
            return "INTERNAL", f"Error {number} in the pipeline ({type(error).__name__}). The log has the details."


def _take_stdout() -> TextIO:
    """Keep stdout for messages; whatever a library prints goes to stderr instead."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def _listen(jobs: "queue.SimpleQueue[tuple[dict[str, Any], CancelToken]]") -> None:
    tokens: dict[str, CancelToken] = {}
    for line in sys.stdin:
        message = json.loads(line)
        match message["type"]:
            case "run":
                tokens = {message["job_id"]: CancelToken()}  # one at a time, so the one before has ended
                jobs.put((message, tokens[message["job_id"]]))
            case "describe":
                jobs.put((message, CancelToken()))  # after the job that runs
            case "cancel":
                if message["job_id"] in tokens:
                    tokens[message["job_id"]].cancel()
    os._exit(0)  # nobody is left who wants an answer


if __name__ == "__main__":
    main()
