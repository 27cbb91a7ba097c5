"""The texels of an atlas as points of a surface, and what posed views say about them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.texturing.unwrap import UnwrappedMesh, rasterize_uvs
from mvgamba.types import Cameras, PosedViews, TexturedMesh


@dataclass(frozen=True, eq=False)
class Texels:
    """Texels whose centre lies in a face."""

    index: Int[Tensor, "M"]
    """Row times width plus column."""
    faces: Int[Tensor, "M"]
    points: Float[Tensor, "M 3"]
    normals: Float[Tensor, "M 3"]
    """Unit; those of the vertices, interpolated."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: slice | Tensor) -> "Texels":
        return Texels(self.index[which], self.faces[which], self.points[which], self.normals[which])


def texels_of(mesh: UnwrappedMesh, texture_size: int) -> Texels:
    """The texels that belong to a face of the mesh."""
    planes = rasterize_uvs(mesh.uvs, mesh.faces, texture_size)
    ids = planes.face_ids.reshape(-1)
    index = torch.nonzero(ids >= 0)[:, 0]
    faces = ids[index].long()
    weights = planes.barycentrics.reshape(-1, 3)[index]
    corners = torch.from_numpy(mesh.faces)[faces]
    points = torch.zeros((len(index), 3))
    normals = torch.zeros((len(index), 3))
    vertices = torch.from_numpy(mesh.vertices).float()
    directions = torch.from_numpy(mesh.normals).float()
    for i in range(3):
        points += weights[:, i, None] * vertices[corners[:, i]]
        normals += weights[:, i, None] * directions[corners[:, i]]
    return Texels(index, faces, points, torch.nn.functional.normalize(normals, dim=-1))


@dataclass(frozen=True, eq=False)
class Sight:
    """What can be known of views before looking at texels: where the mesh is in them, and how far from its edges."""

    views: PosedViews
    w2c: Float[Tensor, "V 4 4"]
    cameras: Cameras
    """Those of the depth."""
    face_ids: Int[Tensor, "V h w"]
    barycentrics: Float[Tensor, "V h w 3"]
    depth: Float[Tensor, "V h w"]
    trust: Float[Tensor, "V h w"]
    """0 where the mesh's own depth jumps, 1 a few pixels from there."""
    extent: float


DEPTH_FACTOR = 2
"""The z-buffer is finer than the pictures by this factor."""
JUMP = 0.01
"""A bend of the depth within one pixel by more than this share of the object's extent is an edge."""
EDGE_PIXELS = 1.5
"""Beside an edge, pixels of the farther surface are distrusted for so many pixels of the picture."""


def sight_of(mesh: UnwrappedMesh | TexturedMesh, views: PosedViews) -> Sight:
    """Render the depth of the mesh for views and find its edges."""
    factor = DEPTH_FACTOR if max(views.cameras.height, views.cameras.width) <= 1024 else 1
    cameras = resize_cameras(views.cameras, views.cameras.height * factor, views.cameras.width * factor)
    w2c = c2w_to_w2c_opencv(views.cameras.c2w.double()).float()
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    planes = rasterize_mesh(
        torch.from_numpy(mesh.vertices).float(),
        torch.from_numpy(mesh.faces),
        w2c,
        cameras.intrinsics.float(),
        height=cameras.height,
        width=cameras.width,
        near=1e-4 * extent,
    )
    trust = _trust(planes.depth, extent, EDGE_PIXELS * factor)
    return Sight(views, w2c, cameras, planes.face_ids, planes.barycentrics, planes.depth, trust, extent)


def _trust(depth: Tensor, extent: float, reach: float) -> Tensor:
    """Far sides of jumps in depth, grown by `reach` pixels, with a soft rim."""
    inverse = torch.where(depth > 0, 1.0 / depth.clamp_min(1e-9), torch.zeros_like(depth))
    behind = torch.zeros_like(depth)
    for axis in (1, 2):
        size = depth.shape[axis]
        if size < 3:
            continue
        middle = inverse.narrow(axis, 1, size - 2)
        before, after = inverse.narrow(axis, 0, size - 2), inverse.narrow(axis, 2, size - 2)
        distance = depth.narrow(axis, 1, size - 2)
        # Inverse depth is linear on a plane, so its second difference is free of slope; times d^2 it is a length.
        bend = (before + after - 2 * middle) * distance**2
        occluded = (bend > JUMP * extent) & (distance > 0)
        found = behind.narrow(axis, 1, size - 2)
        found.copy_(torch.maximum(found, occluded.float()))
    steps = max(1, round(reach))
    trust = torch.ones_like(depth)
    grown = behind[:, None]
    for step in range(steps):
        trust = torch.minimum(trust, 1 - grown[:, 0] * (1 - step / steps))
        grown = max_pool2d(grown, 3, stride=1, padding=1)
    return trust


def look(sight: Sight, texels: Texels, *, power: float) -> tuple[Float[Tensor, "V M 3"], Float[Tensor, "V M"]]:
    """The colour that each view has for each texel, and how much it is to be believed.

    Colours are interpolated premultiplied and made straight again. The weight is 0 for what is hidden, outside the frame, or
    turned away; else (cosine to the viewing direction)^power times alpha times the distance from edges.
    """
    views = sight.views
    count = views.num_views
    colors = torch.zeros((count, len(texels), 3))
    weights = torch.zeros((count, len(texels)))
    homogeneous = torch.cat([texels.points, torch.ones((len(texels), 1))], dim=1)
    scale = torch.tensor([2.0 / sight.cameras.width, 2.0 / sight.cameras.height])
    for i in range(count):
        local = homogeneous @ sight.w2c[i, :3].T
        depth = local[:, 2]
        eye = views.cameras.c2w[i, :3, 3].float()
        ray = torch.nn.functional.normalize(eye - texels.points, dim=-1)
        cosine = (ray * texels.normals).sum(-1)
        k = sight.cameras.intrinsics[i].float()
        image = local @ k.T
        pixel = image[:, :2] / depth.clamp_min(1e-9)[:, None]
        grid = pixel * scale - 1
        inside = (grid.abs() <= 1).all(dim=-1) & (depth > 0) & (cosine > 0.02)
        near = torch.nonzero(inside)[:, 0]
        if len(near) == 0:
            continue
        column = pixel[near, 0].long().clamp_(0, sight.cameras.width - 1)
        row = pixel[near, 1].long().clamp_(0, sight.cameras.height - 1)
        seen = sight.depth[i, row, column]
        # On a slope the depth changes by its tangent within a pixel.
        slope = (1 - cosine[near] ** 2).clamp_min(0).sqrt() / cosine[near].clamp_min(0.1)
        tolerance = 2e-3 * sight.extent + 1.5 * slope * depth[near] / k[0, 0]
        visible = (seen > 0) & (depth[near] <= seen + tolerance)
        near, row, column = near[visible], row[visible], column[visible]
        rgb, alpha = sample_premultiplied(views, i, grid[near])
        colors[i, near] = rgb
        weights[i, near] = cosine[near] ** power * alpha**2 * sight.trust[i, row, column].clamp_min(1e-3)
        weights[i, near[alpha < 0.25]] = 0.0
    return colors, weights


def sample_premultiplied(
    views: PosedViews, view: int, grid: Float[Tensor, "M 2"]
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M"]]:
    """Straight colour and alpha at positions from (-1, -1), the upper left corner, to (1, 1), between pixels bilinearly."""
    alpha = views.alpha[view].float()
    picture = torch.cat([views.rgb[view].float() * alpha, alpha])[None]
    found = grid_sample(picture, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
    coverage = found[3]
    return (found[:3] / coverage.clamp_min(1e-4)).T.clamp(0, 1), coverage
