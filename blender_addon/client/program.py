"""What the client's process does: it hears Blender's process, and tells it what becomes of what it was asked."""

import contextlib
import json
import logging
import logging.handlers
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.backend import BackendCommand
from ..core.channel import Gone, Guest
from ..core.errors import AddonError
from ..core.i18n import use_translator
from ..core.jobs import Event, Updated
from ..core.messages import (
    Answer,
    Cancel,
    KnowsJob,
    Leave,
    Logged,
    LookUp,
    Question,
    Reported,
    Run,
    StartBackend,
    StatusSeen,
    StopBackend,
    StopRun,
    Submit,
    UseLanguage,
    WorkEnded,
)
from ..core.remote import RemoteBackend
from .backend_process import BackendProcess
from .backend_watcher import Backend, BackendWatcher
from .generation_client import GenerationClient, connect
from .remote import RemoteConnection
from .worker import JobClient, JobWorker

log = logging.getLogger(__name__)


def main(port: int, token: bytes) -> None:
    """Serve the Blender that started this process, and leave when it says so or has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in the terminal that Blender was started from is Blender's
    guest = Guest(port, token)
    package = logging.getLogger(__package__.rpartition(".")[0])
    package.addHandler(_LogSender(guest.send))
    package.propagate = False
    package.setLevel(logging.DEBUG)  # Blender's process knows what a person wants to read
    program = Program(guest.send)
    for message in guest.receive():
        if isinstance(message, Leave):
            guest.close()
            if message.finish_jobs:
                program.finish()
            break
        program.take(message)
    program.close()
    os._exit(0)  # threads of gRPC may wait for somebody who has gone


class Program:
    """Backends, workers and questions. `take` belongs to one thread."""

    def __init__(self, send: Callable[[object], None]) -> None:
        self._tell = send
        self._lock = threading.Lock()
        self._workers: dict[str, JobWorker] = {}
        self._backend: Backend | None = None
        self._old_backends: dict[str, Backend] = {}
        """Of jobs that were sent before the settings changed, by the request that needs it."""
        self._watcher = BackendWatcher(lambda status: self._send(StatusSeen(status)))
        self._stops: dict[int, threading.Event] = {}

    def take(self, message: object) -> None:
        """Do what Blender's process asks for."""
        match message:
            case UseLanguage(catalog):
                use_catalog(catalog)
            case StartBackend(command):
                backend = self._backend_for(command)
                backend.forgive()
                _in_thread("start", lambda: _try_ensure(backend))
                self._watcher.look_again()  # a remote one is only looked at
            case StopBackend():
                if self._backend is not None:
                    _in_thread("stop", self._backend.stop)
            case Submit():
                self._submit(message)
            case Cancel(request_id):
                worker = self._workers.get(request_id)
                if worker is not None:
                    worker.cancel()
            case Run(number):
                self._stops[number] = threading.Event()
                _in_thread("run", lambda: self._answer(message, lambda: self._run(message)))
            case StopRun(number):
                if number in self._stops:
                    self._stops[number].set()
            case LookUp(_, prompt, list_all):
                self._ask(message, lambda client: client.look_up_words(prompt, list_all=list_all))
            case KnowsJob(_, job_id):
                self._ask(message, lambda client: client.knows(job_id))
            case _:
                log.error("a message of an unknown kind: %r", message)

    def finish(self) -> None:
        """Wait until all jobs have ended. Their results lie where Blender will look for them."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.join()

    def close(self) -> None:
        """Leave jobs to their servers, and end the backends that run here."""
        with self._lock:
            workers = list(self._workers.values())
        for stop in list(self._stops.values()):
            stop.set()
        for worker in workers:
            worker.stop()
        self._watcher.stop()
        for backend in {*self._old_backends.values(), *([self._backend] if self._backend else [])}:
            backend.stop()
        for worker in workers:
            worker.join(2.0)

    def _send(self, message: object) -> None:
        try:
            self._tell(message)
        except Gone:
            log.debug("nobody hears %s", type(message).__name__)

    def _post(self, event: Event) -> None:
        """From a worker, in its thread."""
        self._send(event)
        if isinstance(event, Updated) and event.update.state is not None:
            self._watcher.look_again()  # it is busy now, or is no more

    def _submit(self, message: Submit) -> None:
        request_id = message.request.request_id
        backend = self._backend_for(message.command)

        def open_client() -> JobClient:
            return connect(backend.ensure())

        worker = JobWorker(
            message.request,
            connect=open_client,
            post=self._post,
            result_path=message.result_path,
            render=message.render,
            on_end=lambda: self._ended(request_id),
        )
        with self._lock:
            self._workers[request_id] = worker
        worker.start()

    def _ended(self, request_id: str) -> None:
        """A worker has said its last word. Any thread."""
        with self._lock:
            self._workers.pop(request_id, None)
            old = self._old_backends.pop(request_id, None)
            needed = old is None or old is self._backend or old in self._old_backends.values()
        self._send(WorkEnded(request_id))
        if old is not None and not needed:  # the last job that began before the settings changed
            old.stop()

    def _backend_for(self, command: BackendCommand | RemoteBackend) -> Backend:
        with self._lock:
            old = self._backend
            if old is not None and old.command != command:
                log.info("the backend's settings have changed, another one is used from now on")
                for request_id in self._workers:  # jobs that it has end with it
                    self._old_backends.setdefault(request_id, old)
                if not self._workers:
                    old.stop()  # before the next one starts, which may want the same port and folder
                self._backend = None
            if self._backend is None:
                is_remote = isinstance(command, RemoteBackend)
                self._backend = RemoteConnection(command) if is_remote else BackendProcess(command)
            self._backend.allow()
        self._watcher.watch(self._backend)
        return self._backend

    def _answer(self, question: Question, find: Callable[[], Any]) -> None:
        try:
            answer = Answer(question.number, find())
        except AddonError as error:
            answer = Answer(question.number, error=error)
        except Exception as error:  # noqa: BLE001 - the last frame of a thread: nobody above could tell the user
            log.exception("a question could not be answered")
            answer = Answer(question.number, error=AddonError("INTERNAL", f"{type(error).__name__}: {error}"))
        self._stops.pop(question.number, None)
        self._send(answer)

    def _run(self, message: Run) -> Any:
        if not message.reports:
            return message.function(*message.arguments)
        stop = self._stops[message.number]

        def report(value: object) -> None:
            self._send(Reported(message.number, value))

        return message.function(*message.arguments, report=report, should_stop=stop.is_set)

    def _ask(self, question: Question, ask: Callable[[GenerationClient], Any]) -> None:
        _in_thread("asking", lambda: self._answer(question, lambda: self._ask_backend(ask)))

    def _ask_backend(self, ask: Callable[[GenerationClient], Any]) -> Any:
        """What a backend that runs says; None when none does: it is not started for a question. Raises: AddonError."""
        backend = self._backend
        if backend is None or (isinstance(backend, BackendProcess) and backend.pid is None):
            return None
        client = connect(backend.ensure())
        try:
            return ask(client)
        finally:
            client.close()


class _LogSender(logging.handlers.QueueHandler):
    """Hands records to Blender's process, whose log a person reads."""

    def __init__(self, send: Callable[[object], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._tell = send

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Gone):
            self._tell(Logged(record))


def use_catalog(path: Path | None) -> None:
    """Say everything in the language of a catalog; None: in English."""
    if path is None:
        use_translator(None)
        return
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    use_translator(lambda text: known.get(text, text))


def _in_thread(name: str, action: Callable[[], None]) -> None:
    threading.Thread(target=action, name=f"mvgamba-{name}", daemon=True).start()


def _try_ensure(backend: Backend) -> None:
    try:
        backend.ensure()
    except AddonError as error:
        log.info("the backend was not started: %s", error.reason)
