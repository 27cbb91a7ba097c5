"""Pictures of a subject from cameras around it, or from the user's own, taken on a stage that leaves nothing behind."""

import dataclasses
import errno
import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..core.cameras import CaptureCamera, orbit_rig
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.request import CapturedView
from ..core.shots import Shot, StageRender
from . import take_shots
from .own_cameras import own_cameras
from .shown_images import show_images, would_lose_paint
from .stage import Shading, Stage, StageSettings, Surroundings
from .subject import BoundingSphere, bounding_sphere, evaluated_parts, left_out, parts_where
from .temporary import temporary_datablocks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptureSettings:
    """How a subject is captured."""

    num_views: int = 8
    """On the ring; the user's own cameras are as many as they are."""
    image_size: int = 448
    """Edge length of the square pictures in pixels."""
    azimuth: float = 0.0
    """Radians around +Z from which the front camera looks; 0 is -Y."""
    margin: float = 0.05
    """Empty border, as a fraction of the subject."""
    with_depth: bool = True
    samples: int = 8
    """Rays per pixel. Flat colours are exact with one; more smooth the outline."""
    shading: str = "flat"
    """flat, scene or studio; see `Shading`."""
    isolate: bool = True
    """With light of the scene: without what stands around the subject."""
    lit_samples: int = 64
    """Rays per pixel where there is light."""


@dataclass(frozen=True)
class Capture:
    """What came of it."""

    views: tuple[CapturedView, ...]
    sphere: BoundingSphere
    seconds: float
    """That the main thread was busy with it."""
    left_out: tuple[str, ...] = ()
    """Names of objects that cannot be captured."""
    cameras: tuple[CaptureCamera, ...] = ()
    """One for each view."""
    render: StageRender | None = None
    """What takes the pictures, if they are not there yet."""
    lost_images: tuple[str, ...] = ()
    """Names of images of its materials that have lost their file."""


def capture(
    context: bpy.types.Context,
    objects: Iterable[bpy.types.Object],
    settings: CaptureSettings,
    folder: Path,
    *,
    cameras: Iterable[bpy.types.Object] | None = None,
    again: Callable[[BoundingSphere], tuple[CaptureCamera, ...]] | None = None,
    apart: bool = False,
) -> Capture:
    """Render `objects` (and their depth) into `folder`, from an orbit or from `cameras`.

    The open scene, its render settings, the selection and the file stay as they are.

    Args:
        again: Gives the cameras of an earlier capture around the subject as it is now (`recapture`).
        apart: Only write down what is to be rendered, in some tens of milliseconds; `Capture.render` then does it, in
            any thread.
    Raises:
        AddonError: CAPTURE_FAILED, FOLDER_NOT_WRITABLE, DISK_FULL.
    """

    def choose(sphere: BoundingSphere) -> tuple[CaptureCamera, ...]:
        if cameras is not None:
            return own_cameras(context, cameras, sphere)
        if again is not None:
            return again(sphere)
        return orbit_rig(
            sphere.center,
            sphere.radius,
            num_views=settings.num_views,
            azimuth=settings.azimuth,
            margin=settings.margin,
        )

    return _take(context, list(objects), settings, folder, choose, apart=apart)


def render_rig(
    context: bpy.types.Context,
    objects: Iterable[bpy.types.Object],
    rig: tuple[CaptureCamera, ...],
    sphere: BoundingSphere,
    folder: Path,
    settings: CaptureSettings,
) -> tuple[CapturedView, ...]:
    """Like `capture`, from cameras that the caller has computed around `sphere`."""
    return _take(context, list(objects), settings, folder, lambda _: rig, sphere=sphere).views


def blender_command(script: str = take_shots.__file__) -> tuple[str, ...]:
    """Another Blender like this one that runs a script, without the user's settings and add-ons."""
    if not bpy.app.binary_path:  # Blender as a module of Python
        return sys.executable, "-P", script  # its neighbours must not pass for modules of Python
    switches = ("--background", "--factory-startup", "-noaudio", "--python-exit-code", "1")
    return bpy.app.binary_path, *switches, "--python", script, "--"


def subject_sphere(context: bpy.types.Context, objects: Iterable[bpy.types.Object]) -> BoundingSphere:
    """The sphere around what a capture of `objects` would show. Raises: AddonError, CAPTURE_FAILED."""
    with temporary_datablocks() as created:
        return bounding_sphere(evaluated_parts(context, objects, created))


def _take(
    context: bpy.types.Context,
    objects: list[bpy.types.Object],
    settings: CaptureSettings,
    folder: Path,
    choose: Callable[[BoundingSphere], tuple[CaptureCamera, ...]],
    *,
    apart: bool = False,
    sphere: BoundingSphere | None = None,
) -> Capture:
    began = time.monotonic()
    shading = Shading(settings.shading)
    skipped = left_out(objects)
    with temporary_datablocks() as created:
        parts = evaluated_parts(context, objects, created)
        if not parts:
            raise AddonError("CAPTURE_FAILED", _why_nothing(context, objects))
        sphere = sphere or bounding_sphere(parts)
        rig = choose(sphere)
        stage = Stage(
            parts,
            sphere,
            StageSettings(
                settings.image_size,
                settings.samples if shading is Shading.FLAT else settings.lit_samples,
                shading,
                settings.with_depth,
                context.scene.frame_current,
            ),
            _surroundings(context, objects, settings, created),
            created,
        )
        lost = show_images(created)
        if lost:
            log.warning("images without a file: %s", ", ".join(lost))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shots = stage.shots(rig, folder)
            render = _write(stage, shots, folder) if apart or would_lose_paint() else None
            if render is None:
                for shot in shots:
                    take_shots.take_shot(dataclasses.asdict(shot))
            elif not apart:
                render.run(report=lambda _: None, should_stop=lambda: False)
                render = None
        except OSError as error:
            reason = "DISK_FULL" if error.errno == errno.ENOSPC else "FOLDER_NOT_WRITABLE"
            raise AddonError(reason, f"{folder}: {error.strerror or error}") from error
        except RuntimeError as error:  # how Blender's operators say it
            raise AddonError("CAPTURE_FAILED", str(error).strip()) from error
    seconds = time.monotonic() - began
    log.info("captured %d views of %d px in %.1f s%s", len(rig), settings.image_size, seconds, " to do" * apart)
    if skipped:
        log.warning("not captured: %s", ", ".join(skipped))
    return Capture(_views(rig, shots, settings.image_size), sphere, seconds, skipped, rig, render, lost)


def _write(stage: Stage, shots: tuple[Shot, ...], folder: Path) -> StageRender:
    """Put the stage on the disk, with all that its materials need."""
    render = StageRender(blender_command(), folder / "stage.blend", folder / "shots.json", shots)
    for scene in stage.scenes:
        for layer in scene.view_layers:
            layer.update()  # Blender 5.2 crashes where it writes a new scene whose layers were never looked at
    bpy.data.libraries.write(str(render.stage_path), stage.scenes, path_remap="ABSOLUTE")
    render.write_shots()
    return render


def _views(rig: tuple[CaptureCamera, ...], shots: tuple[Shot, ...], size: int) -> tuple[CapturedView, ...]:
    images = [Path(shot.path) for shot in shots if not shot.is_depth]
    depths: list[Path | None] = [Path(shot.path) for shot in shots if shot.is_depth] or [None] * len(images)
    return tuple(
        CapturedView(image, camera.c2w, camera.fovy, size, size, depth, camera.shift)
        for camera, image, depth in zip(rig, images, depths, strict=True)
    )


def _surroundings(
    context: bpy.types.Context,
    objects: list[bpy.types.Object],
    settings: CaptureSettings,
    created: list[bpy.types.ID],
) -> Surroundings:
    """The light of the scene, and what stands around the subject if that was asked for."""
    if Shading(settings.shading) is not Shading.SCENE:
        return Surroundings()
    lights = []
    for instance in context.evaluated_depsgraph_get().object_instances:
        obj = instance.object
        if obj.type == "LIGHT" and not obj.original.hide_render:
            lights.append((obj.data.original, instance.matrix_world.copy()))
    others = []
    if not settings.isolate:
        subject = set(objects)
        others = parts_where(context, lambda owner: owner not in subject and not owner.hide_render, created)
    return Surroundings(tuple(lights), context.scene.world, tuple(others))


def _why_nothing(context: bpy.types.Context, objects: list[bpy.types.Object]) -> str:
    """A sentence for a subject without any surface."""
    names = ", ".join(obj.name for obj in objects)
    skipped = left_out(objects)
    if not objects:
        return tr("select an object to capture")
    if len(skipped) == len(objects):
        return tr("volumes cannot be captured: {names}").format(names=names)
    here = [obj for obj in objects if obj in set(context.view_layer.objects)]
    if not here:
        return tr("not in this view layer: {names}").format(names=names)
    if not any(obj.visible_get() for obj in here):
        return tr("hidden, so there is nothing to see: {names}").format(names=names)
    return tr("no surface, only empty objects or loose points and edges: {names}").format(names=names)
