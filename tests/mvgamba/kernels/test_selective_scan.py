"""The selective scan: the reference against a loop over time, every variant against the reference."""

import math
import sys

import pytest
import torch

from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.kernels.selective_scan import (
    check_scan_shapes,
    selective_scan,
    selective_scan_mamba_ssm,
    selective_scan_reference,
)

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def make_inputs(batch: int, length: int, channels: int, states: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels),
        "A": -torch.rand(channels, states, generator=generator, dtype=torch.float64) * 4 - 0.05,
        "B": normal(batch, length, states),
        "C": normal(batch, length, states),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "delta_bias": normal(channels),
        "initial_state": normal(batch, channels, states),
    }


def scan(inputs: dict[str, torch.Tensor], *, softplus: bool = True):
    rest = dict(inputs)
    main = [rest.pop(name) for name in ("u", "delta", "A", "B", "C")]
    return selective_scan(*main, rest.pop("D", None), delta_softplus=softplus, **rest)


def loop_over_time(x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence of the docstring, written as it stands."""
    h, ys = x["initial_state"], []
    for t in range(x["u"].shape[1]):
        dt = torch.log1p(torch.exp(x["delta"][:, t] + x["delta_bias"]))
        h = torch.exp(dt[..., None] * x["A"]) * h + dt[..., None] * x["B"][:, t, None] * x["u"][:, t, :, None]
        y = (h * x["C"][:, t, None]).sum(-1) + x["D"] * x["u"][:, t]
        ys.append(y * x["z"][:, t] * torch.sigmoid(x["z"][:, t]))
    return torch.stack(ys, 1), h


def outputs_and_gradients(inputs, *, variant: str, dtype: torch.dtype, softplus: bool = True) -> list[torch.Tensor]:
    leaves = {name: value.to(dtype).clone().requires_grad_() for name, value in inputs.items()}
    with selective_scan.use(variant):
        y, state = scan(leaves, softplus=softplus)
    generator = torch.Generator().manual_seed(1)
    for_y = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(dtype)
    for_state = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(dtype)
    ((y * for_y).sum() + (state * for_state).sum()).backward()
    return [y.detach(), state.detach(), *(leaf.grad for leaf in leaves.values())]


@pytest.mark.parametrize("length", [1, 7, 64, 65, 150])
def test_reference_is_the_recurrence_at_every_way_of_cutting_it(length):
    inputs = make_inputs(2, length, 3, 5)
    y, state = loop_over_time(inputs)
    with selective_scan.use("reference"):
        got = scan(inputs)
    torch.testing.assert_close(got.y, y, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(got.state, state, rtol=1e-11, atol=1e-11)


def test_reference_has_the_gradients_of_finite_differences():
    inputs = {name: value.requires_grad_() for name, value in make_inputs(1, 6, 2, 3).items()}

    def call(*values):
        return tuple(scan(dict(zip(NAMES, values, strict=True))))

    with selective_scan.use("reference"):
        assert torch.autograd.gradcheck(call, tuple(inputs.values()))


# The kernel keeps float32 throughout; its exp has a relative error of 1e-7 and errors of a decaying sum do not grow.
@pytest.mark.parametrize(
    ("batch", "length", "channels", "states"),
    [(1, 1, 1, 1), (2, 3, 5, 2), (2, 100, 35, 16), (1, 64, 16, 16), (1, 129, 48, 16), (3, 65, 16, 20)],
)
def test_warp_agrees_with_float64_forward_and_backward(batch, length, channels, states):
    inputs = make_inputs(batch, length, channels, states)
    exact = outputs_and_gradients(inputs, variant="reference", dtype=torch.float64)
    fast = outputs_and_gradients(inputs, variant="warp-cpu", dtype=torch.float32)
    for name, a, b in zip(("y", "state", *NAMES), exact, fast, strict=True):
        error = (a - b).abs().max() / a.abs().max().clamp_min(1e-6)
        assert error < 2e-6, f"{name}: {error}"


@pytest.mark.parametrize("variant", ["warp-cpu", "reference"])
@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "initial_state"])
def test_an_input_left_out_is_zero_or_no_gate(variant, left_out):
    inputs = make_inputs(1, 20, 17, 4)
    inputs["delta"] = inputs["delta"].abs() + 3  # no softplus below, and a step back in time grows without bound
    without = {name: value.float() for name, value in inputs.items() if name != left_out}
    stand_in = torch.zeros_like(inputs[left_out]) if left_out != "z" else None
    with selective_scan.use(variant):
        y, state = scan(without, softplus=False)
    if stand_in is None:
        gate = torch.nn.functional.silu(inputs["z"].float())
        with selective_scan.use(variant):
            expected = scan({name: value.float() for name, value in inputs.items()}, softplus=False).y
        torch.testing.assert_close(y * gate, expected, rtol=1e-5, atol=1e-5)
    else:
        with selective_scan.use(variant):
            expected = scan({**without, left_out: stand_in.float()}, softplus=False)
        torch.testing.assert_close(y, expected.y)
        torch.testing.assert_close(state, expected.state)


@pytest.mark.parametrize("variant", ["warp-cpu", "reference"])
def test_an_empty_sequence_returns_the_initial_state(variant):
    inputs = {name: value.float() for name, value in make_inputs(2, 0, 5, 3).items()}
    with selective_scan.use(variant):
        y, state = scan(inputs)
    assert y.shape == (2, 0, 5)
    torch.testing.assert_close(state, inputs["initial_state"])


@pytest.mark.parametrize("variant", ["warp-cpu", "reference"])
def test_a_sequence_in_two_halves_is_the_whole(variant):
    whole = {name: value.float() for name, value in make_inputs(1, 90, 18, 16).items()}
    first = {n: v[:, :37] if n in ("u", "delta", "B", "C", "z") else v for n, v in whole.items()}
    second = {n: v[:, 37:] if n in ("u", "delta", "B", "C", "z") else v for n, v in whole.items()}
    with selective_scan.use(variant):
        expected = scan(whole)
        left = scan(first)
        right = scan({**second, "initial_state": left.state})
    torch.testing.assert_close(torch.cat([left.y, right.y], 1), expected.y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(right.state, expected.state, rtol=1e-5, atol=1e-5)


def test_warp_stays_finite_and_right_at_extreme_steps():
    inputs = make_inputs(1, 40, 16, 16)
    inputs["delta"] = inputs["delta"] * 60
    inputs["z"] = inputs["z"] * 60
    exact = outputs_and_gradients(inputs, variant="reference", dtype=torch.float64)
    fast = outputs_and_gradients(inputs, variant="warp-cpu", dtype=torch.float32)
    for name, a, b in zip(("y", "state", *NAMES), exact, fast, strict=True):
        assert torch.isfinite(b).all(), name
        assert (a - b).abs().max() / a.abs().max() < 1e-5, name


def test_warp_leaves_the_result_the_same_for_one_thread_and_two():
    inputs = {name: value.float() for name, value in make_inputs(2, 50, 64, 16).items()}
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(outputs_and_gradients(inputs, variant="warp-cpu", dtype=torch.float32))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_half_precision_comes_back_in_half_precision():
    inputs = {name: value.float() for name, value in make_inputs(1, 30, 16, 16).items()}
    half = {n: v.bfloat16() if n in ("u", "delta", "B", "C", "z") else v for n, v in inputs.items()}
    results = {}
    for variant in ("warp-cpu", "reference"):
        with selective_scan.use(variant):
            results[variant] = scan(half).y
        assert results[variant].dtype == torch.bfloat16
    scale = results["reference"].float().abs().max().item()
    torch.testing.assert_close(*results.values(), rtol=2**-7, atol=2**-8 * scale)


def test_a_wrong_shape_is_named():
    inputs = make_inputs(1, 4, 3, 2)
    inputs["D"] = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(InvalidInput, match=r"D must have shape \(3,\), got \(4,\)"):
        check_scan_shapes(*inputs.values())


def test_mamba_ssm_says_that_it_needs_cuda_and_is_not_imported():
    with selective_scan.use("mamba-ssm"), pytest.raises(Unavailable, match="CUDA"):
        selective_scan.choose("cpu")
    assert "mamba_ssm" not in sys.modules
    inputs = make_inputs(1, 4, 3, 2)
    with pytest.raises(Unavailable, match="no initial state"):
        selective_scan_mamba_ssm(
            *(inputs[n] for n in ("u", "delta", "A", "B", "C", "D")), initial_state=inputs["initial_state"]
        )


def test_a_scan_without_inputs_decays_by_the_exponential_of_time():
    zeros = torch.zeros(1, 10, 1, dtype=torch.float64)
    state = selective_scan_reference(
        zeros, zeros + 0.3, -torch.ones(1, 1, dtype=torch.float64), zeros, zeros, initial_state=zeros[:, :1] + 2.0
    ).state
    assert state.item() == pytest.approx(2.0 * math.exp(-3.0))
