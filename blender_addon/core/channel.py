"""Messages between Blender's process and that of the client: pickles over a connection of this machine.

Blender's end never waits: what cannot be sent yet is kept, and `receive` gives what has arrived. Only who knows the token,
which the child process is told over its standard input, is listened to: the bytes of a stranger are never unpickled.
"""

import contextlib
import hmac
import pickle
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

TOKEN_BYTES = 32
_HEAD = struct.Struct("<I")
_CHUNK, _MOST_CHUNKS = 1 << 18, 8
"""Bytes of a call, and calls before somebody else has a turn."""
_NO_SIGNAL, _SO_NOSIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0), 0x1022
"""Blender, unlike Python, does not ignore SIGPIPE: writing to one that has just ended would end it too."""


class Gone(Exception):
    """The other end has ended."""


class Host:
    """Blender's end. Main thread only; no method waits."""

    def __init__(self) -> None:
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._callers: dict[socket.socket, bytearray] = {}
        """Who has connected and not said the whole token yet."""
        self._connection: socket.socket | None = None
        self._arrived, self._waiting = bytearray(), bytearray()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    @property
    def has_sent(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    def send(self, message: object) -> None:
        """Send as much as goes now, and keep the rest."""
        self._waiting += _packed(message)
        self._flush()

    def receive(self) -> list[Any]:
        """What has arrived, and a chance for what waits to be sent. Raises: Gone."""
        if self._connection is None:
            self._answer()
        if self._connection is None:
            return []
        self._flush()
        is_open = _read_into(self._connection, self._arrived)
        messages = list(_unpacked(self._arrived))
        if not is_open and not messages:
            raise Gone
        return messages

    def close(self) -> None:
        for each in (self._listener, self._connection, *self._callers):
            if each is not None:
                each.close()
        self._listener = self._connection = None
        self._callers.clear()

    def _answer(self) -> None:
        """Let in the one who knows the token."""
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                caller, _address = self._listener.accept()
                caller.setblocking(False)
                self._callers[caller] = bytearray()
        for caller, said in list(self._callers.items()):
            is_open = _read_into(caller, said)
            if len(said) >= TOKEN_BYTES and hmac.compare_digest(bytes(said[:TOKEN_BYTES]), self.token):
                del self._callers[caller]
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if sys.platform == "darwin":
                    caller.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
                self._connection, self._arrived = caller, said[TOKEN_BYTES:]
                self._listener.close()
                self._listener = None
                for other in self._callers:
                    other.close()
                self._callers.clear()
                return
            if not is_open or len(said) >= TOKEN_BYTES:
                caller.close()
                del self._callers[caller]

    def _flush(self) -> None:
        if self._connection is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):  # `receive` sees that it is gone
            while self._waiting:
                del self._waiting[: self._connection.send(self._waiting[:_CHUNK], _NO_SIGNAL)]


class Guest:
    """The child's end: `receive` waits, `send` may be called from any thread."""

    def __init__(self, port: int, token: bytes) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(token)
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Raises: Gone."""
        data = _packed(message)
        with self._lock:
            try:
                self._connection.sendall(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> Iterator[Any]:
        """Every message until the other end has gone."""
        arrived = bytearray()
        while True:
            try:
                data = self._connection.recv(_CHUNK)
            except OSError:
                return
            if not data:
                return
            arrived += data
            yield from _unpacked(arrived)

    def close(self) -> None:
        self._connection.close()


def _packed(message: object) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(data)) + data


def _unpacked(arrived: bytearray) -> Iterator[Any]:
    """The whole messages at the beginning of `arrived`, which are taken out of it."""
    while len(arrived) >= _HEAD.size:
        (length,) = _HEAD.unpack_from(arrived)
        end = _HEAD.size + length
        if len(arrived) < end:
            return
        data = bytes(arrived[_HEAD.size : end])
        del arrived[:end]
        yield pickle.loads(data)


def _read_into(connection: socket.socket, buffer: bytearray) -> bool:
    """Append what has arrived on a connection that does not wait; whether it is still open."""
    try:
        for _ in range(_MOST_CHUNKS):
            data = connection.recv(_CHUNK)
            if not data:
                return False
            buffer += data
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return True
