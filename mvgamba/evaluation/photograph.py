"""Unlit photographs of a drawable: RGBA with soft edges, and depth."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.evaluation.drawable import Drawable, linear_to_srgb, srgb_to_linear
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.types import Cameras, PosedViews, Similarity

SUPERSAMPLING = 4
"""Samples along each edge of a pixel, sixteen in all, unless told."""


def photograph(
    drawable: Drawable, cameras: Cameras, *, with_depth: bool = False, samples: int = SUPERSAMPLING
) -> PosedViews:
    """Base colour alone, averaged in linear light over the samples of a pixel that meet the object.

    Alpha is the share of those samples. Depth is that of the pixel's centre.

    Args:
        samples: Along each edge of a pixel.
    """
    paint = _Paint(drawable)
    vertices = torch.from_numpy(drawable.vertices)
    faces = torch.from_numpy(np.ascontiguousarray(drawable.faces))
    fine = resize_cameras(cameras, cameras.height * samples, cameras.width * samples)
    rgb, alpha, depth = [], [], []
    for view in range(cameras.num_views):
        at = [view]
        planes = rasterize_mesh(
            vertices,
            faces,
            c2w_to_w2c_opencv(fine.c2w[at]),
            fine.intrinsics[at],
            height=fine.height,
            width=fine.width,
        )
        covered = (planes.face_ids[0] >= 0).reshape(-1)
        linear = torch.zeros(covered.numel(), 3)
        linear[covered] = paint(planes.face_ids[0].reshape(-1)[covered], planes.barycentrics[0].reshape(-1, 3)[covered])
        share = _pool(covered.float()[:, None], fine, samples)
        mean = _pool(linear, fine, samples) / share.clamp_min(1e-6)
        rgb.append(linear_to_srgb(mean).clamp(0, 1))
        alpha.append(share)
        if with_depth:
            coarse = rasterize_mesh(
                vertices,
                faces,
                c2w_to_w2c_opencv(cameras.c2w[at]),
                cameras.intrinsics[at],
                height=cameras.height,
                width=cameras.width,
            )
            depth.append(coarse.depth.float())
    return PosedViews(torch.stack(rgb), torch.stack(alpha), cameras, torch.stack(depth) if with_depth else None)


def photograph_from_rig(drawable: Drawable, *, samples: int = SUPERSAMPLING) -> PosedViews:
    """As the starter generator would have made it: from its cameras, about the object's bounding sphere."""
    cameras = rig_cameras()
    place = Similarity(drawable.radius, torch.eye(3, dtype=torch.float64), torch.from_numpy(drawable.center))
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] = place.apply(c2w[:, :3, 3])
    return photograph(drawable, dataclasses.replace(cameras, c2w=c2w), samples=samples)


def disturbed(views: PosedViews, seed: int) -> PosedViews:
    """As a careless photographer would have them: exposure off by up to 5 %, colour noise of 0.012, rough edges."""
    generator = torch.Generator().manual_seed(seed)
    gain = 1 + 0.05 * (2 * torch.rand(views.num_views, 1, 1, 1, generator=generator) - 1)
    noise = 0.012 * torch.randn(views.rgb.shape, generator=generator)
    soft = (views.alpha > 0) & (views.alpha < 1)
    rough = views.alpha + 0.3 * (2 * torch.rand(views.alpha.shape, generator=generator) - 1)
    return PosedViews(
        (views.rgb * gain + noise).clamp(0, 1),
        torch.where(soft, rough.clamp(0, 1), views.alpha),
        views.cameras,
        views.depth,
    )


def _pool(values: Float[Tensor, "n c"], fine: Cameras, samples: int) -> Float[Tensor, "c h w"]:
    image = values.reshape(1, fine.height, fine.width, -1).permute(0, 3, 1, 2)
    return F.avg_pool2d(image, samples)[0]


class _Paint:
    """Linear base colour at points of faces."""

    def __init__(self, drawable: Drawable) -> None:
        self._corner_uvs = torch.from_numpy(drawable.uvs[drawable.faces]).float()
        self._corner_colors = torch.from_numpy(drawable.colors[drawable.faces]).float()
        self._material_of_face = torch.from_numpy(drawable.face_materials)
        self._factors = torch.from_numpy(np.stack([m.factor for m in drawable.materials])).float()
        table = torch.from_numpy(srgb_to_linear(np.arange(256) / 255.0)).float()
        decoded: dict[int, Tensor] = {}
        self._textures: list[Tensor | None] = []
        for material in drawable.materials:
            if material.texture is None:
                self._textures.append(None)
                continue
            key = id(material.texture)
            if key not in decoded:
                decoded[key] = table[torch.from_numpy(material.texture.astype(np.int64))]
            self._textures.append(decoded[key])
        used = drawable.uvs[drawable.faces]
        inside = (used > -1e-4) & (used < 1 + 1e-4)
        self._clamp = [bool(inside[drawable.face_materials == i].all()) for i in range(len(drawable.materials))]

    def __call__(self, faces: Tensor, barycentrics: Tensor) -> Float[Tensor, "n 3"]:
        faces, weights = faces.long(), barycentrics.float()[:, :, None]
        material = self._material_of_face[faces]
        color = (self._corner_colors[faces] * weights).sum(1) * self._factors[material]
        uvs = (self._corner_uvs[faces] * weights).sum(1)
        for index, texture in enumerate(self._textures):
            if texture is not None:
                mine = (material == index).nonzero()[:, 0]
                if len(mine):
                    color[mine] *= _bilinear(texture, uvs[mine], clamp=self._clamp[index])
        return color


def _bilinear(texture: Float[Tensor, "Ht Wt 3"], uvs: Float[Tensor, "n 2"], *, clamp: bool) -> Float[Tensor, "n 3"]:
    """Texel centres at halves. A texture repeats unless no coordinate leaves it: then its border holds."""
    if clamp:
        grid = (2 * uvs - 1)[None, :, None]
        image = texture.permute(2, 0, 1)[None]
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled[0, :, :, 0].T
    height, width, _ = texture.shape
    x, y = uvs[:, 0] * width - 0.5, uvs[:, 1] * height - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]

    def texel(column: Tensor, row: Tensor) -> Tensor:
        return texture[row.remainder(height).long(), column.remainder(width).long()]

    upper = texel(x0, y0) * (1 - fx) + texel(x0 + 1, y0) * fx
    lower = texel(x0, y0 + 1) * (1 - fx) + texel(x0 + 1, y0 + 1) * fx
    return upper * (1 - fy) + lower * fy
