"""Warp as it is used here: initialised once and quietly, and several threads on a CPU.

Warp runs a CPU launch on one thread but releases the GIL, so a launch is split by hand: `launch_chunks` calls the same
kernel on ranges of its index from a small pool of threads. Kernels for it take `begin` as their first argument, add it to
their thread index, and must not add to the same memory from two chunks (`wp.atomic_add` is not atomic on a CPU).
"""

import contextlib
import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def why_not_on_cpu(device: torch.device) -> str | None:
    """Availability of a Warp variant written for CPUs."""
    if device.type != "cpu":
        return "it is written for CPUs"
    if importlib.util.find_spec("warp") is None:
        return "warp-lang is not installed"
    return None


def why_not_on_cuda(device: torch.device) -> str | None:
    """Availability of a Warp variant written for CUDA."""
    if device.type != "cuda":
        return "it is written for CUDA"
    if importlib.util.find_spec("warp") is None:
        return "warp-lang is not installed"
    if not warp().is_cuda_available():
        return "Warp finds no CUDA driver"
    return None


@functools.cache
def warp() -> Any:
    """The module `warp`, initialised without its banner."""
    import warp as wp

    wp.config.log_level = logging.ERROR  # its INFO goes to stdout, where a program's answer belongs
    with _stderr_silenced():
        wp.init()  # without a CUDA driver its native part says so at any log level
    return wp


@contextlib.contextmanager
def _stderr_silenced() -> Iterator[None]:
    """Also what native code writes."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def num_threads() -> int:
    """As many as torch may use, which honours OMP_NUM_THREADS."""
    return max(1, min(torch.get_num_threads(), os.cpu_count() or 1))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="mvgamba-warp")


def launch_chunks(kernel: Any, dim: int, inputs: list[Any], *, chunks_per_thread: int = 1, smallest: int = 1) -> None:
    """Launch `kernel(begin, *inputs)` on [0, dim), cut into contiguous ranges for the threads there are."""
    wp = warp()
    threads = num_threads()
    parts = max(1, min(threads * chunks_per_thread, dim // max(smallest, 1)))
    if dim <= 0:
        return
    if threads == 1 or parts == 1:
        wp.launch(kernel, dim=dim, inputs=[0, *inputs], device="cpu")
        return
    kernel.module.load(wp.get_device("cpu"), block_dim=1)  # compile once, outside the threads
    edges = [dim * i // parts for i in range(parts + 1)]
    jobs = [
        _pool().submit(wp.launch, kernel, dim=b - a, inputs=[a, *inputs], device="cpu")
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    for job in jobs:
        job.result()
