"""Pictures of surfels from cameras of the house: what the rasterizer sums, made into colours, depths and normals."""

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.rasterize_surfels import FAR, NEAR, SurfelPlanes, rasterize_surfels
from mvgamba.types import Cameras, RenderOutput, Surfels

ALPHA_SEEN = 1e-3
"""Below this alpha a pixel has no depth and no normal. One surfel alone brings 1/255."""


def render_surfels(
    surfels: Surfels,
    cameras: Cameras,
    *,
    background: Float[Tensor, "3"] | None = None,
    near: float = NEAR,
    far: float = FAR,
) -> RenderOutput:
    """Surfels as each camera sees them, over `background` (white if there is none).

    Differentiable with respect to the surfels. Depth and normals are divided by alpha, so their gradients grow where alpha is
    small: weight a loss on them with alpha. Cameras may be float64; the pictures have the type of the surfels.

    Args:
        near: Surfels with a centre nearer than this along the view axis are not drawn; in scene units.
        far: The same for those beyond.
    Raises:
        InvalidInput: Batch axes of surfels and cameras differ or are empty, or the surfels' shapes do not fit.
        InvalidCameras: No camera, or intrinsics with skew.
    """
    batch = cameras.c2w.shape[:-3]
    if surfels.means.shape[:-2] != batch:
        raise InvalidInput(
            f"Surfels and cameras must have the same batch axes, got {tuple(surfels.means.shape[:-2])} and {tuple(batch)}."
        )
    if bool((cameras.intrinsics[..., 0, 1] != 0).any()):
        raise InvalidCameras("Intrinsics with skew cannot be rendered; element (0, 1) must be 0.")
    planes = rasterize_surfels(
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors,
        c2w_to_w2c_opencv(cameras.c2w).to(surfels.means), cameras.intrinsics.to(surfels.means),
        height=cameras.height, width=cameras.width, near=near, far=far,
    )  # fmt: skip
    return _compose(planes, background)


def _compose(planes: SurfelPlanes, background: Tensor | None) -> RenderOutput:
    alpha = planes.alpha
    behind = torch.ones(3) if background is None else background
    rgb = planes.rgb + (1 - alpha) * behind.to(planes.rgb)[:, None, None]
    seen = alpha > ALPHA_SEEN
    depth = torch.where(seen, planes.depth / torch.where(seen, alpha, 1), 0)
    length = planes.normals.norm(dim=-3, keepdim=True)
    # Discs that face opposite ways may cancel; such a pixel has no normal either.
    oriented = seen & (length > ALPHA_SEEN * alpha)
    normals = torch.where(oriented, planes.normals / torch.where(oriented, length, 1), 0)
    return RenderOutput(
        rgb=rgb,
        alpha=alpha,
        depth=depth,
        normals=normals,
        distortion=planes.distortion,
        median_depth=planes.median_depth,
    )
