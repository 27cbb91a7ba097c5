"""Kernels in blocks of threads, for CUDA: one body that a CUDA device runs fast and that a CPU can run too, to check it.

A body is a native snippet that begins with `PRELUDE` and uses its words instead of CUDA's. On CUDA they are the intrinsics
themselves. On a CPU Warp runs the threads of a block as fibers that take turns at each barrier, and the words exchange
values through memory: far too slow to use, and exactly what a test wants that has no device at hand. Rules for a body:

- every thread of a block reaches every barrier and every `warp_*` and `block_*` word (no early return before one);
- a barrier is only ever `BLOCK_SYNC()`; shared memory is `BLOCK_SHARED type name[constant]`, 48 KiB at most together;
- one thread per index of the launch: `THREAD` in the block, `block` as the kernel passes it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from mvgamba.kernels.warp_runtime import warp

PRELUDE = """
#if defined(__CUDA_ARCH__)
    #define BLOCK_SHARED __shared__
    const int THREAD = threadIdx.x;
    auto warp_sum = [](float v) {
        for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
        return v;
    };
    auto warp_xor = [](float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); };
    auto warp_any = [](int flag) -> int { return __any_sync(0xffffffffu, flag); };
    auto block_count = [](int flag) -> int { return __syncthreads_count(flag); };
    auto add_to = [](float* p, float v) { atomicAdd(p, v); };
    auto add_int = [](int* p, int v) -> int { return atomicAdd(p, v); };
    auto exp2_fast = [](float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; };
    auto log_fast = [](float x) { return __logf(x); };
#else
    #define BLOCK_SHARED static
    const int THREAD = WP_TILE_THREAD_IDX;
    static float exchanged[1024];
    auto warp_xor = [&](float v, int mask) {
        exchanged[THREAD] = v;
        WP_TILE_SYNC();
        const float other = exchanged[THREAD ^ mask];
        WP_TILE_SYNC();
        return other;
    };
    auto warp_sum = [&](float v) {
        for (int o = 16; o > 0; o >>= 1) v += warp_xor(v, o);
        return v;
    };
    auto block_count = [&](int flag) -> int {
        exchanged[THREAD] = flag ? 1.0f : 0.0f;
        WP_TILE_SYNC();
        float sum = 0.0f;
        for (int i = 0; i < WP_TILE_BLOCK_DIM; ++i) sum += exchanged[i];
        WP_TILE_SYNC();
        return (int)sum;
    };
    auto warp_any = [&](int flag) -> int {
        exchanged[THREAD] = flag ? 1.0f : 0.0f;
        WP_TILE_SYNC();
        float sum = 0.0f;
        for (int i = THREAD & ~31; i < (THREAD & ~31) + 32 && i < WP_TILE_BLOCK_DIM; ++i) sum += exchanged[i];
        WP_TILE_SYNC();
        return sum > 0.0f;
    };
    auto add_to = [](float* p, float v) { *p += v; };
    auto add_int = [](int* p, int v) -> int { const int old = *p; *p += v; return old; };
    auto exp2_fast = [](float x) { return (float)wp::exp(x * 0.69314718055994531f); };
    auto log_fast = [](float x) { return (float)wp::log(x); };
#endif
    #define BLOCK_SYNC() WP_TILE_SYNC()
    (void)THREAD; (void)warp_sum; (void)warp_xor; (void)warp_any; (void)block_count; (void)add_to; (void)add_int;
    (void)exp2_fast; (void)log_fast;
"""
"""`THREAD`, `BLOCK_SHARED`, `BLOCK_SYNC()`, `warp_sum(float)`, `warp_xor(float, mask)`, `warp_any(int)`, `block_count(int)` (a
barrier too), `add_to(float*, float)` and `add_int(int*, int)` (atomic), `exp2_fast(float)`, `log_fast(float)`."""


@contextlib.contextmanager
def _fibers() -> Iterator[None]:
    wp = warp()
    kept = wp.config.enable_cpu_blocks
    wp.config.enable_cpu_blocks = True
    try:
        yield
    finally:
        wp.config.enable_cpu_blocks = kept


def launch_blocks(kernel: Any, blocks: int, block_dim: int, inputs: list[Any], *, device: torch.device) -> None:
    """Launch `blocks * block_dim` threads, on torch's current stream where the device has streams.

    On a CPU the blocks run one after the other, their threads as fibers; not from several threads at once, because the
    shared memory of a block is static there.
    """
    if blocks <= 0:
        return
    wp = warp()
    dim = blocks * block_dim
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(
            kernel, dim=dim, inputs=inputs, device=wp.device_from_torch(device), stream=stream, block_dim=block_dim
        )
        return
    with _fibers():
        wp.launch(kernel, dim=dim, inputs=inputs, device="cpu", block_dim=block_dim)
