"""The one place that turns Blender's world (+Z up) into that of the wire (+Y up, glTF) and back.

(x, y, z) -> (x, z, -y): Blender's front, -Y, becomes +Z; right stays +X. Cameras look along their own -Z with +Y up in
both worlds, so only the world side of a camera matrix changes.
"""

import numpy as np

Z_UP_TO_Y_UP = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=np.float64
)
Y_UP_TO_Z_UP = Z_UP_TO_Y_UP.T


def points_z_up_to_y_up(points: np.ndarray) -> np.ndarray:
    """(..., 3) points of Blender's world -> of the wire's."""
    return np.asarray(points, dtype=np.float64) @ Z_UP_TO_Y_UP[:3, :3].T


def points_y_up_to_z_up(points: np.ndarray) -> np.ndarray:
    """(..., 3) points of the wire's world -> of Blender's."""
    return np.asarray(points, dtype=np.float64) @ Y_UP_TO_Z_UP[:3, :3].T


def c2w_z_up_to_y_up(c2w: np.ndarray) -> np.ndarray:
    """(..., 4, 4) camera to world, Blender's world -> the wire's."""
    return Z_UP_TO_Y_UP @ np.asarray(c2w, dtype=np.float64)


def c2w_y_up_to_z_up(c2w: np.ndarray) -> np.ndarray:
    """(..., 4, 4) camera to world, the wire's world -> Blender's."""
    return Y_UP_TO_Z_UP @ np.asarray(c2w, dtype=np.float64)
