"""Pictures of a subject from cameras of ours, taken in a temporary scene that leaves nothing behind."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..core.cameras import FOVY, CaptureCamera, orbit_rig
from ..core.errors import AddonError
from ..core.request import CapturedView
from .flat_materials import Emit, FlatMaterials, require_cycles
from .subject import BoundingSphere, SubjectPart, bounding_sphere, evaluated_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptureSettings:
    """How a subject is captured."""

    num_views: int = 8
    image_size: int = 448
    """Edge length of the square pictures in pixels."""
    azimuth: float = 0.0
    """Radians around +Z from which the front camera looks; 0 is -Y."""
    margin: float = 0.05
    """Empty border, as a fraction of the subject."""
    with_depth: bool = True
    samples: int = 8
    """Rays per pixel. Colours are exact with one; more smooth the outline."""


@dataclass(frozen=True)
class Capture:
    """What came of it."""

    views: tuple[CapturedView, ...]
    sphere: BoundingSphere
    seconds: float


def capture(
    context: bpy.types.Context, objects: Iterable[bpy.types.Object], settings: CaptureSettings, folder: Path
) -> Capture:
    """Render the base colour (and depth) of `objects` from an orbit into `folder`.

    The open scene, its render settings, the selection and the file stay as they are.

    Raises:
        AddonError: CAPTURE_FAILED.
    """
    began = time.monotonic()
    with _temporary_datablocks() as created:
        parts = evaluated_parts(context, objects, created)
        sphere = bounding_sphere(parts)
        rig = orbit_rig(
            sphere.center,
            sphere.radius,
            num_views=settings.num_views,
            azimuth=settings.azimuth,
            margin=settings.margin,
        )
        views = _render_views(parts, rig, sphere, folder, settings, created)
    seconds = time.monotonic() - began
    log.info("captured %d views of %d px in %.1f s", len(views), settings.image_size, seconds)
    return Capture(views, sphere, seconds)


def render_rig(
    context: bpy.types.Context,
    objects: Iterable[bpy.types.Object],
    rig: tuple[CaptureCamera, ...],
    sphere: BoundingSphere,
    folder: Path,
    settings: CaptureSettings,
) -> tuple[CapturedView, ...]:
    """Like `capture`, from cameras that the caller has chosen around `sphere`."""
    with _temporary_datablocks() as created:
        return _render_views(evaluated_parts(context, objects, created), rig, sphere, folder, settings, created)


def _render_views(
    parts: list[SubjectPart],
    rig: tuple[CaptureCamera, ...],
    sphere: BoundingSphere,
    folder: Path,
    settings: CaptureSettings,
    created: list[bpy.types.ID],
) -> tuple[CapturedView, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    stage = _Stage(parts, rig, sphere, settings, created)
    stage.wear(Emit.BASE_COLOR)
    images = [stage.render_color(camera, folder / f"view_{k:02d}.png") for k, camera in enumerate(rig)]
    depths: list[Path | None] = [None] * len(rig)
    if settings.with_depth:
        stage.wear(Emit.DEPTH)
        depths = [stage.render_depth(camera, folder / f"depth_{k:02d}.npy") for k, camera in enumerate(rig)]
    size = settings.image_size
    return tuple(
        CapturedView(image, camera.c2w, camera.fovy, size, size, depth)
        for camera, image, depth in zip(rig, images, depths, strict=True)
    )


class _Stage:
    """A scene of copies: the evaluated parts in flat materials, and one camera."""

    def __init__(
        self,
        parts: list[SubjectPart],
        rig: tuple[CaptureCamera, ...],
        sphere: BoundingSphere,
        settings: CaptureSettings,
        created: list[bpy.types.ID],
    ) -> None:
        self._parts = parts
        self._created = created
        self._size = settings.image_size
        self._samples = settings.samples
        self._scene = bpy.data.scenes.new("MVGamba Capture")
        created.append(self._scene)
        require_cycles(self._scene)
        _prepare(self._scene, settings)
        camera = bpy.data.cameras.new("MVGamba Capture")
        created.append(camera)
        camera.type, camera.sensor_fit, camera.angle = "PERSP", "AUTO", FOVY
        distance, reach = max(c.distance for c in rig), 1.1 * sphere.radius
        camera.clip_start, camera.clip_end = max(1e-6, min(c.distance for c in rig) - reach), distance + reach
        self._camera = bpy.data.objects.new("MVGamba Capture", camera)
        created.append(self._camera)
        self._scene.collection.objects.link(self._camera)
        self._scene.camera = self._camera
        self._objects = [self._copy(part) for part in parts]

    def _copy(self, part: SubjectPart) -> bpy.types.Object:
        obj = bpy.data.objects.new("MVGamba Capture", part.mesh)
        self._created.append(obj)
        obj.matrix_world = part.matrix_world
        obj.color, obj.pass_index = part.color, part.pass_index
        self._scene.collection.objects.link(obj)
        return obj

    def wear(self, emit: Emit) -> None:
        """Give every part its flat material."""
        flat = FlatMaterials(emit, self._created)
        dressed: set[int] = set()
        for part, obj in zip(self._parts, self._objects, strict=True):
            materials = part.materials or (None,)
            # The meshes are shared between instances, the materials may not be: so the slots belong to the objects.
            if part.mesh.session_uid not in dressed:
                dressed.add(part.mesh.session_uid)
                while len(part.mesh.materials) < len(materials):
                    part.mesh.materials.append(None)
            for slot, material in zip(obj.material_slots, materials, strict=False):
                slot.link = "OBJECT"
                slot.material = flat.of(material)

    def render_color(self, camera: CaptureCamera, path: Path) -> Path:
        """An 8-bit RGBA PNG: sRGB, straight alpha, no tone mapping, no dither."""
        settings = self._scene.render.image_settings
        _set_format(settings, "PNG")
        settings.color_mode, settings.color_depth, settings.compression = "RGBA", "8", 15
        self._scene.cycles.samples = self._samples
        self._render(camera, path)
        return path

    def render_depth(self, camera: CaptureCamera, path: Path) -> Path:
        """Depth at the pixel centres, float32, as .npy with the upper row first."""
        settings = self._scene.render.image_settings
        _set_format(settings, "OPEN_EXR")
        settings.color_mode, settings.color_depth, settings.exr_codec = "RGBA", "32", "ZIP"
        # One ray, which Cycles sends through the middle: an average of near and far would lie on no surface.
        self._scene.cycles.samples = 1
        exr = path.with_suffix(".exr")
        self._render(camera, exr)
        np.save(path, _read_depth(exr, self._size))
        exr.unlink()
        return path

    def _render(self, camera: CaptureCamera, path: Path) -> None:
        self._camera.matrix_world = Matrix(camera.c2w.tolist())
        self._scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True, scene=self._scene.name)
        if not path.is_file():
            raise AddonError("CAPTURE_FAILED", f"no picture was written to {path}")


def _prepare(scene: bpy.types.Scene, settings: CaptureSettings) -> None:
    render, cycles, view = scene.render, scene.cycles, scene.view_settings
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
    cycles.max_bounces = 0
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


def _set_format(settings: bpy.types.ImageFormatSettings, file_format: str) -> None:
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = file_format


def _read_depth(path: Path, size: int) -> np.ndarray:
    image = bpy.data.images.load(str(path))
    try:
        image.colorspace_settings.name = "Non-Color"
        pixels = np.empty(4 * size * size, dtype=np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    depth, alpha = pixels.reshape(size, size, 4)[::-1, :, 0], pixels.reshape(size, size, 4)[::-1, :, 3]
    # Blender stores colours premultiplied; a surface that is half transparent still has one depth.
    solid = alpha > 0.5
    return np.where(solid & np.isfinite(depth), depth / np.maximum(alpha, 0.5), 0.0).astype(np.float32)


@contextlib.contextmanager
def _temporary_datablocks() -> Iterator[list[bpy.types.ID]]:
    """A list for all that is made; whatever is in it at the end is removed, however the end came."""
    created: list[bpy.types.ID] = []
    images_before = set(bpy.data.images)
    try:
        yield created
    finally:
        _remove(created, images_before)


def _remove(created: list[bpy.types.ID], images_before: set[bpy.types.Image]) -> None:
    """Take away all that the capture made, last first, and the render result if there was none before."""
    collections = {
        bpy.types.Scene: bpy.data.scenes,
        bpy.types.Object: bpy.data.objects,
        bpy.types.Camera: bpy.data.cameras,
        bpy.types.Mesh: bpy.data.meshes,
        bpy.types.Material: bpy.data.materials,
        bpy.types.NodeTree: bpy.data.node_groups,
    }
    order = list(collections)
    created.sort(key=lambda item: next(i for i, kind in enumerate(order) if isinstance(item, kind)))
    for item in created:
        if isinstance(item, bpy.types.Scene):
            # Frees what the render engine kept of the scene; else Blender 4.5 crashes at some later import.
            item.render.use_persistent_data = False
        collection = next(c for kind, c in collections.items() if isinstance(item, kind))
        collection.remove(item)
    created.clear()
    for image in set(bpy.data.images) - images_before:
        if image.type == "RENDER_RESULT":
            bpy.data.images.remove(image)
