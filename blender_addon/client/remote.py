"""A backend that somebody else runs: whether it answers, and what is in the way when it does not."""

import socket
import ssl
import threading

from ..core.backend import Endpoint
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.remote import RemoteBackend
from ..core.server_info import ServerInfo, check_version
from .generation_client import GenerationClient, connect, tls_problem

PROBE_TIMEOUT = 5.0
"""Seconds that each step of a test may take."""


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
