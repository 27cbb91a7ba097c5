"""Renders of shapes given by a signed distance (positive outside), by sphere tracing: exact depth, normals, coverage."""

import math

import pytest
import torch

from mvgamba.cameras import fibonacci_cameras
from mvgamba.types import RenderOutput

FOVY = math.radians(49.1)


def trace(shape, cameras):
    c2w, k = cameras.c2w.float(), cameras.intrinsics.float()
    rows, columns = torch.meshgrid(
        torch.arange(cameras.height, dtype=torch.float32) + 0.5,
        torch.arange(cameras.width, dtype=torch.float32) + 0.5,
        indexing="ij",
    )
    x = (columns - k[:, 0, 2, None, None]) / k[:, 0, 0, None, None]
    y = (rows - k[:, 1, 2, None, None]) / k[:, 1, 1, None, None]
    rays = torch.stack([x, -y, -torch.ones_like(x)], dim=-1)  # depth 1 along the view axis
    length = rays.norm(dim=-1)
    rays = torch.einsum("vij,vhwj->vhwi", c2w[:, :3, :3], rays / length[..., None])
    eyes = c2w[:, None, None, :3, 3]
    travelled = torch.full_like(length, 0.3)
    closest = torch.full_like(length, torch.inf)  # the least angle by which the ray misses the shape, in pixels
    for _ in range(40):
        distance = shape(eyes + travelled[..., None] * rays)
        closest = torch.minimum(closest, distance * k[0, 0, 0] / travelled)
        travelled = (travelled + distance).clamp(max=4.0)
    points = eyes + travelled[..., None] * rays
    is_hit = shape(points) < 0.01  # a ray that grazes a side comes near it slowly; one that misses is long gone
    h = 1e-3
    gradient = torch.stack(
        [shape(points + h * e) - shape(points - h * e) for e in torch.eye(3, dtype=torch.float32)], dim=1
    )
    normals = torch.where(is_hit[:, None], torch.nn.functional.normalize(gradient, dim=1), 0.0)
    depth = torch.where(is_hit, travelled / length, 0.0)[:, None]
    alpha = torch.where(is_hit, 1.0, (0.5 - closest).clamp(0, 0.49))[:, None]
    return RenderOutput(torch.zeros_like(normals), alpha, depth, normals, torch.zeros_like(depth), depth.clone())


@pytest.fixture(scope="session")
def rendered():
    """A function: shape, number of views -> (RenderOutput, Cameras)."""

    def render(shape, views=16, size=64):
        cameras = fibonacci_cameras(views, radius=1.5, fovy=FOVY, height=size, width=size)
        return trace(shape, cameras), cameras

    return render
