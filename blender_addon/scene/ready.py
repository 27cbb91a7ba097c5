"""Takes over what was made ready beside Blender (`core.ready`), within one tick and one undo step."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bpy

from ..core.ready import ReadyFile

log = logging.getLogger(__name__)


@dataclass
class _Meshes:
    """Of a result that is being placed, and not yet used."""

    by_path: dict[Path, bpy.types.Mesh] = field(default_factory=dict)
    lods: list[bpy.types.Mesh] = field(default_factory=list)
    collision: bpy.types.Mesh | None = None

    def __iter__(self) -> Iterator[bpy.types.Mesh]:
        yield from self.by_path.values()
        yield from self.lods
        if self.collision is not None:
            yield self.collision


_at_hand = _Meshes()


@contextlib.contextmanager
def at_hand(file: ReadyFile | None, paths: tuple[Path, ...]) -> Iterator[None]:
    """Meanwhile the meshes of a file can be taken; what nobody has taken is gone afterwards. Without a file none can.

    Args:
        paths: The GLBs that the file was made of.
    """
    global _at_hand
    _at_hand = _Meshes() if file is None else _append(file, paths)
    try:
        yield
    finally:
        left, _at_hand = list(_at_hand), _Meshes()
        _remove(left)


def take_mesh(path: Path) -> bpy.types.Mesh | None:
    """The mesh of a GLB as `import_mesh` gives it, if it was made ready."""
    return _at_hand.by_path.pop(path, None)


def take_lods(count: int) -> list[bpy.types.Mesh]:
    """So many coarser copies of the first GLB, in its axes; empty when they were not made ready."""
    if not 0 < count <= len(_at_hand.lods):
        return []
    taken, _at_hand.lods = _at_hand.lods[:count], _at_hand.lods[count:]
    return taken


def take_hull() -> bpy.types.Mesh | None:
    """The convex hull of the first GLB, in its axes, if it was made ready."""
    taken, _at_hand.collision = _at_hand.collision, None
    return taken


def _append(file: ReadyFile, paths: tuple[Path, ...]) -> _Meshes:
    names = [name for name in (*file.meshes, *file.lods, file.collision) if name]
    if not names:
        return _Meshes()
    before = {library.session_uid for library in bpy.data.libraries}
    try:
        with bpy.data.libraries.load(str(file.path)) as (_, into):
            into.meshes = list(names)
    except OSError as error:
        log.warning("what was made ready cannot be read: %s", error)
        return _Meshes()
    finally:
        # Nothing is linked from it, and it is not to be seen among the user's libraries.
        bpy.data.batch_remove([item for item in bpy.data.libraries if item.session_uid not in before])
    found = {name: mesh for name, mesh in zip(names, into.meshes, strict=True) if mesh is not None}
    for mesh in found.values():
        mesh.use_fake_user = False
    return _Meshes(
        {path: found[name] for path, name in zip(paths, file.meshes, strict=True) if name in found},
        [found[name] for name in file.lods if name in found],
        found.get(file.collision),
    )


def _remove(meshes: list[bpy.types.Mesh]) -> None:
    """Meshes that nobody has taken, with what only they show."""
    materials = {material for mesh in meshes for material in mesh.materials if material is not None}
    bpy.data.batch_remove(meshes)
    unused = [material for material in materials if material.users == 0]
    trees = [material.node_tree for material in unused if material.node_tree]
    images = {node.image for tree in trees for node in tree.nodes if node.type == "TEX_IMAGE" and node.image}
    bpy.data.batch_remove(unused)
    bpy.data.batch_remove([image for image in images if image.users == 0])
