"""Objaverse as others render it: a folder for each object with numbered RGBA images and a camera beside each.

    ObjaverseRenders(Path("renders"))                          # OBJECT/000.png, OBJECT/000.npy, 25 views
    ObjaverseRenders(Path("renders"), layout="pose", num_views=100)

The MVGamba paper has 25 views of 512 x 512 at elevations of 5 to 30 degrees and azimuths that are multiples of 15.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mvgamba.cameras import intrinsics_from_fovy
from mvgamba.data.corpus_cameras import c2w_from_blender_opencv, c2w_from_blender_w2c
from mvgamba.data.photographs import posed_views, training_views
from mvgamba.data.sources import TrainingViews
from mvgamba.data.view_choice import choose_views
from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba.io.images import read_rgba

FOVY = 2 * math.atan(16 / 35)
"""Of a lens of 35 mm before a sensor of 32 mm, as the public scripts set it; papers write 49.1 degrees."""


@dataclass(frozen=True)
class RenderLayout:
    """Where the files of a view are, and what its camera file means."""

    image: str
    camera: str
    read_camera: Callable[[Path], np.ndarray]
    """File -> camera to world as ours. Raises: InvalidCameras, naming the file."""


def _npy_camera(path: Path) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidCameras(f"{path} cannot be read as a camera ({error}); render the object again.") from error
    if matrix.shape != (3, 4):
        raise InvalidCameras(f"{path} has shape {matrix.shape}; a world-to-camera matrix of 3 x 4 is needed.")
    return c2w_from_blender_w2c(matrix.astype(np.float64), str(path))


def _pose_camera(path: Path) -> np.ndarray:
    try:
        numbers = np.array(path.read_text(encoding="utf-8").split(), np.float64)
    except (OSError, ValueError) as error:
        raise InvalidCameras(f"{path} cannot be read as a camera ({error}); render the object again.") from error
    if numbers.size != 16:
        raise InvalidCameras(f"{path} holds {numbers.size} numbers; 16, camera to world by rows, are needed.")
    return c2w_from_blender_opencv(numbers.reshape(4, 4), str(path))


LAYOUTS = {
    "npy": RenderLayout("{:03d}.png", "{:03d}.npy", _npy_camera),
    "pose": RenderLayout("rgb/{:03d}.png", "pose/{:03d}.txt", _pose_camera),
}
"""`npy` is what the scripts of Zero123 and Objaverse-XL write, `pose` what LGM reads."""


@dataclass(frozen=True)
class ObjaverseRenders:
    """Renders of many objects. There is nothing to draw from: inputs and others are what was rendered.

    Args:
        folder: Every folder in it is an object.
        layout: One of `LAYOUTS`.
        num_views: Of every object; an object with fewer is an error.
        fovy: In radians.
        num_inputs, num_others: Views to take of each.
    """

    folder: Path
    layout: str = "npy"
    num_views: int = 25
    fovy: float = FOVY
    num_inputs: int = 4
    num_others: int = 6

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InvalidInput(f"layout is {self.layout!r}; it must be one of {', '.join(LAYOUTS)}.")
        if not 0 < self.fovy < math.pi:
            raise InvalidInput(f"fovy is {self.fovy}; radians between 0 and pi are needed.")

    @property
    def names(self) -> list[str]:
        """Listed once in a process, for there may be very many."""
        return list(_folders(self.folder))

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput, naming the file that is missing or broken."""
        name = _folders(self.folder)[index]
        layout, here = LAYOUTS[self.layout], self.folder / name
        images = [here / layout.image.format(i) for i in range(self.num_views)]
        missing = next((path for path in images if not path.is_file()), None)
        if missing is not None:
            raise InvalidImage(f"{missing} does not exist; every object must have {self.num_views} views.")
        c2w = np.stack([layout.read_camera(here / layout.camera.format(i)) for i in range(self.num_views)])
        chosen = choose_views(
            torch.from_numpy(c2w),
            seed=(index, variant),
            num_inputs=self.num_inputs,
            num_others=self.num_others,
            name=name,
        )
        pixels = [read_rgba(images[i]) for i in chosen]
        height, width = pixels[0].shape[:2]
        k = intrinsics_from_fovy(self.fovy, height, width).numpy()
        names = [str(images[i]) for i in chosen]
        views = posed_views(pixels, [c2w[i] for i in chosen], [k] * len(chosen), names=names)
        return training_views(views, num_inputs=self.num_inputs, size=size, names=names)


@functools.lru_cache(maxsize=16)
def _folders(folder: Path) -> tuple[str, ...]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not found:
        raise InvalidInput(f"{folder} holds no folders; name one that has a folder of renders for each object.")
    return tuple(found)
