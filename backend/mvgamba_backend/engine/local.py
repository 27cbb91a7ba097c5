"""Jobs on this machine: one worker process for each device, started when needed."""

import base64
import binascii
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvgamba.errors import Unavailable
from mvgamba.weights import state_of
from mvgamba.weights.user import folder_for
from mvgamba_backend.engine.process import WorkerProcess, describe_exit
from mvgamba_backend.engine.protocol import Description, EngineSettings, Listener, OutputFile, Task

log = logging.getLogger(__name__)

MOST_LOOKS = 3
"""Workers in a row that may end while they look what there is."""
STOP_TIMEOUT = 2.0


@dataclass
class _Slot:
    """A place for one job at a time. Guarded by the engine's lock."""

    device: str
    environment: dict[str, str] = field(default_factory=dict)
    worker: WorkerProcess | None = None
    task: Task | None = None
    stage: str = ""
    cancelled: bool = False
    ending: bool = False
    """The end of the task is being told; nothing else may end it."""
    timer: threading.Timer | None = None
    """Ends the worker: by force after a cancel, or for want of jobs."""


class LocalEngine:
    """Worker processes of this machine.

    The first worker is started at once and says which devices there are; until then there is one place.
    A worker that failed in a way it did not foresee is replaced, because what is left of it cannot be trusted.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._slots = [_Slot("auto")]
        self._description: Description | None = None
        self._described = threading.Event()
        """Cleared while a worker looks again."""
        self._looking: WorkerProcess | None = None
        """That worker."""
        self._weights: tuple[object, ...] | None = None
        """State of the user's weights when a worker last was asked to look; None if it left without an answer."""
        self._stopping = False
        self._listener: Listener | None = None

    def start(self, listener: Listener) -> None:
        self._listener = listener
        shutil.rmtree(self._settings.work_dir, ignore_errors=True)
        self._settings.work_dir.mkdir(parents=True)
        with self._lock:
            self._weights = state_of(folder_for(os.environ))
            self._ensure_worker(self._slots[0])

    def has_room(self, device: str) -> bool:
        with self._lock:
            if self._stopping:
                return False
            return self._free_slot(device) is not None or bool(self._why_not(device))

    def run(self, task: Task) -> None:
        device = task.spec.options.device
        with self._lock:
            why_not = self._why_not(device)
        if why_not:
            assert self._listener is not None
            self._listener.on_failed(task.job_id, Unavailable.reason, why_not, {})
            return
        with self._lock:
            slot = self._free_slot(device)
            assert slot is not None, "run() without has_room()"
            self._stop_timer(slot)
            slot.task, slot.stage, slot.cancelled = task, "", False
            folder = self._folder(task)
            folder.mkdir(parents=True, exist_ok=True)
            worker = self._ensure_worker(slot)
        worker.send(
            {
                "type": "run",
                "job_id": task.job_id,
                "spec": task.spec.to_json(),
                "blobs": {sha256: str(path) for sha256, path in task.blobs.items()},
                "folder": str(folder),
            }
        )

    def cancel(self, job_id: str) -> None:
        with self._lock:
            slot = self._slot_of(job_id)
            if slot is None or slot.cancelled or slot.worker is None:
                return
            slot.cancelled = True
            worker, task = slot.worker, slot.task
            self._start_timer(slot, self._settings.cancel_grace, lambda: self._force(slot, task))
        worker.send({"type": "cancel", "job_id": job_id})

    def describe(self, *, timeout: float = 0.0) -> Description | None:
        end = time.monotonic() + timeout
        for _ in range(MOST_LOOKS):
            self._look_again()
            if timeout > 0 and not self._described.wait(max(0.0, end - time.monotonic())):
                with self._lock:
                    busy = any(slot.task is not None for slot in self._slots if slot.worker is self._looking)
                return self._description if busy else None
            with self._lock:
                is_answered = self._weights is not None or self._stopping
            if timeout <= 0 or is_answered:
                break  # else the worker that was asked has ended before it answered, perhaps before that was seen
        return self._description

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            workers = [slot.worker for slot in self._slots if slot.worker is not None]
            for slot in self._slots:
                self._stop_timer(slot)
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.end(timeout=STOP_TIMEOUT)
        shutil.rmtree(self._settings.work_dir, ignore_errors=True)

    def _look_again(self) -> None:
        """Have the first worker say anew what there is, if the user's weights are others. Until it has, what it said before holds."""
        now = state_of(folder_for(os.environ))
        with self._lock:
            if self._stopping or not self._described.is_set() or now == self._weights:
                return
            self._weights = now
            self._described.clear()
            first = self._slots[0]
            if first.worker is not None and first.worker.is_alive:
                first.worker.send({"type": "describe"})
            self._looking = self._ensure_worker(first)  # a new one looks by itself

    # ---------------------------------------------------------------- places

    def _free_slot(self, device: str) -> _Slot | None:
        return next((s for s in self._slots_for(device) if s.task is None), None)

    def _slots_for(self, device: str) -> list[_Slot]:
        """Where a job may run; nowhere when the device is not here, or when it is not known yet which device a number means."""
        if self._slots[0].device == "auto":
            return [] if ":" in device else self._slots
        cuda = [s for s in self._slots if s.device.startswith("cuda")]
        if device == "cuda" or (device == "auto" and cuda):
            return cuda
        return self._slots if device == "auto" else [s for s in self._slots if s.device == device]

    def _why_not(self, device: str) -> str:
        """Why no job can have this device, in a sentence; empty when one can, or when that is not known yet."""
        if self._slots_for(device):
            return ""
        if self._slots[0].device != "auto":
            return f"There is no device {device} here; there are {', '.join(s.device for s in self._slots)}. Take one of them, or auto."
        return "" if self._description is None else self._description.problem

    def _slot_of(self, job_id: str) -> _Slot | None:
        return next((s for s in self._slots if s.task is not None and s.task.job_id == job_id), None)

    def _make_slots(self, devices: list[str]) -> None:
        """Give the first worker its device, and every other device a place."""
        cuda = [d for d in devices if d.startswith("cuda")]
        if self._slots[0].device != "auto":
            return
        self._slots[0].device = cuda[0] if cuda else "cpu"
        visible = [v for v in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if v]
        for i, device in enumerate(cuda[1:], start=1):
            self._slots.append(_Slot(device, {"CUDA_VISIBLE_DEVICES": visible[i] if i < len(visible) else str(i)}))
        if cuda:
            self._slots.append(_Slot("cpu", {"CUDA_VISIBLE_DEVICES": ""}))

    def _ensure_worker(self, slot: _Slot) -> WorkerProcess:
        if slot.worker is None or not slot.worker.is_alive:
            slot.worker = WorkerProcess(
                pipeline=self._settings.pipeline,
                fake_devices=self._settings.fake_devices,
                environment=slot.environment,
                on_message=self._on_message,
                on_exit=self._on_exit,
            )
            log.info("started worker %d for %s", slot.worker.pid, slot.device)
        return slot.worker

    def _folder(self, task: Task) -> Path:
        return self._settings.work_dir / task.job_id

    def _force(self, slot: _Slot, task: Task | None) -> None:
        with self._lock:
            if slot.task is task and not slot.ending and slot.worker is not None:
                log.warning("worker %d does not stop by itself and is killed", slot.worker.pid)
                slot.worker.kill()

    def _start_timer(self, slot: _Slot, seconds: float, action: Callable[[], None]) -> None:
        self._stop_timer(slot)
        slot.timer = threading.Timer(seconds, action)
        slot.timer.daemon = True
        slot.timer.start()

    @staticmethod
    def _stop_timer(slot: _Slot) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None

    # ---------------------------------------------------------------- what workers say

    def _on_message(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        listener = self._listener
        assert listener is not None
        kind = message.pop("type")
        if kind == "ready":
            self._on_ready(worker, Description(**message["description"]))
            return
        with self._lock:
            job_id = message.pop("job_id")
            slot = self._slot_of(job_id)
            if self._stopping or slot is None or slot.task is None or slot.worker is not worker:
                return
            task = slot.task
            if kind == "progress":
                slot.stage = message["stage"]
        match kind:
            case "progress":
                listener.on_progress(job_id, message.pop("stage"), message.pop("fraction"), **message)
            case "log":
                listener.on_log(job_id, message["text"])
            case "preview":
                try:
                    data = base64.b64decode(message["data"])
                except binascii.Error:
                    return
                place = (message["index"], message["count"], message["variant"])
                listener.on_preview(job_id, data, message["media_type"], *place)
            case "done":
                files = [OutputFile(Path(f["path"]), f["kind"], f["media_type"]) for f in message["files"]]
                self._finish(slot, task, lambda: listener.on_done(job_id, files))
            case "failed":
                text, metadata = message["message"], message["metadata"]
                if message["leaving"]:
                    with self._lock:
                        slot.worker = None  # it ends by itself; the next job must not be handed to it
                self._finish(slot, task, lambda: listener.on_failed(job_id, message["reason"], text, metadata))
            case "cancelled":
                self._finish(slot, task, lambda: listener.on_cancelled(job_id))

    def _on_ready(self, worker: WorkerProcess, description: Description) -> None:
        assert self._listener is not None
        with self._lock:
            # the worker of the first place sees every device; others perhaps only their own
            if self._description is None or self._description.problem or worker is self._slots[0].worker:
                self._description = description
                if not description.problem:
                    self._make_slots([d["id"] for d in description.devices])
            for slot in self._slots:
                if slot.worker is worker:
                    self._await_job(slot)
            if worker is self._looking:
                self._looking = None
            looking = self._looking is not None
        if not looking:
            self._described.set()
        self._listener.on_room()

    def _on_exit(self, worker: WorkerProcess, code: int) -> None:
        listener = self._listener
        assert listener is not None
        with self._lock:
            if worker is self._looking:
                self._looking, self._weights = None, None
                self._described.set()
            slot = next((s for s in self._slots if s.worker is worker), None)
            if slot is None or self._stopping:
                return
            slot.worker = None
            self._stop_timer(slot)
            task, cancelled, stage = slot.task, slot.cancelled, slot.stage
        how, metadata = describe_exit(code)
        if self._description is None:
            with self._lock:
                self._description = Description(problem=f"The worker {how} while it started.")
            self._described.set()
            listener.on_room()  # for jobs that waited to hear which devices there are
        if task is None:
            log.info("worker %d left", worker.pid) if code == 0 else log.warning("worker %d %s", worker.pid, how)
        elif cancelled:
            self._finish(slot, task, lambda: listener.on_cancelled(task.job_id))
        else:
            log.warning("worker %d %s while it ran %s (%s)", worker.pid, how, task.job_id, stage or "starting")
            where = f"in the stage {stage}" if stage else "before the first stage"
            text = f"The process that ran the job {how}, {where}. Try again; with draft quality if memory is short."
            metadata["stage"] = stage
            self._finish(slot, task, lambda: listener.on_failed(task.job_id, "WORKER_DIED", text, metadata))

    def _finish(self, slot: _Slot, task: Task, tell: Callable[[], None]) -> None:
        """Say how the job ended, then make room. In this order: a result must be safe before its folder goes."""
        assert self._listener is not None
        with self._lock:
            if slot.task is not task or slot.ending:
                return
            slot.ending = True
            self._stop_timer(slot)
        try:
            tell()
        finally:
            shutil.rmtree(self._folder(task), ignore_errors=True)
            with self._lock:
                slot.task, slot.stage, slot.cancelled, slot.ending = None, "", False, False
                self._await_job(slot)
        self._listener.on_room()

    def _await_job(self, slot: _Slot) -> None:
        if slot.worker is not None and slot.task is None and self._settings.idle_exit > 0:
            self._start_timer(slot, self._settings.idle_exit, lambda: self._retire(slot))

    def _retire(self, slot: _Slot) -> None:
        with self._lock:
            worker = slot.worker
            if slot.task is not None or worker is None:
                return
            slot.worker = None
        log.info("worker %d has had no job for %.0f s", worker.pid, self._settings.idle_exit)
        worker.end(timeout=STOP_TIMEOUT)
