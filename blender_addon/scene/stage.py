"""The scenes in which pictures are taken: copies of the subject, a camera, and the light that was asked for.

One scene is for the pictures and one for depth; both show the same meshes. The user's own datablocks are only read.
"""

import enum
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..core.cameras import CaptureCamera, clip_range
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.shots import Shot
from .flat_materials import Emit, FlatMaterials
from .subject import BoundingSphere, SubjectPart

_NAME = "MVGamba Capture"
_COMFORTABLE = (1e-2, 1e3)
"""Radii for which 32-bit coordinates, clip distances and ray offsets are all well inside their ranges."""
_FARTHEST = 1e3
"""Times its radius that a subject may lie from the origin before 32 bits show."""


class Shading(enum.Enum):
    """Which light the pictures show."""

    FLAT = "flat"
    """None: the base colour."""
    SCENE = "scene"
    """That of the scene."""
    STUDIO = "studio"
    """White from all sides, as in a light tent."""


@dataclass(frozen=True)
class Surroundings:
    """What lights the subject besides itself."""

    lights: tuple[tuple[bpy.types.Light, Matrix], ...] = ()
    world: bpy.types.World | None = None
    others: tuple[SubjectPart, ...] = ()
    """They cast shadows and reflections, and no camera sees them: alpha stays that of the subject alone."""


@dataclass(frozen=True)
class StageSettings:
    """What a stage must know of a capture."""

    image_size: int
    samples: int
    shading: Shading
    with_depth: bool
    frame: int


class Stage:
    """All of it is made in the user's file and listed in `created`, whose owner removes it."""

    def __init__(
        self,
        parts: list[SubjectPart],
        sphere: BoundingSphere,
        settings: StageSettings,
        surroundings: Surroundings,
        created: list[bpy.types.ID],
    ) -> None:
        self._sphere = sphere
        self._settings = settings
        self._created = created
        self._scale, self._offset = _stage_frame(sphere, settings.shading)
        emit = Emit.BASE_COLOR if settings.shading is Shading.FLAT else Emit.NOTHING
        self._materials = FlatMaterials(emit, created)
        self._color = self._scene(parts, self._materials)
        _set_output(self._color, "PNG")
        self._color.cycles.samples = settings.samples
        if settings.shading is not Shading.FLAT:
            self._light(surroundings)
        self._depth = None
        if settings.with_depth:
            self._depth = self._scene(parts, FlatMaterials(Emit.DEPTH, created))
            _set_output(self._depth, "OPEN_EXR")
            # One ray, which Cycles sends through the middle: an average of near and far would lie on no surface.
            self._depth.cycles.samples = 1

    @property
    def scenes(self) -> set[bpy.types.Scene]:
        return {self._color} if self._depth is None else {self._color, self._depth}

    def shots(self, cameras: tuple[CaptureCamera, ...], folder: Path) -> tuple[Shot, ...]:
        """What is to be taken into `folder`: for each camera the picture, then its depth."""
        return tuple(shot for k, camera in enumerate(cameras) for shot in self._shots_of(camera, folder, k))

    def _shots_of(self, camera: CaptureCamera, folder: Path, number: int) -> list[Shot]:
        scale = self._scale
        center = scale * (self._sphere.center - self._offset)
        c2w = np.array(camera.c2w, dtype=np.float64)
        c2w[:3, 3] = scale * (camera.c2w[:3, 3] - self._offset)
        clip = clip_range(replace(camera, c2w=c2w), center, scale * self._sphere.radius)
        shot = Shot(
            scene=self._color.name,
            path=str(folder / f"view_{number:02d}.png"),
            size=self._settings.image_size,
            c2w=tuple(tuple(row) for row in c2w.tolist()),
            angle=camera.fovy,
            shift=camera.shift,
            clip=(max(1e-6, clip[0]), clip[1]),
        )
        if self._depth is None:
            return [shot]
        path = str(folder / f"depth_{number:02d}.npy")
        return [shot, replace(shot, scene=self._depth.name, path=path, depth_factor=1.0 / scale)]

    def _scene(self, parts: list[SubjectPart], materials: FlatMaterials) -> bpy.types.Scene:
        scene = bpy.data.scenes.new(_NAME)
        self._created.append(scene)
        if not hasattr(scene, "cycles"):
            raise AddonError("CAPTURE_FAILED", tr('enable "Cycles Render Engine" in the preferences under Add-ons'))
        _prepare(scene, self._settings)
        data = bpy.data.cameras.new(_NAME)
        camera = bpy.data.objects.new(_NAME, data)
        self._created += [data, camera]
        scene.collection.objects.link(camera)
        scene.camera = camera
        root = bpy.data.objects.new(_NAME, None)
        self._created.append(root)
        scene.collection.objects.link(root)
        for part in parts:
            self._add(scene, part, root, materials)
        return scene

    def _add(
        self, scene: bpy.types.Scene, part: SubjectPart, root: bpy.types.Object, materials: FlatMaterials
    ) -> bpy.types.Object:
        wanted = part.materials or (None,)
        while len(part.mesh.materials) < len(wanted):
            part.mesh.materials.append(None)
        obj = bpy.data.objects.new(_NAME, part.mesh)
        self._created.append(obj)
        # Location, rotation and scale cannot hold a shear; the inverse of a parent can.
        obj.parent = root
        obj.matrix_parent_inverse = self._to_stage(part.matrix_world)
        obj.color, obj.pass_index = part.color, part.pass_index
        # The meshes are shared between instances, the materials may not be: so the slots belong to the objects.
        for slot, material in zip(obj.material_slots, wanted, strict=False):
            slot.link = "OBJECT"
            slot.material = materials.of(material)
        scene.collection.objects.link(obj)
        return obj

    def _to_stage(self, matrix: Matrix) -> Matrix:
        if self._scale == 1.0:
            return matrix
        moved = np.array(matrix, dtype=np.float64)
        moved[:3, 3] -= self._offset
        moved[:3] *= self._scale
        return Matrix(moved.tolist())

    def _light(self, surroundings: Surroundings) -> None:
        scene = self._color
        root = next(obj for obj in scene.collection.objects if obj.type == "EMPTY")
        if self._settings.shading is Shading.STUDIO:
            world = bpy.data.worlds.new(_NAME)
            self._created.append(world)
            if bpy.app.version < (5, 0, 0):
                world.use_nodes = True
            tree = world.node_tree
            tree.nodes.clear()
            output, background = tree.nodes.new("ShaderNodeOutputWorld"), tree.nodes.new("ShaderNodeBackground")
            background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
            tree.links.new(background.outputs[0], output.inputs["Surface"])
            scene.world = world
            return
        if surroundings.world is not None:
            world = surroundings.world.copy()
            self._created.append(world)
            scene.world = world
        for light, matrix in surroundings.lights:
            data = light.copy()
            obj = bpy.data.objects.new(_NAME, data)
            self._created += [data, obj]
            obj.parent = root
            obj.matrix_parent_inverse = matrix
            scene.collection.objects.link(obj)
        for part in surroundings.others:
            obj = self._add(scene, part, root, self._materials)
            obj.visible_camera = False


def _stage_frame(sphere: BoundingSphere, shading: Shading) -> tuple[float, np.ndarray]:
    """Scale and origin of the stage in the world: those of the world, unless 32 bits would not do there.

    Materials that ask for a place in the world then see another; light of the scene would be another too, so it keeps the world.
    """
    radius, far = sphere.radius, float(np.abs(sphere.center).max())
    if shading is Shading.SCENE or (_COMFORTABLE[0] <= radius <= _COMFORTABLE[1] and far <= _FARTHEST * radius):
        return 1.0, np.zeros(3)
    return 1.0 / radius, sphere.center


def _prepare(scene: bpy.types.Scene, settings: StageSettings) -> None:
    render, cycles, view = scene.render, scene.cycles, scene.view_settings
    is_lit = settings.shading is not Shading.FLAT
    scene.frame_current = settings.frame  # animated colours are those of the frame that is shown
    render.engine = "CYCLES"
    render.resolution_x = render.resolution_y = settings.image_size
    render.resolution_percentage = 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    render.film_transparent = True
    render.use_persistent_data = True
    render.use_file_extension = False
    render.use_overwrite = True
    render.use_compositing = render.use_sequencer = False
    render.dither_intensity = 0.0  # it would change colours by one step
    render.use_stamp = False
    for name in dir(render):
        if name.startswith("use_stamp_"):
            setattr(render, name, False)  # no path, name or date in the pictures
    cycles.device = "CPU"
    cycles.pixel_filter_type = "BOX"  # each pixel shows its own square only
    cycles.max_bounces = 6 if is_lit else 0
    cycles.transparent_max_bounces = 32
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.film_exposure = 1.0
    cycles.seed = 0
    # The display transform of the file may tint or compress colours; a base colour must come back as it is.
    scene.display_settings.display_device = "sRGB"
    view.view_transform = "Standard"
    view.look = "None"
    view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False
    if hasattr(view, "use_white_balance"):
        view.use_white_balance = False


def _set_output(scene: bpy.types.Scene, file_format: str) -> None:
    """8-bit PNG without tone mapping or dither, or 32-bit EXR."""
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = file_format
    settings.color_mode = "RGBA"
    if file_format == "PNG":
        settings.color_depth, settings.compression = "8", 15
    else:
        settings.color_depth, settings.exr_codec = "32", "ZIP"
