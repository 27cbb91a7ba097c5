"""The head of the tab: what to make it from, and the button."""

import logging
import random

import bpy
from bpy.props import BoolProperty, FloatProperty, StringProperty

from .. import api
from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.jobs import JobRow
from ..core.request import ImageInput, TextInput
from ..scene.classes import register_classes, unregister_classes
from ..scene.own_cameras import chosen_cameras
from ..scene.pictures import check_picture, write_picture
from ..scene.session import session
from ..scene.subject import captured_objects
from ..scene.target import replacing_obstacle
from .backend import draw_hint, draw_status, hint
from .backend import obstacle as backend_obstacle
from .images import draw_images, edited_image
from .setup import FormPanel, draw_first_run, needs_first_run
from .sidebar import Sidebar, as_form
from .weights import draw_generator_note
from .wrapped import draw_text

log = logging.getLogger(__name__)

MAX_PROMPT = 1000


def obstacle(context: bpy.types.Context, source: str) -> str:
    """Why nothing can be made of this source right now; empty when it can."""
    settings = context.scene.mvgamba
    why = general_obstacle(context)
    if why:
        return why
    if source == "TEXT" and not settings.prompt.strip():
        return tr("Enter a prompt")
    if source == "IMAGE" and not any(item.image for item in settings.images):
        return tr("Add an image")
    if source == "CAPTURE" and not captured_objects(context):
        return tr("Select an object to capture")
    if settings.placement_options(source)["placement"] == "REPLACE":
        why = replacing_obstacle(context.view_layer.objects.active)
        return tr("To replace: {why}").format(why=why) if why else ""
    return ""


def general_obstacle(context: bpy.types.Context) -> str:
    """Why no job can be sent just now, whatever it is made from; empty when one can."""
    if context.mode != "OBJECT":
        return tr("Leave Edit Mode first")
    return backend_obstacle(context)


def send(context: bpy.types.Context, source: str, *, wait: bool = False) -> JobRow:
    """Send a job of what the panel says. Raises: AddonError."""
    settings = context.scene.mvgamba
    _next_seed(settings)
    options, placement = settings.job_options(), settings.placement_options(source)
    if source == "CAPTURE":
        return api.generate(
            captured_objects(context),
            context=context,
            capture_settings=settings.capture_settings(),
            options=options,
            source_after=settings.source_after,
            cameras=chosen_cameras(context),
            wait=wait,
            **placement,
        )
    made_from = text_input(settings) if source == "TEXT" else image_input(settings)
    session().words.remember(made_from.prompt)
    return api.generate_from(
        made_from,
        context=context,
        options=options,
        wait=wait,
        **placement,
    )


def text_input(settings: bpy.types.PropertyGroup) -> TextInput:
    """The prompt of the panel."""
    return TextInput(settings.prompt.strip(), settings.negative_prompt.strip())


def image_input(settings: bpy.types.PropertyGroup) -> ImageInput:
    """The pictures of the panel, written to files. Raises: AddonError, INVALID_IMAGE."""
    images = [item for item in settings.images if item.image is not None]
    folder = api.new_inputs_folder()
    paths = [write_picture(item.image, folder / f"image_{k}.png") for k, item in enumerate(images)]
    return ImageInput.of_sides(
        [(path, item.side.lower()) for path, item in zip(paths, images, strict=True)],
        prompt=settings.prompt.strip(),
        elevation=settings.elevation if settings.use_elevation else None,
        background=settings.background.lower(),
    )


def _next_seed(settings: bpy.types.PropertyGroup) -> None:
    if settings.seed_mode == "RANDOM":
        settings.seed = random.randrange(2**31)
    elif settings.seed_mode == "INCREMENT":
        settings.seed = (settings.seed + 1) % 2**31


def run(operator: bpy.types.Operator, context: bpy.types.Context, source: str, *, wait: bool = False) -> set[str]:
    """Send a job for an operator, which reports what came of it."""
    why = obstacle(context, source)
    if why:
        operator.report({"ERROR"}, why)
        return {"CANCELLED"}
    try:
        row = send(context, source, wait=wait)
    except AddonError as error:
        operator.report({"ERROR"}, sentence(error.reason, error.message))
        return {"CANCELLED"}
    operator.report({"INFO"}, tr("Sent {label}").format(label=row.request.label))
    return {"FINISHED"}


class MVGAMBA_OT_generate(bpy.types.Operator):
    bl_idname = "mvgamba.generate"
    bl_label = "Generate"
    bl_description = "Make a textured mesh of the prompt, the pictures, or the objects of the scene"
    bl_options = {"REGISTER"}

    wait: BoolProperty(
        name="Wait", description="Return when the result is placed, for scripts without a window", options={"SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, _properties: bpy.types.OperatorProperties) -> str:
        return {
            "TEXT": tr("Make a textured mesh of the prompt"),
            "IMAGE": tr("Make a textured mesh of the pictures"),
            "CAPTURE": tr("Capture the subject and reconstruct it as a textured mesh in its place"),
        }[context.scene.mvgamba.source]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = obstacle(context, context.scene.mvgamba.source)
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        return run(self, context, context.scene.mvgamba.source, wait=self.wait)


class MVGAMBA_OT_generate_from_selection(bpy.types.Operator):
    bl_idname = "mvgamba.generate_from_selection"
    bl_label = "Capture & Reconstruct"
    bl_description = "Capture the selected objects and reconstruct them as one textured mesh in their place"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = obstacle(context, "CAPTURE")
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        return run(self, context, "CAPTURE")


class MVGAMBA_OT_add_asset(bpy.types.Operator):
    bl_idname = "mvgamba.add_asset"
    bl_label = "MVGamba Asset"
    bl_description = "Describe an asset and have it made at the 3D cursor"
    bl_options = {"REGISTER"}

    prompt: StringProperty(
        name="Prompt",
        description="Describe one object, its material and style",
        maxlen=MAX_PROMPT,
        options={"SKIP_SAVE"},
        search=lambda _self, _context, text: session().words.completions(text),
        search_options={"SUGGESTION"},
    )
    size: FloatProperty(
        name="Size", description="Length of the longest side", default=1.0, min=0.001, subtype="DISTANCE"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = general_obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=360)

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.mvgamba
        settings.prompt, settings.target_size, settings.source = self.prompt, self.size, "TEXT"
        return run(self, context, "TEXT")


class MVGAMBA_OT_generate_from_editor(bpy.types.Operator):
    bl_idname = "mvgamba.generate_from_editor"
    bl_label = "Generate 3D From Image"
    bl_description = "Make a textured mesh of the picture that the Image Editor shows"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if edited_image(context) is None:
            cls.poll_message_set(tr("No Image Editor shows a picture"))
            return False
        why = general_obstacle(context)
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings, image = context.scene.mvgamba, edited_image(context)
        try:
            check_picture(image)
        except AddonError as error:
            self.report({"ERROR"}, sentence(error.reason, error.message))
            return {"CANCELLED"}
        settings.images.clear()
        settings.images.add().image = image
        return run(self, context, "IMAGE")


class MVGAMBA_PT_main(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_main"
    bl_label = "MVGamba"

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        draw_status(self.layout, context)

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        settings = context.scene.mvgamba
        if needs_first_run(context):
            draw_first_run(layout, context)
            return
        row = layout.row()
        row.use_property_split = False
        row.prop(settings, "source", expand=True)
        if settings.source == "CAPTURE":
            layout.prop(settings, "capture_subject")
            layout.prop(settings, "capture_views", expand=True)
        else:
            draw_made_up(layout, context, settings.source)
        draw_generate(layout, context, settings.source)


class MVGAMBA_PT_image_editor(bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_image_editor"
    bl_label = "MVGamba"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = "MVGamba"

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        draw_common(layout, context)
        column = layout.column()
        column.scale_y = 1.4
        column.operator("mvgamba.generate_from_editor")
        layout.operator("mvgamba.image_from_editor", text=tr("Add to Images"), icon="ADD")


class MVGAMBA_PT_mesh(FormPanel, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_mesh"
    bl_order = 4
    bl_label = "Mesh & Texture"

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        settings = context.scene.mvgamba
        for name in ("target_faces", "texture_size", "shade_smooth", "use_refine", "lod_count", "collision"):
            layout.prop(settings, name)


class MVGAMBA_PT_advanced(FormPanel, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_advanced"
    bl_order = 5
    bl_label = "Advanced"

    def draw(self, context: bpy.types.Context) -> None:
        layout = as_form(self.layout)
        settings = context.scene.mvgamba
        if settings.source != "CAPTURE":
            draw_making_views(layout, context)
        layout.prop(settings, "memory")
        layout.prop(settings, "device_choice")


def draw_making_views(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """How views are made of words and pictures."""
    settings = context.scene.mvgamba
    layout.prop(settings, "generator")
    draw_generator_note(layout, context, settings.generator)
    layout.prop(settings, "negative_prompt", text=tr("Avoid"), translate=False)  # the whole name would be cut off
    for name in ("candidates", "steps", "guidance", "use_recall"):
        layout.prop(settings, name)
    row = layout.row()
    row.enabled = not settings.review_views  # a review ends before there is anything to distil
    row.prop(settings, "use_distil")
    if settings.source == "IMAGE":
        row = layout.row(align=True, heading=tr("Elevation"))
        row.prop(settings, "use_elevation", text="")
        sub = row.row(align=True)
        sub.active = settings.use_elevation
        sub.prop(settings, "elevation", text="")


def draw_made_up(layout: bpy.types.UILayout, context: bpy.types.Context, source: str) -> None:
    """What words and pictures need."""
    settings = context.scene.mvgamba
    if source == "IMAGE":
        draw_images(layout, context)
        layout.prop(settings, "background")
    row = layout.row()
    row.use_property_split = False
    row.prop(settings, "prompt", text="", placeholder=tr("Prompt"))
    note = session().words.note(settings.prompt)
    if note:
        draw_text(layout, note, icon="INFO")


def draw_common(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What every source has."""
    settings = context.scene.mvgamba
    row = layout.row()
    row.use_property_split = False  # the label would leave too little room for the choices
    row.prop(settings, "quality", expand=True)
    layout.prop(settings, "variants")
    row = layout.row(align=True)
    row.prop(settings, "seed")
    row.prop(settings, "seed_mode", text="", icon_only=True)


def draw_generate(layout: bpy.types.UILayout, context: bpy.types.Context, source: str) -> None:
    """The button, and below it why nothing can be made."""
    draw_common(layout, context)
    if source != "CAPTURE":
        layout.prop(context.scene.mvgamba, "review_views")
    why = obstacle(context, source)
    column = layout.column()
    column.scale_y = 1.4
    column.operator("mvgamba.generate", text=button_text(context, source), translate=False)
    if why and why != hint(context):
        draw_text(layout, why, icon="INFO")
    draw_hint(layout, context)


def button_text(context: bpy.types.Context, source: str) -> str:
    """What the button says, in the language of the person."""
    if source != "CAPTURE":
        return tr("Generate")
    count = len(captured_objects(context))
    if count == 0:
        return tr("Generate")
    return tr("Generate From 1 Object") if count == 1 else tr("Generate From {count} Objects").format(count=count)


CLASSES = (
    MVGAMBA_OT_generate,
    MVGAMBA_OT_generate_from_selection,
    MVGAMBA_OT_add_asset,
    MVGAMBA_OT_generate_from_editor,
    MVGAMBA_PT_main,
    MVGAMBA_PT_image_editor,
    MVGAMBA_PT_mesh,
    MVGAMBA_PT_advanced,
)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
