"""How a service is set up: one value, checked once, handed down."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from mvgamba.errors import InvalidInput
from mvgamba_backend.spec import Limits

MOST_FAKE_DEVICES = 16


@dataclass(frozen=True)
class ServiceConfig:
    """What the command line gives."""

    data_dir: Path
    """Jobs, uploads and results."""
    token: str
    """What every call must bring along."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: the system chooses."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    engine: str = "local"
    pipeline: str = "real"
    """real or fake."""
    fake_devices: int = 0
    """CUDA devices that the fake pipeline plays, beside the CPU."""
    parent_pid: int | None = None
    """Leave when this process ends."""
    die_with_stdin: bool = False
    """Leave when stdin closes."""
    log_file: Path | None = None
    cancel_grace: float = 5.0
    """Seconds that a worker has to stop by itself before it is killed."""
    idle_exit: float = 300.0
    """Seconds without a job after which a worker leaves and frees its memory; 0: never."""
    min_free_bytes: int = 256 << 20
    """No job or upload is taken with less room than this in the data folder."""
    max_watchers: int = 96
    keep_uploads: float = 24 * 3600.0
    """Seconds that an upload stays without a job that names it."""
    limits: Limits = field(default_factory=Limits)

    @property
    def is_child(self) -> bool:
        """Whether the service belongs to the process that started it."""
        return self.die_with_stdin or self.parent_pid is not None

    def check(self) -> None:
        """Raises: InvalidInput, with what to do."""
        if not 0 <= self.port < 65536:
            raise InvalidInput(f"--port is {self.port}; it must lie between 0 (the system chooses) and 65535.")
        if not self.token:
            raise InvalidInput("The token is empty. Set MVGAMBA_TOKEN, or leave it out to have one drawn.")
        if not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise InvalidInput("The token holds blanks or characters that are not ASCII; gRPC cannot carry it.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInput("--tls-cert and --tls-key go together; one of them is missing.")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise InvalidInput(f"{path} is not a file; --tls-cert and --tls-key want PEM files.")
        if not 0 <= self.fake_devices <= MOST_FAKE_DEVICES:
            raise InvalidInput(f"--fake-devices is {self.fake_devices}; it must lie between 0 and {MOST_FAKE_DEVICES}.")
        if self.fake_devices and self.pipeline != "fake":
            raise InvalidInput("--fake-devices is for --pipeline fake; the real one takes the devices that there are.")
        if self.limits.queue_limit < 1:
            raise InvalidInput(f"--queue-limit is {self.limits.queue_limit}; at least 1 is needed.")
        if not is_loopback(self.host) and self.tls_cert is None:
            raise InvalidInput(
                f"--host {self.host} can be reached from other machines, so it needs --tls-cert and --tls-key (PEM files). "
                "Give them, or leave --host out to serve this machine only."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
