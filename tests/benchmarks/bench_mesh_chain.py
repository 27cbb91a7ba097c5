"""Depth and colour to a mesh, beside Open3D; and the steps from the field to the final mesh as they grow."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.kernels.fuse_tsdf import fuse_tsdf
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.meshing import Grid, clean_mesh, color_vertices, decimate, extract_surface
from mvgamba.types import Cameras, Mesh
from tests.benchmarks.rows import Row, fastest

HALF = 0.6
"""Of the box that is fused, scene units."""

OPEN3D = """
import json, sys, time
import numpy as np
import open3d as o3d

data = np.load(sys.argv[1])
voxel, truncation, rounds = float(data["voxel"]), float(data["truncation"]), int(sys.argv[2])
k = o3d.core.Tensor(data["intrinsics"].astype(np.float64))
poses = [o3d.core.Tensor(m.astype(np.float64)) for m in data["w2c"]]
depths = [o3d.t.geometry.Image(np.ascontiguousarray(d)) for d in data["depth"].astype(np.float32)]
colors = [o3d.t.geometry.Image(np.ascontiguousarray(c)) for c in data["rgb"].astype(np.float32)]


def run():
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (o3d.core.float32, o3d.core.float32, o3d.core.float32), ((1), (1), (3)),
        voxel, 8, 40000, o3d.core.Device("CPU:0"))
    for depth, color, pose in zip(depths, colors, poses):
        blocks = grid.compute_unique_block_coordinates(depth, k, pose, 1.0, 10.0, truncation / voxel)
        grid.integrate(blocks, depth, color, k, k, pose, 1.0, 10.0, truncation / voxel)
    return grid.extract_triangle_mesh(weight_threshold=1.0)


times, faces = [], 0
for _ in range(rounds + 1):
    begin = time.perf_counter()
    mesh = run()
    faces = len(mesh.triangle.indices)
    times.append(time.perf_counter() - begin)
print(json.dumps({"seconds": min(times[1:]), "faces": faces, "version": o3d.__version__}))
"""


@dataclass(frozen=True)
class Photographs:
    """A closed ball with bumps from all around."""

    depth: Float[Tensor, "V H W"]
    rgb: Float[Tensor, "V 3 H W"]
    cameras: Cameras


def photographs(views: int, size: int) -> Photographs:
    ball = trimesh.creation.icosphere(subdivisions=6)
    d = torch.from_numpy(np.ascontiguousarray(ball.vertices, np.float32))
    faces = torch.from_numpy(np.ascontiguousarray(ball.faces, np.int64))
    radius = 0.45 + 0.05 * torch.sin(5 * d[:, :1]) * torch.sin(6 * d[:, 1:2]) * torch.sin(4 * d[:, 2:] + 1)
    cameras = fibonacci_cameras(views, radius=1.6, fovy=0.75, height=size, width=size)
    w2c, intrinsics = c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()
    seen = rasterize_mesh(d * radius, faces, w2c, intrinsics, height=size, width=size)
    hit = seen.face_ids >= 0
    corners = (0.5 * d + 0.5).index_select(0, faces.flatten()).view(-1, 3, 3)
    colors = corners.index_select(0, seen.face_ids.clamp_min(0).flatten().long()).view(*hit.shape, 3, 3)
    rgb = (colors * seen.barycentrics[..., None]).sum(-2) * hit[..., None]
    return Photographs(torch.where(hit, seen.depth, 0.0), rgb.permute(0, 3, 1, 2).contiguous(), cameras)


def ours(given: Photographs, resolution: int) -> tuple[Mesh, np.ndarray]:
    """Fusion, surface and a colour for each vertex."""
    spacing = 2 * HALF / (resolution - 1)
    origin = torch.full((3,), -HALF, dtype=torch.float64)
    field = fuse_tsdf(
        given.depth,
        torch.ones_like(given.depth),  # background counts: space in front of it is free
        c2w_to_w2c_opencv(given.cameras.c2w),
        given.cameras.intrinsics,
        origin,
        spacing,
        (resolution,) * 3,
        truncation=5 * spacing,
    )
    mesh = extract_surface(Grid(field, origin, spacing))
    return mesh, color_vertices(mesh, given.rgb, given.depth, given.cameras, truncation=5 * spacing)


def open3d_seconds(given: Photographs, resolution: int, rounds: int) -> dict[str, float] | None:
    """Its time on the same pictures, in a process of its own; None, with the reason printed, where it cannot be had."""
    python = os.environ.get("MVGAMBA_OPEN3D_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "views.npz", Path(folder) / "run_open3d.py"
        script.write_text(OPEN3D)
        spacing = 2 * HALF / (resolution - 1)
        np.savez(
            data,
            depth=given.depth.numpy(),
            rgb=given.rgb.permute(0, 2, 3, 1).numpy(),
            w2c=c2w_to_w2c_opencv(given.cameras.c2w).numpy(),
            intrinsics=given.cameras.intrinsics[0].numpy(),
            voxel=spacing,
            truncation=5 * spacing,
        )
        try:
            done = subprocess.run(
                [python, str(script), str(data), str(rounds)], capture_output=True, text=True, check=False, timeout=300
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"Open3D is not measured: {error}", file=sys.stderr)
            return None
    if done.returncode != 0:
        print(f"Open3D is not measured: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this benchmark; `quick` has sizes that only show that it runs."""
    views, size, resolution, rounds = (4, 64, 48, 1) if quick else (24, 512, 256, 3)
    given = photographs(views, size)
    before = fastest({"ours": lambda: ours(given, resolution)}, rounds=rounds)["ours"]
    peer = open3d_seconds(given, resolution, rounds)
    after = fastest({"ours": lambda: ours(given, resolution)}, rounds=rounds)["ours"]
    bar = None if quick else "ratio <= 1"
    if peer is not None:
        name = f"tsdf {views} views {size}x{size} -> {resolution}^3 with colour"
        yield Row(
            name, f"{peer['faces']} faces there", min(before, after), "Open3D VoxelBlockGrid", peer["seconds"], bar
        )
    for side in (32, 48) if quick else (64, 128, 256, 384, 512):
        time = fastest({"ours": lambda: ours(given, side)}, rounds=1 if side > 200 else 2)["ours"]  # noqa: B023
        yield Row("tsdf with colour", f"{side}^3", time, "", curve=("resolution", side))
    for side in (32, 48) if quick else (64, 96, 128, 192):
        mesh, _ = ours(given, side)
        budget = max(200, len(mesh.faces) // 8)
        time = fastest({"ours": lambda: decimate(clean_mesh(mesh), budget)}, rounds=2)["ours"]  # noqa: B023
        yield Row(
            "clean and decimate to an eighth", f"{len(mesh.faces)} faces", time, "", curve=("faces", len(mesh.faces))
        )
