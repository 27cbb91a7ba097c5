"""Which area our panels belong to, and how settings are laid out in them."""

import bpy


class Sidebar:
    """A panel of the tab MVGamba in the sidebar of the 3D View.

    By `bl_order`: jobs 0, so that the answer is next to the button; result 1; then what is set: capture 2, placement 3, mesh 4,
    advanced 5; history 6, backend 7.
    """

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "MVGamba"


def as_form(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """The layout, for properties below each other with their labels at the left."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout
