"""Results on their way out of the scene: Asset Browser, library, LODs and collision, files for other programs."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from .. import api
from ..core.errors import AddonError
from ..core.i18n import tr
from ..scene import assets, lods
from ..scene.classes import register_classes, unregister_classes
from ..scene.export import export_result
from .result import ResultOperator


class _AssetOperator(ResultOperator):
    author: StringProperty(name="Author", description="Who made the asset, empty to leave it open")
    license: StringProperty(name="License", description="Under which it may be used, empty to leave it open")
    copyright: StringProperty(name="Copyright", description="Whose it is, empty to leave it open")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def about(self) -> dict[str, str]:
        return {"author": self.author, "license": self.license, "copyright": self.copyright}


class MVGAMBA_OT_mark_asset(_AssetOperator):
    bl_idname = "mvgamba.mark_asset"
    bl_label = "Mark as Asset"
    bl_description = "Show this result in the Asset Browser, with its prompt, tags and picture"

    def act(self, _context: bpy.types.Context, obj: bpy.types.Object) -> None:
        assets.mark_asset(obj, preview=api.preview_of(obj), **self.about())


_items: list[tuple[str, str, str]] = []


def _libraries(_self: bpy.types.OperatorProperties, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    # Blender keeps no reference to what it is given, so it has to live here.
    found = assets.library_folders(context or bpy.context)
    _items[:] = [(str(path), name, str(path)) for name, path in found] or [
        ("NONE", tr("None"), tr("No library is set up"))
    ]
    return _items


class MVGAMBA_OT_save_to_library(_AssetOperator):
    bl_idname = "mvgamba.save_to_library"
    bl_label = "Save to Library"
    bl_description = "Write this result as an asset into a small file of its own in an asset library"
    bl_options = {"REGISTER"}
    changes_object = False

    library: EnumProperty(name="Library", description="Asset library to write to", items=_libraries)
    write_catalog: BoolProperty(
        name="Add Catalog",
        description="Also add the catalog MVGamba to the list of the library, if it has none",
        default=False,
    )

    @classmethod
    def hindrance(cls, context: bpy.types.Context) -> str:
        if not assets.library_folders(context):
            return tr("No asset library is set up: add one in the preferences, under File Paths")
        return ""

    def act(self, _context: bpy.types.Context, obj: bpy.types.Object) -> None:
        path = assets.save_to_library(
            obj, Path(self.library), preview=api.preview_of(obj), write_catalog=self.write_catalog, **self.about()
        )
        self.report({"INFO"}, tr("Wrote {name}").format(name=path.name))


class MVGAMBA_OT_add_lods(ResultOperator):
    bl_idname = "mvgamba.add_lods"
    bl_label = "Add LODs"
    bl_description = "Make coarser copies, each with half the faces of the one before, hidden and named for engines"

    count: IntProperty(name="LODs", description="How many, 0 removes them", default=3, min=0, max=lods.MOST_LODS)

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        lods.add_lods(context, obj, self.count)


class MVGAMBA_OT_add_collision(ResultOperator):
    bl_idname = "mvgamba.add_collision"
    bl_label = "Add Collision"
    bl_description = "Make a simple proxy for physics, named UCX_ and the name of the result"

    shape: EnumProperty(
        name="Shape",
        description="Shape of the proxy",
        items=(("BOX", "Box", "The bounding box"), ("CONVEX", "Convex", "The convex hull")),
        default="CONVEX",
    )

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        lods.add_collision(context, obj, self.shape)


class MVGAMBA_OT_export_result(ResultOperator):
    bl_idname = "mvgamba.export_result"
    bl_label = "Export Result"
    bl_description = (
        "Write GLBs of the result, its LODs and its collision, the textures, and a note of where it came from"
    )
    bl_options = {"REGISTER"}
    changes_object = False

    directory: StringProperty(
        name="Folder", description="Where a folder of the result is made", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    @classmethod
    def hindrance(cls, context: bpy.types.Context) -> str:
        return "" if context.mode == "OBJECT" else tr("Leave Edit Mode to export")

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        if not self.directory:
            raise AddonError("OUTPUT_FAILED", tr("choose a folder"))
        written = export_result(context, obj, Path(bpy.path.abspath(self.directory)))
        text = tr("Wrote {count} files to {folder}")
        self.report({"INFO"}, text.format(count=len(written), folder=written[0].parent.name))


CLASSES = (
    MVGAMBA_OT_mark_asset,
    MVGAMBA_OT_save_to_library,
    MVGAMBA_OT_add_lods,
    MVGAMBA_OT_add_collision,
    MVGAMBA_OT_export_result,
)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
