"""G-Objaverse (Qiu et al. 2023, RichDreamer): renders of Objaverse with base colour, normals and depth, in tar archives.

    GObjaverse(Path("gobjaverse"))                                  # one object in each tar: 0/10010.tar
    GObjaverse(Path("parts"), per_tar="many", colors="albedo", with_depth=True)

An object is a folder `campos_512_v4` somewhere in a tar, with 40 views `00000/00000.png` (RGBA), `.json` (camera),
`_albedo.png`, `_nd.exr` and others. Views 25 and 26 look from the top and from the bottom.
"""

import functools
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mvgamba.data.corpus_cameras import c2w_from_gobjaverse
from mvgamba.data.photographs import posed_views, training_views
from mvgamba.data.sources import TrainingViews
from mvgamba.data.tar_index import members, read_member
from mvgamba.data.view_choice import choose_views
from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput, Unavailable
from mvgamba.io.images import read_rgb, read_rgba

VIEWS = "campos_512_v4"
HALF_DIAGONAL = math.sqrt(3) / 2
"""Objects lie in a cube of edge 1 around the origin; what is nearer to the camera than its sphere is no depth."""


@dataclass(frozen=True)
class GObjaverse:
    """The archives of a folder and below. There is nothing to draw from: inputs and others are what was rendered.

    Args:
        folder: Searched for `*.tar`.
        per_tar: Whether a tar holds one object, which is then named by it, or many, for which all tars are scanned.
        colors: As lit by the renderer, or the base colour alone, which is what our own drawings have.
        with_depth: Needs the package OpenEXR.
        num_views: Of every object; an object with fewer is an error.
        num_inputs, num_others: Views to take of each.
    """

    folder: Path
    per_tar: Literal["one", "many"] = "one"
    colors: Literal["lit", "albedo"] = "lit"
    with_depth: bool = False
    num_views: int = 40
    num_inputs: int = 4
    num_others: int = 6

    def __post_init__(self) -> None:
        if self.per_tar not in ("one", "many"):
            raise InvalidInput(f"per_tar is {self.per_tar!r}; it must be one or many.")
        if self.colors not in ("lit", "albedo"):
            raise InvalidInput(f"colors is {self.colors!r}; it must be lit or albedo.")
        if self.with_depth:
            _exr_library()

    @property
    def names(self) -> list[str]:
        """Tars, or `TAR:OBJECT` where a tar holds many. Listed once in a process."""
        return [f"{tar}:{within}" if within else tar for tar, within in _objects(self.folder, self.per_tar)]

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput, naming the archive and the member that is missing or broken."""
        tar, within = _objects(self.folder, self.per_tar)[index]
        path = self.folder / tar
        within = within or _only_object(path)
        cameras = [_Camera(path, f"{within}/{i:05d}/{i:05d}") for i in range(self.num_views)]
        chosen = choose_views(
            torch.from_numpy(np.stack([camera.c2w for camera in cameras])),
            seed=(index, variant),
            num_inputs=self.num_inputs,
            num_others=self.num_others,
            name=f"{path}: {within}",
        )
        taken = [cameras[i] for i in chosen]
        names = [f"{path}: {camera.member}.png" for camera in taken]
        pixels = [self._pixels(path, camera.member) for camera in taken]
        views = posed_views(
            pixels,
            [camera.c2w for camera in taken],
            [camera.intrinsics(*image.shape[:2]) for camera, image in zip(taken, pixels, strict=True)],
            names=names,
            depth=[camera.depth(image.shape[:2]) for camera, image in zip(taken, pixels, strict=True)]
            if self.with_depth
            else None,
        )
        return training_views(views, num_inputs=self.num_inputs, size=size, names=names)

    def _pixels(self, path: Path, member: str) -> np.ndarray:
        rgba = read_rgba(read_member(path, f"{member}.png"), name=f"{path}: {member}.png")
        if self.colors == "lit":
            return rgba
        name = f"{member}_albedo.png"
        albedo = read_rgb(read_member(path, name), name=f"{path}: {name}")
        if albedo.shape[:2] != rgba.shape[:2]:
            raise InvalidImage(f"{path}: {name} has another size than its RGBA image; download the archive again.")
        return np.concatenate([albedo, rgba[..., 3:]], 2)


class _Camera:
    """What the JSON of a view says, and the depth that goes with it."""

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        name = f"{path}: {member}.json"
        try:
            table: Any = json.loads(read_member(path, f"{member}.json"))
        except ValueError as error:
            raise InvalidCameras(f"{name} is not JSON ({error}); download the archive again.") from error
        if not isinstance(table, dict):
            raise InvalidCameras(f"{name} must hold an object with x, y, z, origin and x_fov.")
        self.c2w = c2w_from_gobjaverse(table, name)
        fovs = table.get("x_fov"), table.get("y_fov", table.get("x_fov"))
        if not all(isinstance(fov, int | float) and 0 < fov < math.pi for fov in fovs):
            raise InvalidCameras(f"{name} has x_fov and y_fov of {fovs}; radians between 0 and pi are needed.")
        self._fovs: Any = fovs

    def intrinsics(self, height: int, width: int) -> np.ndarray:
        fx = 0.5 * width / math.tan(0.5 * self._fovs[0])
        fy = 0.5 * height / math.tan(0.5 * self._fovs[1])
        return np.array([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1.0]])

    def depth(self, size: tuple[int, int]) -> np.ndarray:
        name = f"{self.member}_nd.exr"
        depth = read_exr_depth(read_member(self.path, name), f"{self.path}: {name}")
        if depth.shape != size:
            raise InvalidImage(f"{self.path}: {name} has shape {depth.shape}; {size}, as the image, is needed.")
        nearest = float(np.linalg.norm(self.c2w[:3, 3])) - HALF_DIAGONAL
        return np.where(np.isfinite(depth) & (depth >= max(nearest, 1e-6)), depth, 0).astype(np.float32)


def read_exr_depth(data: bytes, name: str) -> np.ndarray:
    """Channel A of an EXR, float32 (H, W): depth along the view axis. R, G and B are normals in axes of their own.

    Raises:
        Unavailable: The package OpenEXR is not installed.
        InvalidImage: The file is broken or has no such channel.
    """
    library = _exr_library()
    with tempfile.TemporaryDirectory() as folder:  # the library reads files by name only
        file = Path(folder) / "nd.exr"
        file.write_bytes(data)
        try:
            with library.File(str(file), separate_channels=True) as exr:
                depth = np.array(exr.channels()["A"].pixels, np.float32)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise InvalidImage(f"{name} cannot be read as an EXR with a channel A ({error}).") from error
    return depth


def _exr_library() -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        raise Unavailable(
            'The depth of G-Objaverse is in EXR files, which need a package more: pip install "OpenEXR>=3.3". '
            "Images and cameras work without."
        ) from error
    return OpenEXR


@functools.lru_cache(maxsize=16)
def _objects(folder: Path, per_tar: str) -> tuple[tuple[str, str], ...]:
    """Tar, and the folder with views in it; the latter is empty where the former has to be opened to know."""
    tars = sorted(folder.rglob("*.tar")) if folder.is_dir() else []
    found: list[tuple[str, str]] = []
    for path in tars:
        try:
            inside = _views_in(path) if per_tar == "many" else [""]
        except InvalidInput:
            inside = [""]  # it fails, with its name, when it is asked for, as any other broken object
        found.extend((path.relative_to(folder).as_posix(), within) for within in inside)
    if not found:
        raise InvalidInput(f"{folder} holds no .tar archives with objects; name a folder of G-Objaverse archives.")
    return tuple(found)


def _views_in(path: Path) -> list[str]:
    """The folders with views that a tar holds."""
    found = set()
    for member in members(path):
        before, middle, _ = f"/{member}".rpartition(f"/{VIEWS}/")
        if middle:
            found.add(f"{before}/{VIEWS}".lstrip("/"))
    return sorted(found)


def _only_object(path: Path) -> str:
    found = _views_in(path)
    if len(found) != 1:
        raise InvalidInput(
            f'{path} holds {len(found)} folders named {VIEWS}; one was expected. For archives of many objects set per_tar="many".'
        )
    return found[0]
