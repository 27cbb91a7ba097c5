"""The selective scan: the reference against a loop over time, every variant against the reference."""

import math
import sys

import pytest
import torch

from mvgamba.errors import InvalidInput, Unavailable
from mvgamba.kernels.selective_scan import (
    check_scan_out,
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


VARIANTS = ["warp-cpu", "warp-cuda", "reference"]
"""`warp-cuda` is called past the choice of the kernel: on a CPU its blocks run as fibers."""


def scan(inputs: dict[str, torch.Tensor], *, variant: str | None = None, softplus: bool = True, **options):
    rest = dict(inputs)
    main = [rest.pop(name) for name in ("u", "delta", "A", "B", "C")]
    function = selective_scan if variant is None else selective_scan.function(variant)
    return function(*main, rest.pop("D", None), delta_softplus=softplus, **rest, **options)


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
    y, state = scan(leaves, variant=variant, softplus=softplus)
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
@pytest.mark.parametrize("variant", ["warp-cpu", "warp-cuda"])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize(
    ("batch", "length", "channels", "states"),
    [
        (1, 1, 1, 1),
        (2, 3, 5, 2),
        (2, 100, 35, 16),
        (1, 64, 16, 16),
        (1, 129, 48, 16),
        (1, 33, 130, 20),
        (3, 65, 16, 40),
    ],
)
def test_warp_agrees_with_float64_forward_and_backward(variant, batch, length, channels, states, softplus):
    inputs = make_inputs(batch, length, channels, states)
    if not softplus:
        inputs["delta"] = inputs["delta"].abs() + 3  # a step back in time grows without bound
    exact = outputs_and_gradients(inputs, variant="reference", dtype=torch.float64, softplus=softplus)
    fast = outputs_and_gradients(inputs, variant=variant, dtype=torch.float32, softplus=softplus)
    for name, a, b in zip(("y", "state", *NAMES), exact, fast, strict=True):
        error = (a - b).abs().max() / a.abs().max().clamp_min(1e-6)
        assert error < 2e-6, f"{name}: {error}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "initial_state"])
def test_an_input_left_out_is_zero_or_no_gate(variant, left_out):
    inputs = make_inputs(1, 20, 17, 4)
    inputs["delta"] = inputs["delta"].abs() + 3  # no softplus below, and a step back in time grows without bound
    without = {name: value.float() for name, value in inputs.items() if name != left_out}
    stand_in = torch.zeros_like(inputs[left_out]) if left_out != "z" else None
    y, state = scan(without, variant=variant, softplus=False)
    if stand_in is None:
        gate = torch.nn.functional.silu(inputs["z"].float())
        expected = scan({name: value.float() for name, value in inputs.items()}, variant=variant, softplus=False).y
        torch.testing.assert_close(y * gate, expected, rtol=1e-5, atol=1e-5)
    else:
        expected = scan({**without, left_out: stand_in.float()}, variant=variant, softplus=False)
        torch.testing.assert_close(y, expected.y)
        torch.testing.assert_close(state, expected.state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_sequence_returns_the_initial_state(variant):
    inputs = {name: value.float() for name, value in make_inputs(2, 0, 5, 3).items()}
    y, state = scan(inputs, variant=variant)
    assert y.shape == (2, 0, 5)
    torch.testing.assert_close(state, inputs["initial_state"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sizes", [(0, 7, 5, 3), (2, 7, 0, 3), (2, 7, 5, 0)])
def test_no_batch_no_channels_and_no_states_are_defined(variant, sizes):
    inputs = {name: value.float() for name, value in make_inputs(*sizes).items()}
    y, state = scan(inputs, variant=variant)
    assert y.shape == sizes[:3] and state.shape == (sizes[0], sizes[2], sizes[3])
    torch.testing.assert_close(y, inputs["u"] * inputs["D"] * torch.nn.functional.silu(inputs["z"]))


def pieces_of(inputs: dict[str, torch.Tensor], cut: int) -> list[dict[str, torch.Tensor]]:
    return [
        {n: v[:, part] if n in ("u", "delta", "B", "C", "z") else v for n, v in inputs.items()}
        for part in (slice(None, cut), slice(cut, None))
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cut", [37, 64])
def test_a_sequence_in_two_halves_is_the_whole(variant, cut):
    whole = {name: value.float() for name, value in make_inputs(1, 90, 18, 16).items()}
    first, second = pieces_of(whole, cut)
    expected = scan(whole, variant=variant)
    left = scan(first, variant=variant)
    right = scan({**second, "initial_state": left.state}, variant=variant)
    torch.testing.assert_close(torch.cat([left.y, right.y], 1), expected.y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(right.state, expected.state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gradient_passes_through_the_state_between_two_pieces(variant):
    whole = {name: value.float().requires_grad_() for name, value in make_inputs(1, 70, 16, 16).items()}
    first, second = pieces_of(whole, 40)
    expected = torch.autograd.grad(scan(whole, variant=variant).y[:, 40:].sin().sum(), list(whole.values()))
    state = scan(first, variant=variant).state
    loss = scan({**second, "initial_state": state}, variant=variant).y.sin().sum()
    for name, a, b in zip(whole, expected, torch.autograd.grad(loss, list(whole.values())), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * max(1.0, a.abs().max().item()), msg=name)


@pytest.mark.parametrize("variant", ["warp-cpu", "warp-cuda"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(variant, name):
    inputs = {n: value.float() for n, value in make_inputs(1, 40, 16, 16).items()}
    along = torch.randn(inputs[name].shape, generator=torch.Generator().manual_seed(4))

    def loss(shift: float) -> float:
        y, state = scan({**inputs, name: inputs[name] + shift * along}, variant=variant)
        return (y.double().mean() + state.double().mean()).item()

    leaf = inputs[name].clone().requires_grad_()
    y, state = scan({**inputs, name: leaf}, variant=variant)
    (slope,) = torch.autograd.grad(y.mean() + state.mean(), leaf)
    step = 2e-3  # float32 keeps seven digits: rounding and curvature each cost about 1e-4 of the slope's scale
    numerical = (loss(step) - loss(-step)) / (2 * step)
    scale = (slope * along).abs().sum().item()
    assert abs(numerical - (slope * along).sum().item()) < 2e-3 * scale, name


def touched_by(name: str) -> tuple[tuple[int, ...], torch.Tensor]:
    """An index into an input of (2, 70, 18) with 16 states, and which of `y` may depend on it."""
    touched = torch.zeros(2, 70, 18, dtype=torch.bool)
    index = {"u": (0, 33, 3), "delta": (0, 33, 3), "z": (0, 33, 3), "B": (0, 33, 5), "C": (0, 33, 5)}.get(name)
    if name in ("u", "delta"):
        touched[0, 33:, 3] = True
    elif name == "z":
        touched[0, 33, 3] = True
    elif name == "B":
        touched[0, 33:] = True
    elif name == "C":
        touched[0, 33] = True
    elif name == "initial_state":
        index, touched[0, :, 3] = (0, 3, 5), True
    else:
        index, touched[:, :, 3] = (3, 5)[: 2 if name == "A" else 1], True
    assert index is not None
    return index, touched


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_number_stays_in_its_channel_and_does_not_reach_back(variant, name, bad):
    inputs = {n: value.float() for n, value in make_inputs(2, 70, 18, 16).items()}
    expected = scan(inputs, variant=variant).y
    index, touched = touched_by(name)
    inputs[name][index] = bad
    y = scan(inputs, variant=variant).y
    torch.testing.assert_close(y[~touched], expected[~touched], rtol=1e-5, atol=1e-5)
    if math.isnan(bad):
        assert torch.isnan(y[touched]).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_slices_of_wider_rows_and_transposed_tensors_are_read_right(variant):
    inputs = {name: value.float() for name, value in make_inputs(2, 40, 16, 16).items()}
    expected = outputs_and_gradients(inputs, variant=variant, dtype=torch.float32)
    both = torch.cat([inputs["u"], inputs["z"]], -1)
    mixed = torch.cat([inputs["B"], inputs["C"], inputs["B"]], -1)
    views = {
        **inputs,
        "u": both[..., :16],
        "z": both[..., 16:],
        "B": mixed[..., :16],
        "C": mixed[..., 16:32],
        "delta": inputs["delta"].transpose(1, 2).contiguous().transpose(1, 2),
        "A": inputs["A"].T.contiguous().T,
        "initial_state": inputs["initial_state"].transpose(1, 2).contiguous().transpose(1, 2),
    }
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    out = torch.zeros(2, 40, 16)
    with torch.no_grad():
        y, state = scan(views, variant=variant, out=out)
    assert y.data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, expected[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state, expected[1], rtol=1e-6, atol=1e-6)
    # Gradients of views that are made from leaves inside the graph.
    both, mixed = torch.cat([leaves["u"], leaves["z"]], -1), torch.cat([leaves["B"], leaves["C"]], -1)
    inside = {**leaves, "u": both[..., :16], "z": both[..., 16:], "B": mixed[..., :16], "C": mixed[..., 16:]}
    y, state = scan(inside, variant=variant)
    generator = torch.Generator().manual_seed(1)
    for_y, for_state = (torch.randn(t.shape, generator=generator, dtype=torch.float64).float() for t in (y, state))
    ((y * for_y).sum() + (state * for_state).sum()).backward()
    for a, b in zip(leaves.values(), expected[2:], strict=True):
        torch.testing.assert_close(a.grad, b, rtol=1e-5, atol=1e-5 * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["u", "delta", "z"])
def test_out_may_be_an_input(variant, name):
    inputs = {n: value.float() for n, value in make_inputs(1, 70, 16, 16).items()}
    expected = scan(inputs, variant=variant).y
    scan(inputs, variant=variant, out=inputs[name])
    torch.testing.assert_close(inputs[name], expected)


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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_in_half_precision(variant, dtype):
    inputs = {name: value.float() for name, value in make_inputs(1, 30, 16, 16).items()}
    half = {n: v.to(dtype) if n in ("u", "delta", "B", "C", "z") else v for n, v in inputs.items()}
    expected = scan(half, variant="reference").y
    got = scan(half, variant=variant)
    assert got.y.dtype == dtype and got.state.dtype == torch.float32
    scale = expected.float().abs().max().item()
    torch.testing.assert_close(got.y, expected, rtol=2**-7, atol=2**-8 * scale)
    y = scan({n: v.requires_grad_() for n, v in half.items()}, variant=variant).y
    y.float().square().sum().backward()
    assert half["u"].grad.dtype == dtype and torch.isfinite(half["u"].grad).all()


def test_a_wrong_shape_is_named():
    inputs = make_inputs(1, 4, 3, 2)
    inputs["D"] = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(InvalidInput, match=r"D must have shape \(3,\), got \(4,\)"):
        check_scan_shapes(*inputs.values())


def test_tensors_on_two_devices_whole_numbers_and_huge_sizes_are_named():
    inputs = make_inputs(1, 4, 3, 2)
    with pytest.raises(InvalidInput, match="B is on meta, u on cpu"):
        check_scan_shapes(*{**inputs, "B": inputs["B"].to("meta")}.values())
    with pytest.raises(InvalidInput, match=r"delta must be of a floating-point type, got torch.int64"):
        check_scan_shapes(*{**inputs, "delta": inputs["delta"].long()}.values())
    long = {
        n: v[:, :1].expand(1, 2**31, v.shape[2]) if n in ("u", "delta", "B", "C", "z") else v for n, v in inputs.items()
    }
    with pytest.raises(InvalidInput, match=r"below 2\^31 = 2147483648"):
        check_scan_shapes(*long.values())


def test_cuda_names_the_sizes_that_are_too_large_for_it():
    with pytest.raises(InvalidInput, match="at most 64 states"):
        scan({n: v.float() for n, v in make_inputs(1, 4, 3, 65).items()}, variant="warp-cuda")


def test_out_that_does_not_fit_or_that_a_gradient_needs_is_refused():
    inputs = {n: v.float() for n, v in make_inputs(1, 4, 3, 2).items()}
    with pytest.raises(InvalidInput, match="out must be like u"):
        check_scan_out(torch.zeros(1, 4, 3, dtype=torch.float64), *inputs.values())
    inputs["A"].requires_grad_()
    with pytest.raises(InvalidInput, match="out has no gradient"):
        check_scan_out(torch.zeros(1, 4, 3), *inputs.values())


def test_rows_beyond_two_to_the_31_elements_are_reached():
    # A step is 2^30 elements wide in an address space that is reserved and not filled: only the pages met exist.
    try:
        wide = torch.empty(3, 2**30)
    except RuntimeError as error:
        pytest.skip(f"no address space of 12 GiB: {error}")
    inputs = {n: v.float() for n, v in make_inputs(1, 3, 16, 16).items()}
    expected = scan(inputs, variant="warp-cpu").y
    wide[:, :16] = inputs["u"][0]
    got = scan({**inputs, "u": wide[None, :, :16]}, variant="warp-cpu").y
    torch.testing.assert_close(got, expected)


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
