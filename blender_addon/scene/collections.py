"""The collections that results and stored sources live in. Ours are known by a mark, so they may be renamed."""

from collections.abc import Iterable

import bpy

from ..core.i18n import tr

MARK = "mvgamba"
"""Custom property of a collection of ours: what it holds."""


def results(scene: bpy.types.Scene) -> bpy.types.Collection:
    """Of results that have no source to lie beside; made on demand."""
    return _ours(scene, "results", tr("MVGamba"))


def homes(scene: bpy.types.Scene, objects: Iterable[bpy.types.Object]) -> list[bpy.types.Collection]:
    """The collections of a scene that hold the objects and may hold others; not the stored ones."""
    tree = _tree(scene)
    found = dict.fromkeys(home for obj in objects for home in obj.users_collection)
    return [home for home in found if home in tree and home.get(MARK) != "sources" and can_hold(home)]


def can_hold(collection: bpy.types.Collection) -> bool:
    """Whether objects may be linked to it: not when it belongs to another file."""
    return collection.library is None and collection.override_library is None


def in_scene(scene: bpy.types.Scene, collection: bpy.types.Collection) -> bpy.types.Collection:
    """The collection, linked to the scene if it was not: what it holds would be nowhere to be seen."""
    if collection not in _tree(scene):
        scene.collection.children.link(collection)
    return collection


def is_in_layer(layer: bpy.types.ViewLayer, collection: bpy.types.Collection) -> bool:
    """Whether what the collection holds can be seen in a view layer."""
    return any(not child.exclude for child in _layer_collections(layer) if child.collection == collection)


def has_object(layer: bpy.types.ViewLayer, obj: bpy.types.Object) -> bool:
    """Whether an object is in a view layer, also when it was linked just now."""
    # The question brings the list up to date. Updating the layer would also evaluate the scene, which takes a third of a
    # second with 5,000 objects; that is done once, when the undo step is made.
    obj.visible_get(view_layer=layer)
    return any(other == obj for other in layer.objects)


def store(context: bpy.types.Context, objects: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Move objects to the collection "MVGamba Sources", excluded from all view layers and not rendered.

    Everything stays where it is in the world: what follows a stored object still follows it. Gives those that a collection
    of another file keeps in the scene.
    """
    scene = context.scene
    stored = _ours(scene, "sources", tr("MVGamba Sources"))
    stored.hide_render = True
    left = []
    tree = _tree(scene)
    for obj in objects:
        if stored not in obj.users_collection:
            stored.objects.link(obj)
        for home in list(obj.users_collection):
            if home == stored or home not in tree:
                continue
            if can_hold(home):
                home.objects.unlink(obj)
            elif obj not in left:
                left.append(obj)
    for layer in scene.view_layers:
        for child in _layer_collections(layer):
            if child.collection == stored:
                child.exclude = True
    context.view_layer.update()
    return left


def _ours(scene: bpy.types.Scene, mark: str, name: str) -> bpy.types.Collection:
    for collection in scene.collection.children_recursive:
        if collection.get(MARK) == mark and can_hold(collection):
            return collection
    collection = bpy.data.collections.new(name)
    collection[MARK] = mark
    scene.collection.children.link(collection)
    return collection


def _tree(scene: bpy.types.Scene) -> list[bpy.types.Collection]:
    return [scene.collection, *scene.collection.children_recursive]


def _layer_collections(layer: bpy.types.ViewLayer) -> Iterable[bpy.types.LayerCollection]:
    waiting = [layer.layer_collection]
    while waiting:
        child = waiting.pop()
        yield child
        waiting.extend(child.children)
