"""Where a result stands, as plain matrices: no bpy, lengths in scene units, angles in radians, +Z up.

A result is first brought into a frame of its own, with its foot (or its middle) at the origin, and then stood into the
world by a matrix without scale.
"""

import math

import numpy as np

MODES = ("MATCH", "CURSOR", "SURFACE", "ORIGIN", "REPLACE")
AXES = ("MAX", "X", "Y", "Z")
TURN = math.radians(15.0)
"""One notch of the mouse wheel."""
BOX_EDGES = ((0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Of `box_corners`."""
_TINY = 1e-9


def size_factor(extents: np.ndarray, size: float, axis: str) -> float:
    """What to scale by so that the extent along `axis` (MAX: the longest one) becomes `size`; 1 for a size of 0.

    A result without any extent along the axis is measured by its longest side.
    """
    extents = np.asarray(extents, dtype=np.float64)
    extent = float(extents.max()) if axis == "MAX" else float(extents["XYZ".index(axis)])
    extent = extent if extent > _TINY * float(extents.max()) else float(extents.max())
    return size / extent if size > 0.0 and extent > 0.0 else 1.0


def anchor(low: np.ndarray, high: np.ndarray, *, on_ground: bool) -> np.ndarray:
    """(3,) what is put at the place: the middle of the underside, else the middle."""
    middle = 0.5 * (np.asarray(low, dtype=np.float64) + np.asarray(high, dtype=np.float64))
    return np.array([middle[0], middle[1], low[2]], dtype=np.float64) if on_ground else middle


def own_frame(low: np.ndarray, high: np.ndarray, factor: float, *, on_ground: bool) -> np.ndarray:
    """(4, 4) scales a mesh of these bounds by `factor` and brings its anchor to the origin."""
    matrix = np.diag([factor, factor, factor, 1.0])
    matrix[:3, 3] = -factor * anchor(low, high, on_ground=on_ground)
    return matrix


def heading(rotation: np.ndarray) -> float:
    """How far a (3, 3) rotation turns about Z: where its X axis points to from above, or its Y axis if X stands upright."""
    x, y = np.asarray(rotation, dtype=np.float64)[:3, 0], np.asarray(rotation, dtype=np.float64)[:3, 1]
    if math.hypot(x[0], x[1]) > 1e-6:
        return math.atan2(x[1], x[0])
    return math.atan2(-y[0], y[1])


def stand_matrix(location: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """(4, 4) upright at `location`, turned about Z."""
    return _with_axes(_turned(np.eye(3), turn), location)


def surface_matrix(location: np.ndarray, normal: np.ndarray, turn: float, *, align: bool) -> np.ndarray:
    """(4, 4) on a surface: upright, or with `align` its Z along the normal; turned about its own Z.

    The tilt is the shortest one from upright, so that a gentle slope hardly changes where the front looks.
    """
    normal = np.asarray(normal, dtype=np.float64)
    length = float(np.linalg.norm(normal))
    if not align or length < _TINY:
        return stand_matrix(location, turn)
    normal = normal / length
    cosine = float(normal[2])
    if cosine < -1.0 + 1e-12:  # a ceiling: any half turn is as short as another
        tilt = np.diag([1.0, -1.0, -1.0])
    else:  # Rodrigues, with the axis Z x normal
        cross = np.array([[0.0, 0.0, normal[0]], [0.0, 0.0, normal[1]], [-normal[0], -normal[1], 0.0]])
        tilt = np.eye(3) + cross + cross @ cross / (1.0 + cosine)
    return _with_axes(tilt @ _turned(np.eye(3), turn), location)


def ground_hit(origin: np.ndarray, direction: np.ndarray, height: float = 0.0) -> np.ndarray | None:
    """(3,) where a ray meets the level plane at `height`, or None when it never does."""
    origin, direction = np.asarray(origin, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    if abs(direction[2]) < _TINY:
        return None
    distance = (height - origin[2]) / direction[2]
    return origin + distance * direction if distance > 0.0 else None


def box_corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(8, 3) corners of a box; the bits of the index say which are high: 4 for x, 2 for y, 1 for z."""
    choice = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=bool)
    return np.where(choice, np.asarray(high, dtype=np.float64), np.asarray(low, dtype=np.float64))


def preview_lines(low: np.ndarray, high: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(26, 3) ends of lines, two by two: the edges of a box and a tick at its foot that points to its front, -Y."""
    corners = box_corners(low, high)
    foot = anchor(low, high, on_ground=True)
    front = np.array([foot[0], low[1] - 0.25 * (high[1] - low[1]), low[2]], dtype=np.float64)
    points = np.concatenate([corners[np.array(BOX_EDGES).reshape(-1)], [foot, front]])
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def fit_matrix(
    old: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
    scale: np.ndarray,
    *,
    axis: str,
    on_ground: bool,
    mirrored: bool = False,
) -> np.ndarray:
    """(4, 4) brings a mesh into the place of another, in the axes of the object that keeps its matrix.

    The shape is scaled evenly as the world sees it, whatever the scale of the object: along X, Y or Z to the extent of the
    old mesh, with MAX to as much as its box holds. Feet (or middles) meet.

    Args:
        old, new: Lowest and highest corner, (3,) each; the old one in the object's axes, the new one in scene units.
        scale: (3,) of the object, without signs.
        mirrored: The object's matrix mirrors; the new mesh is mirrored too, so that it is not seen as its own reflection.
    """
    scale = np.maximum(np.abs(np.asarray(scale, dtype=np.float64)), _TINY)
    room = (np.asarray(old[1], dtype=np.float64) - old[0]) * scale
    extents = np.asarray(new[1], dtype=np.float64) - new[0]
    known = (room > _TINY * max(float(room.max()), _TINY)) & (extents > _TINY * max(float(extents.max()), _TINY))
    if axis != "MAX" and known["XYZ".index(axis)]:
        factor = float((room / np.where(known, extents, 1.0))["XYZ".index(axis)])
    else:
        factor = float((room[known] / extents[known]).min()) if known.any() else 1.0
    matrix = own_frame(new[0], new[1], factor, on_ground=on_ground)
    resize = np.diag([*(1.0 / scale), 1.0])
    if mirrored:
        resize[0, 0] *= -1.0
    matrix = resize @ matrix
    matrix[:3, 3] += anchor(old[0], old[1], on_ground=on_ground)
    return matrix


def _turned(axes: np.ndarray, turn: float) -> np.ndarray:
    cosine, sine = math.cos(turn), math.sin(turn)
    return axes @ np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _with_axes(axes: np.ndarray, location: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = location
    return matrix
