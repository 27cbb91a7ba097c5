"""The cameras of public corpora as ours: camera to world, OpenGL axes, +Y up.

All of them render in a world with +Z up, Blender's, with the object around the origin. They differ in what they write down:

- `000.npy`, as the scripts of Zero123 and Objaverse-XL do: world to camera, 3 x 4, in Blender's camera axes, which are OpenGL's.
- `pose/000.txt`, as LGM reads them: camera to world, 16 numbers by rows, in OpenCV's camera axes.
- `00000.json` of G-Objaverse: the camera's `x`, `y`, `z` axes and its `origin` in the world, in OpenCV's camera axes, and
  `x_fov`, `y_fov` in radians.

Files of one kind with the axes of another look alike, so every camera must have the origin before it.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from mvgamba.errors import InvalidCameras
from mvgamba.io.captures import Z_UP_TO_Y_UP, checked_c2w

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""x right, y down, looks along +z -> x right, y up, looks along -z; and back."""


def c2w_from_blender_w2c(w2c: Float64[np.ndarray, "3 4"], name: str) -> Float64[np.ndarray, "4 4"]:
    """World to camera with OpenGL axes, +Z up. Raises: InvalidCameras, with the name."""
    checked = checked_c2w(w2c, name)
    return _before_origin(Z_UP_TO_Y_UP @ np.linalg.inv(checked), name)


def c2w_from_blender_opencv(c2w: Float64[np.ndarray, "4 4"], name: str) -> Float64[np.ndarray, "4 4"]:
    """Camera to world with OpenCV axes, +Z up. Raises: InvalidCameras, with the name."""
    return _before_origin(Z_UP_TO_Y_UP @ checked_c2w(c2w, name) @ OPENCV_TO_OPENGL, name)


def c2w_from_gobjaverse(table: dict[str, Any], name: str) -> Float64[np.ndarray, "4 4"]:
    """Of the JSON beside a view. Raises: InvalidCameras, with the name."""
    c2w = np.eye(4)
    for column, key in enumerate(("x", "y", "z", "origin")):
        try:
            c2w[:3, column] = np.asarray(table[key], np.float64).reshape(3)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidCameras(
                f"{name} needs three numbers named {key}; x, y, z and origin make a camera."
            ) from error
    return c2w_from_blender_opencv(c2w, name)


def _before_origin(c2w: np.ndarray, name: str) -> np.ndarray:
    if c2w[:3, 2] @ c2w[:3, 3] <= 0:
        raise InvalidCameras(
            f"{name} looks away from the origin, where the object is; its camera axes are of another kind than this layout's."
        )
    return c2w
