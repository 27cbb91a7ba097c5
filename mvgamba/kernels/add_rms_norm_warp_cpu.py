"""Residual sum and norm for CPUs: each row is read from memory once and normalised from the cache. Forward only.

With gradients the reference runs.
"""

import functools
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.kernels.add_rms_norm import Normed, add_rms_norm_reference, check_norm
from mvgamba.kernels.cpu_vectors import LANES, VECTORS, addresses
from mvgamba.kernels.warp_runtime import launch_chunks, num_threads, warp

_BODY = (
    VECTORS
    + """
    (void)exp2v; (void)sigmoid; (void)softplus;
    const long long first = (long long)rows * worker / workers, last = (long long)rows * (worker + 1) / workers;
    for (long long row = first; row < last; ++row) {
        const float *r = residual.data + row * channels, *h = hidden.data + row * channels;
        float *sum = total.data + row * channels, *y = normed.data + row * channels;
        vec square = (vec){};
        for (int d = 0; d < channels; d += 16) {
            vec v = load(r + d);
            if (has_hidden) v += load(h + d);
            store(sum + d, v);
            square += v * v;
        }
        float mean = 0.0f;
        for (int i = 0; i < 16; ++i) mean += square[i];
        const float scale = 1.0f / wp::sqrt(mean / (float)channels + eps);
        for (int d = 0; d < channels; d += 16) store(y + d, load(sum + d) * scale * load(weight.data + d));
    }
"""
)


@functools.cache
def _kernel() -> Any:
    wp = warp()
    array = wp.array(dtype=wp.float32)

    @wp.func_native(_BODY)
    @no_type_check  # beartype cannot read Warp's array types
    def body(
        worker: int, workers: int, rows: int, channels: int, has_hidden: int, eps: float,
        residual: array, hidden: array, weight: array, normed: array, total: array,
    ): ...  # fmt: skip

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def add_rms_norm_rows(
        begin: int, workers: int, rows: int, channels: int, has_hidden: int, eps: float,
        residual: array, hidden: array, weight: array, normed: array, total: array,
    ):  # fmt: skip
        body(begin + wp.tid(), workers, rows, channels, has_hidden, eps, residual, hidden, weight, normed, total)

    return add_rms_norm_rows


def add_rms_norm_warp_cpu(
    residual: Float[Tensor, "*n C"],
    hidden: Float[Tensor, "*n C"] | None,
    weight: Float[Tensor, "C"],
    *,
    eps: float,
    out: tuple[Tensor, Tensor] | None = None,
) -> Normed:
    """See `mvgamba.kernels.add_rms_norm`. Fused for float32 with a multiple of 16 channels and no gradient."""
    check_norm(residual, hidden, weight, eps, out)
    given = [t for t in (residual, hidden, weight, *(out or ())) if t is not None]
    channels = residual.shape[-1]
    rows = residual.numel() // max(channels, 1)
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    fits = all(t.dtype == torch.float32 for t in given) and channels % LANES == 0 and 0 < rows < 2**31
    if with_gradient or not fits or not all(t.is_contiguous() for t in out or ()):
        return add_rms_norm_reference(residual, hidden, weight, eps=eps, out=out)
    residual, weight = residual.contiguous(), weight.contiguous()
    normed, total = (torch.empty_like(residual), torch.empty_like(residual)) if out is None else out
    added = residual if hidden is None else hidden.contiguous()
    workers = max(1, min(num_threads(), rows // 64))
    sizes = [workers, rows, channels, int(hidden is not None), eps]
    launch_chunks(_kernel(), workers, [*sizes, *addresses([residual, added, weight, normed, total])])
    return Normed(normed, total)
