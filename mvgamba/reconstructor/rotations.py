"""Rotation heads: from a token's numbers to a unit quaternion, and what little quaternion algebra that needs."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.reconstructor.presets import RotationHead

TINY = 1e-6
GUMBEL_START, GUMBEL_END, GUMBEL_DECAY = 2.0, 0.5, 0.999995


def multiply_quats(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Hamilton product, wxyz: the rotation `b` followed by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quats_from_matrices(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """Unit quaternions wxyz with w or the largest part positive; differentiable, also near half turns."""
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # rows of 4 q q^T: whichever row has the largest diagonal gives q without a division by a small number
    diagonal = torch.stack([1 + trace, *(1 - trace + 2 * m[..., i, i] for i in range(3))], -1)
    w_xyz = torch.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = torch.stack(
        [
            torch.stack([diagonal[..., 0], *w_xyz.unbind(-1)], -1),
            torch.stack([w_xyz[..., 0], diagonal[..., 1], xy, xz], -1),
            torch.stack([w_xyz[..., 1], xy, diagonal[..., 2], yz], -1),
            torch.stack([w_xyz[..., 2], xz, yz, diagonal[..., 3]], -1),
        ],
        -2,
    )
    best = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    return F.normalize(rows.gather(-2, best)[..., 0, :], dim=-1)


def canonical_quats() -> Float[Tensor, "32 4"]:
    """The quaternions that RotNet mixes: the eight units ±e_i and the twenty-four (±e_i ± e_j) / sqrt(2).

    They are 16 rotations, each with its antipode, and their third axes are only ±x, ±y, ±z.
    """
    eye = torch.eye(4)
    units = [sign * eye[i] for i in range(4) for sign in (1.0, -1.0)]
    pairs = [
        (s * eye[i] + t * eye[j]) * 0.5**0.5
        for i, j in itertools.combinations(range(4), 2)
        for s in (1.0, -1.0)
        for t in (1.0, -1.0)
    ]
    return torch.stack(units + pairs)


class RotNet(nn.Module):
    """32 logits -> a mixture of 32 fixed quaternions, normalised; or, `hard`, one of them.

    Kept for published checkpoints. The soft mixture of a flat softmax is exactly zero, where any rotation is as good as
    another: it becomes the identity there. The hard one draws by Gumbel noise while training, with the gradient of the
    soft choice, and takes the largest logit otherwise.
    """

    def __init__(self, *, hard: bool) -> None:
        super().__init__()
        self.hard = hard
        self.temperature = GUMBEL_START
        self.canonical_quaternions: Tensor
        self.register_buffer("canonical_quaternions", canonical_quats(), persistent=hard)

    def set_step(self, step: int) -> None:
        """Cool the Gumbel choice to what belongs to a training step."""
        self.temperature = max(GUMBEL_END, GUMBEL_START * GUMBEL_DECAY**step)

    def forward(self, logits: Float[Tensor, "*n 32"]) -> Float[Tensor, "*n 4"]:
        if not self.hard:
            weights = logits.softmax(-1)
        elif self.training:
            weights = F.gumbel_softmax(logits, tau=self.temperature, hard=True)
        else:
            weights = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        return _unit_or_identity(weights @ self.canonical_quaternions.to(logits.dtype))


class QuatHead(nn.Module):
    """Four numbers, added to the identity and normalised."""

    def forward(self, numbers: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
        return _unit_or_identity(numbers + numbers.new_tensor([1.0, 0.0, 0.0, 0.0]))


class SixDHead(nn.Module):
    """Six numbers, added to the first two axes and made orthonormal (Zhou et al. 2019, section 4.2)."""

    def forward(self, numbers: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 4"]:
        first = F.normalize(numbers[..., :3] + numbers.new_tensor([1.0, 0.0, 0.0]), dim=-1)
        second = numbers[..., 3:] + numbers.new_tensor([0.0, 1.0, 0.0])
        second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        third = torch.linalg.cross(first, second, dim=-1)
        return quats_from_matrices(torch.stack([first, second, third], -1))


ROTATION_WIDTHS: dict[RotationHead, int] = {"rotnet_soft": 32, "rotnet_hard": 32, "quat": 4, "sixd": 6}


def make_rotation_head(name: RotationHead) -> nn.Module:
    """The activation that belongs to a head of `ROTATION_WIDTHS[name]` numbers."""
    if name == "quat":
        return QuatHead()
    if name == "sixd":
        return SixDHead()
    return RotNet(hard=name == "rotnet_hard")


def _unit_or_identity(quats: Tensor) -> Tensor:
    length = quats.norm(dim=-1, keepdim=True)
    identity = torch.zeros_like(quats)
    identity[..., 0] = 1.0
    # the division is by a safe number in both branches, so that no gradient is NaN
    return torch.where(length > TINY, quats / length.clamp_min(TINY), identity)
