"""What a step of refinement costs beside the rasterizer that it cannot do without.

The scaffold is a bumpy ball of triangles with a surfel each, the views are pictures of the same ball, larger. The peer is the
rasterizer alone, forward and backward, on the surfels and views of the step: what lies above it is everything else that a step
does (smooth coordinates, surfels on triangles, losses, optimisers). A floor and not a competitor, so it has no bar.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import trimesh

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras
from mvgamba.kernels.rasterize_surfels import rasterize_surfels
from mvgamba.refinement.refine import RefineOptions, loss_weights
from mvgamba.refinement.surfel_fit import SurfelFit
from mvgamba.refinement.targets import targets_of
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.types import Cameras, Mesh, PosedViews, Reconstruction, Surfels
from tests.benchmarks.rows import Row, fastest


def rows(quick: bool) -> Iterator[Row]:
    """One step on 8 views, then how it grows with views and with surfels."""
    size, subdivisions = (64, 3) if quick else (256, 5)
    counts = (1, 4) if quick else (1, 2, 4, 8, 16)
    rounds = 2 if quick else 5
    yield _row("refinement step", 8, size, subdivisions, rounds)
    for views in counts:
        yield _row("refinement step by views", views, size, subdivisions, rounds, axis="views")
    for level in (2, 3) if quick else (3, 4, 5, 6):
        yield _row("refinement step by surfels", 4, size, level, rounds, axis="surfels")


def _row(name: str, views: int, size: int, subdivisions: int, rounds: int, *, axis: str | None = None) -> Row:
    start = bumpy_ball(subdivisions)
    pictures = photographs(start.surfels, views, size)
    options = RefineOptions()
    targets = targets_of(pictures, size)
    weights = loss_weights(options, pictures, 0.5)
    # steps of no length, so that every round does the same work
    fit = SurfelFit(start, targets, smoothness=options.smoothness, vertex_lr=0.0, color_lr=0.0, opacity_lr=0.0)
    background = torch.rand(views, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    surfels = fit.surfels().detach()
    parts = [surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.colors]
    leaves = [part.requires_grad_(True) for part in parts]

    def step() -> None:
        miss, rest = fit.loss(targets, background, weights)
        fit.step(miss + rest, 1.0)

    def rasterizer() -> None:
        planes = rasterize_surfels(*leaves, targets.w2c, targets.intrinsics, height=size, width=size)
        torch.autograd.grad(
            [planes.rgb, planes.alpha], leaves, [torch.ones_like(planes.rgb), background[:, :1] + planes.alpha]
        )

    times = fastest({"step": step, "rasterizer": rasterizer}, rounds=rounds)
    count = len(surfels.means)
    place = {"views": views, "surfels": count, None: None}[axis]
    return Row(
        name, f"{views} views {size}x{size}, {count} surfels", times["step"], "rasterizer alone", times["rasterizer"],
        curve=None if axis is None or place is None else (axis, place),
    )  # fmt: skip


def bumpy_ball(subdivisions: int) -> Reconstruction:
    """A ball with bumps as a scaffold, with coloured surfels: 20 * 4^subdivisions of them."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    directions = np.asarray(mesh.vertices, np.float32)
    bumps = np.sin(5 * directions[:, 0]) * np.sin(6 * directions[:, 1]) * np.sin(4 * directions[:, 2] + 1)
    vertices = (0.45 + 0.08 * bumps)[:, None].astype(np.float32) * directions
    faces = np.asarray(mesh.faces, np.int64)
    colors = torch.from_numpy(vertices[faces].mean(1)) + 0.5
    surfels = surfels_on_faces(
        torch.from_numpy(vertices), torch.from_numpy(faces), torch.full((len(faces),), 0.95), colors.clamp(0, 1)
    )
    return Reconstruction(surfels, Mesh(vertices, faces))


def photographs(surfels: Surfels, views: int, size: int) -> PosedViews:
    """The surfels a tenth larger, from all around."""
    angles = [0.3 + 2 * math.pi * i / views for i in range(views)]
    cameras: Cameras = orbit_cameras(angles, [0.3] * views, radius=1.5, fovy=0.857, height=size, width=size)
    planes = rasterize_surfels(
        1.1 * surfels.means, surfels.quats, 1.1 * surfels.scales, surfels.opacities, surfels.colors,
        c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float(), height=size, width=size,
    )  # fmt: skip
    alpha = planes.alpha.clamp(0, 1)
    return PosedViews((planes.rgb / alpha.clamp_min(1e-4)).clamp(0, 1), alpha, cameras)
