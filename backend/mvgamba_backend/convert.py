"""Messages to the service's own values, and back. The wire has the house's conventions, so nothing is turned here."""

import hashlib
from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from mvgamba.errors import InvalidInput
from mvgamba_backend.engine import Description
from mvgamba_backend.events import Event, LogText, PreviewImage
from mvgamba_backend.record import AssetRecord, JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobMesh,
    JobSpec,
    Limits,
    MultiviewOptions,
    Options,
    SidePicture,
    Source,
    TextSource,
    VariationSource,
    ViewSpec,
)
from mvgamba_backend.words import WordsFound
from mvgamba_rpc.v1 import generation_pb2 as pb

DEFAULTS = Options()
_QUALITIES = {"draft": pb.QUALITY_DRAFT, "standard": pb.QUALITY_STANDARD, "high": pb.QUALITY_HIGH}
_SIDES = {name[len("SIDE_") :].lower(): value for name, value in pb.Side.items() if value} | {"": pb.SIDE_UNSPECIFIED}
_BACKGROUNDS = {name[len("BACKGROUND_") :].lower(): value for name, value in pb.Background.items() if value}
_STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_STAGES = {name[len("STAGE_") :].lower(): value for name, value in pb.Stage.items() if value}
_KINDS = {name[len("ASSET_KIND_") :].lower(): value for name, value in pb.AssetKind.items() if value}
DEFAULT_STRENGTH = VariationSource.strength


# ---------------------------------------------------------------- specs


def spec_from_proto(message: pb.JobSpec, limits: Limits) -> tuple[JobSpec, list[bytes]]:
    """The spec with every image by its sha256, and the contents that came inline.

    Raises: InvalidInput.
    """
    inline: dict[str, bytes] = {}
    source: Source
    match message.WhichOneof("source"):
        case "text":
            source = TextSource(message.text.prompt, message.text.negative_prompt)
        case "image":
            source = _picture_from_proto(message.image, limits, inline)
        case "capture":
            source = _capture_from_proto(message.capture, "capture", limits, inline)
        case "variation":
            source = _variation_from_proto(message.variation, limits, inline)
        case _:
            raise InvalidInput("spec has no source; set text, image, capture or variation.")
    return JobSpec(source, options_from_proto(message.options), message.label), list(inline.values())


def options_from_proto(message: pb.Options) -> Options:
    """With the defaults filled in, but for the seed. Raises: InvalidInput."""
    qualities = {value: name for name, value in _QUALITIES.items()} | {pb.QUALITY_UNSPECIFIED: DEFAULTS.quality}
    if message.quality not in qualities:
        raise InvalidInput(f"options.quality is {message.quality}; this version knows {sorted(_QUALITIES.values())}.")
    return Options(
        quality=qualities[message.quality],
        reconstructor=message.reconstructor or DEFAULTS.reconstructor,
        refine=message.refine if message.HasField("refine") else DEFAULTS.refine,
        target_faces=message.target_faces or DEFAULTS.target_faces,
        texture_size=message.texture_size or DEFAULTS.texture_size,
        seed=message.seed if message.HasField("seed") else None,
        device=message.device or DEFAULTS.device,
        seconds=message.seconds if message.HasField("seconds") else None,
        multiview=_multiview_from_proto(message.multiview),
        variants=message.variants or DEFAULTS.variants,
        review_views=message.review_views,
        memory_mib=message.memory_mib if message.HasField("memory_mib") else None,
    )


def _multiview_from_proto(message: pb.MultiviewOptions) -> MultiviewOptions:
    defaults = DEFAULTS.multiview
    return MultiviewOptions(
        generator=message.generator or defaults.generator,
        candidates=message.candidates or defaults.candidates,
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
        recall=message.recall if message.HasField("recall") else defaults.recall,
        distil_steps=message.distil_steps,
    )


def _picture_from_proto(message: pb.ImageSource, limits: Limits, inline: dict[str, bytes]) -> ImageSource:
    sides = {value: name for name, value in _SIDES.items()}
    backgrounds = {value: name for name, value in _BACKGROUNDS.items()} | {
        pb.BACKGROUND_UNSPECIFIED: ImageSource.background
    }
    if message.background not in backgrounds:
        raise InvalidInput(f"image.background is {message.background}; this version knows {sorted(_BACKGROUNDS)}.")
    others = []
    for i, other in enumerate(message.others):
        path = f"image.others[{i}]"
        if other.side not in sides:
            raise InvalidInput(f"{path}.side is {other.side}; this version knows {[*filter(None, _SIDES)]}.")
        image = _image_from_proto(other.image, f"{path}.image", limits, inline)
        others.append(SidePicture(image, sides[other.side]))
    return ImageSource(
        _image_from_proto(message.image, "image.image", limits, inline),
        message.prompt,
        message.elevation if message.HasField("elevation") else None,
        tuple(others),
        backgrounds[message.background],
    )


def _picture_to_proto(source: ImageSource) -> pb.ImageSource:
    return pb.ImageSource(
        image=pb.Image(sha256=source.image),
        prompt=source.prompt,
        elevation=source.elevation,
        others=[pb.SidePicture(image=pb.Image(sha256=o.image), side=_SIDES[o.side]) for o in source.others],
        background=_BACKGROUNDS[source.background],
    )


def _capture_from_proto(
    message: pb.CaptureSource, path: str, limits: Limits, inline: dict[str, bytes]
) -> CaptureSource:
    if len(message.views) > limits.max_views:
        raise InvalidInput(
            f"{path}.views has {len(message.views)} views; at most {limits.max_views} are taken at once."
        )
    return CaptureSource(
        tuple(_view_from_proto(view, f"{path}.views[{i}]", limits, inline) for i, view in enumerate(message.views))
    )


def _variation_from_proto(message: pb.VariationSource, limits: Limits, inline: dict[str, bytes]) -> VariationSource:
    thing: CaptureSource | JobMesh
    match message.WhichOneof("object"):
        case "capture":
            thing = _capture_from_proto(message.capture, "variation.capture", limits, inline)
        case "job_id":
            thing = JobMesh(message.job_id, message.asset_name or JobMesh.asset)
        case _:
            raise InvalidInput("variation has no object; set capture or job_id.")
    strength = message.strength if message.HasField("strength") else DEFAULT_STRENGTH
    return VariationSource(thing, message.prompt, message.negative_prompt, strength)


def spec_to_proto(spec: JobSpec) -> pb.JobSpec:
    options = spec.options
    message = pb.JobSpec(
        label=spec.label,
        options=pb.Options(
            quality=_QUALITIES[options.quality],
            reconstructor=options.reconstructor,
            refine=options.refine,
            target_faces=options.target_faces,
            texture_size=options.texture_size,
            seed=options.seed,
            device=options.device,
            seconds=options.seconds,
            multiview=pb.MultiviewOptions(
                generator=options.multiview.generator,
                candidates=options.multiview.candidates,
                steps=options.multiview.steps,
                guidance=options.multiview.guidance,
                recall=options.multiview.recall,
                distil_steps=options.multiview.distil_steps,
            ),
            variants=options.variants,
            review_views=options.review_views,
            memory_mib=options.memory_mib,
        ),
    )
    match spec.source:
        case TextSource(prompt=prompt, negative_prompt=negative):
            message.text.CopyFrom(pb.TextSource(prompt=prompt, negative_prompt=negative))
        case ImageSource():
            message.image.CopyFrom(_picture_to_proto(spec.source))
        case CaptureSource():
            message.capture.CopyFrom(_capture_to_proto(spec.source))
        case VariationSource():
            message.variation.CopyFrom(_variation_to_proto(spec.source))
    return message


def _capture_to_proto(source: CaptureSource) -> pb.CaptureSource:
    return pb.CaptureSource(views=map(_view_to_proto, source.views))


def _variation_to_proto(source: VariationSource) -> pb.VariationSource:
    message = pb.VariationSource(prompt=source.prompt, negative_prompt=source.negative_prompt, strength=source.strength)
    match source.object:
        case CaptureSource():
            message.capture.CopyFrom(_capture_to_proto(source.object))
        case JobMesh(job_id=job_id, asset=asset):
            message.job_id, message.asset_name = job_id, asset
    return message


def _view_from_proto(message: pb.PosedView, path: str, limits: Limits, inline: dict[str, bytes]) -> ViewSpec:
    camera = message.camera
    return ViewSpec(
        _image_from_proto(message.image, f"{path}.image", limits, inline),
        CameraSpec(
            tuple(camera.camera_to_world),
            camera.fx,
            camera.fy,
            camera.cx,
            camera.cy,
            camera.width,
            camera.height,
        ),
        message.depth.sha256 if message.HasField("depth") else None,
    )


def _view_to_proto(view: ViewSpec) -> pb.PosedView:
    camera = view.camera
    return pb.PosedView(
        image=pb.Image(sha256=view.image),
        camera=pb.Camera(
            camera_to_world=camera.c2w,
            fx=camera.fx,
            fy=camera.fy,
            cx=camera.cx,
            cy=camera.cy,
            width=camera.width,
            height=camera.height,
        ),
        depth=None if view.depth is None else pb.Depth(sha256=view.depth),
    )


def _image_from_proto(message: pb.Image, path: str, limits: Limits, inline: dict[str, bytes]) -> str:
    match message.WhichOneof("content"):
        case "png":
            if len(message.png) > limits.max_inline_image_bytes:
                raise InvalidInput(
                    f"{path}.png has {len(message.png)} bytes; at most {limits.max_inline_image_bytes} are taken inline. "
                    "Upload it and send its sha256."
                )
            sha256 = hashlib.sha256(message.png).hexdigest()
            inline[sha256] = message.png
            return sha256
        case "sha256":
            return message.sha256
        case _:
            raise InvalidInput(f"{path} is empty; set png or sha256.")


# ---------------------------------------------------------------- jobs


def job_to_proto(job: JobRecord) -> pb.Job:
    error = None
    if job.failure is not None:
        error = pb.JobError(reason=job.failure.reason, message=job.failure.message, metadata=job.failure.metadata)
    return pb.Job(
        id=job.id,
        request_id=job.request_id,
        state=_STATES[job.state],
        progress=progress_to_proto(job.progress),
        error=error,
        assets=[asset_to_proto(job.id, asset) for asset in job.assets],
        spec=spec_to_proto(job.spec),
        create_time=_timestamp(job.created),
        start_time=_timestamp(job.started),
        end_time=_timestamp(job.ended),
        last_sequence=job.sequence,
        attempt=job.attempt,
    )


def progress_to_proto(progress: ProgressRecord) -> pb.Progress:
    return pb.Progress(
        stage=_STAGES.get(progress.stage, pb.STAGE_UNSPECIFIED),
        total_fraction=progress.fraction,
        stage_fraction=progress.stage_fraction,
        message=progress.message,
        seconds_left=progress.seconds_left,
        queue_position=progress.queue_position,
    )


def asset_to_proto(job_id: str, asset: AssetRecord) -> pb.Asset:
    return pb.Asset(
        id=f"{job_id}/{asset.name}",
        name=asset.name,
        kind=_KINDS.get(asset.kind, pb.ASSET_KIND_UNSPECIFIED),
        media_type=asset.media_type,
        size_bytes=asset.size_bytes,
        sha256=asset.sha256,
    )


def asset_id_from_proto(asset_id: str) -> tuple[str, str]:
    """(job id, name of the asset)."""
    job_id, _, name = asset_id.partition("/")
    return job_id, name


def event_to_proto(event: Event) -> pb.WatchJobResponse:
    message = pb.WatchJobResponse(sequence=event.sequence)
    match event.payload:
        case JobRecord():
            message.job.CopyFrom(job_to_proto(event.payload))
        case ProgressRecord():
            message.progress.CopyFrom(progress_to_proto(event.payload))
        case LogText(text=text):
            message.log.text = text
        case PreviewImage() as p:
            message.preview.CopyFrom(
                pb.Preview(data=p.data, media_type=p.media_type, index=p.index, count=p.count, variant=p.variant)
            )
    return message


def heartbeat_to_proto(sequence: int) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(sequence=sequence, heartbeat=pb.Heartbeat())


def states_from_proto(states: list[int]) -> list[JobState]:
    """Raises: InvalidInput."""
    names = {value: state for state, value in _STATES.items()}
    for value in states:
        if value not in names:
            raise InvalidInput(f"states holds {value}; this version knows {sorted(names)}.")
    return [names[value] for value in states]


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    timestamp = Timestamp()
    timestamp.FromNanoseconds(round(seconds * 1e6) * 1000)
    return timestamp


# ---------------------------------------------------------------- words


def words_to_proto(found: WordsFound) -> pb.LookUpWordsResponse:
    unknown = [
        pb.UnknownWord(word=one.word, nearest=one.nearest, taken_for=one.taken_for, is_rough=one.is_rough)
        for one in found.unknown
    ]
    vocabulary = [
        pb.KnownWord(word=one.word, count=one.count, taken_for=one.taken, is_rough=one.is_rough)
        for one in found.vocabulary
    ]
    return pb.LookUpWordsResponse(
        known=found.known, unknown=unknown, suggestions=found.suggestions, vocabulary=vocabulary
    )


# ---------------------------------------------------------------- the server


def description_to_proto(description: Description | None, limits: Limits, **facts: object) -> pb.DescribeServerResponse:
    """`facts`: the other fields of the answer, as they are."""
    known = description if description is not None else Description()
    return pb.DescribeServerResponse(
        ready=description is not None and not known.problem,
        not_ready_reason=known.problem,  # empty while it is being loaded
        versions=known.versions,
        devices=[pb.Device(**device) for device in known.devices],
        models=[pb.Model(**model) for model in known.models],
        kernels=[pb.Kernel(**kernel) for kernel in known.kernels],
        sources=known.sources,
        limits=limits_to_proto(limits),
        **facts,  # type: ignore[arg-type]
    )


def limits_to_proto(limits: Limits) -> pb.Limits:
    values: Mapping[str, int] = {name: getattr(limits, name) for name in pb.Limits.DESCRIPTOR.fields_by_name}
    return pb.Limits(**values)
