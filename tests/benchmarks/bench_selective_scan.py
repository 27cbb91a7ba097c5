"""The selective scan on this machine's CPU beside C++ with OpenMP, the best form in torch, and Numba."""

import dataclasses
from collections.abc import Iterator

import torch

from mvgamba.kernels.selective_scan import selective_scan
from tests.benchmarks.rows import Row, fastest
from tests.benchmarks.twins.selective_scan import (
    CppTwin,
    Scan,
    chunked_torch,
    compiled_steps,
    first_step,
    make_scan,
    numba_twin,
    second_step,
)

TWIN = "C++/OpenMP twin"


def scan(x: Scan, out: torch.Tensor | None = None) -> torch.Tensor:
    return selective_scan(x.u, x.delta, x.A, x.B, x.C, x.D, z=x.z, delta_bias=x.bias, delta_softplus=True, out=out).y


def _same(name: str, got: torch.Tensor, expected: torch.Tensor) -> None:
    error = (got - expected).abs().max() / expected.abs().max()
    if not error < 1e-4:
        raise RuntimeError(f"{name} disagrees by {error:.1e} of the largest value: not the same operation")


def _twin() -> CppTwin | None:
    try:
        return CppTwin()
    except RuntimeError as error:
        print(f"no row for the {TWIN}: {error}")
        return None


def _forward(x: Scan, twin: CppTwin | None, quick: bool) -> Iterator[Row]:
    length, channels = x.u.shape[1:]
    size = f"{length} x {channels} x 16"
    y, other = torch.empty_like(x.u), torch.empty_like(x.u)
    expected = scan(x).clone()
    calls = {"ours": lambda: scan(x, y)}
    if twin is not None:
        twin.forward(x, other)
        _same(TWIN, other, expected)
        calls[TWIN] = lambda: twin.forward(x, other)
    try:
        numba = numba_twin()
        numba(x, other)
        _same("Numba twin", other, expected)
        calls["Numba twin"] = lambda: numba(x, other)
    except ImportError as error:
        print(f"no row for the Numba twin: {error}")
    with torch.no_grad():
        best = fastest(calls, rounds=7)
    for name in list(calls)[1:]:
        bar = "ratio <= 1.1" if name == TWIN else None
        yield Row("scan forward", size, best["ours"], name, best[name], bar)

    steps = max(1, round(length**0.5))
    forms = {
        "reference": lambda: (
            selective_scan.function("reference")(
                x.u, x.delta, x.A, x.B, x.C, x.D, z=x.z, delta_bias=x.bias, delta_softplus=True
            ).y
        ),
        f"chunks of {steps}": lambda: chunked_torch(x, steps, first_step, second_step),
    }
    if not quick:
        try:
            forms[f"torch.compile of a step, chunks of {steps}"] = compiled_steps(x, steps)
        except RuntimeError as error:
            print(f"no torch.compile among the torch forms: {error}")
    with torch.no_grad():
        for name, form in forms.items():
            _same(name, form(), expected)
        times = fastest({"ours": lambda: scan(x, y), **forms}, rounds=2, warm_ups=0)
    ours = min(times.pop("ours"), best["ours"])
    name = min(times, key=lambda form: times[form])
    yield Row("scan forward", size, ours, f"best torch form ({name})", times[name], "ratio <= 0.125")


def _backward(x: Scan, twin: CppTwin | None) -> Iterator[Row]:
    size = f"{x.u.shape[1]} x {x.u.shape[2]} x 16"
    leaves = Scan(*(t.clone().requires_grad_() for t in x.tensors))
    y = scan(leaves)
    gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))

    def forward() -> None:
        with torch.no_grad():
            scan(x)

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(y, leaves.tensors, gy, retain_graph=True)

    calls = {"forward": forward, "backward": backward}
    if twin is not None:
        states = twin.forward(x, torch.empty_like(x.u), keep=True)
        assert states is not None
        names = ["u", "delta", "A", "B", "C", "D", "z", "bias"]
        for name, a, b in zip(names, twin.backward(x, states, gy), backward(), strict=True):
            _same(f"{TWIN}, gradient of {name}", a, b)
        calls[TWIN] = lambda: twin.backward(x, states, gy)
    best = fastest(calls, rounds=5)
    if twin is not None:
        yield Row("scan backward", size, best["backward"], TWIN, best[TWIN], "ratio <= 1.3")
    yield Row("scan backward / forward", size, best["backward"], "our forward", best["forward"], "ratio <= 4")


def _growth(lengths: list[int], channels: int, twin: CppTwin | None) -> Iterator[Row]:
    inputs = {n: make_scan(n, channels) for n in lengths}
    outs = {n: torch.empty_like(x.u) for n, x in inputs.items()}
    calls = {f"ours {n}": (lambda n=n: scan(inputs[n], outs[n])) for n in lengths}
    if twin is not None:
        calls.update({f"twin {n}": (lambda n=n: twin.forward(inputs[n], outs[n])) for n in lengths})
    with torch.no_grad():
        best = fastest(calls, rounds=7)
    for n in lengths:
        size = f"{n} x {channels} x 16"
        yield Row("scan growth", size, best[f"ours {n}"], TWIN, best.get(f"twin {n}"), curve=("tokens", n))
    # As many tokens and the same memory either way, so that a busy machine and its caches treat both alike.
    high = lengths[-1]
    low, whole = high // 16, inputs[high]
    parts = [Scan(*(t[:, i : i + low] if t.ndim == 3 else t for t in whole.tensors)) for i in range(0, high, low)]
    outs_of_parts = outs[high].split(low, dim=1)

    def short() -> None:
        for part, out in zip(parts, outs_of_parts, strict=True):
            scan(part, out)

    with torch.no_grad():
        best = fastest({"long": lambda: scan(whole, outs[high]), "short": short}, rounds=5)
    name = f"scan growth {low // 1024}k to {high // 1024}k" if low >= 1024 else f"scan growth {low} to {high}"
    size = f"s per token, {channels} x 16"
    yield Row(name, size, best["long"] / high, f"sequences of {low}", best["short"] / high, "ratio <= 1.1")


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this benchmark; `quick` has sizes that only show that it runs, too small to judge."""
    for row in _rows(quick):
        yield dataclasses.replace(row, bar=None) if quick else row


def _rows(quick: bool) -> Iterator[Row]:
    length, channels = (1024, 64) if quick else (16384, 1024)
    twin = _twin()
    x = make_scan(length, channels)
    yield from _forward(x, twin, quick)
    yield from _backward(x, twin)
    del x
    lengths = [256, 512, 1024] if quick else [1024, 2048, 4096, 8192, 16384, 32768, 65536]
    yield from _growth(lengths, 64 if quick else 512, twin)
