"""What the steps draw: a bumpy ball of surfels and a ring of cameras."""

import math

import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.types import Cameras


def bumpy_ball(count: int) -> list[torch.Tensor]:
    """means, quats, scales, opacities, colors; the discs shrink as their number grows, so that the ball stays covered."""
    g = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    radius = 0.45 + 0.05 * torch.sin(5 * d[:, 0]) * torch.sin(6 * d[:, 1]) * torch.sin(4 * d[:, 2] + 1)
    quats = torch.stack([1 + d[:, 2], -d[:, 1], d[:, 0], torch.zeros(count)], 1)
    scales = (0.5 + torch.rand(count, 2, generator=g)) * 1.6 / math.sqrt(count)
    opacities = 0.5 + 0.49 * torch.rand(count, generator=g)
    return [d * radius[:, None], torch.nn.functional.normalize(quats, dim=1), scales, opacities, d * 0.5 + 0.5]


def orbit(views: int, side: int) -> Cameras:
    """Around and from above and below in turn."""
    azimuths = [0.3 + 2 * math.pi * i / views for i in range(views)]
    elevations = [0.35 if i % 2 == 0 else -0.35 for i in range(views)]
    return orbit_cameras(azimuths, elevations, radius=1.5, fovy=math.radians(49.1), height=side, width=side)
