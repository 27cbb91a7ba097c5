"""Residual sum and norm: every variant against the formula, in place too."""

import pytest
import torch

from mvgamba.errors import InvalidInput
from mvgamba.kernels.add_rms_norm import add_rms_norm, check_norm

VARIANTS = ["warp-cpu", "reference"]
EPS = 1e-5


def make_inputs(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*s, generator=generator, dtype=torch.float64) for s in (shape, shape, shape[-1:])]


def formula(residual, hidden, weight):
    total = residual if hidden is None else residual + hidden
    return weight * total / (total.square().mean(-1, keepdim=True) + EPS).sqrt(), total


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1, 16), (2, 7, 512), (130, 32), (3, 5), (16,)])
@pytest.mark.parametrize("first", [True, False])
def test_every_variant_is_the_formula(variant, shape, first):
    residual, hidden, weight = make_inputs(*shape)
    exact = formula(residual, None if first else hidden, weight)
    with add_rms_norm.use(variant):
        got = add_rms_norm(residual.float(), None if first else hidden.float(), weight.float(), eps=EPS)
    for a, b in zip(got, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_the_formula(variant):
    exact = [t.requires_grad_() for t in make_inputs(2, 3, 16)]
    fast = [t.detach().float().requires_grad_() for t in exact]
    normed, total = formula(*exact)
    (normed.sin().sum() + total.cos().sum()).backward()
    with add_rms_norm.use(variant):
        normed, total = add_rms_norm(*fast, eps=EPS)
    (normed.sin().sum() + total.cos().sum()).backward()
    for a, b in zip(exact, fast, strict=True):
        torch.testing.assert_close(b.grad.double(), a.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_results_land_in_out_which_may_be_the_residual(variant):
    residual, hidden, weight = (t.float() for t in make_inputs(2, 80, 32))
    exact = formula(residual, hidden, weight)
    normed = torch.full_like(residual, torch.nan)
    with add_rms_norm.use(variant):
        add_rms_norm(residual, hidden, weight, eps=EPS, out=(normed, residual))
    torch.testing.assert_close(normed, exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(residual, exact[1])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(0, 16), (3, 0)])
def test_nothing_in_is_nothing_out(variant, shape):
    with add_rms_norm.use(variant):
        got = add_rms_norm(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[-1]), eps=EPS)
    assert got.normed.shape == got.total.shape == shape


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bad_number_stays_in_its_row(variant):
    residual, hidden, weight = (t.float() for t in make_inputs(200, 32))
    with add_rms_norm.use(variant):
        expected = add_rms_norm(residual, hidden, weight, eps=EPS).normed
        hidden[7, 3] = torch.nan
        normed = add_rms_norm(residual, hidden, weight, eps=EPS).normed
    assert torch.isnan(normed[7]).all()
    others = torch.arange(200) != 7
    torch.testing.assert_close(normed[others], expected[others])


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_transposed_tensor_and_half_precision_are_right(variant):
    residual, hidden, weight = (t.float() for t in make_inputs(6, 32))
    exact = formula(residual, hidden, weight)
    with add_rms_norm.use(variant):
        turned = add_rms_norm(residual.T.contiguous().T, hidden.T.contiguous().T, weight, eps=EPS)
        half = add_rms_norm(residual, hidden.bfloat16(), weight, eps=EPS)
    torch.testing.assert_close(turned.normed, exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(half.normed, exact[0], rtol=2**-6, atol=2**-6)


def test_what_does_not_fit_is_named():
    residual, hidden, weight = (t.float() for t in make_inputs(6, 32))
    with pytest.raises(InvalidInput, match=r"weight must have shape \(32,\), got \(31,\)"):
        check_norm(residual, hidden, weight[:31], EPS, None)
    with pytest.raises(InvalidInput, match="hidden must be of a floating-point type on cpu"):
        check_norm(residual, hidden.to("meta"), weight, EPS, None)
    with pytest.raises(InvalidInput, match="eps > 0"):
        check_norm(residual, hidden, weight, 0.0, None)
    with pytest.raises(InvalidInput, match="out has no gradient"):
        check_norm(residual.requires_grad_(), hidden, weight, EPS, (hidden, hidden))
