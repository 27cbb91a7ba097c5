"""The extension for scripts, in the window or headless:

    from bl_ext.user_default.mvgamba import api
    row = api.generate(objects=[bpy.data.objects["Barrel"]], wait=True)

Headless Blender fires no timers, so `wait=True` pumps the events itself.
"""

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .core.again import missing_files, request_again
from .core.errors import AddonError, sentence
from .core.history import REQUEST_NAME, History, HistoryEntry, read_entry
from .core.i18n import tr
from .core.jobs import JobRow, JobState, retry_request, wait_until
from .core.record import request_from_record
from .core.request import ImageInput, JobOptions, JobRequest, TextInput, VariationInput, approved_request
from .core.rig_record import similarity
from .core.shots import StageRender
from .scene.backend import backend_command
from .scene.capture import Capture, CaptureSettings, capture
from .scene.folders import user_folder
from .scene.history import book
from .scene.own_cameras import few_cameras_warning
from .scene.pictures import fit_picture
from .scene.recapture import (
    cameras_again,
    capture_record,
    capture_settings_of,
    result_record,
    rig_only,
    ring_notes,
    subject_move,
)
from .scene.result import capture_move, is_edited, is_result, obstacle, request_record, without_modifiers
from .scene.session import session
from .scene.subject import subject_objects
from .scene.target import find_replaced, find_sources, make_target

DEFAULT_TIMEOUT = 1800.0
"""Seconds."""


def generate(
    objects: Iterable[bpy.types.Object] | None = None,
    *,
    context: bpy.types.Context | None = None,
    capture_settings: CaptureSettings | None = None,
    options: JobOptions | None = None,
    hide_source: bool = False,
    collection_name: str = "",
    placement: str = "MATCH",
    replaced: bpy.types.Object | None = None,
    use_ground: bool = True,
    size: float = 0.0,
    size_axis: str = "MAX",
    shade_smooth: bool = True,
    source_after: str = "",
    cameras: Iterable[bpy.types.Object] | None = None,
    apart: bool | None = None,
    wait: bool = True,
    timeout: float = DEFAULT_TIMEOUT,
) -> JobRow:
    """Capture `objects` (else the selection), reconstruct them, and place the result over them.

    With `wait` the row comes back when it has ended; else it comes back at once and the timer brings the result.

    Args:
        hide_source: The same as `source_after="HIDE"`.
        placement: MATCH, CURSOR, SURFACE, ORIGIN or REPLACE.
        replaced: Whose mesh the result becomes, with REPLACE; else the active object.
        use_ground: Put the lowest point at the height of the place, else the middle; not for MATCH.
        size: Along `size_axis` (MAX, X, Y, Z) in scene units, for CURSOR, SURFACE and ORIGIN; 0 for that of the source.
        source_after: KEEP, HIDE or STORE.
        cameras: Perspective cameras to capture from, instead of a ring around the objects.
        apart: Whether the pictures are rendered by a Blender process of its own, so that nobody waits for them. In a
            window they are, unless told otherwise.
    Raises:
        AddonError: Nothing to capture, no backend, INVALID_TARGET; with `wait` also any failure of the job, and
            DEADLINE_EXCEEDED.
    """
    context = context or bpy.context
    subject = list(objects) if objects is not None else subject_objects(context)
    if not subject:
        raise AddonError("CAPTURE_FAILED", tr("select an object to capture"))
    _require_no_click(placement, wait=wait)
    command = backend_command(context)
    settings = capture_settings or CaptureSettings()
    target = make_target(
        context,
        subject,
        mode=placement,
        replaced=replaced,
        size=size,
        size_axis=size_axis,
        use_ground=use_ground,
        shade_smooth=shade_smooth,
        source_after=source_after or ("HIDE" if hide_source else "KEEP"),
        collection_name=collection_name,
    )
    label = subject[0].name if len(subject) == 1 else f"{subject[0].name} +{len(subject) - 1}"
    draft = JobRequest(label, (), options or JobOptions(), target)
    apart = not bpy.app.background if apart is None else apart
    taken = capture(context, subject, settings, jobs_folder() / draft.request_id, cameras=cameras, apart=apart)
    request = JobRequest(
        label,
        taken.views,
        draft.options,
        target,
        capture_record(settings, taken, subject, own=cameras is not None, frame=context.scene.frame_current),
        draft.request_id,
    )
    row = session().submit(request, command, jobs_folder() / draft.request_id, render=taken.render)
    row.log_lines += _capture_notes(taken)
    return wait_for(row, timeout=timeout) if wait else row


def _capture_notes(taken: Capture) -> list[str]:
    """What a person should know of a capture, though it went well."""
    notes = []
    if taken.left_out:
        notes.append(
            tr("Not captured, because volumes have no surface: {names}").format(names=", ".join(taken.left_out))
        )
    if taken.lost_images:
        notes.append(
            tr("These images have lost their file and are captured in pink: {names}").format(
                names=", ".join(taken.lost_images)
            )
        )
    warning = few_cameras_warning(len(taken.views))
    return [*notes, warning] if warning else notes


def generate_from(
    source: TextInput | ImageInput,
    *,
    context: bpy.types.Context | None = None,
    options: JobOptions | None = None,
    size: float = 1.0,
    location: Sequence[float] | None = None,
    collection_name: str = "",
    placement: str = "CURSOR",
    replaced: bpy.types.Object | None = None,
    use_ground: bool = True,
    size_axis: str = "MAX",
    shade_smooth: bool = True,
    wait: bool = True,
    timeout: float = DEFAULT_TIMEOUT,
) -> JobRow:
    """Make an object of words or of one picture, and stand it at the 3D cursor.

        api.generate_from(api.TextInput("a red wooden barrel"), size=0.9)

    Args:
        size: Along `size_axis` (MAX, X, Y, Z) in scene units.
        location: Where the middle of the underside stands, instead of the cursor.
        placement: CURSOR, SURFACE, ORIGIN or REPLACE.
        replaced: Whose mesh the result becomes, with REPLACE (its size counts then); else the active object.
        use_ground: Put the lowest point at the height of the place, else the middle.
    Raises:
        AddonError: As `generate`.
    """
    context = context or bpy.context
    if placement == "MATCH":
        raise AddonError("INVALID_TARGET", tr("only captures have a source to match"))
    _require_no_click(placement, wait=wait)
    command = backend_command(context)
    target = make_target(
        context,
        mode=placement,
        replaced=replaced,
        location=location,
        size=size,
        size_axis=size_axis,
        use_ground=use_ground,
        shade_smooth=shade_smooth,
        collection_name=collection_name,
    )
    label = source.prompt[:60] or Path(getattr(source, "image_path", "")).stem
    request = JobRequest(label, (), options or JobOptions(), target, source=source)
    row = session().submit(request, command, jobs_folder() / request.request_id)
    return wait_for(row, timeout=timeout) if wait else row


def retry(row: JobRow, *, context: bpy.types.Context | None = None, **changes: Any) -> JobRow:
    """Send an ended job again with the views it had; `changes` are fields of JobOptions."""
    request = retry_request(row.request, **changes)
    render = row.render if row.render is not None and row.render.is_pending else None
    if render is None and not all(path.is_file() for path in request.files()):
        raise AddonError("CAPTURE_FAILED", tr("the pictures of this job are no longer on the disk"))
    command = backend_command(context or bpy.context)
    return session().submit(request, command, jobs_folder() / request.request_id, render=render)


def approve(row: JobRow, *, variant: int = 0, context: bpy.types.Context | None = None, **changes: Any) -> JobRow:
    """Go on from the views of a review to a mesh; the row of the review goes. `changes` are fields of JobOptions."""
    if row.state is not JobState.VIEWS_READY or not 0 <= variant < len(row.views):
        raise AddonError("INVALID_INPUT", tr("there are no views of variant {number}").format(number=variant + 1))
    request = approved_request(row.request, row.views[variant], **changes)
    sent = session().submit(request, backend_command(context or bpy.context), jobs_folder() / request.request_id)
    session().board.rows.remove(row)
    return sent


def replace_view(row: JobRow, path: Path, *, variant: int = 0, index: int = 0) -> None:
    """Use the picture at `path` for a view of a review; it is brought to the size of the other views.

    Raises:
        AddonError: INVALID_IMAGE, when it is no picture; INVALID_INPUT, when there is no such view.
    """
    if not (0 <= variant < len(row.views) and 0 <= index < len(row.views[variant])):
        raise AddonError("INVALID_INPUT", tr("there is no view {number}").format(number=index + 1))
    old = row.views[variant][index]
    fitted = old.image_path.with_name(f"replaced_{variant}_{index}_{uuid.uuid4().hex[:8]}.png")
    new = dataclasses.replace(old, image_path=fit_picture(path, fitted, width=old.width, height=old.height))
    views = [list(views) for views in row.views]
    views[variant][index] = new
    row.views = tuple(map(tuple, views))


def recapture(row: JobRow, *, num_views: int, context: bpy.types.Context | None = None) -> JobRow:
    """Capture the sources of an ended job again, with another number of views."""
    taken, target = row.request.capture, row.request.target
    settings = dataclasses.replace(capture_settings_of(taken), num_views=num_views)
    return generate(
        find_sources(target),
        context=context,
        capture_settings=settings,
        options=row.request.options,
        collection_name=target.collection_name,
        placement=target.mode,
        replaced=find_replaced(target, (context or bpy.context).scene),
        use_ground=target.use_ground,
        size=target.size,
        size_axis=target.size_axis,
        shade_smooth=target.shade_smooth,
        source_after=target.source_after,
        wait=False,
    )


def regenerate(
    obj: bpy.types.Object,
    *,
    seed: int | None = None,
    context: bpy.types.Context | None = None,
    wait: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    **changes: Any,
) -> JobRow:
    """Make a result again and show it in place of its mesh, which stays as a variant. `changes` are fields of JobOptions.

    Captures that are no longer on the disk are taken anew from the sources: on the ring, or from the own cameras that were
    used, wherever these are now, and turned and moved as the source was since.

    Args:
        seed: Another one than before.
    Raises:
        AddonError: INVALID_INPUT, when the object is no result or cannot be changed; INVALID_IMAGE, when its picture is
            gone; CAPTURE_FAILED, when captures and sources are gone; no backend.
    """
    context = context or bpy.context
    _require_result(obj)
    command = backend_command(context)
    seed = obj.mvgamba.seed if seed is None else seed
    stored = stored_request(obj)
    target = make_target(context, mode="REPLACE", replaced=obj, shade_smooth=stored.target.shade_smooth)
    # Known by name, so that they can be captured again; identifiers of another run of Blender may be anybody's.
    sources = tuple(name for name in stored.target.source_names if name != obj.name)
    target = dataclasses.replace(target, source_names=sources, source_uids=(0,) * len(sources))
    request, render, notes = request_again(stored, target, seed=seed, **changes), None, list[str]()
    if missing_files(request) or (request.kind == "capture" and not request.views):
        if request.kind == "image":
            raise AddonError("INVALID_IMAGE", tr("the picture that this was made from is no longer on the disk"))
        objects = find_sources(target)
        request, render, notes = _captured_anew(context, request, objects, subject_move(request.capture, objects))
    row = session().submit(request, command, jobs_folder() / request.request_id, render=render)
    row.log_lines += notes
    return wait_for(row, timeout=timeout) if wait else row


def vary(
    obj: bpy.types.Object,
    prompt: str,
    *,
    strength: float = 0.6,
    seed: int | None = None,
    context: bpy.types.Context | None = None,
    wait: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
) -> JobRow:
    """Change a result by words and show what comes of it in place of its mesh, which stays as a variant.

    The backend changes what it still has of the job; what it has no longer, or what was edited by hand, is captured as it
    stands: on the ring, or from the own cameras of its capture.

    Args:
        strength: 0 keeps the object, 1 forgets it.
    Raises:
        AddonError: INVALID_INPUT, when there are no words, or the object is no result or cannot be changed; as `generate`.
    """
    context = context or bpy.context
    _require_result(obj)
    if not prompt.strip():
        raise AddonError("INVALID_INPUT", tr("say what the result should become"))
    command = backend_command(context)
    stored, own = stored_request(obj), obj.mvgamba
    options = dataclasses.replace(
        stored.options, seed=own.seed if seed is None else seed % 2**31, variants=1, review_views=False
    )
    label, cameras = f"{obj.name}: {prompt}"[:60], rig_only(stored.capture)
    render, notes = None, list[str]()
    if not is_edited(obj.data) and session().knows_job(own.job_id):
        source = VariationInput(prompt, strength=strength, job_id=own.job_id, asset_name=own.asset_name)
        target = make_target(context, mode="REPLACE", replaced=obj)
        request = JobRequest(label, (), options, target, cameras, source=source)
    else:
        target = make_target(context, [obj], mode="REPLACE", replaced=obj)
        request = JobRequest(label, (), options, target, cameras, source=VariationInput(prompt, strength=strength))
        with without_modifiers(context, obj):
            settings = CaptureSettings(with_depth=False)
            request, render, notes = _captured_anew(context, request, [obj], capture_move(obj), settings=settings)
        request = dataclasses.replace(request, capture={**request.capture, **result_record(obj)})
    row = session().submit(request, command, jobs_folder() / request.request_id, render=render)
    row.log_lines += notes
    return wait_for(row, timeout=timeout) if wait else row


def history() -> History:
    """All results on the disk, newest first. Reads them on the first call; `refresh_history` reads them anew."""
    if not book().is_read:
        book().refresh(jobs_folder())
        book().wait()
    return book().history


def refresh_history(context: bpy.types.Context | None = None) -> None:
    """Read the results on the disk again, without waiting; captures older than the preferences say are deleted."""
    addon = (context or bpy.context).preferences.addons.get(__package__)
    book().refresh(jobs_folder(), days=addon.preferences.keep_days if addon else 0)


def place_entry(entry: HistoryEntry, *, context: bpy.types.Context | None = None) -> bpy.types.Object:
    """Import a result of the history into the open scene: captures where they were taken, all else at the 3D cursor.

    Raises:
        AddonError: PLACE_FAILED.
    """
    context = context or bpy.context
    return session().placer.place(context, row_of(entry, context=context))


def row_of(entry: HistoryEntry, *, context: bpy.types.Context | None = None) -> JobRow:
    """A result of the history as a row that is to be placed in the open scene, and that no list shows.

    Raises:
        AddonError: PLACE_FAILED.
    """
    context = context or bpy.context
    try:
        request = entry.request()
    except (ValueError, OSError) as error:
        raise AddonError("PLACE_FAILED", tr("its request cannot be read: {why}").format(why=error)) from error
    then, is_capture = request.target, request.kind == "capture"
    target = make_target(
        context,
        mode="MATCH" if is_capture else "CURSOR",
        size=then.size or (0.0 if is_capture else 1.0),
        size_axis=then.size_axis,
        use_ground=then.use_ground,
        shade_smooth=then.shade_smooth,
        collection_name=then.collection_name if then.collection_name in bpy.data.collections else "",
    )
    return JobRow(
        dataclasses.replace(request, target=target),
        JobState.READY,
        job_id=entry.job_id,
        result_path=entry.meshes[0],
        more_result_paths=entry.meshes[1:],
        facts=entry.facts(),
    )


def views_of(obj: bpy.types.Object) -> tuple[Path, ...]:
    """Pictures of front, right, back and left that a result was reconstructed from, as far as the disk has them.

    Raises:
        AddonError: INVALID_INPUT, when there are none.
    """
    entry = _entry_of(obj)
    with contextlib.suppress(ValueError, OSError):
        views = entry.views(obj.mvgamba.variant) if entry is not None else ()
        if views:
            return views
    raise AddonError("INVALID_INPUT", tr("the views of this result are no longer on the disk"))


def preview_of(obj: bpy.types.Object) -> Path | None:
    """A small picture of a result, if the disk has one."""
    entry = _entry_of(obj)
    if entry is None:
        return None
    made = entry.folder / f"made_{obj.mvgamba.variant}_00.png"
    return made if made.is_file() else entry.preview


def _entry_of(obj: bpy.types.Object) -> HistoryEntry | None:
    try:
        return read_entry(jobs_folder() / (obj.mvgamba.request_id or "-"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def stored_request(obj: bpy.types.Object) -> JobRequest:
    """The request that a result was made from, with its captures when they are still on the disk.

    Raises:
        AddonError: INVALID_INPUT, when what the object remembers is damaged.
    """
    record, folder = request_record(obj), jobs_folder() / (obj.mvgamba.request_id or "-")
    try:
        stored = request_from_record(record)
        with contextlib.suppress(ValueError, OSError):
            table = json.loads((folder / REQUEST_NAME).read_text(encoding="utf-8"))
            stored = request_from_record(table, folder)
    except ValueError as error:
        raise AddonError(
            "INVALID_INPUT", tr('the settings of "{name}" cannot be read').format(name=obj.name)
        ) from error
    return stored


def _require_result(obj: bpy.types.Object) -> None:
    if not is_result(obj):
        raise AddonError("INVALID_INPUT", tr('"{name}" was not made by MVGamba').format(name=obj.name))
    why = obstacle(obj)
    if why:
        raise AddonError("INVALID_INPUT", why)


def _captured_anew(
    context: bpy.types.Context,
    request: JobRequest,
    objects: Sequence[bpy.types.Object],
    affine: np.ndarray | None,
    *,
    settings: CaptureSettings | None = None,
) -> tuple[JobRequest, StageRender | None, list[str]]:
    """The request with views of `objects` as they stand now; what renders them, in a window; and what to know of it.

    Args:
        affine: (4, 4) from where a point of the subject was at its first capture to where it is, if that is known.
    """
    if not objects:
        raise AddonError("CAPTURE_FAILED", tr("the captures are no longer on the disk, and their source is gone"))
    record = request.capture
    settings, again = settings or capture_settings_of(record), cameras_again(record, affine)
    folder = jobs_folder() / request.request_id
    taken = capture(context, objects, settings, folder, again=again, apart=not bpy.app.background)
    # All lengths of the record stay those of the first capture, from which every later one is reckoned.
    anew = {**record, "cameras": "ring" if again is None else "own", "anew": True}
    anew.pop("moved", None)
    if affine is not None and request.kind == "capture":
        anew["moved"] = similarity(affine, np.array(record["center"])).tolist()
    notes = ring_notes(record) + _capture_notes(taken)
    return dataclasses.replace(request, views=taken.views, capture=anew), taken.render, notes


def wait_for(row: JobRow, *, timeout: float = DEFAULT_TIMEOUT) -> JobRow:
    """Pump until a job has ended and its result is placed, or its views are ready to be looked at.

    Raises:
        AddonError: The job failed or was cancelled, or `timeout` seconds have passed.
    """
    done = wait_until(session().pump, lambda: not row.is_active, timeout=timeout)
    if not done:
        raise AddonError("DEADLINE_EXCEEDED", f"job {row.job_id} still says {row.text!r} after {timeout:.0f} s")
    if row.state not in (JobState.PLACED, JobState.VIEWS_READY):
        reason = row.reason or "CANCELLED"
        raise AddonError(reason, sentence(reason, row.message))
    return row


def _require_no_click(placement: str, *, wait: bool) -> None:
    if placement == "SURFACE" and wait:
        raise AddonError("INVALID_TARGET", tr("a surface is clicked when the result is there: use wait=False"))


def new_inputs_folder() -> Path:
    """An empty folder for the pictures that a job is made from."""
    folder = user_folder("inputs") / uuid.uuid4().hex
    folder.mkdir()
    return folder


def jobs_folder() -> Path:
    """Where captures and results of the jobs lie, one folder each."""
    return user_folder("jobs")
