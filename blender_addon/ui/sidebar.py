"""Which area our panels belong to."""


class Sidebar:
    """A panel of the tab MVGamba in the sidebar of the 3D View."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "MVGamba"
