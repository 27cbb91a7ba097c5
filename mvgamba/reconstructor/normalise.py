"""From the world of the captures to the normalised frame, and the way back."""

import dataclasses
import logging

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.errors import InvalidCameras, InvalidImage
from mvgamba.kernels.carve_silhouettes import carve_silhouettes
from mvgamba.kernels.silhouettes import signed_distance_2d
from mvgamba.types import Cameras, PosedViews, Similarity

log = logging.getLogger(__name__)

NORMALISED_RADIUS = 0.6
"""Radius of the object's bounding sphere. A camera at 1.5 with a field of view of 49.1 degrees sees 0.623 of it."""
EMPTY_ALPHA = 0.02
COARSE_GRID = 64


@dataclasses.dataclass(frozen=True, eq=False)
class NormalisedViews:
    """Views in the normalised frame, with the similarity that leads back."""

    views: PosedViews
    to_world: Similarity
    low: Float[Tensor, "3"]
    """Bounds of the visual hull in the normalised frame, widened by a cell of the coarse grid."""
    high: Float[Tensor, "3"]
    silhouettes: Float[Tensor, "V H W"]
    """Signed distance to the outline in pixels, positive inside."""


def normalise_views(views: PosedViews) -> NormalisedViews:
    """Find the object, move its bounding sphere to the origin and scale it to `NORMALISED_RADIUS`.

    The axes keep their directions. Where the object is follows from the silhouettes alone.

    Raises:
        InvalidImage: An image shows no object.
        InvalidCameras: The cameras do not see a common object.
    """
    covered = views.alpha[:, 0] > EMPTY_ALPHA
    for i, mask in enumerate(covered):
        if not mask.any():
            raise InvalidImage(f"View {i} shows nothing: its alpha is 0 everywhere. Leave it out or check the render.")
    if bool(covered.all()):
        raise InvalidImage(
            "Every pixel of every view is opaque, so nothing tells the object from its background. "
            "Render with a transparent background or cut the object out."
        )
    # silhouettes are cut at one half, which a very faint object never reaches
    silhouettes = signed_distance_2d(views.alpha[:, 0])
    center, half = guess_region(views.cameras, covered)
    low, high = _hull_bounds(views.cameras, silhouettes, center, half)
    center, radius = (low + high) / 2, float((high - low).norm() / 2)
    corners = _hull_radius(views.cameras, silhouettes, low, high, center)
    scale = min(radius, corners) / NORMALISED_RADIUS
    to_world = Similarity(scale, torch.eye(3, dtype=torch.float64), center)
    c2w = views.cameras.c2w.clone()
    c2w[:, :3, 3] = to_world.inverse_apply(c2w[:, :3, 3])
    normalised = PosedViews(
        views.rgb,
        views.alpha,
        dataclasses.replace(views.cameras, c2w=c2w),
        None if views.depth is None else (views.depth / scale).float(),
    )
    return NormalisedViews(
        normalised, to_world, to_world.inverse_apply(low).float(), to_world.inverse_apply(high).float(), silhouettes
    )


def outside_frame(silhouettes: Float[Tensor, "V H W"]) -> str:
    """What lies outside the images: nothing, unless an object is cut off by the border of one."""
    s = silhouettes
    touches = max(float(s[:, 0].max()), float(s[:, -1].max()), float(s[:, :, 0].max()), float(s[:, :, -1].max())) > 0
    return "ignore" if touches and len(s) > 1 else "empty"


def guess_region(cameras: Cameras, covered: Tensor) -> tuple[Float[Tensor, "3"], float]:
    """Centre and half width of a cube that holds the object, from the boxes around the masks."""
    rows, cols = covered.any(2), covered.any(1)
    first = lambda m: m.float().argmax(1)  # noqa: E731
    last = lambda m: m.shape[1] - 1 - m.flip(1).float().argmax(1)  # noqa: E731
    x0, x1, y0, y1 = first(cols), last(cols) + 1, first(rows), last(rows) + 1
    k = cameras.intrinsics
    middle = torch.stack([((x0 + x1) / 2 - k[:, 0, 2]) / k[:, 0, 0], -((y0 + y1) / 2 - k[:, 1, 2]) / k[:, 1, 1]], 1)
    rays = torch.cat([middle, -torch.ones(len(middle), 1, dtype=middle.dtype)], 1)
    rays = torch.einsum("vij,vj->vi", cameras.c2w[:, :3, :3], rays.to(cameras.c2w))
    rays = rays / rays.norm(dim=1, keepdim=True)
    origins = cameras.c2w[:, :3, 3]
    if len(rays) == 1:
        # one view says nothing about distance: take the point of the ray that is nearest to the world's origin
        along = float(-(origins[0] @ rays[0]))
        distance = along if along > 1e-3 else 1.0
        center = origins[0] + distance * rays[0]
    else:
        across = torch.eye(3, dtype=rays.dtype) - rays[:, :, None] * rays[:, None, :]
        system = across.sum(0)
        # parallel rays leave the distance open; lean on the world's origin just enough to solve
        system = system + 1e-9 * torch.eye(3, dtype=rays.dtype)
        center = torch.linalg.solve(system, torch.einsum("vij,vj->i", across, origins))
    w2c = c2w_to_w2c_opencv(cameras.c2w)
    depth = (w2c[:, 2, :3] @ center) + w2c[:, 2, 3]
    if bool((depth <= 0).any()):
        behind = [i for i, d in enumerate(depth.tolist()) if d <= 0]
        raise InvalidCameras(
            f"The cameras do not look at a common object: the point that they agree on best lies behind view {behind[0]}. "
            "Check that the matrices are camera-to-world with OpenGL axes."
        )
    size = torch.maximum((x1 - x0) / k[:, 0, 0], (y1 - y0) / k[:, 1, 1])
    return center, float((0.75 * size * depth).max())


def _hull_bounds(
    cameras: Cameras, silhouettes: Tensor, center: Tensor, half: float
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Box around the visual hull, found on coarse grids: widened while it touches the border, then drawn tight."""
    low, high = center - half, center + half
    for _ in range(6):
        inside, spacing = _coarse_hull(cameras, silhouettes, low, high)
        at = inside.nonzero()
        if len(at) == 0:
            raise InvalidCameras(
                "The cameras do not see a common object: no point in space projects into every silhouette. "
                "Check the matrices (camera-to-world, OpenGL axes, Z up) and the focal length."
            )
        first, last = at.min(0).values, at.max(0).values
        grid = torch.tensor(inside.shape)
        cut_low, cut_high = first == 0, last == grid - 1
        new_low = low + (first.double() - 1) * spacing
        new_high = low + (last.double() + 1) * spacing
        tight = float((new_high - new_low).max()) > 0.6 * float((high - low).max())
        if len(cameras.c2w) > 1 and bool((cut_low | cut_high).any()):
            grow = 0.5 * (high - low)
            low, high = torch.where(cut_low, low - grow, new_low), torch.where(cut_high, high + grow, new_high)
            continue
        low, high = new_low, new_high
        if tight:
            break
    return low, high


def _coarse_hull(cameras: Cameras, silhouettes: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, float]:
    spacing = float((high - low).max()) / (COARSE_GRID - 1)
    shape = tuple(int(n) for n in torch.ceil((high - low) / spacing).long() + 1)
    shift = cameras.c2w.clone()
    shift[:, :3, 3] -= low  # near the origin, so that float32 is enough at any place in the world
    scaled = shift
    scaled[:, :3, 3] /= spacing
    field = carve_silhouettes(
        silhouettes,
        c2w_to_w2c_opencv(scaled).float(),
        cameras.intrinsics.float(),
        torch.zeros(3),
        1.0,
        shape,
        outside_frame=outside_frame(silhouettes),
    )
    # half a cell of tolerance, so that a part thinner than the grid is not missed
    return field > -0.7, spacing


def _hull_radius(cameras: Cameras, silhouettes: Tensor, low: Tensor, high: Tensor, center: Tensor) -> float:
    """Radius of the sphere around the centre that holds the hull; less than half the diagonal for round things."""
    inside, spacing = _coarse_hull(cameras, silhouettes, low, high)
    points = low + inside.nonzero().double() * spacing
    return float((points - center).norm(dim=1).max()) + spacing
