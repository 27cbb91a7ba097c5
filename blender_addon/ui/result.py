"""The active object, if it is a result of ours: what it was made from, and how to go on from it."""

import math
import random

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty
from mathutils import Matrix

from .. import api
from ..core.errors import AddonError, sentence
from ..core.i18n import tr
from ..core.jobs import JobRow
from ..scene import lods, placer, variants
from ..scene.classes import register_classes, unregister_classes
from ..scene.result import PART, adjust, is_result, obstacle, parts_of, reset, selected_results
from ..scene.target import find_replaced
from .acting import attempt
from .load_settings import SIDES, load_images, load_request
from .preferences import is_backend_found
from .sidebar import Sidebar


class ResultOperator(bpy.types.Operator):
    """Acts on every selected result that can be changed, the active one first."""

    bl_options = {"REGISTER", "UNDO"}
    changes_object = True
    """Whether the object is changed, which a linked one cannot be."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = "" if is_result(context.object) else tr("The active object was not made by MVGamba")
        if not why and cls.changes_object:
            why = obstacle(context.object)
        why = why or cls.hindrance(context)
        if why:
            cls.poll_message_set(why)
        return not why

    @classmethod
    def hindrance(cls, _context: bpy.types.Context) -> str:
        """What else stands in the way of the active result; empty for nothing."""
        return ""

    def execute(self, context: bpy.types.Context) -> set[str]:
        done, why = 0, ""
        for obj in selected_results(context):
            try:
                said = obstacle(obj) if self.changes_object else ""
                if said:
                    raise AddonError("INVALID_INPUT", said)
                self.act(context, obj)
                done += 1
            except AddonError as error:
                why = error.message if error.reason == "INVALID_INPUT" else sentence(error.reason, error.message)
                self.report({"WARNING"} if done else {"ERROR"}, why)
        return {"FINISHED"} if done else {"CANCELLED"}

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        raise NotImplementedError


class ActiveResultOperator(ResultOperator):
    """Acts on the active result only."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, lambda: self.act(context, context.object))


class MVGAMBA_OT_step_variant(ResultOperator):
    bl_idname = "mvgamba.step_variant"
    bl_label = "Next Variant"
    bl_description = "Show another mesh of this result, the object with all that belongs to it stays"

    direction: IntProperty(name="Direction", description="1 is the next, -1 the one before", default=1, min=-1, max=1)

    @classmethod
    def hindrance(cls, context: bpy.types.Context) -> str:
        return tr("Only one variant") if variants.count(context.object) < 2 else ""

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        variants.step(obj, self.direction or 1)
        lods.renew_parts(context, obj)


class MVGAMBA_OT_clear_variants(ResultOperator):
    bl_idname = "mvgamba.clear_variants"
    bl_label = "Clear Variants"
    bl_description = "Remove all meshes of this result from the file but the one on show"

    @classmethod
    def hindrance(cls, context: bpy.types.Context) -> str:
        return tr("Only one variant") if variants.count(context.object) < 2 else ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def act(self, _context: bpy.types.Context, obj: bpy.types.Object) -> None:
        count = variants.clear(obj)
        self.report({"INFO"}, tr("Removed {count} variants").format(count=count))


class _Sends(ResultOperator):
    bl_options = {"REGISTER"}

    @classmethod
    def hindrance(cls, _context: bpy.types.Context) -> str:
        return "" if is_backend_found() else tr("Backend is not installed: set its path in the preferences")


class MVGAMBA_OT_regenerate(_Sends):
    bl_idname = "mvgamba.regenerate"
    bl_label = "Regenerate"
    bl_description = "Make this result again from the same settings and show it in the place of its mesh"

    seed_mode: EnumProperty(
        name="Seed",
        description="With which seed the result is made again",
        items=(
            ("SAME", "Same Seed", "The seed of this result: the same again, where models have changed an update"),
            ("NEXT", "Next Seed", "One more than that of this result"),
            ("NEW", "New Seed", "A seed drawn at random"),
        ),
        default="NEXT",
    )

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        seed = obj.mvgamba.seed
        chosen = {"SAME": seed, "NEXT": (seed + 1) % 2**31, "NEW": random.randrange(2**31)}[self.seed_mode]
        row = api.regenerate(obj, seed=chosen, context=context)
        self.report({"INFO"}, tr("Sent {label}").format(label=row.request.label))


class MVGAMBA_OT_vary(_Sends):
    bl_idname = "mvgamba.vary"
    bl_label = "Vary"
    bl_description = "Change this result by words and show what comes of it in the place of its mesh"

    @classmethod
    def hindrance(cls, context: bpy.types.Context) -> str:
        if not context.window_manager.mvgamba.vary_prompt.strip():
            return tr("Say what the result should become")
        return super().hindrance(context)

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        state = context.window_manager.mvgamba
        row = api.vary(obj, state.vary_prompt.strip(), strength=state.vary_strength, context=context)
        self.report({"INFO"}, tr("Sent {label}").format(label=row.request.label))


class MVGAMBA_OT_load_settings(ActiveResultOperator):
    bl_idname = "mvgamba.load_settings"
    bl_label = "Edit"
    bl_description = "Put the settings that this result was made from into the panel"
    changes_object = False

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        gone = load_request(context.scene.mvgamba, api.stored_request(obj), seed=obj.mvgamba.seed)
        for path in gone:
            self.report({"WARNING"}, tr("The picture {name} is no longer on the disk").format(name=path.name))


class MVGAMBA_OT_use_views(ActiveResultOperator):
    bl_idname = "mvgamba.use_views"
    bl_label = "Use Views as Input"
    bl_description = "Make the views that this result was reconstructed from the pictures of the panel"
    changes_object = False

    def act(self, context: bpy.types.Context, obj: bpy.types.Object) -> None:
        settings = context.scene.mvgamba
        pictures = list(zip(api.views_of(obj), SIDES, strict=False))
        if len(load_images(settings, pictures)) == len(pictures):
            raise AddonError("INVALID_INPUT", tr("the views of this result are no longer on the disk"))
        settings.source, settings.prompt = "IMAGE", obj.mvgamba.prompt


class MVGAMBA_OT_turn(ResultOperator):
    bl_idname = "mvgamba.turn"
    bl_label = "Turn"
    bl_description = "Turn the mesh about an axis of the object, the object itself stays as it is"

    axis: EnumProperty(
        name="Axis",
        description="Axis of the object to turn about",
        items=(("X", "X", "To the right"), ("Y", "Y", "To the back"), ("Z", "Z", "Up")),
        default="Z",
    )
    angle: FloatProperty(
        name="Angle", description="How far, counter-clockwise", default=math.pi / 2, subtype="ANGLE", step=9000
    )

    def act(self, _context: bpy.types.Context, obj: bpy.types.Object) -> None:
        adjust(obj, Matrix.Rotation(self.angle, 4, self.axis))


class MVGAMBA_OT_reset_result(ResultOperator):
    bl_idname = "mvgamba.reset_result"
    bl_label = "Reset to Result"
    bl_description = "Give size and orientation back as delivered, place and edits of the mesh stay"

    def act(self, _context: bpy.types.Context, obj: bpy.types.Object) -> None:
        reset(obj)


class MVGAMBA_PT_result(Sidebar, bpy.types.Panel):
    bl_idname = "MVGAMBA_PT_result"
    bl_order = 1
    bl_label = "Result"
    bl_parent_id = "MVGAMBA_PT_main"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_result(context.object)

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj = self.layout, context.object
        layout.use_property_split = True
        layout.use_property_decorate = False
        own = obj.mvgamba
        column = layout.column(align=True)
        column.label(text=own.prompt or obj.name, icon="MESH_DATA", translate=False)
        text = tr("Seed {seed}, {created}").format(seed=own.seed, created=own.created[:16].replace("T", " "))
        column.label(text=text, translate=False)
        why = obstacle(obj)
        if why:
            layout.label(text=why, icon="INFO", translate=False)
        draw_variants(layout, obj)
        row = layout.row(align=True)
        row.operator("mvgamba.regenerate").seed_mode = "NEXT"
        row.operator("mvgamba.regenerate", text=tr("New Seed")).seed_mode = "NEW"
        row.operator("mvgamba.load_settings")
        layout.operator("mvgamba.use_views")
        draw_vary(layout, context)
        draw_turn(layout)
        layout.prop(own, "size")
        layout.operator("mvgamba.reset_result")
        row = layout.row(align=True)
        row.operator("mvgamba.mark_asset")
        row.operator("mvgamba.save_to_library")
        layout.operator("mvgamba.export_result")
        row = layout.row(align=True)
        row.operator("mvgamba.add_lods")
        row.operator("mvgamba.add_collision")


def draw_variants(layout: bpy.types.UILayout, obj: bpy.types.Object) -> None:
    """Which of its meshes an object shows, and the arrows to the others."""
    count = variants.count(obj)
    if count < 2:
        return
    row = layout.row(align=True)
    row.operator("mvgamba.step_variant", text="", icon="TRIA_LEFT").direction = -1
    middle = row.row(align=True)
    middle.alignment = "CENTER"
    at = variants.position(obj)
    number = tr("Variant {number} of {count}") if at >= 0 else tr("Own mesh, {count} variants")
    middle.label(text=number.format(number=at + 1, count=count), translate=False)
    row.operator("mvgamba.step_variant", text="", icon="TRIA_RIGHT").direction = 1
    row.operator("mvgamba.clear_variants", text="", icon="TRASH")


def draw_vary(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Words that change the result."""
    state = context.window_manager.mvgamba
    column = layout.column(align=True)
    column.prop(state, "vary_prompt")
    column.prop(state, "vary_strength")
    column.operator("mvgamba.vary")


def draw_turn(layout: bpy.types.UILayout) -> None:
    """Quarter turns about each axis, both ways."""
    split = layout.split(factor=0.25)
    split.label(text=tr("Turn"), translate=False)
    column = split.column(align=True)
    for angle, sign in ((math.pi / 2, ""), (-math.pi / 2, "-")):
        row = column.row(align=True)
        for axis in "XYZ":
            button = row.operator("mvgamba.turn", text=f"{sign}{axis}", translate=False)
            button.axis, button.angle = axis, angle


def add_parts(context: bpy.types.Context, obj: bpy.types.Object, _row: JobRow) -> None:
    """LODs and collision as the panel wants them, or anew where there are some. Has the form of what is called after placing."""
    settings = context.scene.mvgamba
    if parts_of(obj):
        lods.renew_parts(context, obj)
        return
    if settings.lod_count:
        lods.add_lods(context, obj, settings.lod_count)
    if settings.collision != "NONE":
        lods.add_collision(context, obj, settings.collision)


def wanted_parts(context: bpy.types.Context, row: JobRow) -> tuple[int, str]:
    """What `add_parts` will add, as far as it can be made of the file alone. Has the form that the placer asks."""
    replaced = find_replaced(row.request.target, context.scene) if row.request.target.mode == "REPLACE" else None
    if replaced is not None and not lods.is_as_stored(replaced):
        return 0, "NONE"  # of what its modifiers make
    kinds = [str(part[PART]) for part in parts_of(replaced)] if replaced is not None else []
    if kinds:
        return sum(kind.startswith("LOD") for kind in kinds), "CONVEX" if "CONVEX" in kinds else "NONE"
    settings = context.scene.mvgamba
    return settings.lod_count, settings.collision


CLASSES = (
    MVGAMBA_OT_step_variant,
    MVGAMBA_OT_clear_variants,
    MVGAMBA_OT_regenerate,
    MVGAMBA_OT_vary,
    MVGAMBA_OT_load_settings,
    MVGAMBA_OT_use_views,
    MVGAMBA_OT_turn,
    MVGAMBA_OT_reset_result,
    MVGAMBA_PT_result,
)


def register() -> None:
    register_classes(CLASSES)
    placer.after_placing.append(add_parts)
    placer.wanted_parts.append(wanted_parts)


def unregister() -> None:
    placer.wanted_parts.remove(wanted_parts)
    placer.after_placing.remove(add_parts)
    unregister_classes(CLASSES)
