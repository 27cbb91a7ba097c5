"""The surfel rasterizer as a loop over tiles in plain torch: what one writes without a kernel. The peer of the benchmark.

All that is done per surfel or per pair of surfel and tile is done for all at once; what remains is one step per tile, dense
over its pixels and its surfels. Same support, same planes as `mvgamba.kernels.rasterize_surfels`.
"""

import torch
from torch import Tensor

from mvgamba.kernels.rasterize_surfels import (
    ALPHA_MAX,
    COSINE_MIN,
    DISTORTION_SLOPE,
    FAR,
    HORIZON,
    NEAR,
    TRANSMITTANCE_MIN,
    SurfelPlanes,
    rho_threshold,
)
from mvgamba.kernels.rasterize_surfels_reference import rotation_columns

TILE = 16


@torch.no_grad()
def rasterize_in_tiles(
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
) -> SurfelPlanes:
    """Planes of one scene seen by each camera, without gradients; the surfels are finite and their scales positive."""
    surfels = means, quats, scales, opacities, colors
    views = [_view(*surfels, w, k, height, width) for w, k in zip(w2c, intrinsics, strict=True)]
    return SurfelPlanes(*torch.stack(views).split([3, 1, 1, 3, 1, 1], 1))


def _view(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, w2c: Tensor, k: Tensor,
    height: int, width: int,
) -> Tensor:  # fmt: skip
    rotation = w2c[:3, :3]
    p = means @ rotation.T + w2c[:3, 3]
    axes = rotation_columns(quats)
    a, b, n = (axis @ rotation.T for axis in axes)
    facing = (n * p).sum(-1)
    threshold = rho_threshold(opacities)
    seen = (p[:, 2] > NEAR) & (p[:, 2] < FAR) & (facing.abs() > COSINE_MIN * p.norm(dim=-1)) & (threshold > 0)
    order = seen.nonzero()[:, 0]
    order = order[torch.argsort(p[order, 2])]
    p, a, b, n, facing, threshold = p[order], a[order], b[order], n[order], facing[order], threshold[order]
    focal, principal = torch.stack([k[0, 0], k[1, 1]]), torch.stack([k[0, 2], k[1, 2]])
    depth = p[:, 2:]
    centres = p[:, :2] / depth * focal + principal
    centre_facing = facing[:, None] / depth
    u_axis = torch.linalg.cross(b, p)[:, :2] / (scales[order, :1] * centre_facing) / focal
    v_axis = torch.linalg.cross(p, a)[:, :2] / (scales[order, 1:] * centre_facing) / focal
    w_axis = n[:, :2] / focal / centre_facing
    normals = axes[2][order] * -facing.sign()[:, None]
    discs = torch.cat(
        [centres, u_axis, v_axis, w_axis, depth, threshold[:, None], opacities[order, None], colors[order], normals], -1
    )
    # Boxes: the image of the disc u^2 + v^2 <= threshold, and the circle of the low-pass filter.
    tangents = torch.stack([a * scales[order, :1], b * scales[order, 1:]], -1)
    t = tangents[:, 2]
    jacobian = focal[:, None] * (tangents[:, :2] - (p[:, :2] / depth)[:, :, None] * t[:, None])
    d = threshold * (t * t).sum(-1) - depth[:, 0] ** 2
    q = (threshold / d)[:, None]
    offset = q * (jacobian * t[:, None]).sum(-1)
    half = (offset**2 - q * (jacobian**2).sum(-1)).clamp_min(0).sqrt()
    low = (0.5 * threshold).sqrt()[:, None]
    limit = torch.tensor([width - 1.0, height - 1.0])
    first = (centres + torch.minimum(offset - half, -low) - 0.52).ceil().clamp_min(0)
    last = torch.minimum((centres + torch.maximum(offset + half, low) - 0.48).floor(), limit)
    whole = (d > -1e-3 * depth[:, 0] ** 2)[:, None]
    first, last = torch.where(whole, 0, first), torch.where(whole, limit, last)
    # Pairs of surfel and tile, sorted by tile; a stable sort keeps them front to back.
    across, down = -(-width // TILE), -(-height // TILE)
    drawn = (first <= last).all(-1)
    low_tile, high_tile = (first / TILE).floor().long(), (last / TILE).floor().long()
    spans = torch.where(drawn[:, None], high_tile - low_tile + 1, 0)
    counts = spans.prod(-1)
    owners = torch.repeat_interleave(torch.arange(len(counts)), counts)
    rank = torch.arange(len(owners)) - (counts.cumsum(0) - counts)[owners]
    columns = low_tile[owners, 0] + rank % spans[owners, 0]
    rows = low_tile[owners, 1] + rank // spans[owners, 0]
    tiles, by_tile = torch.sort(rows * across + columns, stable=True)
    discs = discs[owners[by_tile]]
    begins = torch.searchsorted(tiles, torch.arange(across * down + 1)).tolist()
    image = torch.zeros(10, down * TILE, across * TILE)
    ys, xs = torch.meshgrid(torch.arange(TILE) + 0.5, torch.arange(TILE) + 0.5, indexing="ij")
    grid = torch.stack([xs, ys], -1).reshape(-1, 1, 2)
    for tile in range(across * down):
        begin, end = begins[tile], begins[tile + 1]
        if begin == end:
            continue
        row, column = tile // across * TILE, tile % across * TILE
        planes = _tile(grid + torch.tensor([float(column), float(row)]), discs[begin:end])
        image[:, row : row + TILE, column : column + TILE] = planes.T.reshape(10, TILE, TILE)
    return image[:, :height, :width]


def _tile(pixels: Tensor, discs: Tensor) -> Tensor:
    """(256, 10) planes of the pixels of a tile."""
    dx, dy = (pixels - discs[:, :2]).unbind(-1)
    ux, uy, vx, vy, wx, wy, depth, threshold, opacity = discs[:, 2:11].unbind(-1)
    slope = 1 + dx * wx + dy * wy
    in_front = slope > HORIZON
    inverse = 1 / torch.where(in_front, slope, 1)
    u, v = (dx * ux + dy * uy) * inverse, (dx * vx + dy * vy) * inverse
    rho3, rho2 = u * u + v * v, 2 * (dx * dx + dy * dy)
    on_plane = in_front & (rho3 <= rho2) & (depth * inverse >= NEAR)
    rho = torch.where(on_plane, rho3, rho2)
    hit = rho <= threshold
    alpha = torch.where(hit, (opacity * torch.exp(-0.5 * rho)).clamp_max(ALPHA_MAX), 0)
    after = torch.cumprod(1 - alpha, -1)
    met = hit & (after >= TRANSMITTANCE_MIN)
    before = torch.cat([torch.ones(len(after), 1), after[:, :-1]], -1)
    w = torch.where(met, alpha * before, 0)
    z = depth * torch.where(on_plane, inverse, 1)
    total = w.sum(-1, keepdim=True)
    rank = torch.where(met & (before > 0.5), torch.arange(1, len(discs) + 1), 0).amax(-1, keepdim=True)
    median = torch.where(rank > 0, z.gather(-1, (rank - 1).clamp_min(0)), 0)
    m = DISTORTION_SLOPE / depth[0] - DISTORTION_SLOPE / z
    first, second = (w * m).sum(-1, keepdim=True), (w * m * m).sum(-1, keepdim=True)
    blended = w @ discs[:, 11:]
    spread = total * second - first * first
    return torch.cat([blended[:, :3], total, (w * z).sum(-1, keepdim=True), blended[:, 3:], median, spread], -1)
