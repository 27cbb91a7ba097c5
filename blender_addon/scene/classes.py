"""Registering classes, their words in a context of our own.

Blender's own catalogue goes before that of an extension, and has other meanings for words such as Start, Local or Reveal: in a context of
their own ours are found first.
"""

from collections.abc import Sequence

import bpy

from ..core.i18n import CONTEXT


def register_classes(classes: Sequence[type]) -> None:
    """In this order: what others refer to comes first."""
    for cls in classes:
        if issubclass(cls, (bpy.types.Operator, bpy.types.Panel, bpy.types.Menu)):
            cls.bl_translation_context = CONTEXT
        for base in cls.__mro__:
            for prop in vars(base).get("__annotations__", {}).values():
                if hasattr(prop, "keywords"):
                    prop.keywords.setdefault("translation_context", CONTEXT)
        bpy.utils.register_class(cls)


def unregister_classes(classes: Sequence[type]) -> None:
    """The other way round."""
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
