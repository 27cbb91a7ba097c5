"""A backend that somebody else runs: its address, and whether it may be asked."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from .backend import Endpoint
from .errors import AddonError
from .i18n import tr

DEFAULT_PORT = 50051
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
