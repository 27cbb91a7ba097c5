"""What the surfels are fitted to: the input views at one size, as sums over black, and how far surfels are from them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.kernels.rasterize_surfels import SurfelPlanes, rasterize_surfels
from mvgamba.types import PosedViews, Surfels


@dataclass(frozen=True, eq=False)
class Targets:
    """Images of one size with the cameras of the rasterizer."""

    rgb: Float[Tensor, "V 3 H W"]
    """Premultiplied."""
    alpha: Float[Tensor, "V 1 H W"]
    depth: Float[Tensor, "V 1 H W"] | None
    """0 where it is not known."""
    w2c: Float[Tensor, "V 4 4"]
    intrinsics: Float[Tensor, "V 3 3"]

    @property
    def num_views(self) -> int:
        return self.rgb.shape[0]

    def __getitem__(self, views: Tensor) -> "Targets":
        """Some of the views, by index."""
        pick = lambda x: x.index_select(0, views)  # noqa: E731
        depth = None if self.depth is None else pick(self.depth)
        return Targets(pick(self.rgb), pick(self.alpha), depth, pick(self.w2c), pick(self.intrinsics))

    def rasterize(self, surfels: Surfels) -> SurfelPlanes:
        """The surfels in all views, by one call."""
        return rasterize_surfels(
            surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors,
            self.w2c, self.intrinsics, height=self.rgb.shape[2], width=self.rgb.shape[3],
        )  # fmt: skip


def targets_of(views: PosedViews, longest: int) -> Targets:
    """Premultiplied images averaged down to a size; pixels at the edge of a depth map are left out."""
    factor = min(1.0, longest / max(views.cameras.height, views.cameras.width))
    height, width = max(8, round(views.cameras.height * factor)), max(8, round(views.cameras.width * factor))
    cameras = resize_cameras(views.cameras, height, width)
    shrink = lambda x: F.interpolate(x, (height, width), mode="area")  # noqa: E731
    depth = None
    if views.depth is not None:
        known = (views.depth > 0).to(views.depth)
        share = shrink(known)
        depth = torch.where(share > 0.999, shrink(views.depth) / share.clamp_min(1e-6), 0.0)
    return Targets(
        shrink(views.rgb * views.alpha), shrink(views.alpha), depth,
        c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float(),
    )  # fmt: skip


def image_loss(
    surfels: Surfels, targets: Targets, background: Float[Tensor, "V 3 1 1"], *, mask_weight: float, depth_weight: float
) -> Float[Tensor, ""]:
    """Colour on a background, coverage and depth, relative to the share of the picture that the object covers."""
    planes = targets.rasterize(surfels)
    uncovered = targets.alpha - planes.alpha
    covered = targets.alpha.mean().clamp_min(0.02)
    loss = _huber(torch.addcmul(planes.rgb - targets.rgb, uncovered, background), 0.1).mean() / covered
    loss = loss + mask_weight * uncovered.square().mean() / covered
    if targets.depth is not None:
        known = ((targets.depth > 0) & (planes.alpha.detach() > 0.5)).to(planes.alpha)
        gap = (planes.depth / planes.alpha.clamp_min(1e-3) - targets.depth) * known
        loss = loss + depth_weight * _huber(gap, 0.02).sum() / known.sum().clamp_min(1.0)
    return loss


def _huber(difference: Tensor, beta: float) -> Tensor:
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta, reduction="none")


@torch.no_grad()
def psnr_on_white(surfels: Surfels, targets: Targets) -> float:
    """Over all views together, in dB."""
    planes = targets.rasterize(surfels)
    error = float(((planes.rgb - planes.alpha) - (targets.rgb - targets.alpha)).square().mean())
    return -10 * math.log10(max(error, 1e-10))


@torch.no_grad()
def least_match(surfels: Surfels, views: PosedViews, *, size: int = 128) -> float:
    """Intersection over union of coverages, surfels against images, in the view where it is least."""
    targets = targets_of(views, size)
    drawn = targets.rasterize(surfels).alpha
    both = torch.minimum(drawn, targets.alpha).sum((1, 2, 3))
    either = torch.maximum(drawn, targets.alpha).sum((1, 2, 3)).clamp_min(1e-6)
    return float((both / either).min())
