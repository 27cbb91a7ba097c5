"""Depthwise convolution over time that sees the present and the K - 1 steps before it, then SiLU: the head of a Mamba layer.

    y_t = silu(bias + sum_k weight_k * x_{t - K + 1 + k})

Sequences are (batch, length, channels). `history` holds the K - 1 rows before the first (zeros when left out), so that a
sequence can be processed in pieces.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu

causal_conv_silu = Kernel(
    "causal_conv_silu",
    [
        Variant("warp-cpu", "mvgamba.kernels.causal_conv_silu_warp_cpu:causal_conv_silu_warp_cpu", why_not_on_cpu),
        Variant("reference", "mvgamba.kernels.causal_conv_silu:causal_conv_silu_reference", always),
    ],
)
"""causal_conv_silu(x, weight, bias, *, history, out) -> y. `out`, without gradients only, takes `y`; it must not be `x`."""


def causal_conv(
    x: Float[Tensor, "b L E"],
    weight: Float[Tensor, "E 1 K"],
    bias: Float[Tensor, "E"],
    history: Float[Tensor, "b k E"] | None = None,
) -> Float[Tensor, "b L E"]:
    """The convolution alone, as K shifted multiply-adds: without a transpose, and faster on a CPU than a grouped `conv1d`."""
    taps, length = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0)) if history is None else torch.cat([history.to(x), x], dim=1)
    y = torch.addcmul(bias, padded[:, :length], weight[:, 0, 0])
    for k in range(1, taps):
        y = torch.addcmul(y, padded[:, k : k + length], weight[:, 0, k])
    return y


def check_conv(x: Tensor, weight: Tensor, bias: Tensor, history: Tensor | None, out: Tensor | None) -> None:
    """Raises: InvalidInput, naming the tensor whose shape, type or device does not fit."""
    if x.ndim != 3 or weight.ndim != 3 or weight.shape[2] == 0:
        raise InvalidInput(
            "causal_conv_silu wants x of shape (batch, length, channels) and weight of shape (channels, 1, taps) with at "
            f"least one tap, got {tuple(x.shape)} and {tuple(weight.shape)}."
        )
    batch, length, channels = x.shape
    taps = weight.shape[2]
    wanted = {
        "x": (x, (batch, length, channels)),
        "weight": (weight, (channels, 1, taps)),
        "bias": (bias, (channels,)),
        "history": (history, (batch, taps - 1, channels)),
        "out": (out, (batch, length, channels)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise InvalidInput(f"causal_conv_silu: {name} must have shape {shape}, got {tuple(tensor.shape)}.")
        if tensor.device != x.device or not tensor.is_floating_point():
            raise InvalidInput(
                f"causal_conv_silu: {name} must be of a floating-point type on {x.device} as x is, got {tensor.dtype} on "
                f"{tensor.device}."
            )
    if max(batch, length, channels) >= 2**31:
        raise InvalidInput(
            f"causal_conv_silu: batch, length and channels must each be below 2^31 = 2147483648, got {tuple(x.shape)}."
        )
    if out is None:
        return
    if out.dtype != x.dtype:
        raise InvalidInput(f"causal_conv_silu: out must be of x's type {x.dtype}, got {out.dtype}.")
    given = [t for t in (x, weight, bias, history) if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):
        raise InvalidInput("causal_conv_silu: out has no gradient; leave it out or call under torch.no_grad().")


def causal_conv_silu_reference(
    x: Float[Tensor, "b L E"],
    weight: Float[Tensor, "E 1 K"],
    bias: Float[Tensor, "E"],
    *,
    history: Float[Tensor, "b k E"] | None = None,
    out: Float[Tensor, "b L E"] | None = None,
) -> Float[Tensor, "b L E"]:
    """The definition in plain torch, on any device; autograd gives its gradients."""
    check_conv(x, weight, bias, history, out)
    y = F.silu(causal_conv(x, weight, bias, history)).to(x.dtype)
    return y if out is None else out.copy_(y)
