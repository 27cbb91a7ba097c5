"""The surfel rasterizer in plain torch: dense over pixels and surfels, any device and floating type; it defines the result."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mvgamba.kernels.rasterize_surfels import (
    ALPHA_MAX,
    COSINE_MIN,
    DISTORTION_SLOPE,
    FAR,
    HORIZON,
    NEAR,
    TRANSMITTANCE_MIN,
    SurfelPlanes,
    prepare,
    rho_threshold,
)

PAIRS_PER_CHUNK = 1 << 22
"""Pixels times surfels that are held at once; about 40 tensors of that size live while gradients are taken."""


def rotation_columns(quats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two tangents and the normal of surfels with these rotations (wxyz, any length)."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    a = torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1)
    b = torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1)
    n = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    return a, b, n


def rasterize_surfels_reference(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    height: int,
    width: int,
    near: float = NEAR,
    far: float = FAR,
) -> SurfelPlanes:
    """Rasterize as `mvgamba.kernels.rasterize_surfels` describes, one chunk of pixels after the other.

    Memory is bounded by recomputing a chunk when its gradient is taken; time is proportional to pixels times surfels.
    """
    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    views = []
    for i in range(len(scenes.w2c)):
        surfels = [t[i] for t in scenes.surfels]
        means, quats, scales, opacities, colors = surfels
        drawable = (
            torch.cat([means, quats, scales, opacities[:, None], colors], -1).isfinite().all(-1)
            & (scales > 0).all(-1)
            & (quats.norm(dim=-1) > 0)
        )
        keep = (drawable & (rho_threshold(opacities) > 0)).nonzero()[:, 0]
        kept = tuple(t[keep] for t in surfels)
        for camera in zip(scenes.w2c[i], scenes.intrinsics[i], strict=True):
            views.append(_view(kept, *camera, height=height, width=width, near=near, far=far))
    planes = torch.stack(views).reshape(len(views), height, width, 10).permute(0, 3, 1, 2)
    return scenes.planes([p.contiguous() for p in planes.split([3, 1, 1, 3, 1, 1], 1)])


def _view(
    surfels: tuple[Tensor, ...], w2c: Tensor, k: Tensor, *, height: int, width: int, near: float, far: float
) -> Tensor:
    """(height * width, 10) planes of one camera."""
    rotation = w2c[:3, :3]

    def placed(means: Tensor, quats: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        p = means @ rotation.T + w2c[:3, 3]
        a, b, n = (axis @ rotation.T for axis in rotation_columns(quats))
        return p, a, b, n, (n * p).sum(-1)

    with torch.no_grad():
        p, _, _, _, facing = placed(*surfels[:2])
        seen = (p[:, 2] > near) & (p[:, 2] < far) & (facing.abs() > COSINE_MIN * p.norm(dim=-1)) & k.isfinite().all()
        order = seen.nonzero()[:, 0]
        order = order[torch.argsort(p[order, 2], stable=True)]
    means, quats, scales, opacities, colors = (t[order] for t in surfels)
    p, a, b, n, facing = placed(means, quats)
    world_normals = rotation_columns(quats)[2] * -facing.detach().sign()[:, None]
    # The ray-plane form of u and v, divided by n.D at the centre and written for the offset of the pixel from the projected
    # centre: the same numbers as (zD - p).a / s_u, without the cancellation that single precision would suffer.
    centre_facing = facing / p[:, 2]
    u_axis = torch.linalg.cross(b, p) / (scales[:, :1] * centre_facing[:, None])
    v_axis = torch.linalg.cross(p, a) / (scales[:, 1:] * centre_facing[:, None])
    focal, principal = torch.stack([k[0, 0], k[1, 1]]), torch.stack([k[0, 2], k[1, 2]])
    disc = (
        p[:, :2] / p[:, 2:] * focal + principal,
        u_axis[:, :2] / focal,
        v_axis[:, :2] / focal,
        n[:, :2] / focal / centre_facing[:, None],
        p[:, 2],
        opacities,
        torch.cat([colors, world_normals], -1),
    )
    ys, xs = torch.meshgrid(
        torch.arange(height, device=means.device, dtype=means.dtype) + 0.5,
        torch.arange(width, device=means.device, dtype=means.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([xs, ys], -1).reshape(-1, 2)
    chunks = pixels.split(max(1, PAIRS_PER_CHUNK // max(1, len(order))))
    if len(chunks) == 1 or not torch.is_grad_enabled():
        return torch.cat([_blend(chunk, near, *disc) for chunk in chunks])
    return torch.cat([checkpoint(_blend, chunk, near, *disc, use_reentrant=False) for chunk in chunks])


def _blend(
    pixels: Tensor,
    near: float,
    centres: Tensor,
    u_axis: Tensor,
    v_axis: Tensor,
    w_axis: Tensor,
    depths: Tensor,
    opacities: Tensor,
    features: Tensor,
) -> Tensor:
    """(P, 10) planes of some pixels; the surfels come front to back."""
    dx, dy = (pixels[:, None, :] - centres).unbind(-1)
    slope = 1 + dx * w_axis[:, 0] + dy * w_axis[:, 1]
    in_front = slope > HORIZON
    inverse = 1 / torch.where(in_front, slope, 1)
    u = (dx * u_axis[:, 0] + dy * u_axis[:, 1]) * inverse
    v = (dx * v_axis[:, 0] + dy * v_axis[:, 1]) * inverse
    rho3, rho2 = u * u + v * v, 2 * (dx * dx + dy * dy)
    on_plane = in_front & (rho3 <= rho2) & (depths * inverse >= near)
    rho = torch.where(on_plane, rho3, rho2)
    z = depths * torch.where(on_plane, inverse, 1)
    hit = rho <= rho_threshold(opacities)
    gauss = torch.exp(-0.5 * torch.where(hit, rho, 0))  # subnormal numbers would be slow
    alpha = torch.where(hit, (opacities * gauss).clamp_max(ALPHA_MAX), 0)
    after = torch.cumprod(1 - alpha, -1)
    met = hit & (after >= TRANSMITTANCE_MIN)
    before = torch.cat([after.new_ones(len(after), 1), after], -1)[:, :-1]
    weights = torch.where(met, alpha * before, 0)
    total = weights.sum(-1, keepdim=True)
    blended = weights @ features
    depth = (weights * z).sum(-1, keepdim=True)
    # Among the surfels met while more than half of the light passes, the last one.
    rank = torch.where(met & (before > 0.5), torch.arange(1, len(depths) + 1, device=z.device), 0)
    last = torch.cat([rank.new_zeros(len(rank), 1), rank], -1).amax(-1, keepdim=True)
    median = torch.cat([z.new_zeros(len(z), 1), z], -1).gather(-1, last)
    # Differences of m only, so it may be centred; that keeps the digits.
    m = -DISTORTION_SLOPE / z
    m = m - ((weights * m).sum(-1, keepdim=True) / total.clamp_min(1e-12)).detach()
    first, second = (weights * m).sum(-1, keepdim=True), (weights * m * m).sum(-1, keepdim=True)
    return torch.cat([blended[:, :3], total, depth, blended[:, 3:], median, total * second - first * first], -1)
