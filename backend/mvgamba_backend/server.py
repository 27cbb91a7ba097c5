"""The server: address, encryption, token, health, and a clean end."""

import hmac
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mvgamba import __version__
from mvgamba.errors import InvalidInput
from mvgamba_backend.config import ServiceConfig
from mvgamba_backend.errors import Unauthenticated
from mvgamba_backend.jobs import Jobs
from mvgamba_backend.servicer import GenerationServicer, status_of
from mvgamba_backend.store import DataFolderLock
from mvgamba_rpc.v1 import generation_pb2, generation_pb2_grpc

log = logging.getLogger(__name__)

SERVICE = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"].full_name
SHORT_CALL_THREADS = 16
STOP_GRACE = 1.0
"""Seconds that open calls have to end."""
PARENT_POLL = 0.5


class TokenInterceptor(grpc.ServerInterceptor):
    """Lets only those in who know the token. Health is for everybody: it says nothing."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc.health.v1.Health/"):
            return handler
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        if isinstance(given, str):
            given = given.encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, self._expected):
            return handler
        return _refusal(
            handler, Unauthenticated("The token is missing or wrong (metadata authorization: Bearer TOKEN).")
        )


def _refusal(handler: grpc.RpcMethodHandler, error: Unauthenticated) -> grpc.RpcMethodHandler:
    """A handler of the same kind that only says no."""

    def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort_with_status(status_of(error))

    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = makers[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(refuse, handler.request_deserializer, handler.response_serializer)


def serve(config: ServiceConfig, *, show_token: bool = False) -> None:
    """Serve until asked to leave: by a signal, `Shutdown`, the end of stdin or of the parent.

    Args:
        show_token: Say the token on stdout, because whoever has started the service does not know it.
    Raises: InvalidInput when the configuration cannot be served.
    """
    config.check()
    # a service for each parent must not fail because another parent has one; a service for everybody must not split
    take = DataFolderLock.take_first_free if config.is_child else DataFolderLock.take
    try:
        lock = take(config.data_dir)
    except OSError as error:
        raise InvalidInput(f"The data folder {config.data_dir} cannot be used: {error.strerror}.") from error
    if lock is None:
        raise InvalidInput(f"Another service uses {config.data_dir}. End it, or give another --data-dir.")
    config = replace(config, data_dir=lock.folder)
    leave = threading.Event()
    _watch_signals(leave)
    jobs = Jobs(config)
    server, status = build_server(jobs, config, shut_down=leave.set)
    port = bind(server, config)
    jobs.start()
    server.start()
    _set_health(status, health_pb2.HealthCheckResponse.SERVING)
    if config.parent_pid is not None:
        _watch_parent(config.parent_pid, leave)
    announce(config, port, show_token=show_token)
    if config.die_with_stdin:
        threading.Thread(target=_watch_stdin, args=(leave,), name="stdin", daemon=True).start()
    while not leave.wait(1.0):  # in short waits, so that signals are handled on every system
        pass
    log.info("leaving")
    _set_health(status, health_pb2.HealthCheckResponse.NOT_SERVING)
    ended = server.stop(STOP_GRACE)
    jobs.stop()
    ended.wait(2 * STOP_GRACE)
    lock.release()


def build_server(
    jobs: Jobs, config: ServiceConfig, *, shut_down: Callable[[], None]
) -> tuple[grpc.Server, health.HealthServicer]:
    """A server with its services, not yet bound."""
    # every open watch holds a thread, and a call must find one all the same
    threads = ThreadPoolExecutor(config.max_watchers + SHORT_CALL_THREADS, thread_name_prefix="mvgamba-call")
    server = grpc.server(
        threads,
        interceptors=[TokenInterceptor(config.token)],
        options=[
            ("grpc.so_reuseport", 0),  # two services on one port would share its calls
            ("grpc.max_receive_message_length", config.limits.max_message_bytes),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ],
    )
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(
        GenerationServicer(jobs, config, shut_down=shut_down), server
    )
    status = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=ThreadPoolExecutor(4))
    _set_health(status, health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    return server, status


def bind(server: grpc.Server, config: ServiceConfig) -> int:
    """The port. Raises: InvalidInput when it cannot be had."""
    host = f"[{config.host}]" if ":" in config.host and not config.host.startswith("[") else config.host
    address = f"{host}:{config.port}"
    try:
        if config.tls_cert is None or config.tls_key is None:
            return server.add_insecure_port(address)
        pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise InvalidInput(
            f"The address {address} cannot be had: another program uses the port, or the certificate or key is not valid. "
            "Leave --port out to use any free one."
        ) from error
    if port == 0:
        raise InvalidInput(f"The address {address} cannot be had. Leave --port out to use any free one.")
    return port


def announce(config: ServiceConfig, port: int, *, show_token: bool = False) -> None:
    """One JSON line on stdout, for whoever has started the service."""
    host = "127.0.0.1" if config.host == "localhost" else config.host
    hello = {
        "port": port,
        "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "pid": os.getpid(),
        "api": ["v1"],
        "version": __version__,
        "tls": config.tls_cert is not None,
        "data_dir": str(config.data_dir),
    }
    if show_token:
        hello["token"] = config.token
    sys.stdout.write(json.dumps(hello) + "\n")
    sys.stdout.flush()
    log.info("serving on %s, data in %s", hello["address"], config.data_dir)


def _set_health(servicer: health.HealthServicer, status: Any) -> None:
    for name in ("", SERVICE):
        servicer.set(name, status)


def _watch_signals(leave: threading.Event) -> None:
    def handle(number: int, _frame: Any) -> None:
        leave.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _watch_stdin(leave: threading.Event) -> None:
    # the descriptor itself: a buffered reader that waits here would crash the interpreter at its end
    while True:
        try:
            if not os.read(0, 4096):
                break
        except OSError:
            break
    log.info("stdin was closed")
    leave.set()


def _watch_parent(pid: int, leave: threading.Event) -> None:
    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        leave.set()
        return

    def poll() -> None:
        # is_running() compares the start time too, so a new process with the old number does not count
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(PARENT_POLL)

    def watch() -> None:
        try:
            poll()
        except psutil.Error:
            log.debug("the parent is gone")
        log.info("process %d has ended", pid)
        leave.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
