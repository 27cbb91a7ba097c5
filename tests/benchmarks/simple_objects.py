"""Small GLBs for the tests of this folder, and commands that only copy one."""

import shlex
from pathlib import Path

import numpy as np
import trimesh

COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"
FAIL = "import sys; sys.exit('no such luck')"


def write_box(
    path: Path, *, extents: tuple[float, float, float] = (1.0, 0.7, 0.4), colour: tuple[int, int, int] = (200, 30, 30)
) -> Path:
    """A box of one sRGB colour with a blue lid, so that up and down differ."""
    mesh = trimesh.creation.box(extents).subdivide()
    is_lid = mesh.triangles_center[:, 1] > 0.49 * extents[1]
    srgb = np.where(is_lid[:, None], (30, 60, 160), colour) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    corners = trimesh.Trimesh(
        mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3), process=False
    )
    rgba = np.concatenate([np.repeat(linear, 3, 0), np.ones((3 * len(linear), 1))], 1)
    corners.visual.vertex_colors = (255 * rgba).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene(corners)))
    return path


def copying(source: Path) -> str:
    """A command template that gives this file whatever it is asked for."""
    return f"python -c {shlex.quote(COPY)} {shlex.quote(str(source))} {{out}}"


def failing() -> str:
    """A command template that ends badly."""
    return f"python -c {shlex.quote(FAIL)} {{out}}"
