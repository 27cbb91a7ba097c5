"""Pinhole cameras: orbits, projections, and the change to the OpenCV frame that rasterizers use."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.types import Cameras


def intrinsics_from_fovy(fovy: float, height: int, width: int) -> Float[Tensor, "3 3"]:
    """Pinhole matrix with square pixels and the principal point in the middle."""
    focal = 0.5 * height / math.tan(0.5 * fovy)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], dtype=torch.float64)


def orbit_c2w(azimuth: float, elevation: float, radius: float) -> Float[Tensor, "4 4"]:
    """Camera to world of a camera on a sphere that looks at the origin.

    Azimuth 0 stands on +Z, a quarter turn on +X; positive elevation is above. At the poles up is -Z seen from the top.
    """
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    back = torch.tensor([ce * sa, se, ce * ca], dtype=torch.float64)
    right = torch.tensor([ca, 0.0, -sa], dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2], c2w[:3, 3] = right, torch.linalg.cross(back, right), back, radius * back
    return c2w


def turn_about_vertical(angle: float) -> Float[Tensor, "3 3"]:
    """Rotation about +Y in radians, from +Z towards +X, as azimuths count."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=torch.float64)


def orbit_cameras(
    azimuths: list[float], elevations: list[float], *, radius: float, fovy: float, height: int, width: int
) -> Cameras:
    """Cameras on a sphere around the origin, one for each pair of angles (radians), in float64."""
    c2w = torch.stack([orbit_c2w(a, e, radius) for a, e in zip(azimuths, elevations, strict=True)])
    k = intrinsics_from_fovy(fovy, height, width)
    return Cameras(c2w, k.expand(len(azimuths), 3, 3).contiguous(), height, width)


def fibonacci_cameras(count: int, *, radius: float, fovy: float, height: int, width: int) -> Cameras:
    """Cameras spread evenly over the whole sphere, all looking at the origin."""
    elevations = [math.asin(1 - 2 * (i + 0.5) / count) for i in range(count)]
    azimuths = [(i * math.pi * (3 - math.sqrt(5))) % (2 * math.pi) for i in range(count)]
    return orbit_cameras(azimuths, elevations, radius=radius, fovy=fovy, height=height, width=width)


def c2w_to_w2c_opencv(c2w: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """World to camera in the OpenCV frame (x right, y down, looks along +z) from an OpenGL camera-to-world."""
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=c2w.dtype, device=c2w.device)
    return torch.linalg.inv(c2w * flip)


def project(points: Float[Tensor, "n 3"], cameras: Cameras) -> tuple[Float[Tensor, "V n 2"], Float[Tensor, "V n"]]:
    """World points -> pixel positions and depths along the view axis, for every view (no batch axes)."""
    w2c = c2w_to_w2c_opencv(cameras.c2w).to(points)
    local = torch.einsum("vij,nj->vni", w2c[:, :3, :3], points) + w2c[:, None, :3, 3]
    depth = local[..., 2]
    k = cameras.intrinsics.to(points)
    image = torch.einsum("vij,vnj->vni", k, local)
    return image[..., :2] / image[..., 2:], depth


def resize_cameras(cameras: Cameras, height: int, width: int) -> Cameras:
    """The same cameras with another number of pixels."""
    factor = torch.tensor(
        [[width / cameras.width], [height / cameras.height], [1.0]],
        dtype=cameras.intrinsics.dtype,
        device=cameras.intrinsics.device,
    )
    return Cameras(cameras.c2w, cameras.intrinsics * factor, height, width)
