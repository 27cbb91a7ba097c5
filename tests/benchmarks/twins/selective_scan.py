"""The peers of the selective scan: C++ with OpenMP, torch in several forms, Numba. Each takes what `make_scan` gives."""

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

STATES = 16
COMPILE_SECONDS = 60.0


@dataclass(frozen=True)
class Scan:
    """Inputs of one sequence with bias, softplus, D and gate: (1, length, channels), (channels, 16), (1, length, 16)."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: Tensor
    bias: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.bias]


def make_scan(length: int, channels: int) -> Scan:
    g = torch.Generator().manual_seed(0)
    u, delta, z = (torch.randn(1, length, channels, generator=g) for _ in range(3))
    b, c = (torch.randn(1, length, STATES, generator=g) for _ in range(2))
    a = -torch.arange(1, STATES + 1, dtype=torch.float32).repeat(channels, 1)
    return Scan(u, delta, a, b, c, torch.ones(channels), z, torch.randn(channels, generator=g) - 4)


class CppTwin:
    """`selective_scan.cpp`, built with g++ when this is made. Raises: RuntimeError without a compiler."""

    def __init__(self) -> None:
        if shutil.which("g++") is None:
            raise RuntimeError("g++ is not installed")
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / "selective_scan.so"
        source = Path(__file__).with_suffix(".cpp")
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        built = subprocess.run(["g++", *flags, str(source), "-o", str(library)], capture_output=True, text=True)
        if built.returncode:
            raise RuntimeError(f"g++ failed: {built.stderr[-300:]}")
        self._library = ctypes.CDLL(str(library))

    def _call(self, name: str, length: int, channels: int, tensors: list[Tensor | None]) -> None:
        addresses = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
        getattr(self._library, name)(ctypes.c_int(length), ctypes.c_int(channels), *addresses)

    def forward(self, x: Scan, y: Tensor, *, keep: bool = False) -> Tensor | None:
        """Into `y`; gives the states at every 64th step if they are to be kept."""
        _, length, channels = x.u.shape
        states = torch.empty(-(-length // 64), STATES, channels) if keep else None
        u, delta, a, *rest = x.tensors
        last = torch.empty(STATES, channels)
        self._call("scan_forward", length, channels, [u, delta, a.T.contiguous(), *rest, y, last, states])
        return states

    def backward(self, x: Scan, states: Tensor, gy: Tensor) -> list[Tensor]:
        """The gradients of u, delta, A, B, C, D, z, bias in fresh memory, as an extension would give them."""
        _, length, channels = x.u.shape
        u, delta, a, *rest = x.tensors
        turned = a.T.contiguous()
        grads = [torch.empty_like(t) for t in (u, delta, turned, *rest)]
        self._call("scan_backward", length, channels, [u, delta, turned, *rest, states, gy, *grads])
        grads[2] = grads[2].T
        return grads


def first_step(h: Tensor, dt: Tensor, u: Tensor, b: Tensor, c: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """All chunks one step on: states (K, D, N), dt and u (K, D), b and c (K, N)."""
    h = torch.exp(dt[..., None] * a) * h + (dt * u)[..., None] * b[:, None]
    return h, (h * c[:, None]).sum(-1)


def second_step(carried: Tensor, elapsed: Tensor, c: Tensor, a: Tensor) -> Tensor:
    """What the states at the cuts add to the outputs of a step."""
    return (torch.exp(elapsed[..., None] * a) * carried * c[:, None]).sum(-1)


def chunked_torch(
    x: Scan, steps: int, first: Callable[..., tuple[Tensor, Tensor]], second: Callable[..., Tensor]
) -> Tensor:
    """Chunks of `steps` side by side, joined by their decays; `length` must be a multiple of `steps`."""
    u = x.u[0].unflatten(0, (-1, steps))
    dt = F.softplus(x.delta[0] + x.bias).unflatten(0, (-1, steps))
    b, c = (t[0].unflatten(0, (-1, steps)) for t in (x.B, x.C))
    h = u.new_zeros(u.shape[0], u.shape[2], STATES)
    y = torch.empty_like(u)
    for t in range(steps):
        h, y[:, t] = first(h, dt[:, t], u[:, t], b[:, t], c[:, t], x.A)
    elapsed = dt.cumsum(1)
    decay = torch.exp(elapsed[:, -1, :, None] * x.A)
    carried = torch.zeros_like(h)
    for k in range(1, h.shape[0]):
        carried[k] = decay[k - 1] * carried[k - 1] + h[k - 1]
    for t in range(steps):
        y[:, t] += second(carried, elapsed[:, t], c[:, t], x.A)
    return ((y + x.D * u).flatten(0, 1) * F.silu(x.z[0]))[None]


def compiled_steps(x: Scan, steps: int) -> Callable[[], Tensor]:
    """`chunked_torch` with its steps through torch.compile. Raises: RuntimeError where that fails or takes too long."""
    begin = time.perf_counter()
    first, second = torch.compile(first_step), torch.compile(second_step)
    try:
        chunked_torch(x, steps, first, second)
    except Exception as error:  # whatever the compiler of the day throws
        raise RuntimeError(f"torch.compile failed: {str(error)[:200]}") from error
    taken = time.perf_counter() - begin
    if taken > COMPILE_SECONDS:
        raise RuntimeError(f"torch.compile took {taken:.0f} s for its first call")
    return lambda: chunked_torch(x, steps, first, second)


def numba_twin() -> Callable[[Scan, Tensor], None]:
    """Sixteen channels at a time in Numba, forward into a tensor. Raises: ImportError without the package."""
    import math

    import numba
    import numpy as np

    @numba.njit(parallel=True, fastmath=True)
    def scan(u, delta, a, b, c, skip, z, bias, y):  # type: ignore[no-untyped-def]
        length, channels = u.shape
        for group in numba.prange(channels // 16):
            d0 = group * 16
            h = np.zeros((STATES, 16), dtype=np.float32)
            dt = np.empty(16, dtype=np.float32)
            x = np.empty(16, dtype=np.float32)
            total = np.empty(16, dtype=np.float32)
            for t in range(length):
                for i in range(16):
                    raw = delta[t, d0 + i] + bias[d0 + i]
                    dt[i] = max(raw, np.float32(0)) + math.log1p(math.exp(-abs(raw)))
                    x[i] = dt[i] * u[t, d0 + i]
                    total[i] = u[t, d0 + i] * skip[d0 + i]
                for n in range(STATES):
                    for i in range(16):
                        h[n, i] = math.exp(dt[i] * a[n, d0 + i]) * h[n, i] + x[i] * b[t, n]
                        total[i] += h[n, i] * c[t, n]
                for i in range(16):
                    gate = z[t, d0 + i]
                    y[t, d0 + i] = total[i] * gate / (np.float32(1) + math.exp(-gate))

    def call(x: Scan, y: Tensor) -> None:
        arrays = [x.u[0], x.delta[0], x.A.T.contiguous(), x.B[0], x.C[0], x.D, x.z[0], x.bias, y[0]]
        scan(*(t.numpy() for t in arrays))

    return call
