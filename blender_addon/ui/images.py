"""The list of input pictures: from files, the Image Editor, the Render Result, the clipboard, or dropped on the view."""

import sys
import tempfile
from pathlib import Path

import bpy
from bpy.props import CollectionProperty, EnumProperty, IntProperty, StringProperty

from ..core.clipboard import clipboard_picture
from ..core.errors import AddonError
from ..core.i18n import tr
from ..scene.classes import register_classes, unregister_classes
from ..scene.pictures import EXTENSIONS, check_picture, load_picture
from .acting import attempt
from .preferences import preferences

MOST_IMAGES = 4
FILTER = ";".join(f"*{extension}" for extension in EXTENSIONS)


class MVGAMBA_UL_images(bpy.types.UIList):
    """Pictures with the side that each shows."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_property, _index) -> None:
        row = layout.row(align=True)
        if item.image is None:
            row.label(text=tr("No image"), icon="ERROR")
        else:
            row.label(text=item.image.name, icon="IMAGE_DATA", translate=False)
        row.prop(item, "side", text="")


class _ImageOperator(bpy.types.Operator):
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, lambda: self.act(context))

    def act(self, context: bpy.types.Context) -> None:
        raise NotImplementedError


def add_image(context: bpy.types.Context, image: bpy.types.Image) -> None:
    """Put a picture on the list and choose it. Raises: AddonError."""
    check_picture(image)
    settings = context.scene.mvgamba
    if any(item.image == image for item in settings.images):
        settings.source = "IMAGE"
        return
    if len(settings.images) >= MOST_IMAGES:
        raise AddonError("INVALID_IMAGE", tr("at most {count} pictures are used, remove one").format(count=MOST_IMAGES))
    item = settings.images.add()
    item.image = image
    settings.active_image = len(settings.images) - 1
    settings.source = "IMAGE"


class MVGAMBA_OT_image_add(_ImageOperator):
    bl_idname = "mvgamba.image_add"
    bl_label = "Add Images"
    bl_description = "Load pictures of the object from files"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filter_glob: StringProperty(default=FILTER, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def act(self, context: bpy.types.Context) -> None:
        for path in chosen_files(self):
            image = load_picture(path)
            try:
                add_image(context, image)
            except AddonError:
                bpy.data.images.remove(image)
                raise


class MVGAMBA_OT_image_remove(_ImageOperator):
    bl_idname = "mvgamba.image_remove"
    bl_label = "Remove Image"
    bl_description = "Take the picture off the list, its datablock stays"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.scene.mvgamba.images:
            cls.poll_message_set(tr("The list is empty"))
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        settings = context.scene.mvgamba
        settings.images.remove(settings.active_image)
        settings.active_image = max(0, min(settings.active_image, len(settings.images) - 1))


class MVGAMBA_OT_image_move(_ImageOperator):
    bl_idname = "mvgamba.image_move"
    bl_label = "Move Image"
    bl_description = "Move the picture in the list, the first one is the front"

    direction: IntProperty(name="Direction", description="-1 is up, 1 is down", default=-1, min=-1, max=1)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if len(context.scene.mvgamba.images) < 2:
            cls.poll_message_set(tr("There is only one picture"))
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        settings = context.scene.mvgamba
        to = settings.active_image + self.direction
        if 0 <= to < len(settings.images):
            settings.images.move(settings.active_image, to)
            settings.active_image = to


class MVGAMBA_OT_image_from_editor(_ImageOperator):
    bl_idname = "mvgamba.image_from_editor"
    bl_label = "From Image Editor"
    bl_description = "Use the picture that an Image Editor shows"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if edited_image(context) is None:
            cls.poll_message_set(tr("No Image Editor shows a picture"))
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        image = edited_image(context)
        if image is None:
            raise AddonError("INVALID_IMAGE", tr("no Image Editor shows a picture"))
        add_image(context, image)


class MVGAMBA_OT_image_from_render(_ImageOperator):
    bl_idname = "mvgamba.image_from_render"
    bl_label = "From Render Result"
    bl_description = "Use a copy of what was rendered last"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if render_result() is None:
            cls.poll_message_set(tr("Nothing has been rendered yet"))
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        from .. import api
        from ..scene.pictures import write_picture

        result = render_result()
        if result is None:
            raise AddonError("INVALID_IMAGE", tr("nothing has been rendered yet"))
        # The Render Result changes with the next render, so the list gets a picture of its own.
        path = write_picture(result, api.jobs_folder() / "render_result.png")
        image = load_picture(path)
        image.name = tr("Render")
        image.pack()
        image.filepath = ""
        path.unlink()
        add_image(context, image)


class MVGAMBA_OT_image_paste(_ImageOperator):
    bl_idname = "mvgamba.image_paste"
    bl_label = "Paste Image"
    bl_description = "Use the picture that lies on the clipboard"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if bpy.app.background:
            cls.poll_message_set(tr("Without a window there is no clipboard"))
            return False
        return True

    def act(self, context: bpy.types.Context) -> None:
        image = pasted_image(context)
        if image is None:
            raise AddonError("INVALID_IMAGE", tr("the clipboard holds no picture"))
        add_image(context, image)


class MVGAMBA_OT_drop_images(_ImageOperator):
    bl_idname = "mvgamba.drop_images"
    bl_label = "Generate From Image"
    bl_description = "Make an asset of the dropped pictures, or put them on the list"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})
    action: EnumProperty(
        name="Action",
        description="What is done with the pictures",
        items=(
            ("ADD", "Add as Input", "Put them on the list of the panel"),
            ("GENERATE", "Generate Now", "Make an asset of them with the settings of the panel"),
        ),
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=260)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "action", expand=True)

    def act(self, context: bpy.types.Context) -> None:
        settings = context.scene.mvgamba
        if self.action == "GENERATE":
            settings.images.clear()
        for path in chosen_files(self):
            add_image(context, load_picture(path))
        if self.action == "GENERATE":
            bpy.ops.mvgamba.generate()  # adding has made Image the source of the panel


class MVGAMBA_FH_image(bpy.types.FileHandler):
    """Blender's own handlers take the same files, so ours is off until the person wants it."""

    bl_idname = "MVGAMBA_FH_image"
    bl_label = "Generate 3D From Image"
    bl_import_operator = "mvgamba.drop_images"
    bl_file_extensions = ".png;.jpg;.jpeg;.webp"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        own = preferences(context)
        return own is not None and own.use_drop and context.area is not None and context.area.type == "VIEW_3D"


def chosen_files(operator: bpy.types.Operator) -> list[Path]:
    """The pictures that a file browser or a drop named. Raises: AddonError, for what is no picture."""
    paths = [Path(operator.directory) / item.name for item in operator.files if item.name]
    if not paths and operator.filepath:
        paths = [Path(operator.filepath)]
    if not paths:
        raise AddonError("INVALID_IMAGE", tr("no file was chosen"))
    for path in paths:
        if path.suffix.lower() not in EXTENSIONS:
            raise AddonError("INVALID_IMAGE", tr("{name} is not a picture").format(name=path.name))
        if not path.is_file():
            raise AddonError("INVALID_IMAGE", tr("{name} does not exist").format(name=path.name))
    return paths


def edited_image(context: bpy.types.Context) -> bpy.types.Image | None:
    """What the Image Editor under the mouse shows, else the first other one."""
    areas = [context.area] if context.area is not None else []
    if context.screen is not None:
        areas += list(context.screen.areas)
    for area in areas:
        if area.type == "IMAGE_EDITOR" and area.spaces.active.image is not None:
            return area.spaces.active.image
    return None


def render_result() -> bpy.types.Image | None:
    """The Render Result, if there is a picture in it."""
    image = next((image for image in bpy.data.images if image.type == "RENDER_RESULT"), None)
    return image if image is not None and image.has_data else None


def pasted_image(context: bpy.types.Context) -> bpy.types.Image | None:
    """The picture on the clipboard as a new datablock; None when something else lies there. Raises: AddonError, INVALID_IMAGE."""
    image = _image_by_operator(context)
    return _image_by_program() if image is None and sys.platform == "linux" else image


def _image_by_operator(context: bpy.types.Context) -> bpy.types.Image | None:
    """As Blender pastes it; its operator wants an Image Editor, so an area is lent to it. Under X11 it can not."""
    area = context.area or next(iter(context.screen.areas), None)
    if area is None:
        return None
    before, kind = set(bpy.data.images), area.type
    shown = area.spaces.active.image if kind == "IMAGE_EDITOR" else None
    try:
        area.type = "IMAGE_EDITOR"
        with context.temp_override(area=area, region=area.regions[-1]):
            if bpy.ops.image.clipboard_paste.poll():
                bpy.ops.image.clipboard_paste()
    except RuntimeError:
        return None  # Blender says so when the clipboard holds something else
    finally:
        if kind == "IMAGE_EDITOR":
            area.spaces.active.image = shown
        area.type = kind
    image = next((image for image in bpy.data.images if image not in before), None)
    if image is not None:
        image.pack()  # Blender leaves it to a file that there is not, and a saved scene would come back with an empty picture
    return image


def _image_by_program() -> bpy.types.Image | None:
    found = clipboard_picture()
    if found is None:
        return None
    data, ending = found
    with tempfile.TemporaryDirectory(prefix="mvgamba-") as folder:
        path = Path(folder, "clipboard" + ending)
        path.write_bytes(data)
        image = load_picture(path)
        image.pack()
    image.name, image.filepath_raw = tr("Clipboard"), ""
    return image


def draw_images(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The list with its buttons."""
    settings = context.scene.mvgamba
    row = layout.row()
    row.template_list(
        "MVGAMBA_UL_images", "", settings, "images", settings, "active_image", rows=2, maxrows=MOST_IMAGES
    )
    column = row.column(align=True)
    column.operator("mvgamba.image_add", text="", icon="ADD")
    column.operator("mvgamba.image_remove", text="", icon="REMOVE")
    if len(settings.images) > 1:
        column.operator("mvgamba.image_move", text="", icon="TRIA_UP").direction = -1
        column.operator("mvgamba.image_move", text="", icon="TRIA_DOWN").direction = 1
    row = layout.row(align=True)
    row.operator("mvgamba.image_from_editor", text=tr("Editor"), icon="IMAGE")
    row.operator("mvgamba.image_from_render", text=tr("Render"), icon="RENDER_RESULT")
    row.operator("mvgamba.image_paste", text=tr("Paste"), icon="PASTEDOWN")


CLASSES = (
    MVGAMBA_UL_images,
    MVGAMBA_OT_image_add,
    MVGAMBA_OT_image_remove,
    MVGAMBA_OT_image_move,
    MVGAMBA_OT_image_from_editor,
    MVGAMBA_OT_image_from_render,
    MVGAMBA_OT_image_paste,
    MVGAMBA_OT_drop_images,
    MVGAMBA_FH_image,
)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
