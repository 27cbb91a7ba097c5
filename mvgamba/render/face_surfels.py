"""Surfels that lie on the triangles of a mesh, one each: how a surface becomes something that can be splatted."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.types import Surfels

SPREAD = 1.9
"""Standard deviations of a surfel over those of its triangle. Below 1.6 the surface shows holes, above 2.4 it blurs."""


def surfels_on_faces(
    vertices: Float[Tensor, "P 3"],
    faces: Int[Tensor, "F 3"],
    opacities: Float[Tensor, "F"],
    colors: Float[Tensor, "F 3"],
    *,
    spread: float = SPREAD,
    smallest: float = 1e-4,
) -> Surfels:
    """Surfels with the centre, the normal and the (widened) second moments of their triangles.

    Differentiable in the vertices through centres and normals; the shape within the plane is taken as constant.
    """
    # index_select and not vertices[faces]: the gradient of the latter adds in no fixed order on several CPU threads
    corners = vertices.index_select(0, faces.reshape(-1)).view(-1, 3, 3)
    means = corners.mean(1)
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = normals / normals.norm(dim=1, keepdim=True).clamp_min(1e-12)
    with torch.no_grad():
        quats, scales = _frames(corners - means[:, None], normals, spread, smallest)
    # a turn from the normal as a constant to the normal as a function: the identity in value, not in gradient
    fixed = normals.detach()
    turn = torch.cat([1 + (fixed * normals).sum(1, keepdim=True), torch.linalg.cross(fixed, normals)], 1)
    turn = turn / turn.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return Surfels(means, _multiply(turn, quats), scales, opacities, colors)


def _frames(local: Tensor, normals: Tensor, spread: float, smallest: float) -> tuple[Tensor, Tensor]:
    """Quaternions and standard deviations along the principal axes of triangles around their centres."""
    first = local[:, 0] - (local[:, 0] * normals).sum(1, keepdim=True) * normals
    fallback = torch.eye(3).to(local)[normals.abs().argmin(1)]
    fallback = torch.linalg.cross(normals, fallback)
    first = torch.where(first.norm(dim=1, keepdim=True) > 1e-9, first, fallback)
    first = first / first.norm(dim=1, keepdim=True).clamp_min(1e-12)
    second = torch.linalg.cross(normals, first)
    x, y = (local * first[:, None]).sum(2), (local * second[:, None]).sum(2)
    # an even density over a triangle has a twelfth of the summed squares of its corners as covariance
    xx, yy, xy = (x * x).sum(1) / 12, (y * y).sum(1) / 12, (x * y).sum(1) / 12
    middle, spin = 0.5 * (xx + yy), torch.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)
    along = torch.cos(angle)[:, None] * first + torch.sin(angle)[:, None] * second
    across = torch.linalg.cross(normals, along)
    scales = spread * torch.sqrt(torch.stack([middle + spin, middle - spin], 1).clamp_min(0.0))
    return matrix_to_quat(torch.stack([along, across, normals], 2)), scales.clamp_min(smallest)


def matrix_to_quat(matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 4"]:
    """Rotation matrices -> unit quaternions wxyz, through the largest of the four components (Shepperd 1978)."""
    m = matrix
    trace = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    squares = torch.stack([trace, m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]], 1)
    w = torch.stack([1 + trace, m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    x = torch.stack([w[:, 1], 1 + 2 * m[:, 0, 0] - trace, m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0]], 1)
    y = torch.stack([w[:, 2], x[:, 2], 1 + 2 * m[:, 1, 1] - trace, m[:, 2, 1] + m[:, 1, 2]], 1)
    z = torch.stack([w[:, 3], x[:, 3], y[:, 3], 1 + 2 * m[:, 2, 2] - trace], 1)
    best = squares.argmax(1)
    quats = torch.stack([w, x, y, z], 1)[torch.arange(len(m), device=m.device), best]
    return quats / quats.norm(dim=1, keepdim=True)


def _multiply(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product."""
    w1, x1, y1, z1 = p.unbind(1)
    w2, x2, y2, z2 = q.unbind(1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        1,
    )
