"""Corpora of others in miniature: one object, drawn by our rasterizer, with cameras written down as those corpora do.

The cameras are built twice: as ours, to draw with, and from the same angles in Blender's world, to write down.
"""

import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvgamba.cameras import orbit_cameras
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.types import PosedViews, Similarity
from tests.mvgamba.data.objects import write_corpus

RADIUS = 1.8


def lopsided(folder: Path) -> Drawable:
    """A box with a knob near one corner, around the origin, inside the unit cube. No turn or mirror leaves it as it is."""
    drawable = read_drawable(write_corpus(folder, 1) / "object_0.glb")
    scale = 0.5 / drawable.radius
    place = Similarity(scale, torch.eye(3, dtype=torch.float64), torch.from_numpy(-scale * drawable.center))
    return drawable.placed(place)


def drawn(drawable: Drawable, angles: list[tuple[float, float]], *, fovy: float, size: int) -> PosedViews:
    """From azimuths and elevations in degrees."""
    azimuths, elevations = ([math.radians(a) for a in column] for column in zip(*angles, strict=True))
    cameras = orbit_cameras(azimuths, elevations, radius=RADIUS, fovy=fovy, height=size, width=size)
    views = photograph(drawable, cameras, with_depth=True, samples=2)
    return PosedViews(views.rgb * (views.alpha > 0), views.alpha, cameras, views.depth)


def in_blender(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Right, up, ahead and position of a camera in Blender's world: azimuth 0 stands on -Y, 90 degrees on +X, up is +Z."""
    a, e = math.radians(azimuth), math.radians(elevation)
    position = RADIUS * np.array([math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)])
    ahead = -position / RADIUS
    # straight up or down, the top of the picture is where the front's back or front is
    right = np.cross(ahead, [0, 0, 1.0]) if abs(ahead[2]) < 0.999 else np.array([math.cos(a), math.sin(a), 0.0])
    right = right / np.linalg.norm(right)
    return right, np.cross(right, ahead), ahead, position


def png(views: PosedViews, i: int) -> bytes:
    pixels = torch.cat([views.rgb[i], views.alpha[i]]).permute(1, 2, 0).numpy()
    out = io.BytesIO()
    Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_npy_layout(
    folder: Path, views: PosedViews, angles: list[tuple[float, float]], *, opencv: bool = False
) -> None:
    """`000.png`, `000.npy`; with `opencv` the camera axes are those of another kind."""
    folder.mkdir(parents=True)
    for i, angle in enumerate(angles):
        right, up, ahead, position = in_blender(*angle)
        rotation = np.stack([right, -up, ahead] if opencv else [right, up, -ahead])
        np.save(folder / f"{i:03d}.npy", np.concatenate([rotation, -(rotation @ position)[:, None]], 1))
        (folder / f"{i:03d}.png").write_bytes(png(views, i))


def write_pose_layout(
    folder: Path, views: PosedViews, angles: list[tuple[float, float]], *, opengl: bool = False
) -> None:
    """`rgb/000.png`, `pose/000.txt`; with `opengl` the camera axes are those of another kind."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "pose").mkdir()
    for i, angle in enumerate(angles):
        right, up, ahead, position = in_blender(*angle)
        axes = [right, up, -ahead] if opengl else [right, -up, ahead]
        c2w = np.concatenate([np.stack([*axes, position], 1), [[0, 0, 0, 1]]])
        (folder / "pose" / f"{i:03d}.txt").write_text(" ".join(f"{v:.9g}" for v in c2w.ravel()))
        (folder / "rgb" / f"{i:03d}.png").write_bytes(png(views, i))


def gobjaverse_files(views: PosedViews, angles: list[tuple[float, float]], *, fov: float) -> dict[str, bytes]:
    """`00000/00000.png` and the rest, without the EXR files. Base colours are the lit ones halved, on black."""
    files: dict[str, bytes] = {}
    for i, angle in enumerate(angles):
        right, up, ahead, position = in_blender(*angle)
        table = {"x": right, "y": -up, "z": ahead, "origin": position}
        extras = {"x_fov": fov, "y_fov": fov, "bbox": [[-0.5] * 3, [0.5] * 3]}
        stem = f"{i:05d}/{i:05d}"
        files[f"{stem}.json"] = json.dumps({k: v.tolist() for k, v in table.items()} | extras).encode()
        files[f"{stem}.png"] = png(views, i)
        albedo = (0.5 * views.rgb[i] * views.alpha[i]).permute(1, 2, 0).numpy()
        out = io.BytesIO()
        Image.fromarray((albedo * 255 + 0.5).astype(np.uint8)).save(out, "PNG")
        files[f"{stem}_albedo.png"] = out.getvalue()
    return files


def write_tar(path: Path, files: dict[str, bytes], *, mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def drawn_number(camera: torch.Tensor, views: PosedViews) -> int:
    """Which of the drawn cameras it is, to 0.00001."""
    far = (views.cameras.c2w - camera).abs().flatten(1).amax(1)
    assert far.min() < 1e-5, f"no camera drew this: the nearest is {far.min():.3f} off"
    return int(far.argmin())


def assert_pictures_show(views: PosedViews, points: np.ndarray) -> None:
    """The box around the projected points is the box around the picture's object, to 1.5 pixels."""
    from mvgamba.cameras import project

    pixels, _ = project(torch.from_numpy(points), views.cameras)
    for i in range(views.num_views):
        rows, cols = (views.alpha[i, 0] > 0.5).nonzero().T
        seen = torch.tensor([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1], dtype=torch.float64)
        told = torch.cat([pixels[i].amin(0), pixels[i].amax(0)])
        assert (seen - told).abs().max() < 1.5, f"view {i}: {seen.tolist()} seen, {told.tolist()} expected"
