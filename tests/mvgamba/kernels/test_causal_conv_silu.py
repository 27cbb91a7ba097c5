"""Causal convolution and SiLU: every variant against torch's own convolution, forward and backward, whole and in pieces."""

import pytest
import torch
import torch.nn.functional as F

from mvgamba.errors import InvalidInput
from mvgamba.kernels.causal_conv_silu import causal_conv_silu, check_conv

VARIANTS = ["warp-cpu", "reference"]


def make_inputs(batch: int, length: int, channels: int, taps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, length, channels), (channels, 1, taps), (channels,), (batch, taps - 1, channels)]
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def grouped_convolution(x, weight, bias, history):
    rows = torch.cat([history, x], dim=1).transpose(1, 2)
    return F.silu(F.conv1d(rows, weight, bias, groups=weight.shape[0])).transpose(1, 2)


def outputs_and_gradients(call, inputs, dtype):
    leaves = [t.to(dtype).clone().requires_grad_() for t in inputs]
    y = call(*leaves)
    toward = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    (y * toward).sum().backward()
    return [y.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("batch", "length", "channels", "taps"), [(1, 1, 1, 4), (2, 2, 16, 4), (1, 40, 35, 4), (3, 9, 32, 1), (1, 7, 16, 3)]
)
def test_every_variant_is_the_grouped_convolution(variant, batch, length, channels, taps):
    inputs = make_inputs(batch, length, channels, taps)
    exact = outputs_and_gradients(grouped_convolution, inputs, torch.float64)

    def call(x, weight, bias, history):
        with causal_conv_silu.use(variant):
            return causal_conv_silu(x, weight, bias, history=history)

    fast = outputs_and_gradients(call, inputs, torch.float32)
    for name, a, b in zip(("y", "x", "weight", "bias", "history"), exact, fast, strict=True):
        torch.testing.assert_close(
            b.double(), a, rtol=2e-6, atol=2e-6 * max(1.0, a.abs().max().item() if a.numel() else 0), msg=name
        )


def test_reference_has_the_gradients_of_finite_differences():
    inputs = [t.requires_grad_() for t in make_inputs(1, 5, 2, 4)]
    with causal_conv_silu.use("reference"):
        assert torch.autograd.gradcheck(lambda x, w, b, h: causal_conv_silu(x, w, b, history=h), inputs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pieces_with_their_history_are_the_whole(variant):
    x, weight, bias, _ = (t.float() for t in make_inputs(2, 20, 16, 4))
    with causal_conv_silu.use(variant):
        whole = causal_conv_silu(x, weight, bias)
        right = causal_conv_silu(x[:, 9:], weight, bias, history=x[:, 6:9])
    torch.testing.assert_close(right, whole[:, 9:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_slices_of_wider_rows_and_out_are_taken_as_they_are(variant):
    x, weight, bias, _ = (t.float() for t in make_inputs(2, 20, 32, 4))
    out = torch.full((2, 20, 16), torch.nan)
    with causal_conv_silu.use(variant):
        expected = causal_conv_silu(x[..., 16:].contiguous(), weight[:16], bias[:16])
        got = causal_conv_silu(x[..., 16:], weight[:16], bias[:16], out=out)
    assert got.data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(0, 5, 16), (2, 0, 16), (2, 5, 0)])
def test_nothing_in_is_nothing_out(variant, shape):
    with causal_conv_silu.use(variant):
        y = causal_conv_silu(torch.zeros(shape), torch.zeros(shape[2], 1, 4), torch.zeros(shape[2]))
    assert y.shape == shape


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_number_stays_in_its_channel_and_in_the_reach_of_the_taps(variant, bad):
    x, weight, bias, _ = (t.float() for t in make_inputs(2, 12, 16, 4))
    with causal_conv_silu.use(variant):
        expected = causal_conv_silu(x, weight, bias)
        x[0, 5, 3] = bad
        y = causal_conv_silu(x, weight, bias)
    touched = torch.zeros_like(x, dtype=torch.bool)
    touched[0, 5:9, 3] = True
    torch.testing.assert_close(y[~touched], expected[~touched], rtol=1e-6, atol=1e-6)
    if bad is torch.nan:
        assert torch.isnan(y[touched]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_comes_back_in_half_precision(variant):
    x, weight, bias, _ = (t.float() for t in make_inputs(1, 9, 16, 4))
    with causal_conv_silu.use(variant):
        y = causal_conv_silu(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
        expected = causal_conv_silu(x, weight, bias)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=2**-5, atol=2**-5)


def test_what_does_not_fit_is_named():
    x, weight, bias, history = (t.float() for t in make_inputs(1, 6, 4, 4))
    with pytest.raises(InvalidInput, match=r"bias must have shape \(4,\), got \(5,\)"):
        check_conv(x, weight, torch.zeros(5), None, None)
    with pytest.raises(InvalidInput, match="history must be of a floating-point type on cpu"):
        check_conv(x, weight, bias, history.to("meta"), None)
    with pytest.raises(InvalidInput, match=r"below 2\^31"):
        check_conv(torch.zeros(1, 1, 4).expand(1, 2**31, 4), weight, bias, None, None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_out_and_a_gradient_exclude_each_other(variant):
    x, weight, bias, _ = (t.float() for t in make_inputs(1, 6, 4, 4))
    with causal_conv_silu.use(variant), pytest.raises(InvalidInput, match="out has no gradient"):
        causal_conv_silu(x.requires_grad_(), weight, bias, out=torch.zeros(1, 6, 4))
