"""Surfels -> a scaffold that refinement can move, a clean mesh, a texture: the last stages of the pipeline."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch

from mvgamba.cameras import fibonacci_cameras
from mvgamba.kernels.rasterize_surfels import check_depth_for_fusion
from mvgamba.meshing import Grid, clean_mesh, decimate, drop_small_parts, extract_surface, fuse
from mvgamba.planning import FILL_VIEWS, Job, Preset
from mvgamba.progress import StageReporter
from mvgamba.reconstructor.hull import hull_field
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews
from mvgamba.refinement.snap import snap_to_silhouettes
from mvgamba.render import render_surfels
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.texturing.bake import bake_texture
from mvgamba.texturing.optimise import optimise_texture
from mvgamba.texturing.unwrap import unwrap
from mvgamba.types import Cameras, Mesh, PosedViews, Reconstruction, RenderOutput, Surfels, TexturedMesh


def with_scaffold(surfels: Surfels, views: NormalisedViews, preset: Preset) -> Reconstruction:
    """Free surfels -> surfels on the triangles of their own surface, which is what refinement moves."""
    field = _fused(surfels, views, preset, swell=0.0)
    mesh = decimate(clean_mesh(extract_surface(field)), preset.surfels)
    vertices, faces = np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int64)
    count = len(faces)
    lying = surfels_on_faces(
        torch.from_numpy(vertices), torch.from_numpy(faces), torch.full((count,), 0.95), torch.full((count, 3), 0.5)
    )
    return Reconstruction(lying.to(surfels.means.device), Mesh(vertices, faces))


def _fused(
    surfels: Surfels,
    views: NormalisedViews,
    preset: Preset,
    *,
    swell: float,
    report: Callable[[float], None] | None = None,
) -> Grid:
    """Depth of the surfels from all around as one field, cut to what silhouettes and depth of the inputs allow."""
    check_depth_for_fusion(surfels.means.device)
    cameras = _survey(preset.fuse_views, preset.fuse_size).to(surfels.means.device)
    outputs = []
    for i in range(0, cameras.num_views, 4):
        if report is not None:
            report(i / cameras.num_views)
        outputs.append(render_surfels(surfels, cameras[slice(i, i + 4)]))
    rendered = RenderOutput(
        *(torch.cat([getattr(o, f.name) for o in outputs]) for f in dataclasses.fields(RenderOutput))
    )
    solid = Grid(*hull_field(views, resolution=preset.fuse_resolution))
    fused = fuse(rendered, cameras, low=views.low, high=views.high, resolution=preset.fuse_resolution)
    return Grid(torch.minimum(fused.field + swell, solid.resample(fused).field), fused.origin, fused.spacing)


def mesh_of(surfels: Surfels, views: NormalisedViews, host: NormalisedViews, job: Job, tell: StageReporter) -> Mesh:
    """Surfels -> depth from all around -> TSDF, cut to the silhouettes -> a clean mesh whose outlines are those of the inputs.

    Args:
        views: On the device of the surfels.
        host: The same on the CPU.
    """
    # refined surfels end short of the outline by about the width of their soft edge
    swell = job.preset.swell if job.refine else 0.0
    field = _fused(
        surfels, views, job.preset, swell=swell, report=lambda f: tell("mesh", 0.4 * f, "Extracting the mesh")
    )
    mesh = extract_surface(field)
    tell("mesh", 0.6, "Cleaning the mesh")
    mesh = clean_mesh(mesh)
    tell("mesh", 0.7, "Simplifying the mesh")
    mesh = decimate(mesh, job.target_faces)
    if job.refine:
        tell("mesh", 0.8, "Fitting the outlines")
        mesh = snap_to_silhouettes(mesh, host.silhouettes, host.views.cameras)
    # what simplifying and fitting have made tiny is a crumb, not a part
    return drop_small_parts(mesh, min_fraction=0.012)


def _survey(count: int, size: int) -> Cameras:
    """Cameras all around the object, close enough for it to fill the frame."""
    fovy = 0.75
    radius = 1.04 * NORMALISED_RADIUS / math.sin(0.5 * fovy)
    return fibonacci_cameras(count, radius=radius, fovy=fovy, height=size, width=size)


def textured_mesh(mesh: Mesh, surfels: Surfels, host: NormalisedViews, job: Job, tell: StageReporter) -> TexturedMesh:
    """The input views on the mesh; where none of them looks, what the surfels show."""
    unwrapped = unwrap(mesh, texture_size=job.texture_size)
    tell("texture", 0.3, "Baking the texture")
    cameras = _survey(FILL_VIEWS, job.preset.fuse_size).to(surfels.means.device)
    rendered = render_surfels(surfels, cameras, background=surfels.means.new_zeros(3))
    straight = (rendered.rgb / rendered.alpha.clamp_min(1e-4)).clamp(0, 1)
    fill = PosedViews(straight, rendered.alpha.clamp(0, 1), cameras)
    share = 0.3 if job.preset.optimise_texture else 0.65
    textured = bake_texture(
        unwrapped,
        host.views,
        texture_size=job.texture_size,
        fill_views=fill,
        report=lambda fraction: tell("texture", 0.35 + share * fraction),
    )
    if job.preset.optimise_texture:
        tell("texture", 0.65, "Fitting the texture")
        textured = optimise_texture(
            textured, host.views, report=lambda fraction: tell("texture", 0.65 + 0.35 * fraction)
        )
    return textured
