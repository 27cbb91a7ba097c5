"""What a person sets, saved with the scene."""

import math

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty

from ..core.request import JobOptions
from ..scene.capture import CaptureSettings


class MVGAMBA_PG_settings(bpy.types.PropertyGroup):
    """Settings of the next job."""

    capture_subject: EnumProperty(
        name="Subject",
        description="What the cameras look at",
        items=(
            ("SELECTION", "Selection", "The selected objects as one prop", "RESTRICT_SELECT_OFF", 0),
            ("COLLECTION", "Collection", "All visible objects of the active collection", "OUTLINER_COLLECTION", 1),
        ),
    )
    capture_views: EnumProperty(
        name="Views",
        description="Number of cameras around the subject",
        items=(
            ("4", "4", "A ring at the height of the subject"),
            ("8", "8", "The ring, and diagonals from above and below"),
            ("12", "12", "Also from straight above and below"),
            ("16", "16", "Also the remaining diagonals"),
        ),
        default="8",
    )
    capture_size: EnumProperty(
        name="Image Size",
        description="Edge length of the captured pictures",
        items=(
            ("256", "256 px", "Fast, coarse"),
            ("448", "448 px", "What reconstructors are trained for"),
            ("512", "512 px", "Somewhat finer"),
            ("768", "768 px", "Fine texture"),
            ("1024", "1024 px", "Finest texture, slow"),
        ),
        default="448",
    )
    capture_depth: BoolProperty(
        name="Depth",
        description="Also send the distance to the surface, which makes hollow shapes exact",
        default=True,
    )
    capture_margin: FloatProperty(
        name="Margin", description="Empty border around the subject", default=0.05, min=0.0, max=0.5, subtype="FACTOR"
    )
    capture_azimuth: FloatProperty(
        name="Start Angle",
        description="Direction of the front camera around the vertical axis",
        default=0.0,
        min=-math.pi,
        max=math.pi,
        subtype="ANGLE",
    )
    quality: EnumProperty(
        name="Quality",
        description="How long the backend works on the shape and the texture",
        items=(
            ("DRAFT", "Draft", "Seconds, for a first look"),
            ("STANDARD", "Standard", "About a minute on a laptop"),
            ("HIGH", "High", "Several minutes, for the final prop"),
        ),
        default="STANDARD",
    )
    seed: IntProperty(
        name="Seed", description="Same seed and settings give the same result", default=0, min=0, max=2**31 - 1
    )
    seed_mode: EnumProperty(
        name="Seed Mode",
        description="What happens to the seed before a job is sent",
        items=(
            ("FIXED", "Fixed", "Keep the seed", "LOCKED", 0),
            ("RANDOM", "Random", "Draw a new seed", "FILE_REFRESH", 1),
            ("INCREMENT", "Increment", "Add one", "ADD", 2),
        ),
    )
    target_faces: IntProperty(
        name="Faces", description="Upper limit of triangles in the result", default=20_000, min=100, max=500_000
    )
    texture_size: EnumProperty(
        name="Texture",
        description="Edge length of the base color texture",
        items=(
            ("512", "512 px", "Small prop or background"),
            ("1024", "1024 px", "Usual prop"),
            ("2048", "2048 px", "Large prop"),
            ("4096", "4096 px", "Hero prop"),
        ),
        default="1024",
    )
    use_refine: BoolProperty(
        name="Refine", description="Fit the surface to all views after the first reconstruction", default=True
    )
    source_after: EnumProperty(
        name="Source",
        description="What happens to the captured objects when the result is placed",
        items=(
            ("KEEP", "Keep", "Leave the captured objects as they are"),
            ("HIDE", "Hide", "Hide the captured objects in viewport and render"),
        ),
    )
    collection: PointerProperty(
        type=bpy.types.Collection,
        name="Collection",
        description="Where results are linked, empty for the collection of the source",
    )

    def capture_settings(self) -> CaptureSettings:
        return CaptureSettings(
            num_views=int(self.capture_views),
            image_size=int(self.capture_size),
            azimuth=self.capture_azimuth,
            margin=round(self.capture_margin, 6),  # Blender keeps 32 bits
            with_depth=self.capture_depth,
        )

    def job_options(self) -> JobOptions:
        return JobOptions(
            quality=self.quality.lower(),
            seed=self.seed,
            refine=self.use_refine,
            target_faces=self.target_faces,
            texture_size=int(self.texture_size),
        )


def register() -> None:
    bpy.utils.register_class(MVGAMBA_PG_settings)
    bpy.types.Scene.mvgamba = PointerProperty(type=MVGAMBA_PG_settings)


def unregister() -> None:
    del bpy.types.Scene.mvgamba
    bpy.utils.unregister_class(MVGAMBA_PG_settings)
