"""Photographs of objects of our own making as cut-outs."""

import numpy as np
import torch
import trimesh

from mvgamba.cameras import orbit_cameras
from mvgamba.evaluation.drawable import Drawable, Material, joined
from mvgamba.evaluation.photograph import photograph


def mug() -> Drawable:
    """Red, with a blue foot and a handle to see through."""
    body = trimesh.creation.cylinder(0.5, 1.0, sections=32)
    body.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    foot = trimesh.creation.box((1.2, 0.12, 1.2), trimesh.transformations.translation_matrix((0, -0.56, 0)))
    handle = trimesh.creation.torus(0.3, 0.07, major_sections=32, minor_sections=12)
    handle.apply_translation((0.6, 0.05, 0))
    return joined(
        [_painted(body, (0.6, 0.05, 0.04)), _painted(foot, (0.05, 0.1, 0.5)), _painted(handle, (0.7, 0.4, 0.1))]
    )


def crate() -> Drawable:
    """Grey all over, each side in its own shade: no colour tells it from a shadow."""
    box = trimesh.creation.box((1.1, 0.8, 0.9))
    box.unmerge_vertices()
    shades = np.repeat(np.array([0.12, 0.2, 0.3, 0.25, 0.16, 0.08]), 2)
    parts = [_painted(box.submesh([[i]], append=True), (shades[i],) * 3) for i in range(len(box.faces))]
    return joined(parts)


def cut_out_of(drawable: Drawable, *, size: int = 224, azimuth: float = 0.3, elevation: float = 0.25) -> np.ndarray:
    """(H, W, 4) float32, straight sRGB and alpha."""
    cameras = orbit_cameras([azimuth], [elevation], radius=3.2, fovy=0.7, height=size, width=size)
    view = photograph(drawable, cameras, samples=3)
    return torch.cat([view.rgb[0], view.alpha[0]]).permute(1, 2, 0).float().numpy()


def _painted(mesh: trimesh.Trimesh, color: tuple[float, float, float]) -> Drawable:
    """One linear colour."""
    count, faces = len(mesh.vertices), np.asarray(mesh.faces, np.int64)
    return Drawable(
        np.asarray(mesh.vertices, np.float64),
        faces,
        np.zeros((count, 2)),
        np.ones((count, 3)),
        np.zeros(len(faces), np.int64),
        [Material(np.array(color))],
    )
