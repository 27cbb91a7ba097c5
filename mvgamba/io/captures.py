"""Folders of posed images -> `PosedViews` in the world of the house (+Y up).

`transforms.json` is read as NeRF-synthetic and Instant-NGP write it: camera-to-world matrices with OpenGL cameras in a
Z-up world, which is also Blender's. A COLMAP text model is taken as it stands, with its coordinates read as Blender's.
"""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba.io.images import read_mask, read_rgb, read_rgba
from mvgamba.types import Cameras, PosedViews

log = logging.getLogger(__name__)

MAX_VIEWS = 512
MAX_TOTAL_PIXELS = 256_000_000
"""Over all views: about 5 GB while they are unpacked."""

Z_UP_TO_Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""(x, y, z) -> (x, z, -y)."""


@dataclass(frozen=True)
class _Frame:
    """One image with its camera, before anything is opened."""

    image: Path
    c2w: np.ndarray
    fx: float | None
    fy: float | None
    cx: float | None
    cy: float | None
    angle_x: float | None
    width: int | None
    height: int | None
    depth: Path | None = None
    mask: Path | None = None


def holds_captures(folder: Path) -> bool:
    """Whether a folder has a list of frames that `read_captures` knows."""
    return (folder / "transforms.json").is_file() or _colmap_folder(folder) is not None


def read_captures(
    folder: Path | str, *, choose: Callable[[Float[torch.Tensor, "V 4 4"]], list[int]] | None = None
) -> PosedViews:
    """Read a folder with `transforms.json`, or a COLMAP text model (`cameras.txt`, `images.txt`).

    Args:
        choose: Is given the camera-to-world matrices of all frames and says which to read, in which order; all unless told.
    Returns:
        Views in float32 with cameras in float64, in the Y-up world.
    Raises:
        InvalidInput: There is no such folder or list of frames, or it is not what it should be.
        InvalidCameras: A matrix or an intrinsic value is not that of a pinhole camera.
        InvalidImage: An image is missing, broken, of another size, or without alpha.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder. Give the folder that holds transforms.json and the images.")
    if (folder / "transforms.json").is_file():
        frames, depth_scale = _frames_of_transforms(folder / "transforms.json")
    elif (model := _colmap_folder(folder)) is not None:
        frames, depth_scale = _frames_of_colmap(model, folder), 1.0
    else:
        raise InvalidInput(
            f"{folder} holds neither transforms.json nor a COLMAP text model (cameras.txt and images.txt). "
            "Export the cameras beside the images in one of the two forms."
        )
    if not frames:
        raise InvalidInput(f"{folder} lists no views; at least one is needed.")
    if len(frames) > MAX_VIEWS:
        raise InvalidInput(f"{folder} lists {len(frames)} views; at most {MAX_VIEWS} are used at once. Leave some out.")
    if choose is not None:
        frames = [frames[i] for i in choose(torch.from_numpy(np.stack([_c2w(frame) for frame in frames])))]
    return _load(frames, depth_scale)


def _load(frames: list[_Frame], depth_scale: float) -> PosedViews:
    rgb, alpha, depths, c2w, intrinsics = [], [], [], [], []
    size: tuple[int, int] | None = None
    for frame in frames:
        if frame.mask is None:
            pixels = read_rgba(frame.image)
        else:
            colour, mask = read_rgb(frame.image), read_mask(frame.mask)
            if colour.shape[:2] != mask.shape:
                raise InvalidImage(
                    f"{frame.mask} has another size than {frame.image.name}; a mask must match its image."
                )
            pixels = np.concatenate([colour, mask[..., None]], 2)
        here = pixels.shape[:2]
        if size is None:
            size = here
            if here[0] * here[1] * len(frames) > MAX_TOTAL_PIXELS:
                raise InvalidImage(
                    f"{len(frames)} views of {here[1]} x {here[0]} pixels are more than {MAX_TOTAL_PIXELS // 10**6} "
                    "megapixels in all. Scale the images down or leave some out."
                )
        elif here != size:
            raise InvalidImage(
                f"{frame.image} is {here[1]} x {here[0]} pixels, the first image is {size[1]} x {size[0]}; "
                "all images of one capture must have one size."
            )
        c2w.append(_c2w(frame))
        intrinsics.append(_intrinsics(frame, *here))
        rgb.append(torch.from_numpy(np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1))))
        alpha.append(torch.from_numpy(np.ascontiguousarray(pixels[..., 3])[None]))
        if frame.depth is not None:
            depths.append(_read_depth(frame.depth, here, depth_scale))
    assert size is not None
    if depths and len(depths) != len(frames):
        log.warning("%d of %d views have depth; depth is used only when all have it", len(depths), len(frames))
    cameras = Cameras(
        torch.from_numpy(np.stack(c2w)), torch.from_numpy(np.stack(intrinsics)), height=size[0], width=size[1]
    )
    depth = torch.stack(depths) if len(depths) == len(frames) else None
    return PosedViews(torch.stack(rgb), torch.stack(alpha), cameras, depth)


def _c2w(frame: _Frame) -> np.ndarray:
    return Z_UP_TO_Y_UP @ checked_c2w(frame.c2w, f"transform_matrix of {frame.image.name}")


def checked_c2w(m: np.ndarray, name: str) -> np.ndarray:
    """A matrix (3 or 4 rows) as 4 x 4 with its rotation made exactly orthonormal. Raises: InvalidCameras."""
    if m.shape == (3, 4):
        m = np.concatenate([m, [[0, 0, 0, 1.0]]])
    if m.shape != (4, 4):
        raise InvalidCameras(f"{name} has shape {m.shape}; 4 x 4 is needed.")
    if not np.isfinite(m).all():
        raise InvalidCameras(f"{name} holds a value that is not a finite number.")
    if np.abs(m[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InvalidCameras(f"{name} ends with {m[3].tolist()}; the last row must be 0 0 0 1.")
    u, s, vt = np.linalg.svd(m[:3, :3])
    if np.abs(s - 1).max() > 1e-2:
        raise InvalidCameras(
            f"{name} is scaled or sheared (singular values {np.round(s, 4).tolist()}, all should be 1). "
            "Export the cameras without scale."
        )
    rotation = u @ vt
    if np.linalg.det(rotation) < 0:
        raise InvalidCameras(f"{name} mirrors (its determinant is negative); a camera cannot.")
    out = m.copy()
    out[:3, :3] = rotation
    return out


def _intrinsics(frame: _Frame, height: int, width: int) -> np.ndarray:
    """Pixels of the image as it is, also where the file was written for another size. Raises: InvalidCameras."""
    sx = width / frame.width if frame.width else 1.0
    sy = height / frame.height if frame.height else 1.0
    if abs(sx / sy - 1) > 0.02:
        raise InvalidCameras(
            f"{frame.image.name} is {width} x {height} pixels, its camera was made for {frame.width} x {frame.height}; "
            "the shapes differ."
        )
    fx = frame.fx * sx if frame.fx is not None else None
    if fx is None and frame.angle_x is not None:
        if not 0 < frame.angle_x < math.pi:
            raise InvalidCameras(f"camera_angle_x is {frame.angle_x}; radians between 0 and pi are needed.")
        fx = 0.5 * width / math.tan(0.5 * frame.angle_x)
    if fx is None:
        raise InvalidCameras("The focal length is missing: give camera_angle_x, or fl_x with fl_y, cx, cy, w and h.")
    fy = frame.fy * sy if frame.fy is not None else fx
    cx = frame.cx * sx if frame.cx is not None else width / 2
    cy = frame.cy * sy if frame.cy is not None else height / 2
    if not all(math.isfinite(v) for v in (fx, fy, cx, cy)) or min(fx, fy) <= 0:
        raise InvalidCameras(f"The intrinsics fx {fx}, fy {fy}, cx {cx}, cy {cy} are not those of a camera.")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _read_depth(path: Path, size: tuple[int, int], scale: float) -> torch.Tensor:
    """Depth along the view axis, 0 where nothing is. Raises: InvalidImage."""
    if not path.is_file():
        raise InvalidImage(f"{path} does not exist. Check depth_file_path in the list of frames.")
    try:
        if path.suffix == ".npy":
            depth = np.load(path, allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(path) as image:
                if image.mode not in ("I;16", "I", "F"):
                    raise InvalidImage(f"{path} is an 8-bit image; depth needs .npy or a 16-bit PNG.")
                depth = np.asarray(image).astype(np.float32) * scale
    except (OSError, ValueError, EOFError) as error:
        raise InvalidImage(f"{path} cannot be read as depth ({error}). Use .npy (float32) or a 16-bit PNG.") from error
    depth = np.squeeze(depth)
    if depth.shape != size:
        raise InvalidImage(f"{path} has shape {depth.shape}; {size}, as the image, is needed.")
    depth = depth.astype(np.float32)
    return torch.from_numpy(np.where(np.isfinite(depth) & (depth > 0) & (depth < 1e9), depth, 0.0).astype(np.float32))[
        None
    ]


# ---------------------------------------------------------------- transforms.json


def _frames_of_transforms(path: Path) -> tuple[list[_Frame], float]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not JSON: {error}. Export it again.") from error
    if not isinstance(table, dict) or not isinstance(table.get("frames"), list):
        raise InvalidInput(f"{path} has no list named frames; write it as NeRF-synthetic or Instant-NGP do.")
    for key in ("k1", "k2", "k3", "k4", "p1", "p2"):
        if abs(_number(table, key, path) or 0.0) > 1e-4:
            raise InvalidCameras(f"{path} has lens distortion ({key} = {table[key]}). Undistort the images first.")
    scale = _number(table, "integer_depth_scale", path)
    if len(table["frames"]) > MAX_VIEWS:
        raise InvalidInput(
            f"{path} lists {len(table['frames'])} views; at most {MAX_VIEWS} are used at once. Leave some out."
        )
    return [
        _frame_of_transforms(table, f, i, path) for i, f in enumerate(table["frames"])
    ], 1.0 if scale is None else scale


def _frame_of_transforms(table: dict[str, Any], frame: Any, index: int, path: Path) -> _Frame:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str) or "transform_matrix" not in frame:
        raise InvalidInput(f"Frame {index} of {path} needs file_path and transform_matrix.")
    try:
        c2w = np.array(frame["transform_matrix"], np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidCameras(f"transform_matrix of frame {index} in {path} is not a matrix of numbers.") from error

    def value(key: str) -> float | None:
        own = _number(frame, key, path)
        return own if own is not None else _number(table, key, path)

    w, h = value("w"), value("h")
    depth = frame.get("depth_file_path")
    return _Frame(
        image=_image_path(path.parent, frame["file_path"]),
        c2w=c2w,
        fx=value("fl_x"),
        fy=value("fl_y"),
        cx=value("cx"),
        cy=value("cy"),
        angle_x=value("camera_angle_x"),
        width=int(w) if w else None,
        height=int(h) if h else None,
        depth=path.parent / depth if isinstance(depth, str) else None,
    )


def _image_path(folder: Path, name: str) -> Path:
    """NeRF-synthetic leaves the suffix out."""
    path = folder / name
    if path.suffix.lower() not in (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".tga", ".bmp", ".gif"):
        for suffix in (".png", ".webp"):
            if path.with_name(path.name + suffix).is_file():
                return path.with_name(path.name + suffix)
    return path


def _number(table: dict[str, Any], key: str, path: Path) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidCameras(f"{key} in {path} is {value!r}; a finite number is needed.")
    return float(value)


# ---------------------------------------------------------------- COLMAP


def _colmap_folder(folder: Path) -> Path | None:
    for place in (folder, folder / "sparse" / "0", folder / "sparse"):
        if (place / "cameras.txt").is_file() and (place / "images.txt").is_file():
            return place
    return None


def _frames_of_colmap(model: Path, folder: Path) -> list[_Frame]:
    cameras = dict(_colmap_camera(line, model) for line in _lines(model / "cameras.txt") if line.strip())
    frames = []
    # every image has two lines: its pose, then its points (which may be empty)
    for line in _lines(model / "images.txt")[::2]:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        try:
            quat, shift = np.array(words[1:5], float), np.array(words[5:8], float)
            camera, name = cameras[words[8]], words[9].strip()
        except (ValueError, IndexError, KeyError) as error:
            raise InvalidInput(f"{model / 'images.txt'} has a line that is no image: {line[:80]!r}.") from error
        if not np.isfinite(quat).all() or np.linalg.norm(quat) < 1e-6:
            raise InvalidCameras(f"The pose of {name} in {model / 'images.txt'} is not a rotation.")
        w, x, y, z = quat / np.linalg.norm(quat)
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        c2w = np.eye(4)
        c2w[:3, :3] = rotation.T * [1, -1, -1]  # OpenCV camera axes -> OpenGL
        c2w[:3, 3] = -rotation.T @ shift
        image = next(
            (p for p in (folder / "images" / name, folder / name, model / name) if p.is_file()),
            folder / "images" / name,
        )
        mask = next((p for p in (folder / "masks" / f"{name}.png", folder / "masks" / name) if p.is_file()), None)
        frames.append(_Frame(image=image, c2w=c2w, angle_x=None, mask=mask, **camera))
    return sorted(frames, key=lambda f: f.image.name)


def _colmap_camera(line: str, model: Path) -> tuple[str, dict[str, Any]]:
    words = line.split()
    try:
        kind, width, height, p = words[1], int(words[2]), int(words[3]), [float(v) for v in words[4:]]
        if kind in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
            fx, fy, cx, cy, rest = p[0], p[0], p[1], p[2], p[3:]
        elif kind in ("PINHOLE", "OPENCV", "FULL_OPENCV"):
            fx, fy, cx, cy, rest = p[0], p[1], p[2], p[3], p[4:]
        else:
            raise InvalidCameras(f"{model / 'cameras.txt'} has a camera of model {kind}; undistort to PINHOLE first.")
    except (ValueError, IndexError) as error:
        raise InvalidInput(f"{model / 'cameras.txt'} has a line that is no camera: {line[:80]!r}.") from error
    if any(abs(v) > 1e-4 for v in rest):
        raise InvalidCameras(f"{model / 'cameras.txt'} has a camera with lens distortion. Undistort the images first.")
    return words[0], {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}


def _lines(path: Path) -> list[str]:
    """Without comments; empty lines stay, because in images.txt they stand for an image without points."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not text.") from error
