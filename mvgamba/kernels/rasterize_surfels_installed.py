"""The surfel rasterizers that others publish for CUDA, with their arguments and planes in the conventions of the house.

Written against their documented signatures; not yet run. Neither gives the numbers of the reference, so they are never chosen but
only with `rasterize_surfels.use("gsplat")`:

- both cut a disc off at about three standard deviations, where ours ends at alpha = 1/255;
- **gsplat** (`rasterization_2dgs`): depth and median are those of the discs' **centres**, whatever their tilt (its issues 477 and
  863), so its depth must not be fused; distortion is 2 sum of w (z A - Z) with A and Z the sums of w and wz in front, in scene units;
- **diff-surfel-rasterization**: depth is where the ray meets the disc, expected (`allmap[0]`) and median (`allmap[5]`): the two that its
  `depth_ratio` mixes. Near and far are 0.2 and 100 and cannot be changed. Its distortion has the same form as ours in other units, so
  it is scaled; gradients do not stop where alpha is clamped. Its licence forbids commercial use.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mvgamba.errors import InvalidInput
from mvgamba.kernels.rasterize_surfels import DISTORTION_SLOPE, FAR, NEAR, Scenes, SurfelPlanes, prepare

FIXED_NEAR, FIXED_FAR = 0.2, 100.0
FIXED_SLOPE = FIXED_NEAR * FIXED_FAR / (FIXED_FAR - FIXED_NEAR)


def _drawable(scenes: Scenes, i: int) -> list[Tensor]:
    """The surfels of scene i that can be drawn, in float32: what the packages do not check."""
    means, quats, scales, opacities, colors = (t[i].float() for t in scenes.surfels)
    flat = torch.cat([means, quats, scales, opacities[:, None], colors], -1)
    keep = flat.isfinite().all(-1) & (scales > 0).all(-1) & (quats.norm(dim=-1) > 0) & (opacities > 1 / 255)
    index = keep.nonzero()[:, 0]
    return [t.index_select(0, index) for t in (means, normalize(quats, dim=-1), scales, opacities, colors)]


def _planes(scenes: Scenes, views: list[Tensor]) -> SurfelPlanes:
    """From (10, H, W) of each view of each scene: rgb, alpha, depth, normals, median, distortion."""
    return scenes.planes(torch.stack(views).split([3, 1, 1, 3, 1, 1], 1))


def rasterize_surfels_gsplat(
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
    near: float = NEAR,
    far: float = FAR,
) -> SurfelPlanes:
    """With `gsplat.rasterization_2dgs`, all views of a scene at once. Depths are those of centres."""
    import gsplat

    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    views: list[Tensor] = []
    for i in range(len(scenes.w2c)):
        p, q, s, o, c = _drawable(scenes, i)
        if len(p) == 0:
            views += [p.new_zeros(10, height, width) + 0 * p.sum()] * scenes.w2c.shape[1]
            continue
        color, alpha, normals, _, distortion, median, _ = gsplat.rasterization_2dgs(
            means=p, quats=q, scales=torch.cat([s, torch.ones_like(s[:, :1])], -1), opacities=o, colors=c,
            viewmats=scenes.w2c[i].float(), Ks=scenes.intrinsics[i].float(), width=width, height=height,
            near_plane=near, far_plane=far, render_mode="RGB+D", distloss=True,
        )  # fmt: skip
        planes = torch.cat([color[..., :3], alpha, color[..., 3:], normals, median, distortion], -1)
        views += planes.permute(0, 3, 1, 2).unbind(0)
    return _planes(scenes, views)


def rasterize_surfels_diff_surfel(
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
    near: float = NEAR,
    far: float = FAR,
) -> SurfelPlanes:
    """With `diff_surfel_rasterization`, one view after the other. Raises: InvalidInput for other depths than 0.2 and 100."""
    import diff_surfel_rasterization as package

    scenes = prepare(
        means, quats, scales, opacities, colors, w2c, intrinsics, height=height, width=width, near=near, far=far
    )
    if (near, far) != (FIXED_NEAR, FIXED_FAR):
        raise InvalidInput(
            f"The variant diff-surfel-rasterization draws between {FIXED_NEAR} and {FIXED_FAR} only, got near = {near} and "
            f"far = {far}; use another variant."
        )
    views: list[Tensor] = []
    for i in range(len(scenes.w2c)):
        p, q, s, o, c = _drawable(scenes, i)
        for camera, lens in zip(scenes.w2c[i].float(), scenes.intrinsics[i].float(), strict=True):
            if len(p) == 0:
                views.append(p.new_zeros(10, height, width) + 0 * p.sum())
                continue
            settings = package.GaussianRasterizationSettings(**_settings(camera, lens, height, width))
            color, _, maps = package.GaussianRasterizer(raster_settings=settings)(
                means3D=p, means2D=torch.zeros_like(p, requires_grad=True), opacities=o[:, None], colors_precomp=c,
                scales=s, rotations=q,
            )  # fmt: skip
            normals = torch.einsum("ij,ihw->jhw", camera[:3, :3], maps[2:5])
            distortion = maps[6:7] * (DISTORTION_SLOPE / FIXED_SLOPE) ** 2
            views.append(torch.cat([color, maps[1:2], maps[0:1], normals, maps[5:6], distortion]))
    return _planes(scenes, views)


def _settings(w2c: Tensor, k: Tensor, height: int, width: int) -> dict[str, Any]:
    """One camera as the package takes it: matrices for row vectors, and a projection to [-1, 1] with the principal point.

    The package puts pixel i at (i + 0.5) / W of the way across, as the house does.
    """
    projection = w2c.new_zeros(4, 4)
    projection[0, 0], projection[0, 2] = 2 * k[0, 0] / width, 2 * k[0, 2] / width - 1
    projection[1, 1], projection[1, 2] = 2 * k[1, 1] / height, 2 * k[1, 2] / height - 1
    projection[2, 2] = FIXED_FAR / (FIXED_FAR - FIXED_NEAR)
    projection[2, 3] = -FIXED_FAR * FIXED_NEAR / (FIXED_FAR - FIXED_NEAR)
    projection[3, 2] = 1
    return {
        "image_height": height,
        "image_width": width,
        "tanfovx": width / (2 * float(k[0, 0])),
        "tanfovy": height / (2 * float(k[1, 1])),
        "bg": w2c.new_zeros(3),
        "scale_modifier": 1.0,
        "viewmatrix": w2c.T.contiguous(),
        "projmatrix": (projection @ w2c).T.contiguous(),
        "sh_degree": 0,
        "campos": -w2c[:3, :3].T @ w2c[:3, 3],
        "prefiltered": False,
        "debug": False,
    }
