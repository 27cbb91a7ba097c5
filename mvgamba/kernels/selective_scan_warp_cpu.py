"""Selective scan for CPUs: sixteen channels in one vector register, sixteen states in registers, forward and backward.

The loops are native snippets in clang's vector extensions, compiled by Warp at first use; they stand in a module of their
own because such a snippet does not compile for CUDA. A worker takes groups of sixteen channels and walks the sequence in pieces, all
its groups through one piece and then through the next; for the backward pass it kept the state at the start of every chunk and
recomputes the others chunk by chunk.
"""

import functools
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.cpu_vectors import LANES, VECTORS, addresses, as_rows
from mvgamba.kernels.selective_scan import Scanned, check_scan_out, check_scan_shapes, written_to
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

CHUNK = 32
"""Steps between two states that are kept for the backward pass. The 32 KiB of states between them fit a first-level cache."""
PIECE = 64
"""Steps of the forward pass that all channels of a worker go through before the next: neighbouring channels share pages. 16,384 steps of
1024 channels take 29 ms when each group of channels walks alone, 23 ms in pieces of 32 to 128, 26 ms in pieces of 512."""

_VECTORS = (
    VECTORS
    + """
    constexpr int NS = @STATES@;
    constexpr int CHUNK = @CHUNK@;
    constexpr int PIECE = @PIECE@;
"""
)

_FORWARD = (
    _VECTORS
    + """
    const int groups = channels / 16;
    const int first = (int)((long long)batch * groups * worker / workers);
    const int last = (int)((long long)batch * groups * (worker + 1) / workers);
    const int chunks = (length + CHUNK - 1) / CHUNK;
    for (int task = first; task < last; ++task) {
        const size_t at = (size_t)(task / groups) * NS * channels + (task % groups) * 16;
        for (int n = 0; n < NS; ++n) store(h_last.data + at + n * channels, load(h0.data + at + n * channels));
    }
    // A piece of the sequence for all channels of a worker, then the next: neighbouring channels lie in the same pages.
    for (int from = 0; from < length; from += PIECE)
    for (int task = first; task < last; ++task) {
        const int b = task / groups, d = (task % groups) * 16, to = from + PIECE < length ? from + PIECE : length;
        vec a[NS], h[NS];
        #pragma clang loop unroll(full)
        for (int n = 0; n < NS; ++n) {
            a[n] = load(A.data + n * channels + d) * LOG2E;
            h[n] = load(h_last.data + ((size_t)b * NS + n) * channels + d);
        }
        const vec bias = load(delta_bias.data + d), skip = load(D.data + d);
        const size_t row = (size_t)b * length + from;
        const float *Bt = B.data + row * b_row, *Ct = C.data + row * c_row;
        const float *up = u.data + row * u_row + d, *dp = delta.data + row * delta_row + d, *zp = z.data + row * z_row + d;
        float* yp = y.data + row * y_row + d;
        for (int t = from; t < to; ++t, Bt += b_row, Ct += c_row, up += u_row, dp += delta_row, zp += z_row, yp += y_row) {
            if (keep && t % CHUNK == 0) {
                float* kept = states.data + (((size_t)b * chunks + t / CHUNK) * NS) * channels + d;
                for (int n = 0; n < NS; ++n) store(kept + n * channels, h[n]);
            }
            // A row is a stride of channels * 4 bytes away, often a page: no hardware prefetcher follows that.
            __builtin_prefetch(up + (size_t)u_row * 8);
            __builtin_prefetch(dp + (size_t)delta_row * 8);
            const vec ut = load(up);
            vec dt = load(dp) + bias;
            if (use_softplus) dt = softplus(dt);
            const vec x = dt * ut;
            vec y0 = ut * skip, y1 = (vec){};
            #pragma clang loop unroll(full)
            for (int n = 0; n < NS; n += 2) {
                h[n] = exp2v(dt * a[n]) * h[n] + x * Bt[n];
                h[n + 1] = exp2v(dt * a[n + 1]) * h[n + 1] + x * Bt[n + 1];
                y0 += h[n] * Ct[n];
                y1 += h[n + 1] * Ct[n + 1];
            }
            y0 += y1;
            if (has_z) {
                __builtin_prefetch(zp + (size_t)z_row * 8);
                const vec zt = load(zp);
                y0 *= zt * sigmoid(zt);
            }
            store(yp, y0);
        }
        for (int n = 0; n < NS; ++n) store(h_last.data + ((size_t)b * NS + n) * channels + d, h[n]);
    }
"""
)

_BACKWARD = (
    _VECTORS
    + """
    // The sums over the sixteen lanes of sixteen vectors, as one vector: four rounds that add pairs of half sums.
    auto sums = [](vec* v) -> vec {
        #pragma clang loop unroll(full)
        for (int i = 0; i < 8; ++i)
            v[i] = __builtin_shufflevector(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
                 + __builtin_shufflevector(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
        #pragma clang loop unroll(full)
        for (int i = 0; i < 4; ++i)
            v[i] = __builtin_shufflevector(v[i], v[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
                 + __builtin_shufflevector(v[i], v[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
        #pragma clang loop unroll(full)
        for (int i = 0; i < 2; ++i)
            v[i] = __builtin_shufflevector(v[i], v[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
                 + __builtin_shufflevector(v[i], v[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
        return __builtin_shufflevector(v[0], v[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
             + __builtin_shufflevector(v[0], v[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    };
    const int groups = channels / 16;
    const int first = (int)((long long)batch * groups * worker / workers);
    const int last = (int)((long long)batch * groups * (worker + 1) / workers);
    const int chunks = (length + CHUNK - 1) / CHUNK;
    vec past[CHUNK * NS], steps[CHUNK], inner[CHUNK];
    // What goes on to the chunk before stands where it ends: g_h0 and the sums for A, D and the bias.
    for (int task = first; task < last; ++task) {
        const int b = task / groups, d = (task % groups) * 16;
        for (int n = 0; n < NS; ++n) {
            const size_t at = ((size_t)b * NS + n) * channels + d;
            store(g_h0.data + at, load(g_last.data + at));
            store(g_A.data + at, (vec){});
        }
        store(g_D.data + (size_t)b * channels + d, (vec){});
        store(g_bias.data + (size_t)b * channels + d, (vec){});
    }
    for (int c = chunks - 1; c >= 0; --c) {
        for (int task = first; task < last; ++task) {
            const int b = task / groups, d = (task % groups) * 16;
            float *gh_at = g_h0.data + (size_t)b * NS * channels + d, *gA_at = g_A.data + (size_t)b * NS * channels + d;
            float *g_skip_at = g_D.data + (size_t)b * channels + d, *g_shift_at = g_bias.data + (size_t)b * channels + d;
            vec a[NS], gh[NS], gA[NS], h[NS];
            for (int n = 0; n < NS; ++n) {
                a[n] = load(A.data + n * channels + d);
                gh[n] = load(gh_at + n * channels);
                gA[n] = load(gA_at + n * channels);
            }
            const vec bias = load(delta_bias.data + d), skip = load(D.data + d);
            vec g_skip = load(g_skip_at), g_shift = load(g_shift_at);
            const int begin = c * CHUNK, end = begin + CHUNK < length ? begin + CHUNK : length;
            const float* kept = states.data + (((size_t)b * chunks + c) * NS) * channels + d;
            for (int n = 0; n < NS; ++n) h[n] = load(kept + n * channels);
            for (int t = begin; t < end; ++t) {
                const size_t row = (size_t)b * length + t;
                const float *Bt = B.data + row * b_row, *Ct = C.data + row * c_row;
                const vec ut = load(u.data + row * u_row + d);
                vec dt = load(delta.data + row * delta_row + d) + bias;
                if (use_softplus) dt = softplus(dt);
                const vec x = dt * ut, dt2 = dt * LOG2E;
                vec y = ut * skip;
                vec* mine = past + (t - begin) * NS;
                #pragma clang loop unroll_count(4)
                for (int n = 0; n < NS; ++n) {
                    mine[n] = h[n];
                    h[n] = exp2v(dt2 * a[n]) * h[n] + x * Bt[n];
                    y += h[n] * Ct[n];
                }
                steps[t - begin] = dt;
                inner[t - begin] = y;
            }
            for (int t = end - 1; t >= begin; --t) {
                const size_t row = (size_t)b * length + t;
                const float *Bt = B.data + row * b_row, *Ct = C.data + row * c_row;
                const vec ut = load(u.data + row * u_row + d), dt = steps[t - begin], x = dt * ut, dt2 = dt * LOG2E;
                const size_t at = row * channels + d;
                vec g = load(gy.data + at);
                if (has_z) {
                    const vec zt = load(z.data + row * z_row + d), s = sigmoid(zt);
                    store(gz.data + at, g * inner[t - begin] * s * (1.0f + zt * (1.0f - s)));
                    g *= zt * s;
                }
                g_skip += g * ut;
                vec gx = (vec){}, gdt = (vec){};
                const vec* mine = past + (t - begin) * NS;
                float* gBt = gB.data + ((size_t)worker * batch * length + row) * NS;
                float* gCt = gC.data + ((size_t)worker * batch * length + row) * NS;
                for (int block = 0; block < NS; block += 16) {
                    vec forB[16], forC[16];
                    #pragma clang loop unroll_count(4)
                    for (int i = 0; i < 16; ++i) {
                        const int n = block + i;
                        const vec decay = exp2v(dt2 * a[n]);
                        const vec faded = decay * mine[n];
                        forC[i] = g * (faded + x * Bt[n]);
                        gh[n] += g * Ct[n];
                        forB[i] = gh[n] * x;
                        gx += gh[n] * Bt[n];
                        const vec gexp = gh[n] * faded;
                        gdt += gexp * a[n];
                        gA[n] += gexp * dt;
                        gh[n] *= decay;
                    }
                    store(gBt + block, load(gBt + block) + sums(forB));
                    store(gCt + block, load(gCt + block) + sums(forC));
                }
                store(gu.data + at, g * skip + gx * dt);
                gdt += gx * ut;
                if (use_softplus) gdt *= sigmoid(load(delta.data + row * delta_row + d) + bias);
                g_shift += gdt;
                store(gdelta.data + at, gdt);
            }
            store(g_skip_at, g_skip);
            store(g_shift_at, g_shift);
            for (int n = 0; n < NS; ++n) {
                store(gh_at + n * channels, gh[n]);
                store(gA_at + n * channels, gA[n]);
            }
        }
    }
"""
)


@functools.cache
def _kernels(states: int) -> tuple[Any, Any]:
    """The forward and the backward kernel for a number of states that is a multiple of 16."""
    wp = warp()
    array = wp.array(dtype=wp.float32)

    def fill(snippet: str) -> str:
        return snippet.replace("@STATES@", str(states)).replace("@CHUNK@", str(CHUNK)).replace("@PIECE@", str(PIECE))

    # fmt: off
    @wp.func_native(fill(_FORWARD))
    @no_type_check  # beartype cannot read Warp's array types
    def scan_forward(
        worker: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u_row: int, delta_row: int, z_row: int, b_row: int, c_row: int, y_row: int, keep: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, h0: array,
        y: array, h_last: array, states: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def selective_scan_forward(
        begin: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u_row: int, delta_row: int, z_row: int, b_row: int, c_row: int, y_row: int, keep: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, h0: array,
        y: array, h_last: array, states: array,
    ):
        scan_forward(begin + wp.tid(), workers, batch, length, channels, use_softplus, has_z,
                     u_row, delta_row, z_row, b_row, c_row, y_row, keep,
                     u, delta, A, B, C, D, z, delta_bias, h0, y, h_last, states)

    @wp.func_native(fill(_BACKWARD))
    @no_type_check  # beartype cannot read Warp's array types
    def scan_backward(
        worker: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u_row: int, delta_row: int, z_row: int, b_row: int, c_row: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, states: array,
        gy: array, g_last: array, gu: array, gdelta: array, g_A: array, gB: array, gC: array, g_D: array, gz: array,
        g_h0: array, g_bias: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def selective_scan_backward(
        begin: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u_row: int, delta_row: int, z_row: int, b_row: int, c_row: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, states: array,
        gy: array, g_last: array, gu: array, gdelta: array, g_A: array, gB: array, gC: array, g_D: array, gz: array,
        g_h0: array, g_bias: array,
    ):
        scan_backward(begin + wp.tid(), workers, batch, length, channels, use_softplus, has_z,
                      u_row, delta_row, z_row, b_row, c_row, u, delta, A, B, C, D, z, delta_bias, states,
                      gy, g_last, gu, gdelta, g_A, gB, gC, g_D, gz, g_h0, g_bias)
    # fmt: on

    return selective_scan_forward, selective_scan_backward


def _channels_padded(x: Tensor, more: int) -> Tensor:
    return F.pad(x, (0, more)) if more else x


class _Scan(torch.autograd.Function):
    """Channels padded to whole vectors, states to a multiple of 16; A and the states lie as (states, channels)."""

    @staticmethod
    def forward(ctx: Any, u, delta, A, B, C, D, z, delta_bias, h0, use_softplus: bool, has_z: bool, out: Tensor | None):  # type: ignore[override]
        batch, length, channels = u.shape
        n = A.shape[0]
        in_rows = [as_rows(t.detach()) for t in (u, delta, z if has_z else u, B, C)]
        (u, u_row), (delta, delta_row), (z, z_row), (B, b_row), (C, c_row) = in_rows
        A, D, delta_bias, h0 = (t.detach().contiguous() for t in (A, D, delta_bias, h0))
        workers = max(1, min(num_threads(), batch * channels // LANES))
        keep = any(ctx.needs_input_grad)
        y = u.new_empty(batch, length, channels) if out is None else out
        h_last = torch.empty_like(h0)
        states = u.new_empty((batch, -(-length // CHUNK), n, channels) if keep else (0,))
        sizes = [batch, length, channels, int(use_softplus), int(has_z), u_row, delta_row, z_row, b_row, c_row]
        tensors = [u, delta, A, B, C, D, z, delta_bias]
        arrays = addresses([*tensors, h0, y, h_last, states])
        launch_chunks(_kernels(n)[0], workers, [workers, *sizes, y.stride(1), int(keep), *arrays])
        if keep:
            ctx.save_for_backward(*tensors, states)
            ctx.sizes, ctx.workers, ctx.has_z = sizes, workers, has_z
        return y, h_last

    @staticmethod
    def backward(ctx: Any, gy, g_last):  # type: ignore[override]
        *tensors, states = ctx.saved_tensors
        u, B = tensors[0], tensors[3]
        batch, length, channels, *_ = ctx.sizes
        n, workers = states.shape[2], ctx.workers
        gu, gdelta = (u.new_empty(batch, length, channels) for _ in range(2))
        gz = u.new_empty((batch, length, channels) if ctx.has_z else (0,))
        gB, gC = (torch.zeros((workers, *B.shape)) for _ in range(2))
        gA, gh0 = torch.empty(batch, n, channels), torch.empty(batch, n, channels)
        gD, g_bias = torch.empty(batch, channels), torch.empty(batch, channels)
        outputs = [gu, gdelta, gA, gB, gC, gD, gz, gh0, g_bias]
        arrays = addresses([*tensors, states, gy.contiguous(), g_last.contiguous(), *outputs])
        launch_chunks(_kernels(n)[1], workers, [workers, *ctx.sizes, *arrays])
        return (
            gu, gdelta, gA.sum(0), gB.sum(0), gC.sum(0), gD.sum(0), gz if ctx.has_z else None, g_bias.sum(0), gh0,
            None, None, None,
        )  # fmt: skip


def selective_scan_warp_cpu(
    u: Float[Tensor, "b L D"],
    delta: Float[Tensor, "b L D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "b L N"],
    C: Float[Tensor, "b L N"],
    D: Float[Tensor, "D"] | None = None,
    *,
    z: Float[Tensor, "b L D"] | None = None,
    delta_bias: Float[Tensor, "D"] | None = None,
    delta_softplus: bool = False,
    initial_state: Float[Tensor, "b D N"] | None = None,
    out: Float[Tensor, "b L D"] | None = None,
) -> Scanned:
    """See `mvgamba.kernels.selective_scan`; computes in float32 and differentiates to every input.

    float32 tensors with a multiple of 16 channels and states are read where they lie, slices of wider rows too; others are
    copied first. `out` may be `u`, `delta` or `z` itself.
    """
    check_scan_shapes(u, delta, A, B, C, D, z, delta_bias, initial_state)
    check_scan_out(out, u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, length, channels = u.shape
    states = A.shape[1]
    dtype = u.dtype
    if 0 in (batch, length, channels, states):
        state = u.new_zeros(batch, channels, states, dtype=torch.float32) if initial_state is None else initial_state
        y = torch.zeros_like(u) if D is None else u * D
        return Scanned(written_to(out, (y if z is None else y * F.silu(z)).to(dtype)), state)

    more_d, more_n = -channels % LANES, -states % 16

    def by_channel(x: Tensor | None) -> Tensor:
        return _channels_padded(u.new_zeros(channels, dtype=torch.float32) if x is None else x.float(), more_d)

    h0 = u.new_zeros(batch, channels, states, dtype=torch.float32) if initial_state is None else initial_state
    direct = out is not None and out.dtype == torch.float32 and not more_d and as_rows(out)[0] is out
    y, state = _Scan.apply(
        _channels_padded(u.float(), more_d),
        _channels_padded(delta.float(), more_d),
        F.pad(A.float().T, (0, more_d, 0, more_n)),
        _channels_padded(B.float(), more_n),
        _channels_padded(C.float(), more_n),
        by_channel(D),
        u.new_zeros(0, dtype=torch.float32) if z is None else _channels_padded(z.float(), more_d),
        by_channel(delta_bias),
        F.pad(h0.float().transpose(1, 2), (0, more_d, 0, more_n)),
        delta_softplus,
        z is not None,
        out if direct else None,
    )
    y = y[..., :channels].to(dtype)
    return Scanned(y if direct else written_to(out, y), state[:, :states, :channels].transpose(1, 2))
