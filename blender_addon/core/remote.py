"""A backend that somebody else runs: its address, whether it may be asked, and whether it answers."""

import ipaddress
import logging
import os
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from .backend_process import Endpoint
from .client import GenerationClient, connect, tls_problem
from .errors import AddonError
from .i18n import tr
from .server_info import ServerInfo, check_version

log = logging.getLogger(__name__)

DEFAULT_PORT = 50051
PROBE_TIMEOUT = 5.0
"""Seconds that each step of a test may take."""
TOKEN_VARIABLE = "MVGAMBA_TOKEN"


@dataclass(frozen=True)
class RemoteBackend:
    """How to reach a backend on another machine (or one on this that we did not start)."""

    host: str
    port: int
    token: str
    has_tls: bool = True
    ca_path: Path | None = None

    @property
    def address(self) -> str:
        """As gRPC wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address, self.token, self.has_tls, self.ca_path)

    @property
    def is_loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        return is_loopback(self.host)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `gpu.lan`, `gpu.lan:8443`, `10.0.0.2`, `[::1]:50051`. Raises: AddonError, ADDRESS_INVALID."""
    text = text.strip()
    if not text:
        raise AddonError("ADDRESS_INVALID", tr("it is empty; write HOST or HOST:PORT"))
    if "://" in text or "/" in text or any(c.isspace() for c in text):
        raise AddonError("ADDRESS_INVALID", tr("{address} is not of the form HOST:PORT").format(address=text))
    host, colon, port = text, "", ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        _, colon, port = rest.partition(":")
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
    number = int(port) if port.isascii() and port.isdecimal() else (0 if colon else DEFAULT_PORT)
    if not host or not 0 < number < 65536:
        text = tr("{address} is not of the form HOST:PORT, with a port from 1 to 65535").format(address=text)
        raise AddonError("ADDRESS_INVALID", text)
    return host.lower(), number


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def remote_backend(address: str, *, token: str, has_tls: bool, ca_file: str) -> RemoteBackend:
    """What the preferences say, checked; MVGAMBA_TOKEN of the environment goes before their token.

    Raises:
        AddonError: ADDRESS_INVALID, TLS_ERROR when other machines would be spoken to in the open, UNAUTHENTICATED.
    """
    host, port = parse_address(address)
    token = os.environ.get(TOKEN_VARIABLE, "") or token
    if not token:
        raise AddonError("UNAUTHENTICATED", tr("none is set"))
    if not token.isascii() or not token.isprintable() or " " in token:
        raise AddonError("UNAUTHENTICATED", tr("it holds blanks or characters that are not ASCII"))
    if not has_tls and not is_loopback(host):
        text = tr("without TLS everybody on the way to {host} could read along; switch TLS on")
        raise AddonError("TLS_ERROR", text.format(host=host))
    return RemoteBackend(host, port, token, has_tls, Path(ca_file) if has_tls and ca_file else None)


class RemoteConnection:
    """The part of `BackendProcess` that a backend of somebody else has. Any thread."""

    pid = None

    def __init__(self, command: RemoteBackend) -> None:
        self.command = command
        self._checked = threading.Event()

    def ensure(self) -> Endpoint:
        """Where it listens, once it was seen to be of a version that fits. Blocks: not for the main thread.

        Raises:
            AddonError: As `probe`; retryable when it may come back by itself.
        """
        if not self._checked.is_set():
            probe(self.command)
            self._checked.set()
        return self.command.endpoint

    def allow(self) -> None:
        """It is not ours to start."""

    def forgive(self) -> None:
        """Look again whether its version fits."""
        self._checked.clear()

    def stop(self, *, grace: float = 0.0) -> None:
        """It is not ours to end."""


def probe(remote: RemoteBackend) -> ServerInfo:
    """Ask a backend what it is, and say in a sentence what is in the way. Blocks for `PROBE_TIMEOUT` a step.

    Raises:
        AddonError: UNREACHABLE (retryable), TLS_ERROR, UNAUTHENTICATED, VERSION_MISMATCH.
    """
    where = remote.address
    try:
        with socket.create_connection((remote.host, remote.port), timeout=PROBE_TIMEOUT):
            pass
    except socket.gaierror as error:
        raise AddonError("UNREACHABLE", tr("the name {host} is not known").format(host=remote.host)) from error
    except TimeoutError as error:
        text = tr("{where} does not answer; is the machine on, and does a firewall let the port through?")
        raise AddonError("UNREACHABLE", text.format(where=where), retryable=True) from error
    except ConnectionRefusedError as error:
        text = tr("nothing listens on {where}; is the backend started?").format(where=where)
        raise AddonError("UNREACHABLE", text, retryable=True) from error
    except OSError as error:
        raise AddonError("UNREACHABLE", f"{where}: {error.strerror or error}", retryable=True) from error
    client: GenerationClient | None = None
    try:
        client = connect(remote.endpoint)
        info = client.describe(timeout=PROBE_TIMEOUT)
    except AddonError as error:
        if error.reason == "CONNECTION_LOST":
            if not remote.has_tls and _speaks_tls(remote):
                raise AddonError("TLS_ERROR", tr("{where} wants TLS; switch TLS on").format(where=where)) from error
            problem = _handshake_problem(remote) if remote.has_tls else ""
            if problem:  # gRPC tells of the last address that it tried, which need not be the one that answers
                raise AddonError("TLS_ERROR", problem) from error
            raise AddonError("UNREACHABLE", error.message, retryable=True) from error
        raise
    finally:
        if client is not None:
            client.close()
    check_version(info.version, info.api)
    return info


def _handshake_problem(remote: RemoteBackend) -> str:
    """Why a secure connection to it does not come about, in a sentence; empty when it does."""
    context = ssl.create_default_context(cafile=str(remote.ca_path) if remote.ca_path else None)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((remote.host, remote.port), timeout=PROBE_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=remote.host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        is_name = error.verify_code in _WRONG_NAME
        return tls_problem("Hostname Verification" if is_name else "handshake CERTIFICATE_VERIFY_FAILED")
    except ssl.SSLError:
        return tls_problem("handshake WRONG_VERSION_NUMBER")
    except OSError:
        return ""


_WRONG_NAME = (62, 63, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH and _IP_ADDRESS_MISMATCH of OpenSSL."""


def _speaks_tls(remote: RemoteBackend) -> bool:
    """Whether a handshake succeeds, whoever it is with."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((remote.host, remote.port), timeout=PROBE_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=remote.host),
        ):
            return True
    except (OSError, ssl.SSLError):
        return False
