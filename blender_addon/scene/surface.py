"""What lies under the mouse, for a result that is put on it."""

import bpy
import numpy as np
from mathutils import Vector

from ..core import placing


def surface_under(
    context: bpy.types.Context, origin: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a ray meets what can be seen of the scene, else the ground: place and unit normal towards the viewer, (3,) each.

    A result that is not placed yet is not in the scene, so the ray cannot hit it.
    """
    hit, location, normal, _index, _object, _matrix = context.scene.ray_cast(
        context.evaluated_depsgraph_get(), Vector(origin), Vector(direction)
    )
    if hit:
        facing = -1.0 if normal.dot(Vector(direction)) > 0.0 else 1.0
        return np.array(location), facing * np.array(normal.normalized())
    ground = placing.ground_hit(np.array(origin), np.array(direction))
    if ground is None:
        return None
    return ground, np.array([0.0, 0.0, 1.0])
