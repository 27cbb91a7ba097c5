"""Where the backend is, for all files."""

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core.backend_process import find_backend

ROOT_PACKAGE = __package__.rpartition(".")[0]


class MVGAMBA_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = ROOT_PACKAGE

    def _path_changed(self, _context: bpy.types.Context) -> None:
        check_backend()

    backend_path: StringProperty(
        name="Backend",
        description="The mvgamba-backend executable, empty to look for it on the search path",
        subtype="FILE_PATH",
        update=_path_changed,
    )
    backend_arguments: StringProperty(
        name="Extra Arguments", description="Added to the command line when the backend is started"
    )
    use_drop: BoolProperty(
        name="Drop Images",
        description="Offer to generate when a picture is dropped on a 3D View, beside what Blender itself offers",
        default=False,
    )
    show_advanced: BoolProperty(name="Advanced", description="Show settings that are rarely needed", default=False)

    def draw(self, _context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "backend_path")
        row = layout.row()
        row.label(text=backend_status(), icon="CHECKMARK" if is_backend_found() else "ERROR")
        row.operator("mvgamba.backend_stop", icon="CANCEL")
        row.operator("mvgamba.open_log", icon="TEXT")
        row.operator("mvgamba.copy_diagnostics", icon="COPYDOWN")
        layout.prop(self, "use_drop")
        layout.prop(self, "show_advanced")
        if self.show_advanced:
            layout.prop(self, "backend_arguments")


# Drawing must not look at the disk, so what was found is kept until the path changes.
_found: tuple[str, ...] | None = None


def preferences(context: bpy.types.Context) -> MVGAMBA_AP_preferences | None:
    """Ours, or None when the extension was registered by hand."""
    addon = context.preferences.addons.get(ROOT_PACKAGE)
    return None if addon is None else addon.preferences


def check_backend() -> None:
    """Look for the backend again."""
    global _found
    own = preferences(bpy.context)
    _found = find_backend(bpy.path.abspath(own.backend_path) if own is not None and own.backend_path else "")


def is_backend_found() -> bool:
    return _found is not None


def backend_status() -> str:
    """One line about the backend that would be started."""
    return f"Uses {' '.join(_found)}" if _found is not None else "Not found: set the path of mvgamba-backend"


def register() -> None:
    bpy.utils.register_class(MVGAMBA_AP_preferences)
    check_backend()


def unregister() -> None:
    bpy.utils.unregister_class(MVGAMBA_AP_preferences)
