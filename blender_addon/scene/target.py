"""Where a result belongs: written down when a job is sent, found again when its result is there."""

from collections.abc import Sequence

import bpy
import numpy as np

from ..core import placing
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.request import RUN, Target


def make_target(
    context: bpy.types.Context,
    sources: Sequence[bpy.types.Object] = (),
    *,
    mode: str = "MATCH",
    location: Sequence[float] | None = None,
    size: float = 0.0,
    size_axis: str = "MAX",
    use_ground: bool = True,
    shade_smooth: bool = True,
    source_after: str = "KEEP",
    collection_name: str = "",
    replaced: bpy.types.Object | None = None,
) -> Target:
    """What has to be known of the open file to place a result later.

    Args:
        location: Instead of that of the 3D cursor; the cursor's rotation then does not count either.
        replaced: With mode REPLACE, instead of the active object.
    Raises:
        AddonError: INVALID_TARGET, with what would be accepted.
    """
    _require(mode in placing.MODES, tr("placement {value} is none of {choices}"), mode, placing.MODES)
    _require(size_axis in placing.AXES, tr("size axis {value} is none of {choices}"), size_axis, placing.AXES)
    after = ("KEEP", "HIDE", "STORE")
    _require(source_after in after, tr("source_after {value} is none of {choices}"), source_after, after)
    _require(bool(np.isfinite(size)) and size >= 0, tr("size {value} is not a length"), size)
    _require(
        location is None or (len(location) == 3 and bool(np.isfinite(location).all())),
        tr("location {value} is not a point"),
        location,
    )
    scene = context.scene
    _require(scene.library is None, tr("scene {value} is linked from another file"), scene.name)
    if mode != "REPLACE":
        replaced = None
    else:
        replaced = replaced if replaced is not None else context.view_layer.objects.active
        obstacle = replacing_obstacle(replaced)
        if obstacle:
            raise AddonError("INVALID_TARGET", obstacle)
    collection = bpy.data.collections.get(collection_name) if collection_name else None
    cursor = scene.cursor.matrix
    at = cursor.translation if location is None else location
    return Target(
        scene_name=scene.name,
        filepath=bpy.data.filepath,
        source_names=tuple(obj.name for obj in sources),
        source_uids=tuple(obj.session_uid for obj in sources),
        collection_name=collection_name,
        mode=mode,
        location=(float(at[0]), float(at[1]), float(at[2])),
        heading=placing.heading(np.array(cursor)) if location is None else 0.0,
        size=float(size),
        size_axis=size_axis,
        use_ground=use_ground,
        shade_smooth=shade_smooth,
        source_after=source_after,
        scene_uid=scene.session_uid,
        collection_uid=collection.session_uid if collection is not None else 0,
        replaced_name=replaced.name if replaced is not None else "",
        replaced_uid=replaced.session_uid if replaced is not None else 0,
    )


def replacing_obstacle(obj: bpy.types.Object | None) -> str:
    """Why the mesh of an object cannot be replaced; empty when it can."""
    if obj is None:
        return tr("make the object to replace the active one")
    if obj.library is not None:
        return tr("{name} is linked from another file").format(name=obj.name)
    if obj.override_library is not None:
        return tr("{name} is a library override").format(name=obj.name)
    if obj.type != "MESH":
        return tr("{name} is not a mesh").format(name=obj.name)
    if obj.mode != "OBJECT":
        return tr("leave Edit Mode of {name} first").format(name=obj.name)
    return ""


def find_scene(target: Target) -> bpy.types.Scene | None:
    """The scene that a job was sent from, if it still exists."""
    return _find(bpy.data.scenes, (target.scene_uid,), (target.scene_name,), target)[0]


def find_sources(target: Target) -> list[bpy.types.Object]:
    """The source objects that still exist."""
    found = _find(bpy.data.objects, target.source_uids, target.source_names, target)
    return [obj for obj in found if obj is not None]


def find_collection(target: Target) -> bpy.types.Collection | None:
    """The collection that was chosen, if one was and it still exists."""
    return _find(bpy.data.collections, (target.collection_uid,), (target.collection_name,), target)[0]


def find_replaced(target: Target, scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The object to replace, if it still stands in the scene and can be replaced."""
    obj = _find(bpy.data.objects, (target.replaced_uid,), (target.replaced_name,), target)[0]
    if obj is None or replacing_obstacle(obj) or not any(other == obj for other in scene.objects):
        return None
    return obj


def _find(
    items: bpy.types.bpy_prop_collection, uids: Sequence[int], names: Sequence[str], target: Target
) -> list[bpy.types.ID | None]:
    """By identity, None for what is gone.

    A name alone may be anybody's: it counts only when identifiers are those of before a load of the same file, or were
    never known.
    """
    by_uid = {item.session_uid: item for item in items} if target.run == RUN else {}
    by_name = {item.name: item for item in items if item.library is None}
    loaded_anew = _was_loaded_anew(target)
    found = []
    for uid, name in zip(uids, names, strict=True):
        item = by_uid.get(uid)
        found.append(by_name.get(name) if item is None and (loaded_anew or not uid) else item)
    return found


def _was_loaded_anew(target: Target) -> bool:
    if not target.scene_uid:
        return True
    same_file = target.filepath != "" and target.filepath == bpy.data.filepath
    is_of_load = target.run == RUN and any(scene.session_uid == target.scene_uid for scene in bpy.data.scenes)
    return same_file and not is_of_load


def _require(condition: bool, sentence: str, value: object = None, choices: Sequence[str] = ()) -> None:
    if not condition:
        raise AddonError("INVALID_TARGET", sentence.format(value=value, choices=", ".join(choices)))
