"""A colour for each vertex of a fused surface."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.types import Cameras, Mesh

UNSEEN = 0.5
"""Grey, where no view sees a vertex."""


def color_vertices(
    mesh: Mesh,
    rgb: Float[Tensor, "V 3 H W"],
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    *,
    truncation: float,
) -> Float[np.ndarray, "P 3"]:
    """The mean colour of the views that see a vertex, those counting more whose depth agrees better.

    What a fused colour volume would hold at the surface, without the volume.

    Args:
        depth: Along the view axis, 0 where there is no surface.
        truncation: A view whose depth differs by more than this, in scene units, does not see the vertex.
    """
    device = rgb.device
    vertices = torch.from_numpy(np.ascontiguousarray(mesh.vertices.T, np.float32)).to(device)
    w2c, intrinsics = c2w_to_w2c_opencv(cameras.c2w).float().to(device), cameras.intrinsics.float().to(device)
    total, weights = torch.zeros_like(vertices), torch.zeros_like(vertices[0])
    for view in range(rgb.shape[0]):
        k = intrinsics[view]
        x, y, z = torch.addmm(w2c[view, :3, 3:], w2c[view, :3, :3], vertices)
        u = x.mul_(k[0, 0]).div_(z).add_(k[0, 2])
        v = y.mul_(k[1, 1]).div_(z).add_(k[1, 2])
        in_frame = (z > 1e-6) & (u >= 0) & (u < cameras.width) & (v >= 0) & (v < cameras.height)
        pixel = torch.where(in_frame, v.int() * cameras.width + u.int(), 0)
        surface = depth[view].reshape(-1).index_select(0, pixel)
        weight = (1 - (surface - z).abs_() / truncation).mul_(in_frame & (surface > 0))
        seen = (weight > 0).nonzero()[:, 0]  # less than half of them, mostly
        weight = weight.index_select(0, seen)
        at = torch.stack([u.index_select(0, seen), v.index_select(0, seen)], -1)
        at = at * at.new_tensor([2 / cameras.width, 2 / cameras.height]) - 1
        color = F.grid_sample(rgb[view : view + 1].float(), at[None, None], align_corners=False, padding_mode="border")
        total.index_add_(1, seen, color[0, :, 0] * weight)
        weights.index_add_(0, seen, weight)
    colors = torch.where(weights > 0, total / weights.clamp_min(1e-9), UNSEEN)
    return colors.T.clamp(0, 1).cpu().numpy()
