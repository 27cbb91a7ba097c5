"""`PosedViews` -> a folder that `read_captures` reads, and that a person may look at and mend."""

import json
from pathlib import Path

import numpy as np

from mvgamba.errors import OutputFailed
from mvgamba.io.captures import Z_UP_TO_Y_UP
from mvgamba.io.images import encode_png
from mvgamba.types import PosedViews

VIEW_NAMES = ("front", "right", "back", "left", "above", "below")


def write_captures(views: PosedViews, folder: Path, *, names: tuple[str, ...] = VIEW_NAMES) -> list[Path]:
    """RGBA pictures and `transforms.json`, in the Z-up world of that file. Depth is not written.

    Args:
        names: Of the pictures; numbers where they do not suffice.
    Returns:
        The pictures.
    Raises:
        OutputFailed: The folder cannot be written, or holds captures already.
    """
    if (folder / "transforms.json").exists():
        raise OutputFailed(f"{folder} holds captures already; name another folder.")
    paths, frames = [], []
    z_up = np.linalg.inv(Z_UP_TO_Y_UP)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(views.num_views):
            name = names[i] if views.num_views <= len(names) else f"{i:03d}"
            pixels = np.concatenate([views.rgb[i].cpu().numpy(), views.alpha[i].cpu().numpy()]).transpose(1, 2, 0)
            path = folder / f"{name}.png"
            path.write_bytes(encode_png(pixels))
            paths.append(path)
            k = views.cameras.intrinsics[i].double().tolist()
            frames.append(
                {
                    "file_path": path.name,
                    "transform_matrix": (z_up @ views.cameras.c2w[i].double().cpu().numpy()).tolist(),
                    "fl_x": k[0][0],
                    "fl_y": k[1][1],
                    "cx": k[0][2],
                    "cy": k[1][2],
                }
            )
        table = {"w": views.cameras.width, "h": views.cameras.height, "frames": frames}
        (folder / "transforms.json").write_text(json.dumps(table, indent=1))
    except OSError as error:
        raise OutputFailed(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from error
    return paths
