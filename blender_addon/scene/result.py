"""What a placed result remembers about how it was made. Saved with the file, kept by append and link."""

import bpy
from bpy.props import EnumProperty, FloatVectorProperty, PointerProperty, StringProperty


class MVGAMBA_PG_result(bpy.types.PropertyGroup):
    """Provenance of one result object."""

    job_id: StringProperty(name="Job", description="Name of the job on the backend that made this")
    kind: EnumProperty(
        name="Kind",
        description="What the asset was made from",
        items=(
            ("NONE", "None", "Not made by MVGamba"),
            ("CAPTURE", "Capture", "Camera-posed captures of the scene"),
            ("TEXT", "Text", "Words"),
            ("IMAGE", "Image", "One picture"),
            ("VARIATION", "Variation", "An object and words"),
        ),
        default="NONE",
    )
    created: StringProperty(name="Created", description="When the result was placed, in UTC")
    settings_json: StringProperty(name="Settings", description="The request that made this, as JSON")
    base_matrix: FloatVectorProperty(
        name="Base Matrix",
        description="World matrix at which the result was delivered",
        size=16,
        subtype="MATRIX",
    )


CLASSES = (MVGAMBA_PG_result,)


def register() -> None:
    bpy.utils.register_class(MVGAMBA_PG_result)
    bpy.types.Object.mvgamba = PointerProperty(type=MVGAMBA_PG_result)


def unregister() -> None:
    del bpy.types.Object.mvgamba
    bpy.utils.unregister_class(MVGAMBA_PG_result)
