"""Selective scan for CPUs: sixteen channels in one vector register, sixteen states in registers, forward and backward.

The loops are native snippets in clang's vector extensions, compiled by Warp at first use; they stand in a module of their
own because such a snippet does not compile for CUDA. A worker takes groups of sixteen channels and walks the sequence once
forward; for the backward pass it kept the state at the start of every chunk and recomputes the others chunk by chunk.
"""

import functools
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.selective_scan import Scanned, check_scan_shapes
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

LANES = 16
CHUNK = 64
"""Steps between two states that are kept for the backward pass; 64 KiB of states are recomputed at a time."""

_VECTORS = """
    #pragma clang fp contract(fast)
    typedef float vec __attribute__((vector_size(64)));
    typedef float vec_u __attribute__((vector_size(64), aligned(4)));
    typedef int ivec __attribute__((vector_size(64)));
    constexpr int NS = @STATES@;
    constexpr int CHUNK = @CHUNK@;
    auto load = [](const float* p) -> vec { return *(const vec_u*)p; };
    auto store = [](float* p, vec v) { *(vec_u*)p = v; };
    // 2^x for x in [-126, 126], beyond that the ends: n = round(x) by the magic constant, a polynomial for 2^(x - n) on
    // [-1/2, 1/2] (Taylor, relative error 1.2e-7 with rounding), and n added to the exponent.
    auto exp2v = [](vec x) -> vec {
        const vec lo = (vec)(ivec)(x < -126.0f), hi = (vec)(ivec)(x > 126.0f);
        x = (vec)(((ivec)lo & (ivec)((vec){} - 126.0f)) | (~(ivec)lo & (ivec)x));
        x = (vec)(((ivec)hi & (ivec)((vec){} + 126.0f)) | (~(ivec)hi & (ivec)x));
        const vec shifted = x + 12582912.0f;
        const vec f = x - (shifted - 12582912.0f);
        vec p = (vec){} + 1.5403530e-4f;
        p = p * f + 1.3333558e-3f;
        p = p * f + 9.6181291e-3f;
        p = p * f + 5.5504109e-2f;
        p = p * f + 2.4022651e-1f;
        p = p * f + 6.9314718e-1f;
        p = p * f + 1.0f;
        return (vec)((ivec)p + (((ivec)shifted) << 23));
    };
    const float LOG2E = 1.44269504088896341f;
    auto sigmoid = [&](vec x) -> vec { return 1.0f / (1.0f + exp2v(x * -LOG2E)); };
    // max(x, 0) + log1p(exp(-|x|)), log1p(e) = 2 atanh(e / (2 + e)) with e <= 1: nine terms suffice for float32.
    auto softplus = [&](vec x) -> vec {
        const vec minus_abs = (vec)((ivec)x | (int)0x80000000);
        const vec e = exp2v(minus_abs * LOG2E);
        const vec s = e / (e + 2.0f), q = s * s;
        vec p = (vec){} + 1.0f / 15.0f;
        p = p * q + 1.0f / 13.0f;
        p = p * q + 1.0f / 11.0f;
        p = p * q + 1.0f / 9.0f;
        p = p * q + 1.0f / 7.0f;
        p = p * q + 1.0f / 5.0f;
        p = p * q + 1.0f / 3.0f;
        p = p * q + 1.0f;
        const vec positive = (vec)((ivec)x & ~((ivec)x >> 31));
        return positive + 2.0f * s * p;
    };
"""

_FORWARD = (
    _VECTORS
    + """
    const int groups = channels / 16;
    const int first = (int)((long long)batch * groups * worker / workers);
    const int last = (int)((long long)batch * groups * (worker + 1) / workers);
    const int chunks = (length + CHUNK - 1) / CHUNK;
    for (int task = first; task < last; ++task) {
        const int b = task / groups, d = (task % groups) * 16;
        vec a[NS], h[NS];
        #pragma clang loop unroll(full)
        for (int n = 0; n < NS; ++n) {
            a[n] = load(A.data + n * channels + d) * LOG2E;
            h[n] = load(h0.data + ((size_t)b * NS + n) * channels + d);
        }
        const vec bias = load(delta_bias.data + d), skip = load(D.data + d);
        const float* Bt = B.data + (size_t)b * length * NS;
        const float* Ct = C.data + (size_t)b * length * NS;
        size_t at = (size_t)b * length * channels + d;
        for (int t = 0; t < length; ++t, at += channels, Bt += NS, Ct += NS) {
            if (keep && t % CHUNK == 0) {
                float* kept = states.data + (((size_t)b * chunks + t / CHUNK) * NS) * channels + d;
                for (int n = 0; n < NS; ++n) store(kept + n * channels, h[n]);
            }
            // A row is a stride of channels * 4 bytes away, often a page: no hardware prefetcher follows that.
            const size_t ahead = at + (size_t)channels * 8;
            __builtin_prefetch(u.data + ahead);
            __builtin_prefetch(delta.data + ahead);
            const vec ut = load(u.data + at);
            vec dt = load(delta.data + at) + bias;
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
                __builtin_prefetch(z.data + ahead);
                const vec zt = load(z.data + at);
                y0 *= zt * sigmoid(zt);
            }
            store(y.data + at, y0);
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
    for (int task = first; task < last; ++task) {
        const int b = task / groups, d = (task % groups) * 16;
        vec a[NS], gh[NS], gA[NS], h[NS];
        for (int n = 0; n < NS; ++n) {
            a[n] = load(A.data + n * channels + d);
            gh[n] = load(g_last.data + ((size_t)b * NS + n) * channels + d);
            gA[n] = (vec){};
        }
        const vec bias = load(delta_bias.data + d), skip = load(D.data + d);
        vec g_skip = (vec){};
        for (int c = chunks - 1; c >= 0; --c) {
            const int begin = c * CHUNK, end = begin + CHUNK < length ? begin + CHUNK : length;
            const float* kept = states.data + (((size_t)b * chunks + c) * NS) * channels + d;
            for (int n = 0; n < NS; ++n) h[n] = load(kept + n * channels);
            for (int t = begin; t < end; ++t) {
                const size_t row = (size_t)b * length + t, at = row * channels + d;
                const float *Bt = B.data + row * NS, *Ct = C.data + row * NS;
                const vec ut = load(u.data + at);
                vec dt = load(delta.data + at) + bias;
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
                const size_t row = (size_t)b * length + t, at = row * channels + d;
                const float *Bt = B.data + row * NS, *Ct = C.data + row * NS;
                const vec ut = load(u.data + at), dt = steps[t - begin], x = dt * ut, dt2 = dt * LOG2E;
                vec g = load(gy.data + at);
                if (has_z) {
                    const vec zt = load(z.data + at), s = sigmoid(zt);
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
                if (use_softplus) gdt *= sigmoid(load(delta.data + at) + bias);
                store(gdelta.data + at, gdt);
            }
        }
        store(g_D.data + (size_t)b * channels + d, g_skip);
        for (int n = 0; n < NS; ++n) {
            store(g_A.data + ((size_t)b * NS + n) * channels + d, gA[n]);
            store(g_h0.data + ((size_t)b * NS + n) * channels + d, gh[n]);
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
        return snippet.replace("@STATES@", str(states)).replace("@CHUNK@", str(CHUNK))

    # fmt: off
    @wp.func_native(fill(_FORWARD))
    @no_type_check  # beartype cannot read Warp's array types
    def scan_forward(
        worker: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, keep: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, h0: array,
        y: array, h_last: array, states: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def selective_scan_forward(
        begin: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, keep: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, h0: array,
        y: array, h_last: array, states: array,
    ):
        scan_forward(begin + wp.tid(), workers, batch, length, channels, use_softplus, has_z, keep,
                     u, delta, A, B, C, D, z, delta_bias, h0, y, h_last, states)

    @wp.func_native(fill(_BACKWARD))
    @no_type_check  # beartype cannot read Warp's array types
    def scan_backward(
        worker: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, states: array,
        gy: array, g_last: array, gu: array, gdelta: array, g_A: array, gB: array, gC: array, g_D: array, gz: array,
        g_h0: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def selective_scan_backward(
        begin: int, workers: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int,
        u: array, delta: array, A: array, B: array, C: array, D: array, z: array, delta_bias: array, states: array,
        gy: array, g_last: array, gu: array, gdelta: array, g_A: array, gB: array, gC: array, g_D: array, gz: array,
        g_h0: array,
    ):
        scan_backward(begin + wp.tid(), workers, batch, length, channels, use_softplus, has_z,
                      u, delta, A, B, C, D, z, delta_bias, states,
                      gy, g_last, gu, gdelta, g_A, gB, gC, g_D, gz, g_h0)
    # fmt: on

    return selective_scan_forward, selective_scan_backward


def _flat(tensors: list[Tensor]) -> list[Any]:
    wp = warp()
    return [wp.from_torch(t.view(-1), dtype=wp.float32) for t in tensors]


class _Scan(torch.autograd.Function):
    """Channels padded to whole vectors, states to a multiple of 16; A and the states lie as (states, channels)."""

    @staticmethod
    def forward(ctx: Any, u, delta, A, B, C, D, z, delta_bias, h0, use_softplus: bool, has_z: bool):  # type: ignore[override]
        tensors = [t.detach().contiguous() for t in (u, delta, A, B, C, D, z, delta_bias, h0)]
        batch, length, channels = u.shape
        n = A.shape[0]
        workers = max(1, min(num_threads(), batch * channels // LANES))
        keep = any(ctx.needs_input_grad)
        y = torch.empty_like(tensors[0])
        h_last = torch.empty_like(tensors[8])
        chunks = -(-length // CHUNK)
        states = torch.empty((batch, chunks, n, channels) if keep else (0,))
        sizes = [workers, batch, length, channels, int(use_softplus), int(has_z)]
        launch_chunks(_kernels(n)[0], workers, [*sizes, int(keep), *_flat([*tensors, y, h_last, states])])
        if keep:
            ctx.save_for_backward(*tensors[:8], states)
            ctx.sizes = sizes
        return y, h_last

    @staticmethod
    def backward(ctx: Any, gy, g_last):  # type: ignore[override]
        *tensors, states = ctx.saved_tensors
        u, _, A, B, _, D, z, _ = tensors
        workers, batch, length, channels, *_ = ctx.sizes
        n = A.shape[0]
        gu, gdelta, gz = torch.empty_like(u), torch.empty_like(u), torch.empty_like(z)
        gB, gC = (torch.zeros((workers, *B.shape)) for _ in range(2))
        gA, gD, gh0 = torch.empty(batch, n, channels), torch.empty(batch, channels), torch.empty(batch, n, channels)
        outputs = [gu, gdelta, gA, gB, gC, gD, gz, gh0]
        inputs = _flat([*tensors, states, gy.contiguous(), g_last.contiguous(), *outputs])
        launch_chunks(_kernels(n)[1], workers, [*ctx.sizes, *inputs])
        return (
            gu, gdelta, gA.sum(0), gB.sum(0), gC.sum(0), gD.sum(0), gz, gdelta.sum((0, 1)), gh0, None, None,
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
) -> Scanned:
    """See `mvgamba.kernels.selective_scan`; computes in float32 and differentiates to every input."""
    check_scan_shapes(u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, length, channels = u.shape
    states = A.shape[1]
    dtype = u.dtype
    if 0 in (batch, length, channels, states):
        state = u.new_zeros(batch, channels, states, dtype=torch.float32) if initial_state is None else initial_state
        y = torch.zeros_like(u) if D is None else u * D
        return Scanned(y if z is None else y * F.silu(z), state)

    more_d, more_n = -channels % LANES, -states % 16

    def by_channel(x: Tensor | None) -> Tensor:
        return F.pad(u.new_zeros(channels, dtype=torch.float32) if x is None else x.float(), (0, more_d))

    def by_state(x: Tensor) -> Tensor:
        return F.pad(x.float(), (0, more_n))

    h0 = u.new_zeros(batch, channels, states, dtype=torch.float32) if initial_state is None else initial_state
    y, state = _Scan.apply(
        F.pad(u.float(), (0, more_d)),
        F.pad(delta.float(), (0, more_d)),
        F.pad(A.float().T, (0, more_d, 0, more_n)),
        by_state(B),
        by_state(C),
        by_channel(D),
        u.new_zeros(0, dtype=torch.float32) if z is None else F.pad(z.float(), (0, more_d)),
        by_channel(delta_bias),
        F.pad(h0.float().transpose(1, 2), (0, more_d, 0, more_n)),
        delta_softplus,
        z is not None,
    )
    return Scanned(y[..., :channels].to(dtype), state[:, :states, :channels].transpose(1, 2))
