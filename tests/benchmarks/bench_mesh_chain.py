"""Depth and colour to a mesh, beside Open3D; and the steps from the field to the final mesh as they grow."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.kernels.fuse_tsdf import fuse_tsdf
from mvgamba.meshing import Grid, clean_mesh, color_vertices, decimate, extract_surface
from mvgamba.render import render_surfels
from mvgamba.types import Cameras, Mesh, RenderOutput, Surfels
from tests.benchmarks.rows import Row, fastest
from tests.gpu.scene import bumpy_ball

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


def scene(views: int, size: int) -> tuple[RenderOutput, Cameras]:
    """A bumpy ball from all around."""
    cameras = fibonacci_cameras(views, radius=1.6, fovy=0.75, height=size, width=size)
    render = render_surfels(Surfels(*bumpy_ball(20_000)), cameras)
    return render, cameras


def ours(render: RenderOutput, cameras: Cameras, resolution: int) -> tuple[Mesh, np.ndarray]:
    """Fusion, surface and a colour for each vertex."""
    spacing = 2 * HALF / (resolution - 1)
    depth = torch.where(render.alpha > 0.5, render.depth, 0.0)[:, 0]
    grid = Grid(torch.empty(0), torch.full((3,), -HALF, dtype=torch.float64), spacing)
    field = fuse_tsdf(
        depth,
        render.alpha[:, 0],
        c2w_to_w2c_opencv(cameras.c2w),
        cameras.intrinsics,
        grid.origin,
        spacing,
        (resolution,) * 3,
        truncation=5 * spacing,
    )
    mesh = extract_surface(Grid(field, grid.origin, spacing))
    return mesh, color_vertices(mesh, render.rgb, depth, cameras, truncation=5 * spacing)


def open3d_seconds(render: RenderOutput, cameras: Cameras, resolution: int, rounds: int) -> dict[str, float] | None:
    """Its time on the same pictures, in a process of its own; None, with the reason printed, where it cannot be had."""
    python = os.environ.get("MVGAMBA_OPEN3D_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "views.npz", Path(folder) / "run_open3d.py"
        script.write_text(OPEN3D)
        spacing = 2 * HALF / (resolution - 1)
        np.savez(
            data,
            depth=torch.where(render.alpha > 0.5, render.depth, 0.0)[:, 0].numpy(),
            rgb=render.rgb.permute(0, 2, 3, 1).numpy(),
            w2c=c2w_to_w2c_opencv(cameras.c2w).numpy(),
            intrinsics=cameras.intrinsics[0].numpy(),
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
    render, cameras = scene(views, size)
    before = fastest({"ours": lambda: ours(render, cameras, resolution)}, rounds=rounds)["ours"]
    peer = open3d_seconds(render, cameras, resolution, rounds)
    after = fastest({"ours": lambda: ours(render, cameras, resolution)}, rounds=rounds)["ours"]
    bar = None if quick else "ratio <= 1"
    if peer is not None:
        name = f"tsdf {views} views {size}x{size} -> {resolution}^3 with colour"
        yield Row(
            name, f"{peer['faces']} faces there", min(before, after), "Open3D VoxelBlockGrid", peer["seconds"], bar
        )
    for side in (32, 48) if quick else (64, 128, 192, 256, 320):
        time = fastest({"ours": lambda: ours(render, cameras, side)}, rounds=1 if side > 200 else 2)["ours"]  # noqa: B023
        yield Row("tsdf with colour", f"{side}^3", time, "", curve=("resolution", side))
    for side in (32, 48) if quick else (64, 96, 128, 192):
        mesh, _ = ours(render, cameras, side)
        budget = max(200, len(mesh.faces) // 8)
        time = fastest({"ours": lambda: decimate(clean_mesh(mesh), budget)}, rounds=2)["ours"]  # noqa: B023
        yield Row(
            "clean and decimate to an eighth", f"{len(mesh.faces)} faces", time, "", curve=("faces", len(mesh.faces))
        )
