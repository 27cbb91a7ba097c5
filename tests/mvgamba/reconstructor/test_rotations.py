"""Rotation heads and the quaternions they make."""

import pytest
import torch
import torch.nn.functional as F

from mvgamba.reconstructor.rotations import (
    RotNet,
    SixDHead,
    canonical_quats,
    make_rotation_head,
    multiply_quats,
    quats_from_matrices,
)


def matrices(quats: torch.Tensor) -> torch.Tensor:
    w, x, y, z = quats.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def test_canonical_quaternions_are_sixteen_rotations_with_three_normals():
    quats = canonical_quats()
    torch.testing.assert_close(quats.norm(dim=-1), torch.ones(32))
    rotations = {tuple(m.flatten().round(decimals=4).add(0.0).tolist()) for m in matrices(quats)}
    normals = {tuple(m[:, 2].round(decimals=4).add(0.0).tolist()) for m in matrices(quats)}
    assert len(rotations) == 16
    assert len({tuple(abs(v) for v in n) for n in normals}) == 3


def test_soft_rotnet_of_no_preference_is_the_identity_with_a_finite_gradient():
    logits = torch.zeros(3, 32, requires_grad=True)
    quats = RotNet(hard=False)(logits)
    torch.testing.assert_close(quats, torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4))
    quats.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_hard_rotnet_takes_the_largest_logit_and_trains_with_a_gradient():
    head = RotNet(hard=True)
    logits = torch.randn(9, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(head.eval()(logits), canonical_quats()[logits.argmax(-1)])
    (head.train()(logits) * torch.randn(9, 4)).sum().backward()
    assert logits.grad.abs().sum() > 0


def test_gumbel_temperature_cools_to_a_half():
    head = RotNet(hard=True)
    temperatures = []
    for step in (0, 10_000, 10_000_000):
        head.set_step(step)
        temperatures.append(head.temperature)
    assert temperatures == [2.0, pytest.approx(2 * 0.999995**10_000), 0.5]


@pytest.mark.parametrize("name", ["quat", "sixd"])
def test_zero_numbers_are_the_identity(name):
    width = {"quat": 4, "sixd": 6}[name]
    torch.testing.assert_close(make_rotation_head(name)(torch.zeros(2, width)), torch.tensor([[1.0, 0, 0, 0]] * 2))


def test_six_numbers_reach_any_normal():
    numbers = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * 3
    normals = matrices(SixDHead()(numbers))[..., 2]
    assert (normals.amax(0) > 0.95).all()
    assert (normals.amin(0) < -0.95).all()


def test_matrices_and_quaternions_go_back_and_forth_also_at_half_turns():
    generator = torch.Generator().manual_seed(0)
    quats = F.normalize(torch.randn(200, 4, generator=generator, dtype=torch.float64), dim=-1)
    half_turns = torch.eye(4, dtype=torch.float64)
    for q in (quats, half_turns):
        back = quats_from_matrices(matrices(q))
        torch.testing.assert_close((back * q).sum(-1).abs(), torch.ones(len(q), dtype=torch.float64))


def test_product_of_quaternions_is_the_product_of_rotations():
    generator = torch.Generator().manual_seed(0)
    a, b = F.normalize(torch.randn(2, 50, 4, generator=generator, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(matrices(multiply_quats(a, b)), matrices(a) @ matrices(b))
