"""Residual sum and root-mean-square norm (Zhang and Sennrich 2019): what stands between two layers of a pre-norm stack.

total  = residual + hidden                                (residual alone when there is no `hidden`)
normed = weight * total / sqrt(mean(total^2) + eps)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu


class Normed(NamedTuple):
    """What `add_rms_norm` gives."""

    normed: Float[Tensor, "*n C"]
    total: Float[Tensor, "*n C"]


add_rms_norm = Kernel(
    "add_rms_norm",
    [
        Variant("warp-cpu", "mvgamba.kernels.add_rms_norm_warp_cpu:add_rms_norm_warp_cpu", why_not_on_cpu),
        Variant("reference", "mvgamba.kernels.add_rms_norm:add_rms_norm_reference", always),
    ],
)
"""add_rms_norm(residual, hidden, weight, *, eps, out) -> Normed

`out`, without gradients only, is a pair of tensors that take the results; its second may be `residual` itself."""


def check_norm(
    residual: Tensor, hidden: Tensor | None, weight: Tensor, eps: float, out: tuple[Tensor, Tensor] | None
) -> None:
    """Raises: InvalidInput, naming the tensor whose shape, type or device does not fit."""
    if residual.ndim == 0 or not eps > 0:
        raise InvalidInput(
            f"add_rms_norm wants residual of shape (*, channels) and eps > 0, got {tuple(residual.shape)} and {eps}."
        )
    rows = tuple(residual.shape)
    wanted = {
        "residual": (residual, rows),
        "hidden": (hidden, rows),
        "weight": (weight, rows[-1:]),
        "out[0]": (None if out is None else out[0], rows),
        "out[1]": (None if out is None else out[1], rows),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise InvalidInput(f"add_rms_norm: {name} must have shape {shape}, got {tuple(tensor.shape)}.")
        if tensor.device != residual.device or not tensor.is_floating_point():
            raise InvalidInput(
                f"add_rms_norm: {name} must be of a floating-point type on {residual.device} as residual is, got "
                f"{tensor.dtype} on {tensor.device}."
            )
    if max(rows) >= 2**31:
        raise InvalidInput(f"add_rms_norm: every size must be below 2^31 = 2147483648, got {rows}.")
    given = [t for t in (residual, hidden, weight) if t is not None]
    if out is not None and torch.is_grad_enabled() and any(t.requires_grad for t in given):
        raise InvalidInput("add_rms_norm: out has no gradient; leave it out or call under torch.no_grad().")


def add_rms_norm_reference(
    residual: Float[Tensor, "*n C"],
    hidden: Float[Tensor, "*n C"] | None,
    weight: Float[Tensor, "C"],
    *,
    eps: float,
    out: tuple[Tensor, Tensor] | None = None,
) -> Normed:
    """The definition in plain torch, on any device; autograd gives its gradients. Sums in float32, or float64 given that."""
    check_norm(residual, hidden, weight, eps, out)
    work = torch.float64 if residual.dtype == torch.float64 else torch.float32
    total = residual.to(work) if hidden is None else residual.to(work) + hidden.to(work)
    normed = F.rms_norm(total, total.shape[-1:], weight.to(work), eps)
    if out is None:
        return Normed(normed, total)
    return Normed(out[0].copy_(normed), out[1].copy_(total))
