"""Selective scan for CUDA: chunks of 32 steps side by side, so that one long sequence fills a card.

Forward: every chunk from a zero state (what it adds, and how long it takes), the states at the cuts in one short sweep, every
chunk once more from its true state. Backward the same for the gradient of the state, then all gradients of a chunk at once;
forward keeps the states at the cuts for it, 1/32 of what autograd would keep. The exponentials cost less than the memory they
save. Sums over channels and chunks are written in parts and added by torch: no atomics, the same result every time.

Compiled ahead of time and checked block by block on a CPU; not yet run on a GPU.
"""

import functools
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.kernels.cpu_vectors import addresses, as_rows
from mvgamba.kernels.selective_scan import (
    Scanned,
    check_scan_out,
    check_scan_shapes,
    selective_scan_reference,
    written_to,
)
from mvgamba.kernels.selective_scan_cuda_bodies import ADJOINT, APPLY, CARRY, CHANNELS, GRADIENT, LOCAL, T
from mvgamba.kernels.warp_blocks import launch_blocks
from mvgamba.kernels.warp_runtime import warp

STATES = (16, 32, 64)
"""Numbers of states that are compiled; others are padded to the next."""


@functools.cache
def _kernels(states: int) -> dict[str, Any]:
    wp = warp()
    array = wp.array(dtype=wp.float32)

    # fmt: off
    def native(body: str) -> Any:
        return wp.func_native(body.replace("@STATES@", str(states)))

    @native(LOCAL)
    @no_type_check  # beartype cannot read Warp's array types
    def local_body(
        block: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, u: array, delta: array, A: array, B: array, delta_bias: array, ends: array,
        total: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def scan_local(
        batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, u: array, delta: array, A: array, B: array, delta_bias: array, ends: array,
        total: array,
    ):
        local_body(wp.tid() / wp.static(CHANNELS), batch, length, channels, use_softplus, has_z, u_row, delta_row,
                   z_row, b_row, c_row, u, delta, A, B, delta_bias, ends, total)

    @native(CARRY)
    @no_type_check
    def carry_body(
        block: int, batch: int, length: int, channels: int, reverse: int, A: array, total: array, first: array,
        ends: array, last: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def scan_carry(
        batch: int, length: int, channels: int, reverse: int, A: array, total: array, first: array, ends: array,
        last: array,
    ):
        carry_body(wp.tid() / wp.static(CHANNELS), batch, length, channels, reverse, A, total, first, ends, last)

    @native(APPLY)
    @no_type_check
    def apply_body(
        block: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, y_row: int, u: array, delta: array, A: array, B: array, C: array, D: array,
        z: array, delta_bias: array, ends: array, y: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def scan_apply(
        batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, y_row: int, u: array, delta: array, A: array, B: array, C: array, D: array,
        z: array, delta_bias: array, ends: array, y: array,
    ):
        apply_body(wp.tid() / wp.static(CHANNELS), batch, length, channels, use_softplus, has_z, u_row, delta_row,
                   z_row, b_row, c_row, y_row, u, delta, A, B, C, D, z, delta_bias, ends, y)

    @native(ADJOINT)
    @no_type_check
    def adjoint_body(
        block: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, delta: array, A: array, C: array, z: array, delta_bias: array, gy: array,
        ends: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def scan_adjoint(
        batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, delta: array, A: array, C: array, z: array, delta_bias: array, gy: array,
        ends: array,
    ):
        adjoint_body(wp.tid() / wp.static(CHANNELS), batch, length, channels, use_softplus, has_z, u_row, delta_row,
                     z_row, b_row, c_row, delta, A, C, z, delta_bias, gy, ends)

    @native(GRADIENT)
    @no_type_check
    def gradient_body(
        block: int, batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, u: array, delta: array, A: array, B: array, C: array, D: array, z: array,
        delta_bias: array, ends: array, g_ends: array, gy: array, gu: array, gdelta: array, gA: array, gB: array,
        gC: array, gD: array, gz: array, g_of_bias: array,
    ): ...

    @wp.kernel(enable_backward=False, module="unique")
    @no_type_check
    def scan_gradient(
        batch: int, length: int, channels: int, use_softplus: int, has_z: int, u_row: int, delta_row: int,
        z_row: int, b_row: int, c_row: int, u: array, delta: array, A: array, B: array, C: array, D: array, z: array,
        delta_bias: array, ends: array, g_ends: array, gy: array, gu: array, gdelta: array, gA: array, gB: array,
        gC: array, gD: array, gz: array, g_of_bias: array,
    ):
        gradient_body(wp.tid() / 128, batch, length, channels, use_softplus, has_z, u_row, delta_row, z_row, b_row,
                      c_row, u, delta, A, B, C, D, z, delta_bias, ends, g_ends, gy, gu, gdelta, gA, gB, gC, gD, gz,
                      g_of_bias)
    # fmt: on

    return {
        "local": scan_local, "carry": scan_carry, "apply": scan_apply, "adjoint": scan_adjoint, "gradient": scan_gradient,
    }  # fmt: skip


def cuda_kernels() -> list[Any]:
    """The kernels for the usual 16 states."""
    return list(_kernels(16).values())


class _Scan(torch.autograd.Function):
    """States padded to one of `STATES`; A and the states lie as (states, channels)."""

    @staticmethod
    def forward(ctx: Any, u, delta, A, B, C, D, z, delta_bias, h0, use_softplus: bool, has_z: bool, out: Tensor | None):  # type: ignore[override]
        batch, length, channels = u.shape
        n, device = A.shape[0], u.device
        in_rows = [as_rows(t.detach()) for t in (u, delta, z if has_z else u, B, C)]
        (u, u_row), (delta, delta_row), (z, z_row), (B, b_row), (C, c_row) = in_rows
        A, D, delta_bias, h0 = (t.detach().contiguous() for t in (A, D, delta_bias, h0))
        chunks, groups = -(-length // T), -(-channels // CHANNELS)
        y = u.new_empty(batch, length, channels) if out is None else out
        h_last, ends, total = (
            torch.empty_like(h0),
            u.new_empty(batch, chunks, n, channels),
            u.new_empty(batch, chunks, channels),
        )
        kernels = _kernels(n)
        sizes = [batch, length, channels, int(use_softplus), int(has_z), u_row, delta_row, z_row, b_row, c_row]
        blocks, columns = batch * chunks * groups, -(-batch * n * channels // CHANNELS)
        launch_blocks(
            kernels["local"],
            blocks,
            CHANNELS,
            [*sizes, *addresses([u, delta, A, B, delta_bias, ends, total])],
            device=device,
        )
        carry = [*sizes[:3], 0, *addresses([A, total, h0, ends, h_last])]
        launch_blocks(kernels["carry"], columns, CHANNELS, carry, device=device)
        tensors = [u, delta, A, B, C, D, z, delta_bias]
        launch_blocks(
            kernels["apply"], blocks, CHANNELS, [*sizes, as_rows(y)[1], *addresses([*tensors, ends, y])], device=device
        )
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*tensors, ends, total)
            ctx.sizes, ctx.has_z, ctx.blocks, ctx.columns = sizes, has_z, blocks, columns
        return y, h_last

    @staticmethod
    def backward(ctx: Any, gy, g_last):  # type: ignore[override]
        *tensors, ends, total = ctx.saved_tensors
        u, delta, A, _, C, _, z, delta_bias = tensors
        batch, length, channels, *_ = ctx.sizes
        n, chunks, groups, device = A.shape[0], ends.shape[1], -(-channels // 32), u.device
        gy, g_last = gy.contiguous(), g_last.contiguous()
        kernels = _kernels(n)
        g_ends, gh0 = torch.empty_like(ends), torch.empty_like(g_last)
        arrays = addresses([delta, A, C, z, delta_bias, gy, g_ends])
        launch_blocks(kernels["adjoint"], ctx.blocks, CHANNELS, [*ctx.sizes, *arrays], device=device)
        carry = [*ctx.sizes[:3], 1, *addresses([A, total, g_last, g_ends, gh0])]
        launch_blocks(kernels["carry"], ctx.columns, CHANNELS, carry, device=device)
        gu, gdelta = u.new_empty(batch, length, channels), u.new_empty(batch, length, channels)
        gz = u.new_empty((batch, length, channels) if ctx.has_z else (0,))
        gB, gC = (u.new_empty(groups, batch, length, n) for _ in range(2))
        gA, gD, g_bias = torch.empty_like(ends), torch.empty_like(total), torch.empty_like(total)
        arrays = addresses([*tensors, ends, g_ends, gy, gu, gdelta, gA, gB, gC, gD, gz, g_bias])
        launch_blocks(kernels["gradient"], batch * chunks * groups, 128, [*ctx.sizes, *arrays], device=device)
        return (
            gu, gdelta, gA.sum((0, 1)), gB.sum(0), gC.sum(0), gD.sum((0, 1)), gz if ctx.has_z else None, g_bias.sum((0, 1)),
            gh0, None, None, None,
        )  # fmt: skip


def selective_scan_cuda(
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

    Half-precision sequences are converted on the way in and out. Raises: InvalidInput beyond 64 states or 2^33 elements.
    """
    check_scan_shapes(u, delta, A, B, C, D, z, delta_bias, initial_state)
    check_scan_out(out, u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, length, channels = u.shape
    states = A.shape[1]
    if 0 in (batch, length, channels, states):
        return selective_scan_reference(
            u, delta, A, B, C, D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus, initial_state=initial_state,
            out=out,
        )  # fmt: skip
    if states > STATES[-1] or batch * length * channels >= 2**33:
        raise InvalidInput(
            f"selective_scan on CUDA takes at most {STATES[-1]} states and fewer than 2^33 elements of u at once, got "
            f"{states} and {batch * length * channels}. Scan a long sequence in pieces, or use the variant 'reference'."
        )
    more = next(n for n in STATES if n >= states) - states

    def padded(x: Tensor) -> Tensor:
        return F.pad(x.float(), (0, more)) if more else x.float()

    def by_channel(x: Tensor | None) -> Tensor:
        return u.new_zeros(channels, dtype=torch.float32) if x is None else x.float()

    h0 = u.new_zeros(batch, channels, states, dtype=torch.float32) if initial_state is None else initial_state
    direct = out is not None and out.dtype == torch.float32 and as_rows(out)[0] is out
    y, state = _Scan.apply(
        u.float(),
        delta.float(),
        padded(A).T,
        padded(B),
        padded(C),
        by_channel(D),
        u.new_zeros(0, dtype=torch.float32) if z is None else z.float(),
        by_channel(delta_bias),
        padded(h0).transpose(1, 2),
        delta_softplus,
        z is not None,
        out if direct else None,
    )
    y = y.to(u.dtype)
    return Scanned(y if direct else written_to(out, y), state[:, :states].transpose(1, 2))
