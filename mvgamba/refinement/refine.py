"""Surfels on a mesh, fitted to the input views through the differentiable rasterizer.

Every triangle of the scaffold carries one surfel. What is optimised: the vertices (in smooth coordinates), and the colour
and the opacity of each surfel. Views pull on what they see; where no view looks, a small pull towards less area decides,
which turns the bulges that a visual hull grows between its silhouettes into the flat or round surface that they hide.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import splu
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, resize_cameras
from mvgamba.kernels.rasterize_surfels import rasterize_surfels
from mvgamba.refinement.smooth import SmoothCoordinates, UniformAdam, edge_list, laplacian
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.types import Mesh, PosedViews, Reconstruction, Surfels

log = logging.getLogger(__name__)


MOST_AREA_WEIGHT = 0.03
"""However few the views are: a stronger pull makes open and round things collapse."""
DEPTH_KNOWS = 0.2
"""With depth less is left to guess, and the pull towards less area does more harm than good."""


@dataclass(frozen=True)
class RefineOptions:
    """How long and how strongly to fit. Lengths are in the normalised frame (object radius 0.6)."""

    steps: int = 240
    views_per_step: int = 2
    image_size: int = 256
    """Longest side of the images that are compared; inputs are averaged down to it, never up."""
    coarse_steps: int = 60
    """The first steps, at half the size."""
    smoothness: float = 12.0
    """Of the coordinates: about the square of the number of edges over which a pull spreads."""
    vertex_lr: float = 4e-3
    color_lr: float = 2e-2
    opacity_lr: float = 2e-2
    mask_weight: float = 8.0
    depth_weight: float = 2.0
    area_weight: float = 0.3
    """Shared by the views: the fewer there are, the more of the surface is left to it."""
    bend_weight: float = 0.002
    opacity_weight: float = 0.002


@dataclass(frozen=True, eq=False)
class Refined:
    """The surfels, their mesh, and how well the inputs are matched."""

    surfels: Surfels
    scaffold: Mesh
    psnr: float
    """Of the input views on white, at the size of the last steps."""
    steps: int


@dataclass(frozen=True, eq=False)
class _Targets:
    rgb: Tensor  # premultiplied
    alpha: Tensor
    depth: Tensor | None
    w2c: Tensor
    intrinsics: Tensor
    height: int
    width: int


def refine(
    start: Reconstruction,
    views: PosedViews,
    options: RefineOptions,
    *,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
) -> Refined:
    """Fit the surfels of a reconstruction to the views.

    Args:
        start: Needs a scaffold.
        views: In the same (normalised) frame.
        report: Called with the fraction done; may raise to stop.
    """
    assert start.scaffold is not None, "refinement works on the triangles of a scaffold"
    faces_np = start.scaffold.faces
    faces = torch.from_numpy(faces_np).long()
    vertices = torch.from_numpy(np.ascontiguousarray(start.scaffold.vertices, np.float32))
    coarse, fine = _targets(views, options.image_size // 2), _targets(views, options.image_size)
    coordinates = SmoothCoordinates(len(vertices), faces_np, options.smoothness)
    latent = coordinates.to_latent(vertices).requires_grad_(True)
    pairs = torch.from_numpy(_adjacent_faces(faces_np))
    colors = spread_colors(*paint(start.surfels, coarse), pairs).requires_grad_(True)
    opacity_logits = torch.logit(start.surfels.opacities.clamp(0.02, 0.98)).clone().requires_grad_(True)
    geometry = UniformAdam(latent, options.vertex_lr * (1 + options.smoothness) ** 0.5)
    look = torch.optim.Adam(
        [{"params": [colors], "lr": options.color_lr}, {"params": [opacity_logits], "lr": options.opacity_lr}],
        betas=(0.9, 0.99),
    )
    edges = torch.from_numpy(edge_list(faces_np))
    area_weight = min(options.area_weight / views.num_views, MOST_AREA_WEIGHT) * (
        DEPTH_KNOWS if views.depth is not None else 1.0
    )
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for step in range(options.steps):
        if report is not None:
            report(step / options.steps)
        targets = coarse if step < options.coarse_steps else fine
        while len(order) < options.views_per_step:
            order += torch.randperm(views.num_views, generator=generator).tolist()
        pick, order = order[: options.views_per_step], order[options.views_per_step :]
        positions = coordinates.to_vertices(latent)
        surfels = surfels_on_faces(positions, faces, torch.sigmoid(opacity_logits), colors.clamp(0, 1))
        loss = _image_loss(surfels, targets, pick, options, generator)
        loss = loss + area_weight * _area(positions, edges) + options.bend_weight * _bending(positions, faces, pairs)
        loss = loss + options.opacity_weight * (1 - torch.sigmoid(opacity_logits)).mean()
        loss.backward()
        decay = 0.5 * (1 + math.cos(math.pi * step / options.steps)) * 0.9 + 0.1
        geometry.step(decay)
        look.step()
        look.zero_grad()
    with torch.no_grad():
        positions = coordinates.to_vertices(latent)
        surfels = surfels_on_faces(positions, faces, torch.sigmoid(opacity_logits), colors.clamp(0, 1)).detach()
        error = _mean_error(surfels, fine)
    # an optimiser with normalised steps leaves noise where hardly a pixel has a say
    _, weight = paint(surfels, fine)
    surfels = dataclasses.replace(surfels, colors=spread_colors(surfels.colors, weight, pairs))
    psnr = -10 * math.log10(max(error, 1e-10))
    log.info("refined %d surfels in %d steps: input views at %.2f dB", len(faces_np), options.steps, psnr)
    return Refined(surfels, Mesh(positions.numpy(), faces_np), psnr, options.steps)


def paint(surfels: Surfels, targets: "_Targets") -> tuple[Tensor, Tensor]:
    """For each surfel the mean colour of the pixels that it covers, weighted by how much of them it is, and that weight.

    The rasterizer is linear in the colours, so its adjoint applied to the images gives the weighted sums. The weight is the
    number of pixels that show the surfel, over all views.
    """
    ones = torch.ones_like(surfels.colors).requires_grad_(True)
    planes = rasterize_surfels(
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, ones,
        targets.w2c, targets.intrinsics, height=targets.height, width=targets.width,
    )  # fmt: skip
    (total,) = torch.autograd.grad(planes.rgb, ones, targets.rgb, retain_graph=True)
    (weight,) = torch.autograd.grad(planes.rgb, ones, targets.alpha.expand_as(targets.rgb).contiguous())
    mean = targets.rgb.sum((0, 2, 3)) / targets.alpha.sum().clamp_min(1e-6)
    colors = torch.where(weight > 1e-3, total / weight.clamp_min(1e-6), mean).clamp(0, 1)
    return colors.detach().clone(), weight[:, 0].detach()


def spread_colors(colors: Tensor, weight: Tensor, pairs: Tensor, *, reach: float = 2.0) -> Tensor:
    """Colours in which a surfel that hardly any pixel shows takes after its neighbours.

    Solves (W + reach L) c = W colors on the graph of neighbouring triangles, so that what is well seen stays as it is.
    """
    count = len(colors)
    graph = laplacian(count, pairs.numpy())
    seen = weight.double().numpy() + 1e-4
    solver = splu((sp.diags(seen) + reach * graph).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return torch.from_numpy(solver.solve(seen[:, None] * colors.double().numpy())).float().clamp(0, 1)


def _targets(views: PosedViews, longest: int) -> _Targets:
    """Premultiplied images averaged down to a size; pixels at the edge of a depth map are left out."""
    factor = min(1.0, longest / max(views.cameras.height, views.cameras.width))
    height, width = max(8, round(views.cameras.height * factor)), max(8, round(views.cameras.width * factor))
    cameras = resize_cameras(views.cameras, height, width)
    shrink = lambda x: F.interpolate(x, (height, width), mode="area")  # noqa: E731
    depth = None
    if views.depth is not None:
        known = (views.depth > 0).float()
        share = shrink(known)
        depth = torch.where(share > 0.999, shrink(views.depth) / share.clamp_min(1e-6), torch.zeros(()))
    return _Targets(
        shrink(views.rgb * views.alpha), shrink(views.alpha), depth,
        c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float(), height, width,
    )  # fmt: skip


def _image_loss(
    surfels: Surfels, targets: _Targets, pick: list[int], options: RefineOptions, generator: torch.Generator
) -> Tensor:
    planes = rasterize_surfels(
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors,
        targets.w2c[pick], targets.intrinsics[pick], height=targets.height, width=targets.width,
    )  # fmt: skip
    # a background of any colour: what is transparent must be so on all of them
    background = torch.rand(len(pick), 3, 1, 1, generator=generator)
    alpha = targets.alpha[pick]
    covered = alpha.mean().clamp_min(0.02)
    difference = planes.rgb - targets.rgb[pick] + (alpha - planes.alpha) * background
    loss = F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=0.1) / covered
    loss = loss + options.mask_weight * F.mse_loss(planes.alpha, alpha) / covered
    if targets.depth is not None:
        depth = targets.depth[pick]
        known = (depth > 0) & (planes.alpha.detach() > 0.5)
        gap = (planes.depth / planes.alpha.clamp_min(1e-3) - depth)[known]
        if gap.numel():
            loss = loss + options.depth_weight * F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.02)
    return loss


def _mean_error(surfels: Surfels, targets: _Targets) -> float:
    """Mean squared error on white over all views."""
    planes = rasterize_surfels(
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors,
        targets.w2c, targets.intrinsics, height=targets.height, width=targets.width,
    )  # fmt: skip
    return float(((planes.rgb - planes.alpha) - (targets.rgb - targets.alpha)).square().mean())


def _area(positions: Tensor, edges: Tensor) -> Tensor:
    """Mean squared length of edges relative to the size of the object: its gradient is a mean curvature flow."""
    gap = positions.index_select(0, edges[:, 0]) - positions.index_select(0, edges[:, 1])
    return gap.square().sum() / 0.36


def _bending(positions: Tensor, faces: Tensor, pairs: Tensor) -> Tensor:
    """Mean of one minus the cosine between the normals of neighbouring triangles."""
    corners = positions.index_select(0, faces.reshape(-1)).view(-1, 3, 3)
    normals = F.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1, eps=1e-12
    )
    return (1 - (normals.index_select(0, pairs[:, 0]) * normals.index_select(0, pairs[:, 1])).sum(1)).mean()


def _adjacent_faces(faces: np.ndarray) -> np.ndarray:
    """Pairs of triangles that share an edge, (E, 2)."""
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((half[:, 1], half[:, 0]))
    half, owner = half[order], owner[order]
    same = (half[1:] == half[:-1]).all(1)
    return np.stack([owner[:-1][same], owner[1:][same]], 1)
