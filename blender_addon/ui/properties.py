"""What a person sets, saved with the scene; what is only of the moment, with the window manager."""

import math

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..core.i18n import tr
from ..core.request import MEMORY_MIB, JobOptions
from ..scene.capture import CaptureSettings
from ..scene.classes import register_classes, unregister_classes
from ..scene.session import session
from . import rig_overlay
from .backend import current_status

DISTIL_STEPS = 150
"""That are usual."""
SIDES = (
    ("AUTO", "Auto", "Whichever side is left, the front first"),
    ("FRONT", "Front", "Seen from the front"),
    ("RIGHT", "Right", "Seen from its right side"),
    ("BACK", "Back", "Seen from behind"),
    ("LEFT", "Left", "Seen from its left side"),
)


def _prompt_changed(settings: "MVGAMBA_PG_settings", _context: bpy.types.Context) -> None:
    session().look_up(settings.prompt)


def _complete_prompt(_settings: "MVGAMBA_PG_settings", _context: bpy.types.Context, edit_text: str) -> list[str]:
    return session().words.completions(edit_text)


_kept: dict[str, str] = {}
"""Texts of items by themselves: Blender does not keep those that it is given."""


def _device_items(settings: "MVGAMBA_PG_settings", context: bpy.types.Context) -> list[tuple[str, str, str, int]]:
    """Any, then the devices of the backend as it says, and last the chosen one where it does not say it."""
    info = current_status(context).info
    devices = info.devices if info is not None else ()
    rows = [("AUTO", tr("Auto"), tr("Whichever the backend takes"))]
    rows += [(device.id, device.id, device.name) for device in devices]
    if settings.device and all(device.id != settings.device for device in devices):
        unknown = tr("The backend does not have it") if devices else tr("The backend has not said whether it has it")
        rows.append((settings.device, settings.device, unknown))
    return [(*(_kept.setdefault(text, text) for text in row), k) for k, row in enumerate(rows)]


def _chosen_device(settings: "MVGAMBA_PG_settings") -> int:
    names = [name for name, *_ in _device_items(settings, bpy.context)]
    return names.index(settings.device or "AUTO")


def _choose_device(settings: "MVGAMBA_PG_settings", value: int) -> None:
    name = _device_items(settings, bpy.context)[value][0]
    settings.device = "" if name == "AUTO" else name


class MVGAMBA_PG_image(bpy.types.PropertyGroup):
    """One picture of the object that is wanted."""

    image: PointerProperty(type=bpy.types.Image, name="Image", description="Picture of the object")
    side: EnumProperty(name="Side", description="Which side of the object the picture shows", items=SIDES)


class MVGAMBA_PG_settings(bpy.types.PropertyGroup):
    """Settings of the next job."""

    source: EnumProperty(
        name="Source",
        description="What the asset is made from",
        items=(
            ("TEXT", "Text", "Words that describe one object", "SMALL_CAPS", 0),
            ("IMAGE", "Image", "Pictures of one object", "IMAGE_DATA", 1),
            ("CAPTURE", "Capture", "Objects of the scene, as cameras see them", "OUTLINER_OB_CAMERA", 2),
        ),
        default="CAPTURE",
    )
    prompt: StringProperty(
        name="Prompt",
        description="Describe one object, its material and style",
        maxlen=1000,
        update=_prompt_changed,
        search=_complete_prompt,
        search_options={"SUGGESTION"},
    )
    negative_prompt: StringProperty(name="Negative Prompt", description="What to avoid", maxlen=1000)
    images: CollectionProperty(type=MVGAMBA_PG_image, name="Images", description="Pictures of the same object")
    active_image: IntProperty(name="Active Image", description="Row of the list that is selected", min=0)
    background: EnumProperty(
        name="Background",
        description="How the object of a picture is told from what is behind it",
        items=(
            ("AUTO", "Auto", "Alpha where the picture has it, else the background is removed"),
            ("KEEP_ALPHA", "Keep Alpha", "The picture is cut out already"),
            ("REMOVE", "Remove", "Remove the background, whatever alpha says"),
            ("NONE", "None", "The object fills the whole picture"),
        ),
    )
    elevation: FloatProperty(
        name="Elevation",
        description="How far above the object the camera of a picture stood",
        default=0.0,
        min=-math.pi / 3,
        max=math.pi / 3,
        subtype="ANGLE",
    )
    use_elevation: BoolProperty(
        name="Known Elevation", description="Tell the elevation of the picture instead of having it found out"
    )
    capture_subject: EnumProperty(
        name="Subject",
        description="What the cameras look at",
        items=(
            ("SELECTION", "Selection", "The selected objects as one prop", "RESTRICT_SELECT_OFF", 0),
            ("COLLECTION", "Collection", "All visible objects of the active collection", "OUTLINER_COLLECTION", 1),
            ("VIEW", "View", "What the 3D View shows", "VIEW3D", 2),
        ),
    )
    capture_cameras: EnumProperty(
        name="Cameras",
        description="Where the pictures are taken from",
        items=(
            ("RING", "Ring", "Cameras around the subject"),
            ("OWN", "Own", "The cameras of a collection, or the selected ones"),
        ),
    )
    capture_collection: PointerProperty(
        type=bpy.types.Collection,
        name="Camera Collection",
        description="Cameras to capture from, empty for the selected ones",
    )
    capture_isolate: BoolProperty(
        name="Isolate", description="Capture the subject alone, without what stands around it", default=True
    )
    capture_shading: EnumProperty(
        name="Shading",
        description="Which light the pictures show",
        items=(
            ("FLAT", "Flat", "Base color without any light, which is what a texture should hold"),
            ("SCENE", "Scene", "Light and world of the scene, baked into the texture"),
            ("STUDIO", "Studio", "Soft even light from all sides, baked into the texture"),
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
    variants: IntProperty(
        name="Variants", description="Number of results, with seeds one after the other", default=1, min=1, max=8
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
            ("STORE", "Store", "Move the captured objects to a hidden collection"),
        ),
    )
    capture_placement: EnumProperty(
        name="Place",
        description="Where the result of a capture goes",
        items=(
            ("MATCH", "Match", "Exactly over the subject"),
            ("CURSOR", "3D Cursor", "At the 3D cursor"),
            ("SURFACE", "Surface", "On the surface that is clicked when the result is there"),
            ("ORIGIN", "World Origin", "At the origin of the world"),
            ("REPLACE", "Replace", "In the place of the object that is active when the job is sent"),
        ),
    )
    placement: EnumProperty(
        name="Place",
        description="Where the result goes",
        items=(
            ("CURSOR", "3D Cursor", "At the 3D cursor"),
            ("SURFACE", "Surface", "On the surface that is clicked when the result is there"),
            ("ORIGIN", "World Origin", "At the origin of the world"),
            ("REPLACE", "Replace", "In the place of the object that is active when the job is sent"),
        ),
    )
    use_ground: BoolProperty(
        name="Rest on Ground", description="Put the lowest point at the height of the place", default=True
    )
    target_size: FloatProperty(
        name="Size",
        description="Length of the result along the size axis; captures keep the size of their source",
        default=1.0,
        min=0.001,
        subtype="DISTANCE",
    )
    size_axis: EnumProperty(
        name="Size Axis",
        description="Which extent the size is of",
        items=(
            ("MAX", "Longest", "The longest side"),
            ("X", "X", "The width"),
            ("Y", "Y", "The depth"),
            ("Z", "Z", "The height"),
        ),
    )
    collection: PointerProperty(
        type=bpy.types.Collection,
        name="Collection",
        description="Where results are linked, empty for the collection of the source, or MVGamba without a source",
    )

    shade_smooth: BoolProperty(name="Shade Smooth", description="Smooth shading of the result", default=True)
    lod_count: IntProperty(
        name="LODs", description="Coarser copies, each with half the faces of the one before", default=0, min=0, max=3
    )
    collision: EnumProperty(
        name="Collision",
        description="A simple proxy for physics, named UCX_ and the name of the result",
        items=(
            ("NONE", "None", "No proxy"),
            ("BOX", "Box", "The bounding box"),
            ("CONVEX", "Convex", "The convex hull"),
        ),
    )
    generator: EnumProperty(
        name="Generator",
        description="Which model makes views of words and pictures",
        items=(
            ("AUTO", "Auto", "The best that the backend has"),
            ("starter", "Starter", "The small model that comes with the backend"),
            ("mvdream", "MVDream", "For words; needs its weights and a GPU"),
            ("imagedream", "ImageDream", "For pictures; needs its weights and a GPU"),
        ),
    )
    guidance: FloatProperty(
        name="Guidance",
        description="How closely the views follow the prompt, 0 for what the model is best at",
        min=0.0,
        max=15.0,
    )
    steps: IntProperty(name="Steps", description="Steps of the sampler of views, 0 for what is usual", min=0, max=100)
    candidates: IntProperty(
        name="Candidates", description="Sets of views of which the best is taken, 0 for what is usual", min=0, max=16
    )
    use_recall: BoolProperty(
        name="Use Memory",
        description="Begin from an object that the model remembers, where one fits, and repaint it",
        default=True,
    )
    use_distil: BoolProperty(
        name="Distill",
        description="Pull the shape to what the model takes it for before it is refined, which takes minutes",
    )
    memory: EnumProperty(
        name="Memory Limit",
        description="How much memory a job may hold. What does not fit is made coarser, and its row says how",
        items=(
            ("AUTO", "Auto", "What is free when the job begins"),
            ("LOW", "Low", "At most 2 GiB: enough for Standard with a texture of 2048 px"),
            ("NORMAL", "Medium", "At most 4 GiB: enough for any quality with 8 pictures of 448 px"),
            ("HIGH", "High", "At most 8 GiB: enough for everything that can be chosen here"),
        ),
    )
    device: StringProperty(
        name="Device Name", description="What the backend calls the device, such as cuda:1; empty for any", maxlen=64
    )
    device_choice: EnumProperty(
        name="Device",
        description="Where a job is computed, of what the running backend has",
        items=_device_items,
        get=_chosen_device,
        set=_choose_device,
        options={"SKIP_SAVE"},
    )
    review_views: BoolProperty(
        name="Review Views",
        description="Stop after the views, to look at them and change them before they become a mesh",
    )

    def capture_settings(self) -> CaptureSettings:
        return CaptureSettings(
            num_views=int(self.capture_views),
            image_size=int(self.capture_size),
            azimuth=self.capture_azimuth,
            margin=round(self.capture_margin, 6),  # Blender keeps 32 bits
            with_depth=self.capture_depth,
            shading=self.capture_shading.lower(),
            isolate=self.capture_isolate,
        )

    def placement_options(self, source: str) -> dict[str, object]:
        """The arguments of `api.generate` and `api.generate_from` that say where a result of this source goes."""
        is_capture = source == "CAPTURE"
        return {
            "placement": self.capture_placement if is_capture else self.placement,
            "use_ground": self.use_ground,
            "size": 0.0 if is_capture else self.target_size,  # a capture has a size of its own
            "size_axis": self.size_axis,
            "shade_smooth": self.shade_smooth,
            "collection_name": self.collection.name if self.collection else "",
        }

    def job_options(self) -> JobOptions:
        return JobOptions(
            quality=self.quality.lower(),
            seed=self.seed,
            refine=self.use_refine,
            target_faces=self.target_faces,
            texture_size=int(self.texture_size),
            variants=self.variants,
            review_views=self.review_views and self.source != "CAPTURE",
            generator="" if self.generator == "AUTO" else self.generator,
            candidates=self.candidates,
            steps=self.steps or None,
            guidance=self.guidance or None,
            recall=self.use_recall,
            memory_mib=MEMORY_MIB.get(self.memory),
            device=self.device or "auto",
            distil_steps=DISTIL_STEPS if self.use_distil and self.source != "CAPTURE" and not self.review_views else 0,
        )


class MVGAMBA_PG_history_row(bpy.types.PropertyGroup):
    """One result on the disk, by the name of its prompt."""

    request_id: StringProperty(name="Request", description="Identity of the request, and name of its folder")
    detail: StringProperty(name="Detail", description="When it was made, in UTC")


class MVGAMBA_PG_weights_row(bpy.types.PropertyGroup):
    """One kind of weights, by its name; what is known of it is kept elsewhere."""


class MVGAMBA_PG_state(bpy.types.PropertyGroup):
    """What the panels show just now. Never saved: a state of yesterday would be a lie."""

    history: CollectionProperty(
        type=MVGAMBA_PG_history_row, name="History", description="Results on the disk", options={"SKIP_SAVE"}
    )
    active_history: IntProperty(
        name="Active Result", description="Row of the history that is selected", min=0, options={"SKIP_SAVE"}
    )
    weights: CollectionProperty(
        type=MVGAMBA_PG_weights_row,
        name="Weights",
        description="What the backend has learned, or could have",
        options={"SKIP_SAVE"},
    )
    active_weights: IntProperty(
        name="Active Weights", description="Row of the weights that is selected", min=0, options={"SKIP_SAVE"}
    )
    show_cameras: BoolProperty(
        name="Show Cameras",
        description="Draw in the 3D View where the pictures would be taken from",
        options={"SKIP_SAVE"},
        update=lambda _self, _context: rig_overlay.refresh(),
    )

    vary_prompt: StringProperty(
        name="Change", description="What the result should become", maxlen=1000, options={"SKIP_SAVE"}
    )
    vary_strength: FloatProperty(
        name="Strength",
        description="How much of the result is given up",
        default=0.6,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        options={"SKIP_SAVE"},
    )


CLASSES = (MVGAMBA_PG_image, MVGAMBA_PG_settings, MVGAMBA_PG_history_row, MVGAMBA_PG_weights_row, MVGAMBA_PG_state)


def register() -> None:
    register_classes(CLASSES)
    bpy.types.Scene.mvgamba = PointerProperty(type=MVGAMBA_PG_settings)
    bpy.types.WindowManager.mvgamba = PointerProperty(type=MVGAMBA_PG_state, options={"SKIP_SAVE"})


def unregister() -> None:
    del bpy.types.WindowManager.mvgamba
    del bpy.types.Scene.mvgamba
    unregister_classes(CLASSES)
