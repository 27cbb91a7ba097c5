"""Datablocks that exist for the length of one `with`: made in the user's file, and gone before anybody sees them."""

import contextlib
from collections.abc import Iterator

import bpy


@contextlib.contextmanager
def temporary_datablocks() -> Iterator[list[bpy.types.ID]]:
    """A list for all that is made; whatever is in it at the end is removed, however the end came.

    No undo step, save or redraw can come between, because the main thread does not return to Blender inside.
    """
    created: list[bpy.types.ID] = []
    images_before = set(bpy.data.images)
    try:
        yield created
    finally:
        _remove(created, images_before)


def _remove(created: list[bpy.types.ID], images_before: set[bpy.types.Image]) -> None:
    """Take away all that was made, users before what they use, and the render result if there was none before."""
    collections = {
        bpy.types.Scene: bpy.data.scenes,
        bpy.types.Object: bpy.data.objects,
        bpy.types.Camera: bpy.data.cameras,
        bpy.types.Light: bpy.data.lights,
        bpy.types.World: bpy.data.worlds,
        bpy.types.Mesh: bpy.data.meshes,
        bpy.types.Material: bpy.data.materials,
        bpy.types.NodeTree: bpy.data.node_groups,
        bpy.types.Image: bpy.data.images,
    }
    order = list(collections)
    created.sort(key=lambda item: next(i for i, kind in enumerate(order) if isinstance(item, kind)))
    for item in created:
        if isinstance(item, bpy.types.Scene):
            # Frees what the render engine kept of the scene; else Blender 4.5 crashes at some later import.
            item.render.use_persistent_data = False
        collection = next(c for kind, c in collections.items() if isinstance(item, kind))
        with _some_window():
            collection.remove(item)
    created.clear()
    for image in set(bpy.data.images) - images_before:
        if image.type == "RENDER_RESULT":
            bpy.data.images.remove(image)


@contextlib.contextmanager
def _some_window() -> Iterator[None]:
    """A window in the context. A script has none right after it has loaded a file, and then Blender crashes as it removes a scene."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is not None or not windows:
        yield
        return
    with bpy.context.temp_override(window=windows[0]):
        yield
