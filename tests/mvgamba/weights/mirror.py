"""A web server for files, with ranges, that can cut connections and say wrong things. On this machine, for tests."""

import contextlib
import http.server
import re
import threading
import time
from typing import Any


class Mirror:
    """Serves `files` by path. Use as a context; `url(path)` is the address."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.redirects: dict[str, str] = {}
        self.cut_after: list[int] = []
        """For each answer to come: bytes after which the connection is cut."""
        self.hold_after: int | None = None
        """Bytes of an answer after which it waits until `go_on` is set; the second half of them comes late enough to be told of."""
        self.go_on = threading.Event()
        self.ranges = True
        self.asked: list[str | None] = []
        """The header Range of every request so far."""
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror._answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        asked = request.headers.get("Range")
        self.asked.append(asked)
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.end_headers()
            return
        if path not in self.files:
            request.send_error(404)
            return
        data, begin = self.files[path], 0
        if asked and self.ranges:
            match = re.fullmatch(r"bytes=(\d+)-", asked)
            assert match is not None, asked
            begin = int(match[1])
            if begin >= len(data):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        body = data[begin:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cut_after:
            body = body[: self.cut_after.pop(0)]
        with contextlib.suppress(ConnectionError):  # a client that refuses what it is sent goes away
            if self.hold_after is not None and len(body) > self.hold_after:
                half = self.hold_after // 2
                request.wfile.write(body[:half])
                time.sleep(0.4)
                request.wfile.write(body[half : self.hold_after])
                self.go_on.wait(60.0)
                body = body[self.hold_after :]
            request.wfile.write(body)
