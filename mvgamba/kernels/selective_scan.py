"""The selective scan of Mamba-1 (Gu and Dao 2023, algorithm 2): a linear recurrence whose coefficients depend on the input.

For every batch row and channel d, with N states h and time t,

    dt_t = delta_t + delta_bias                    (softplus of it when `delta_softplus`)
    h_t  = exp(dt_t A_d) * h_{t-1} + dt_t B_t u_t
    y_t  = C_t . h_t + D_d u_t                     (times silu(z_t) when `z` is given)

Sequences are (batch, length, channels), channels last: neighbouring channels do the same work, which is what vector units
and coalesced reads want, and linear layers give and take that layout.

A NaN or an infinity stays in its sequence and does not reach back in time: in `u`, `delta` or `z` it also stays in its channel
(in `z` in its step), in `A`, `D`, `delta_bias` or `initial_state` in its channel, in `B` or `C` it reaches all channels.
"""

import importlib.util
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu, why_not_on_cuda


class Scanned(NamedTuple):
    """What a selective scan gives."""

    y: Float[Tensor, "b L D"]
    state: Float[Tensor, "b D N"]
    """After the last step; the initial one when the sequence is empty."""


def why_not_mamba_ssm(device: torch.device) -> str | None:
    """Availability of the variant of the package mamba-ssm."""
    if device.type != "cuda":
        return "mamba-ssm runs on CUDA only"
    if importlib.util.find_spec("mamba_ssm") is None:
        return "mamba-ssm is not installed"
    return None


selective_scan = Kernel(
    "selective_scan",
    [
        # Before mamba-ssm: it reads sequences as they lie, where that package wants four of them transposed and one turned
        # back, and it takes an initial state and differentiates the last one, which that package does not.
        Variant("warp-cuda", "mvgamba.kernels.selective_scan_cuda:selective_scan_cuda", why_not_on_cuda),
        Variant("mamba-ssm", "mvgamba.kernels.selective_scan:selective_scan_mamba_ssm", why_not_mamba_ssm),
        Variant("warp-cpu", "mvgamba.kernels.selective_scan_warp_cpu:selective_scan_warp_cpu", why_not_on_cpu),
        Variant("reference", "mvgamba.kernels.selective_scan:selective_scan_reference", always),
    ],
)
"""selective_scan(u, delta, A, B, C, D=None, *, z, delta_bias, delta_softplus, initial_state, out) -> Scanned

`out`, without gradients only, takes `y` and may be `u`, `delta` or `z` itself."""


def check_scan_shapes(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """Raises: InvalidInput, naming the tensor whose shape, type or device does not fit."""
    if u.ndim != 3 or A.ndim != 2:
        raise InvalidInput(
            f"selective_scan wants u of shape (batch, length, channels) and A of shape (channels, states), "
            f"got {tuple(u.shape)} and {tuple(A.shape)}."
        )
    batch, length, channels = u.shape
    states = A.shape[1]
    wanted = {
        "delta": (delta, (batch, length, channels)),
        "A": (A, (channels, states)),
        "B": (B, (batch, length, states)),
        "C": (C, (batch, length, states)),
        "D": (D, (channels,)),
        "z": (z, (batch, length, channels)),
        "delta_bias": (delta_bias, (channels,)),
        "initial_state": (initial_state, (batch, channels, states)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InvalidInput(f"selective_scan: {name} must have shape {shape}, got {tuple(tensor.shape)}.")
        if tensor is not None and tensor.device != u.device:
            raise InvalidInput(
                f"selective_scan: {name} is on {tensor.device}, u on {u.device}; all must be on one device."
            )
        if tensor is not None and not tensor.is_floating_point():
            raise InvalidInput(f"selective_scan: {name} must be of a floating-point type, got {tensor.dtype}.")
    if not u.is_floating_point():
        raise InvalidInput(f"selective_scan: u must be of a floating-point type, got {u.dtype}.")
    if max(batch, length, channels, states) >= 2**31:
        raise InvalidInput(
            f"selective_scan: batch, length, channels and states must each be below 2^31 = 2147483648, got {batch}, "
            f"{length}, {channels} and {states}. Scan a long sequence in pieces, handing the state on."
        )


def check_scan_out(out: Tensor | None, u: Tensor, *others: Tensor | None) -> None:
    """Raises: InvalidInput when `out` does not fit `u`, or when a gradient would need what `out` overwrites."""
    if out is None:
        return
    if out.shape != u.shape or out.dtype != u.dtype or out.device != u.device:
        raise InvalidInput(
            f"selective_scan: out must be like u, {tuple(u.shape)}, {u.dtype} on {u.device}, got {tuple(out.shape)}, "
            f"{out.dtype} on {out.device}."
        )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (u, *others)):
        raise InvalidInput("selective_scan: out has no gradient; leave it out or call under torch.no_grad().")


def written_to(out: Tensor | None, y: Tensor) -> Tensor:
    """`y`, moved to `out` where there is one."""
    return y if out is None else out.copy_(y)


def selective_scan_reference(
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
    """The definition in plain torch, on any device and in float64 where the input is; autograd gives its gradients.

    The sequence is cut into about sqrt(L) chunks that step together from a zero state; the states at the cuts follow from
    the last states and the decays of the chunks, and what they add to `y` comes in a second sweep. Exact but for rounding.
    Memory for the backward pass grows as L D N: a few thousand steps at most on a small machine.
    """
    check_scan_shapes(u, delta, A, B, C, D, z, delta_bias, initial_state)
    check_scan_out(out, u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, length, channels = u.shape
    states = A.shape[1]
    out_dtype = u.dtype
    work = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, delta, A, B, C = (x.to(work) for x in (u, delta, A, B, C))
    state = u.new_zeros(batch, channels, states) if initial_state is None else initial_state.to(work)
    if length == 0:
        return Scanned(written_to(out, u.to(out_dtype)), state)

    if delta_bias is not None:
        delta = delta + delta_bias.to(work)
    if delta_softplus:
        delta = F.softplus(delta)

    steps = max(1, min(length, round(length**0.5) if length > 64 else length))
    chunks = -(-length // steps)
    pad = chunks * steps - length

    def cut(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, pad)).unflatten(1, (chunks, steps))  # a padded step has dt = 0: the state stays

    u_c, dt_c, b_c, c_c = cut(u), cut(delta), cut(B), cut(C)
    h = u.new_zeros(batch, chunks, channels, states)
    parts = []
    for t in range(steps):
        dt = dt_c[:, :, t, :, None]
        h = torch.exp(dt * A) * h + dt * u_c[:, :, t, :, None] * b_c[:, :, t, None, :]
        parts.append(torch.einsum("bkdn,bkn->bkd", h, c_c[:, :, t]))
    elapsed = torch.cumsum(dt_c, dim=2)  # (b, chunks, steps, D)
    decay = torch.exp(elapsed[:, :, -1, :, None] * A)
    entering = []
    for k in range(chunks):
        entering.append(state)
        state = decay[:, k] * state + h[:, k]
    carried = torch.stack(entering, dim=1)
    y = torch.stack(
        [
            part + torch.einsum("bkdn,bkn->bkd", torch.exp(elapsed[:, :, t, :, None] * A) * carried, c_c[:, :, t])
            for t, part in enumerate(parts)
        ],
        dim=2,
    ).flatten(1, 2)[:, :length]
    if D is not None:
        y = y + D.to(work) * u
    if z is not None:
        y = y * F.silu(z.to(work))
    return Scanned(written_to(out, y.to(out_dtype)), state)


def selective_scan_mamba_ssm(
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
    """The CUDA kernel of the package mamba-ssm (2.2 or later), where it is installed.

    Written against its documented signature; not yet run on a GPU. It reads (batch, channels, length) with unit steps along
    time, so sequences are transposed on the way in and out. The state it returns carries no gradient, and it takes no
    initial state. Sequences in bfloat16 and float16 stay in it (all four must agree), its own state is float32.

    Raises: Unavailable for an initial state.
    """
    check_scan_shapes(u, delta, A, B, C, D, z, delta_bias, initial_state)
    check_scan_out(out, u, delta, A, B, C, D, z, delta_bias, initial_state)
    if initial_state is not None:
        raise Unavailable("mamba-ssm's scan takes no initial state; use the variant 'warp-cuda' for that.")
    batch, length, channels = u.shape
    if 0 in (batch, length, channels, A.shape[1]):
        return selective_scan_reference(
            u, delta, A, B, C, D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus, out=out
        )
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    dtype = u.dtype if u.dtype in (torch.bfloat16, torch.float16) else torch.float32

    def last(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(dtype).transpose(1, 2).contiguous()

    y, state = selective_scan_fn(
        last(u),
        last(delta),
        A.float(),
        last(B),
        last(C),
        None if D is None else D.float(),
        z=last(z),
        delta_bias=None if delta_bias is None else delta_bias.float(),
        delta_softplus=delta_softplus,
        return_last_state=True,
    )
    return Scanned(written_to(out, y.transpose(1, 2).to(u.dtype)), state.detach())
