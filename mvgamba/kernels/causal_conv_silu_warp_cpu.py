"""Causal convolution and SiLU for CPUs in one pass over memory, forward and backward.

Forward goes along the rows, which hardware prefetchers follow; the rows before stay in the cache. Backward takes columns of
sixteen channels with the windows of x and of the gradient in registers: x_t gives p_t, p_t the gradient before SiLU, and K of
those the gradient of x_{t-K+1}.
"""

import functools
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.causal_conv_silu import check_conv
from mvgamba.kernels.cpu_vectors import LANES, VECTORS, addresses, as_rows
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

_FORWARD = (
    VECTORS
    + """
    constexpr int TAPS = @TAPS@;
    const long long rows = (long long)batch * length;
    const long long first = rows * worker / workers, last = rows * (worker + 1) / workers;
    for (long long row = first; row < last; ++row) {
        const int t = (int)(row % length);
        const float* before[TAPS];  // the rows t - TAPS + 1 .. t
        for (int k = 0; k < TAPS; ++k) {
            const int ago = TAPS - 1 - k;
            before[k] = ago <= t ? x.data + (row - ago) * (long long)x_row
                                 : history.data + ((row / length) * (TAPS - 1) + t + k) * (long long)channels;
        }
        float* y_t = y.data + row * (long long)y_row;
        for (int d = 0; d < channels; d += 16) {
            vec p = load(bias.data + d);
            #pragma clang loop unroll(full)
            for (int k = 0; k < TAPS; ++k) p += load(before[k] + d) * load(weight.data + (size_t)k * channels + d);
            store(y_t + d, p * sigmoid(p));
        }
    }
"""
)

_BACKWARD = (
    VECTORS
    + """
    constexpr int TAPS = @TAPS@;
    const int groups = channels / 16;
    const int first = (int)((long long)batch * groups * worker / workers);
    const int last = (int)((long long)batch * groups * (worker + 1) / workers);
    for (int task = first; task < last; ++task) {
        const int b = task / groups, d = (task % groups) * 16;
        vec w[TAPS], g_w[TAPS], past[TAPS], g_past[TAPS], g_b = (vec){};
        for (int k = 0; k < TAPS; ++k) {
            w[k] = load(weight.data + (size_t)k * channels + d);
            past[k] = k ? load(history.data + ((size_t)b * (TAPS - 1) + k - 1) * channels + d) : (vec){};
            g_w[k] = g_past[k] = (vec){};
        }
        const vec shift = load(bias.data + d);
        for (int t = 0; t < length + TAPS - 1; ++t) {
            #pragma clang loop unroll(full)
            for (int k = 0; k < TAPS - 1; ++k) { past[k] = past[k + 1]; g_past[k] = g_past[k + 1]; }
            g_past[TAPS - 1] = (vec){};
            if (t < length) {
                const size_t row = (size_t)b * length + t;
                const float *x_t = x.data + row * x_row + d, *g_t = gy.data + row * channels + d;
                if (t + 8 < length) { __builtin_prefetch(x_t + (size_t)x_row * 8); __builtin_prefetch(g_t + (size_t)channels * 8); }
                past[TAPS - 1] = load(x_t);
                vec p = shift;
                #pragma clang loop unroll(full)
                for (int k = 0; k < TAPS; ++k) p += past[k] * w[k];
                const vec s = sigmoid(p), g = load(g_t) * s * (1.0f + p * (1.0f - s));
                g_b += g;
                #pragma clang loop unroll(full)
                for (int k = 0; k < TAPS; ++k) g_w[k] += g * past[k];
                g_past[TAPS - 1] = g;
            }
            vec g_x = (vec){};  // of x at t - TAPS + 1, which these are all the outputs of
            #pragma clang loop unroll(full)
            for (int k = 0; k < TAPS; ++k) g_x += g_past[k] * w[TAPS - 1 - k];
            const int of = t - TAPS + 1;
            if (of >= 0) store(gx.data + ((size_t)b * length + of) * channels + d, g_x);
            else store(g_history.data + ((size_t)b * (TAPS - 1) + t) * channels + d, g_x);
        }
        for (int k = 0; k < TAPS; ++k) store(g_weight.data + ((size_t)b * TAPS + k) * channels + d, g_w[k]);
        store(g_bias.data + (size_t)b * channels + d, g_b);
    }
"""
)


@functools.cache
def _kernels(taps: int) -> tuple[Any, Any]:
    wp = warp()
    array = wp.array(dtype=wp.float32)

    @wp.func_native(_FORWARD.replace("@TAPS@", str(taps)))
    @no_type_check  # beartype cannot read Warp's array types
    def forward_body(
        worker: int, workers: int, batch: int, length: int, channels: int, x_row: int, y_row: int,
        x: array, weight: array, bias: array, history: array, y: array,
    ): ...  # fmt: skip

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def causal_conv_silu_forward(
        begin: int, workers: int, batch: int, length: int, channels: int, x_row: int, y_row: int,
        x: array, weight: array, bias: array, history: array, y: array,
    ):  # fmt: skip
        forward_body(begin + wp.tid(), workers, batch, length, channels, x_row, y_row, x, weight, bias, history, y)

    @wp.func_native(_BACKWARD.replace("@TAPS@", str(taps)))
    @no_type_check
    def backward_body(
        worker: int, workers: int, batch: int, length: int, channels: int, x_row: int,
        x: array, weight: array, bias: array, history: array, gy: array,
        gx: array, g_weight: array, g_bias: array, g_history: array,
    ): ...  # fmt: skip

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def causal_conv_silu_backward(
        begin: int, workers: int, batch: int, length: int, channels: int, x_row: int,
        x: array, weight: array, bias: array, history: array, gy: array,
        gx: array, g_weight: array, g_bias: array, g_history: array,
    ):  # fmt: skip
        backward_body(begin + wp.tid(), workers, batch, length, channels, x_row,
                      x, weight, bias, history, gy, gx, g_weight, g_bias, g_history)  # fmt: skip

    return causal_conv_silu_forward, causal_conv_silu_backward


class _ConvSilu(torch.autograd.Function):
    """Channels padded to whole vectors; the weight lies as (taps, channels)."""

    @staticmethod
    def forward(ctx: Any, x, weight, bias, history, out: Tensor | None):  # type: ignore[override]
        batch, length, channels = x.shape
        taps = weight.shape[0]
        x, x_row = as_rows(x.detach())
        weight, bias, history = (t.detach().contiguous() for t in (weight, bias, history))
        y = x.new_empty(batch, length, channels) if out is None else out
        workers = max(1, min(num_threads(), batch * length // 64))
        sizes = [workers, batch, length, channels, x_row]
        launch_chunks(_kernels(taps)[0], workers, [*sizes, as_rows(y)[1], *addresses([x, weight, bias, history, y])])
        ctx.save_for_backward(x, weight, bias, history)
        ctx.sizes = sizes
        return y

    @staticmethod
    def backward(ctx: Any, gy):  # type: ignore[override]
        x, weight, bias, history = ctx.saved_tensors
        _, batch, length, channels, x_row = ctx.sizes
        taps = weight.shape[0]
        workers = max(1, min(num_threads(), batch * channels // LANES))
        gx, g_history = x.new_empty(batch, length, channels), torch.empty_like(history)
        g_weight, g_bias = x.new_empty(batch, taps, channels), x.new_empty(batch, channels)
        tensors = [x, weight, bias, history, gy.contiguous(), gx, g_weight, g_bias, g_history]
        launch_chunks(_kernels(taps)[1], workers, [workers, batch, length, channels, x_row, *addresses(tensors)])
        return gx, g_weight.sum(0), g_bias.sum(0), g_history, None


def causal_conv_silu_warp_cpu(
    x: Float[Tensor, "b L E"],
    weight: Float[Tensor, "E 1 K"],
    bias: Float[Tensor, "E"],
    *,
    history: Float[Tensor, "b k E"] | None = None,
    out: Float[Tensor, "b L E"] | None = None,
) -> Float[Tensor, "b L E"]:
    """See `mvgamba.kernels.causal_conv_silu`; computes in float32 and differentiates to every input.

    `x` in float32 with a multiple of 16 channels is read where it lies, a slice of wider rows too.
    """
    check_conv(x, weight, bias, history, out)
    batch, length, channels = x.shape
    taps = weight.shape[2]
    if 0 in (batch, length, channels):
        return x * 1.0 if out is None else out
    more = -channels % LANES

    def padded(t: Tensor) -> Tensor:
        return F.pad(t, (0, more)) if more else t

    before = x.new_zeros(batch, taps - 1, channels, dtype=torch.float32) if history is None else history.float()
    direct = out is not None and out.dtype == torch.float32 and not more and as_rows(out)[0] is out
    y = _ConvSilu.apply(
        padded(x.float()), padded(weight[:, 0].float().T), padded(bias.float()), padded(before), out if direct else None
    )
    if direct:
        return y
    y = y[..., :channels].to(x.dtype)
    return y if out is None else out.copy_(y)
