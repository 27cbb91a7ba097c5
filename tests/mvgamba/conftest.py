"""Captures that the tests photograph themselves."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.io.captures import Z_UP_TO_Y_UP
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.types import Cameras, PosedViews

SIDE_COLORS = torch.tensor(
    [[0.9, 0.2, 0.2], [0.2, 0.8, 0.3], [0.2, 0.3, 0.9], [0.9, 0.8, 0.2], [0.7, 0.3, 0.8], [0.3, 0.8, 0.8]]
)


def box(center: torch.Tensor, half: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners, and two triangles for each side in the order of SIDE_COLORS, counter-clockwise from outside."""
    signs = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]
    return center + signs * half, torch.tensor(faces)


def photograph(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, *, samples: int = 4) -> PosedViews:
    """Flat colours by pairs of triangles, `samples` squared to a pixel."""
    k = cameras.intrinsics * torch.tensor([[samples], [samples], [1.0]], dtype=cameras.intrinsics.dtype)
    height, width = cameras.height, cameras.width
    ids = rasterize_mesh(
        vertices.float(),
        faces,
        c2w_to_w2c_opencv(cameras.c2w).float(),
        k.float(),
        height=height * samples,
        width=width * samples,
    ).face_ids.long()
    alpha = (ids >= 0).float()
    rgb = SIDE_COLORS[(ids.clamp_min(0) // 2) % 6] * alpha[..., None]
    pool = torch.nn.AvgPool2d(samples)
    alpha, rgb = pool(alpha[:, None]), pool(rgb.permute(0, 3, 1, 2))
    return PosedViews((rgb / alpha.clamp_min(1e-6)).clamp(0, 1), alpha, cameras)


def write_capture(folder: Path, views: PosedViews) -> None:
    """As NeRF-synthetic has it: a Z-up world."""
    folder.mkdir(parents=True, exist_ok=True)
    back = np.linalg.inv(Z_UP_TO_Y_UP)
    k, frames = views.cameras.intrinsics[0], []
    for i in range(views.num_views):
        pixels = torch.cat([views.rgb[i], views.alpha[i]]).permute(1, 2, 0).numpy()
        Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(folder / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": (back @ views.cameras.c2w[i].numpy()).tolist()})
    table = {"fl_x": float(k[0, 0]), "fl_y": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2])}
    size = {"w": views.cameras.width, "h": views.cameras.height}
    (folder / "transforms.json").write_text(json.dumps(table | size | {"frames": frames}))


@pytest.fixture(scope="session", autouse=True)
def no_weights_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may have weights of their own; these must not be used here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVGAMBA_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


BOX_CENTER = torch.tensor([5.0, -2.0, 8.0], dtype=torch.float64)
BOX_HALF = torch.tensor([0.6, 0.4, 0.25], dtype=torch.float64)


@pytest.fixture(scope="session")
def box_views() -> PosedViews:
    """A box with six colours, far from the origin, seen from twenty sides."""
    cameras = fibonacci_cameras(20, radius=2.4, fovy=0.8, height=96, width=96)
    cameras.c2w[:, :3, 3] += BOX_CENTER
    return photograph(*box(BOX_CENTER, BOX_HALF), cameras)


@pytest.fixture(scope="session")
def box_capture(box_views: PosedViews, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder with transforms.json."""
    folder = tmp_path_factory.mktemp("box")
    write_capture(folder, box_views)
    return folder
