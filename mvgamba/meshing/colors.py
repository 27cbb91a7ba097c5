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
    vertices = torch.from_numpy(np.ascontiguousarray(mesh.vertices, np.float32)).to(device)
    w2c, intrinsics = c2w_to_w2c_opencv(cameras.c2w).float().to(device), cameras.intrinsics.float().to(device)
    size = torch.tensor([cameras.width, cameras.height], device=device, dtype=torch.float32)
    total, weights = torch.zeros_like(vertices), torch.zeros(len(vertices), 1, device=device)
    for view in range(rgb.shape[0]):
        local = torch.addmm(w2c[view, :3, 3], vertices, w2c[view, :3, :3].T)
        z = local[:, 2].clamp_min(1e-6)
        k = intrinsics[view]
        pixels = local[:, :2] / z[:, None] * torch.stack([k[0, 0], k[1, 1]]) + torch.stack([k[0, 2], k[1, 2]])
        at = (2 * pixels / size - 1)[None, None]
        column = pixels[:, 0].long().clamp(0, cameras.width - 1)
        row = pixels[:, 1].long().clamp(0, cameras.height - 1)
        surface = depth[view].reshape(-1).index_select(0, row * cameras.width + column)
        in_frame = (local[:, 2] > 1e-6) & ((pixels >= 0) & (pixels < size)).all(1) & (surface > 0)
        weight = torch.where(in_frame, 1 - (surface - z).abs() / truncation, 0.0).clamp_min(0)[:, None]
        color = F.grid_sample(rgb[view : view + 1].float(), at, align_corners=False, padding_mode="border")[0, :, 0].T
        total.addcmul_(color, weight)
        weights += weight
    colors = torch.where(weights > 0, total / weights.clamp_min(1e-9), UNSEEN)
    return colors.clamp(0, 1).cpu().numpy()
