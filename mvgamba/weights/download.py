"""A file from a URL, or from a folder, under its name only once its hash is right. A broken download goes on where it was cut."""

import http.client
import ipaddress
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mvgamba.errors import DiskFull, InvalidInput, Unavailable, WeightsCorrupt
from mvgamba.weights import sha256_of
from mvgamba.weights.user import VARIABLE, output_error, writing_to

CHUNK = 1 << 18
TRIES = 3
"""In a row that bring nothing, before giving up."""

Report = Callable[[int, int | None], None]
"""Bytes that are here, and of how many if the server said so."""


class _Cut(Exception):
    """The connection ended before the file did."""


def is_url(word: str) -> bool:
    """Whether it looks like one, allowed or not."""
    return "://" in word


def check_url(url: str) -> None:
    """Raises: InvalidInput, unless it is https, or http to this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return
    raise InvalidInput(f"{url} is not fetched: weights come over https, or over http from this machine itself.")


def partial_of(target: Path, sha256: str) -> Path:
    """Where a file lies until it is whole."""
    return target.with_name(f"{target.name}.{sha256[:12]}.partial")


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    report: Report = lambda done, of: None,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> None:
    """Fetch a file. What came before a break stays beside the target and is not fetched again, now or in a later call.

    Args:
        timeout: Seconds without a byte after which the connection counts as cut.
        pause: Seconds before another try that follows one which brought nothing.
    Raises:
        InvalidInput: The URL, or one that it redirects to, is not allowed.
        Unavailable: No connection, no such file, or it broke off too often.
        WeightsCorrupt: What came has another hash; it is deleted.
        DiskFull, OutputFailed.
    """
    check_url(url)
    with writing_to(target.parent):
        pass
    partial = partial_of(target, sha256)
    in_vain = 0
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial, report, timeout)
            break
        except _Cut as cut:
            in_vain = 0 if _size(partial) > before else in_vain + 1
            if in_vain >= TRIES:
                raise Unavailable(
                    f"The download of {url} broke off after {_size(partial)} bytes ({cut}). They are kept: run the same "
                    "command again to go on."
                ) from cut
            time.sleep(pause * in_vain)
    settle(partial, target, sha256, origin=url)


def fetch_bytes(url: str, *, limit: int, timeout: float = 30.0) -> bytes:
    """A small file, in one go. Raises: InvalidInput, Unavailable."""
    check_url(url)
    request = urllib.request.Request(url, headers={"User-Agent": "mvgamba", "Accept-Encoding": "identity"})
    try:
        with _opener(url).open(request, timeout=timeout) as response:
            data: bytes = response.read(limit + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise Unavailable(f"{url} answered {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{url} cannot be reached ({getattr(error, 'reason', error)}). Check the network.") from error
    if len(data) > limit:
        raise Unavailable(f"{url} is larger than the {limit / 2**20:.0f} MiB that are expected at most.")
    return data


def copy(source: Path, target: Path, sha256: str) -> None:
    """The same from a folder. Raises: Unavailable, WeightsCorrupt, DiskFull, OutputFailed."""
    if not source.is_file():
        raise Unavailable(f"There is no file {source}.")
    partial = partial_of(target, sha256)
    with writing_to(target.parent):
        shutil.copyfile(source, partial)
    settle(partial, target, sha256, origin=str(source))


def settle(partial: Path, target: Path, sha256: str, *, origin: str) -> None:
    """Give a file its name if it has the right hash, else delete it. Raises: WeightsCorrupt, OutputFailed."""
    found = sha256_of(partial)
    with writing_to(target.parent):
        if found == sha256:
            os.replace(partial, target)
            return
        partial.unlink()
    raise WeightsCorrupt(
        f"{origin} has the SHA-256 {found[:12]}..., expected {sha256[:12]}... It was deleted. If it happens again, the file "
        "there is another one: do not use it."
    )


def _fetch(url: str, partial: Path, report: Report, timeout: float) -> None:
    """One connection. Raises: _Cut, Unavailable, DiskFull, OutputFailed."""
    have = _size(partial)
    # compressed bytes could not be counted on from
    headers = {"User-Agent": "mvgamba", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = _opener(url).open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                return  # nothing is left to fetch: the hash says whether it is the right file
            raise Unavailable(f"{url} answered {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        if have:
            raise _Cut(str(error)) from error
        why = getattr(error, "reason", error)
        raise Unavailable(
            f"{url} cannot be reached ({why}). Check the network, or fetch the file elsewhere and use --from FOLDER."
        ) from error
    with response:
        if response.status != 206 or not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            have = 0  # the server begins anew
        length = response.headers.get("Content-Length")
        left = int(length) if length and length.isdigit() else None
        total = None if left is None else have + left
        if left is not None and (free := shutil.disk_usage(partial.parent).free) < left:
            raise DiskFull(
                f"{url} needs {left / 2**20:.0f} MiB more, and {free / 2**20:.0f} MiB are free in {partial.parent}. Make room, "
                f"or set {VARIABLE} to a folder elsewhere."
            )
        report(have, total)
        for chunk in _written(response, partial, "ab" if have else "wb"):
            have += chunk
            report(have, total)
    if total is not None and have < total:
        raise _Cut(f"of {total}")


def _written(response: Any, partial: Path, mode: str) -> Any:
    """Lengths of the pieces as they are written."""
    try:
        out = partial.open(mode)
    except OSError as error:
        raise output_error(error, partial.parent) from error
    with out:
        while True:
            try:
                piece = response.read1(CHUNK)  # what has come, so that little is lost when somebody ends this process
            except (OSError, http.client.HTTPException) as error:
                raise _Cut(str(error) or type(error).__name__) from error
            if not piece:
                return
            try:
                out.write(piece)
                out.flush()
            except OSError as error:
                raise output_error(error, partial.parent) from error
            yield len(piece)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to where a URL may lead."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            check_url(newurl)
        except InvalidInput:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_Redirects()]
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy has another loopback
    return urllib.request.build_opener(*handlers)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
