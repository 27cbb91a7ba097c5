"""`rasterize_mesh` in plain torch: every pixel of every face's bounding box at once, the nearest kept by an integer minimum."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.kernels.rasterize_mesh import EDGE_TOLERANCE, FLAT, MeshPlanes, check_inputs, homogeneous_corners

MOST_FRAGMENTS = 2_000_000
"""Pixels of bounding boxes looked at in one go."""
_NOTHING = torch.iinfo(torch.int64).max


def rasterize_mesh_reference(
    vertices: Float[Tensor, "P 3"],
    faces: Int[Tensor, "F 3"],
    w2c: Float[Tensor, "V 4 4"],
    intrinsics: Float[Tensor, "V 3 3"],
    *,
    height: int,
    width: int,
    near: float = 1e-3,
) -> MeshPlanes:
    """See `mvgamba.kernels.rasterize_mesh`."""
    check_inputs(vertices, faces, w2c, intrinsics, height=height, width=width, near=near)
    corners = homogeneous_corners(vertices, w2c, intrinsics)
    views = [_one_view(c[faces.long()], height, width, near) for c in corners]
    return MeshPlanes(*(torch.stack(planes) for planes in zip(*views, strict=True)))


def _one_view(q: Tensor, height: int, width: int, near: float) -> tuple[Tensor, Tensor, Tensor]:
    edges = torch.stack([torch.linalg.cross(q[:, (i + 1) % 3], q[:, (i + 2) % 3]) for i in range(3)], dim=1)
    volume = (q[:, 0] * edges[:, 0]).sum(-1)
    low, high = _boxes(q, height, width, near)
    drawn = (volume.abs() > FLAT * q.norm(dim=-1).prod(dim=-1)) & (low <= high).all(dim=-1)
    ids = torch.nonzero(drawn)[:, 0]
    size = (high - low + 1)[ids]
    counts = size[:, 0] * size[:, 1]
    ends = counts.cumsum(0)

    best = torch.full((height * width,), _NOTHING, dtype=torch.int64, device=q.device)
    total = int(ends[-1]) if len(ends) else 0
    for first in range(0, total, MOST_FRAGMENTS):
        fragment = torch.arange(first, min(first + MOST_FRAGMENTS, total), device=q.device)
        row = torch.searchsorted(ends, fragment, right=True)
        inside = fragment - (ends[row] - counts[row])
        face = ids[row]
        x = low[face, 0] + inside % size[row, 0]
        y = low[face, 1] + inside // size[row, 0]
        e, total_e = _edge_values(edges[face], x, y)
        depth = volume[face] / total_e
        hit = (e / total_e[:, None] >= -EDGE_TOLERANCE).all(dim=-1) & (depth >= near) & torch.isfinite(depth)
        # The bits of a positive float32 are in the order of its value, so the least key is the nearest face, then the first.
        key = (depth[hit].float().view(torch.int32).long() << 32) | face[hit]
        best.scatter_reduce_(0, y[hit] * width + x[hit], key, "amin")

    pixel = torch.nonzero(best != _NOTHING)[:, 0]
    face = best[pixel] & 0xFFFFFFFF
    e, total_e = _edge_values(edges[face], pixel % width, pixel // width)
    weights = (e / total_e[:, None]).clamp_min(0)
    face_ids = torch.full((height * width,), -1, dtype=torch.int32, device=q.device)
    face_ids[pixel] = face.int()
    barycentrics = torch.zeros((height * width, 3), device=q.device)
    barycentrics[pixel] = (weights / weights.sum(-1, keepdim=True)).float()
    depth_map = torch.zeros(height * width, device=q.device)
    depth_map[pixel] = (best[pixel] >> 32).int().view(torch.float32)
    return (
        face_ids.view(height, width),
        barycentrics.view(height, width, 3),
        depth_map.view(height, width),
    )


def _edge_values(edges: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    pixel = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], dim=-1).double()
    e = (edges * pixel[:, None]).sum(-1)
    return e, e.sum(-1)


def _boxes(q: Tensor, height: int, width: int, near: float) -> tuple[Tensor, Tensor]:
    """First and last pixel (x, y) whose centre may be covered by what lies beyond `near`; empty if first > last."""
    big = 1e9
    z = q[..., 2]
    visible = z >= near
    points = q[..., :2] / torch.where(visible, z, torch.ones_like(z))[..., None]
    after = q.roll(-1, dims=1)
    crossing = visible != visible.roll(-1, dims=1)
    step = (near - z) / torch.where(crossing, after[..., 2] - z, torch.ones_like(z))
    cuts = (q + step[..., None] * (after - q))[..., :2] / near
    every = torch.cat([points, cuts], dim=1)
    counts = torch.cat([visible, crossing], dim=1)[..., None]
    margin = 1e-6
    least = torch.where(counts, every, torch.full_like(every, big)).amin(dim=1)
    greatest = torch.where(counts, every, torch.full_like(every, -big)).amax(dim=1)
    last = torch.tensor([width - 1.0, height - 1.0], dtype=q.dtype, device=q.device)
    low = torch.ceil(least - 0.5 - margin).clamp_min(0).minimum(last + 1).long()
    high = torch.floor(greatest - 0.5 + margin).clamp_min(-1).minimum(last).long()
    return low, high
