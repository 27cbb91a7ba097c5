"""A copy of an object that goes by its name for a while, for what is written to files."""

import contextlib
from collections.abc import Iterator

import bpy


@contextlib.contextmanager
def stand_in(obj: bpy.types.Object, *, name: str = "") -> Iterator[bpy.types.Object]:
    """A copy at the origin, upright and alone: without parent, constraints, animation and further variants.

    It is in no collection. Afterwards it is gone, and the object has its name again.

    Args:
        name: Instead of that of the object.
    """
    own = obj.name
    copy = obj.copy()
    try:
        copy.parent = None
        copy.matrix_basis.identity()
        for delta, value in (("delta_location", 0.0), ("delta_rotation_euler", 0.0), ("delta_scale", 1.0)):
            setattr(copy, delta, (value,) * 3)
        copy.delta_rotation_quaternion = (1.0, 0.0, 0.0, 0.0)
        copy.scale = obj.matrix_world.to_scale()
        copy.constraints.clear()
        copy.animation_data_clear()
        copy.mvgamba.variants.clear()
        copy.hide_render = copy.hide_viewport = False
        if obj.library is None:
            obj.name = f"{own[:40]} (kept)"
        copy.name = name or own
        yield copy
    finally:
        bpy.data.objects.remove(copy)
        if obj.library is None:
            obj.name = own
