"""What the ray network sees: views of one size, where each ray crosses the visual hull, and two views that nobody took.

The visual hull bounds the object: along a ray the surface lies between where the ray enters the hull (`near`) and where it
leaves it for the last time (`far`). To the given views two are added, from the top and from below, which hold the hull's
colours as far as they can be guessed. Training and the pipeline make their inputs here, so both see the same.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, intrinsics_from_fovy, orbit_c2w, resize_cameras
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.reconstructor.hull import hull_field, mesh_of_field
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews
from mvgamba.types import Cameras

HULL_RESOLUTION = 64
MARCH_STEPS = 64
QUERY_FOVY = 0.6
QUERY_RADIUS = 1.03 * NORMALISED_RADIUS / math.sin(0.5 * QUERY_FOVY)
"""Of the views from the top and from below: the whole sphere is in the frame."""


@dataclass(frozen=True, eq=False)
class RayInputs:
    """Given views first, then the queried ones; on the CPU."""

    cameras: Cameras
    """In the normalised frame."""
    rgb: Float[Tensor, "V 3 S S"]
    """Over black. For queried views a guess: the colours of the given views at the hull's nearest points."""
    alpha: Float[Tensor, "V 1 S S"]
    near: Float[Tensor, "V 1 S S"]
    """Along the view axis, 0 where the ray misses the hull."""
    far: Float[Tensor, "V 1 S S"]
    is_query: Bool[Tensor, "V"]


def query_cameras(first: Float[Tensor, "4 4"], *, size: int) -> Cameras:
    """From the top and from below, turned so that the first given camera stands at the lower edge of the top view."""
    azimuth = math.atan2(float(first[0, 3]), float(first[2, 3]))
    c2w = torch.stack([orbit_c2w(azimuth, e, QUERY_RADIUS) for e in (math.pi / 2, -math.pi / 2)])
    k = intrinsics_from_fovy(QUERY_FOVY, size, size)
    return Cameras(c2w, k.expand(2, 3, 3).contiguous(), size, size)


def ray_inputs(views: NormalisedViews, *, size: int) -> RayInputs:
    """Inputs of the network at `size` x `size` pixels. Depth of the views is not looked at.

    Raises:
        EmptyReconstruction: The silhouettes have no volume in common.
    """
    blind = dataclasses.replace(views, views=dataclasses.replace(views.views, depth=None))
    alpha = F.interpolate(blind.views.alpha, (size, size), mode="area")
    rgb = F.interpolate(blind.views.rgb * blind.views.alpha, (size, size), mode="area")
    given = resize_cameras(blind.views.cameras, size, size)
    asked = query_cameras(given.c2w[0], size=size)
    cameras = Cameras(
        torch.cat([given.c2w, asked.c2w.to(given.c2w)]),
        torch.cat([given.intrinsics, asked.intrinsics.to(given.intrinsics)]),
        size,
        size,
    )
    near, far = _crossings(blind, cameras)
    count = given.num_views
    guess = _guessed_colors(near, cameras, rgb / alpha.clamp_min(1e-4), alpha, count)
    covered = (near[count:] > 0).float()
    is_query = torch.arange(cameras.num_views) >= count
    return RayInputs(cameras, torch.cat([rgb, guess * covered]), torch.cat([alpha, covered]), near, far, is_query)


def _crossings(views: NormalisedViews, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """First entry into the hull and last exit, along the view axis."""
    field, origin, spacing = hull_field(views, resolution=HULL_RESOLUTION)
    hull = mesh_of_field(field.numpy(), origin.numpy(), spacing)
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    planes = rasterize_mesh(
        torch.from_numpy(hull.vertices),
        torch.from_numpy(hull.faces),
        w2c,
        cameras.intrinsics,
        height=cameras.height,
        width=cameras.width,
    )
    near = planes.depth.float()
    view, row, column = (near > 0).nonzero(as_tuple=True)
    rays = pixel_rays(cameras)[view, :, row, column].float()
    at = cameras.c2w[view, :3, 3].float()
    first = near[view, row, column]
    # a ray leaves the hull within the diameter of its sphere
    reach = 2.1 * NORMALISED_RADIUS
    steps = first[:, None] + torch.linspace(0.0, reach, MARCH_STEPS)
    points = at[:, None] + steps[..., None] * rays[:, None]
    extent = torch.tensor(field.shape) - 1
    unit = 2 * (points - origin.float()) / (spacing * extent) - 1
    values = F.grid_sample(
        field[None, None].clamp(-4 * spacing, 4 * spacing),
        unit.flip(-1)[None, None],
        align_corners=True,
        padding_mode="border",
    )[0, 0, 0]
    within = (unit.abs() <= 1).all(-1)
    inside = (values > 0) & within
    last = (inside * torch.arange(1, MARCH_STEPS + 1)).amax(1)
    # the crossing between the last sample inside and the next one
    here = (last - 1).clamp_min(0)
    after = (here + 1).clamp_max(MARCH_STEPS - 1)
    a = values.gather(1, here[:, None])[:, 0].clamp_min(0)
    b = values.gather(1, after[:, None])[:, 0].clamp_max(0)
    share = a / (a - b).clamp_min(1e-6)
    exit_ = first + (here + share) * (reach / (MARCH_STEPS - 1))
    far = torch.zeros_like(near)
    far[view, row, column] = torch.where(last > 0, exit_, first + spacing)
    return near[:, None], torch.maximum(far[:, None], near[:, None])


def pixel_rays(cameras: Cameras) -> Float[Tensor, "V 3 H W"]:
    """Directions in the world, of length 1 along the view axis, so that a depth times a ray is an offset."""
    rows = torch.arange(cameras.height, dtype=torch.float64) + 0.5
    columns = torch.arange(cameras.width, dtype=torch.float64) + 0.5
    k = cameras.intrinsics.double()
    x = ((columns - k[:, 0, 2, None]) / k[:, 0, 0, None])[:, None, :].expand(-1, cameras.height, -1)
    y = -((rows - k[:, 1, 2, None]) / k[:, 1, 1, None])[:, :, None].expand(-1, -1, cameras.width)
    local = torch.stack([x, y, -torch.ones_like(x)], 1)
    return torch.einsum("vij,vjhw->vihw", cameras.c2w[:, :3, :3].double(), local)


def _guessed_colors(near: Tensor, cameras: Cameras, rgb: Tensor, alpha: Tensor, count: int) -> Float[Tensor, "Q 3 S S"]:
    """For each hull point of a queried view the colours of the given views there, first of those that nearly see it."""
    depth, rays = near[count:, 0], pixel_rays(cameras)[count:].float()
    points = cameras.c2w[count:, :3, 3, None, None].float() + depth[:, None] * rays
    flat = points.permute(0, 2, 3, 1).reshape(-1, 3)
    w2c, k = c2w_to_w2c_opencv(cameras.c2w[:count]).float(), cameras.intrinsics[:count].float()
    local = torch.einsum("vij,nj->vni", w2c[:, :3, :3], flat) + w2c[:, None, :3, 3]
    z = local[..., 2].clamp_min(1e-3)
    u = (local[..., 0] / z * k[:, 0, 0, None] + k[:, 0, 2, None]) * 2 / cameras.width - 1
    v = (local[..., 1] / z * k[:, 1, 1, None] + k[:, 1, 2, None]) * 2 / cameras.height - 1
    at = torch.stack([u, v], -1)[:, :, None]
    sampled = F.grid_sample(torch.cat([rgb, alpha, near[:count]], 1), at, mode="nearest", align_corners=False)
    color, cover, front = sampled[:, :3, :, 0], sampled[:, 3, :, 0], sampled[:, 4, :, 0]
    behind = (z - front).abs()
    weight = torch.softmax(torch.where((cover > 0.5) & (front > 0), -behind / 0.05, -1e4), 0)
    mixed = (weight[:, None] * color).sum(0) * (cover.amax(0) > 0.5)
    return mixed.T.reshape(len(depth), cameras.height, cameras.width, 3).permute(0, 3, 1, 2)
