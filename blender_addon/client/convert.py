"""Between the plain data of the extension and the messages of the contract."""

from collections.abc import Mapping
from pathlib import Path

from ..core.axes import c2w_z_up_to_y_up
from ..core.jobs import AssetInfo, JobUpdate, PreviewPicture
from ..core.request import CapturedView, ImageInput, JobOptions, JobRequest, TextInput, VariationInput
from ..core.server_info import DeviceInfo, GeneratorInfo, KnownWord, ServerInfo, WordsFound
from .rpc import generation_pb2 as pb

_QUALITIES = {"draft": pb.QUALITY_DRAFT, "standard": pb.QUALITY_STANDARD, "high": pb.QUALITY_HIGH}
_SIDES = {
    "front": pb.SIDE_FRONT,
    "right": pb.SIDE_RIGHT,
    "back": pb.SIDE_BACK,
    "left": pb.SIDE_LEFT,
}
_BACKGROUNDS = {
    "auto": pb.BACKGROUND_AUTO,
    "keep_alpha": pb.BACKGROUND_KEEP_ALPHA,
    "remove": pb.BACKGROUND_REMOVE,
    "none": pb.BACKGROUND_NONE,
}
_STATES = {
    pb.JOB_STATE_QUEUED: "queued",
    pb.JOB_STATE_RUNNING: "running",
    pb.JOB_STATE_CANCELLING: "cancelling",
    pb.JOB_STATE_SUCCEEDED: "succeeded",
    pb.JOB_STATE_FAILED: "failed",
    pb.JOB_STATE_CANCELLED: "cancelled",
}
_STAGES = {
    pb.STAGE_PREPARE: "prepare",
    pb.STAGE_MULTIVIEW: "multiview",
    pb.STAGE_RECONSTRUCT: "reconstruct",
    pb.STAGE_REFINE: "refine",
    pb.STAGE_MESH: "mesh",
    pb.STAGE_TEXTURE: "texture",
    pb.STAGE_EXPORT: "export",
}


_KINDS = {
    pb.ASSET_KIND_MESH: "mesh",
    pb.ASSET_KIND_PREVIEW: "preview",
    pb.ASSET_KIND_VIEW: "view",
    pb.ASSET_KIND_CAMERAS: "cameras",
    pb.ASSET_KIND_FACTS: "facts",
}


def request_to_proto(request: JobRequest, hashes: Mapping[Path, str]) -> pb.CreateJobRequest:
    """The request, its files (`JobRequest.files`) named by the SHA-256 under which they were uploaded."""
    spec = pb.JobSpec(options=options_to_proto(request.options), label=request.label[:200])
    match request.source:
        case TextInput(prompt=prompt, negative_prompt=negative):
            spec.text.CopyFrom(pb.TextSource(prompt=prompt, negative_prompt=negative))
        case ImageInput():
            spec.image.CopyFrom(_pictures_to_proto(request.source, hashes))
        case VariationInput() as source:
            spec.variation.CopyFrom(
                pb.VariationSource(
                    prompt=source.prompt, negative_prompt=source.negative_prompt, strength=source.strength
                )
            )
            if source.job_id:
                spec.variation.job_id, spec.variation.asset_name = source.job_id, source.asset_name
            else:
                spec.variation.capture.CopyFrom(_capture_to_proto(request.views, hashes))
        case None:
            spec.capture.CopyFrom(_capture_to_proto(request.views, hashes))
    return pb.CreateJobRequest(spec=spec, request_id=request.request_id)


def _pictures_to_proto(source: ImageInput, hashes: Mapping[Path, str]) -> pb.ImageSource:
    return pb.ImageSource(
        image=pb.Image(sha256=hashes[source.image_path]),
        prompt=source.prompt,
        elevation=source.elevation,
        others=[
            pb.SidePicture(image=pb.Image(sha256=hashes[other.image_path]), side=_SIDES[other.side])
            for other in source.others
        ],
        background=_BACKGROUNDS[source.background],
    )


def _capture_to_proto(views: tuple[CapturedView, ...], hashes: Mapping[Path, str]) -> pb.CaptureSource:
    return pb.CaptureSource(
        views=[
            view_to_proto(view, hashes[view.image_path], hashes[view.depth_path] if view.depth_path else None)
            for view in views
        ]
    )


def view_to_proto(view: CapturedView, image_sha256: str, depth_sha256: str | None) -> pb.PosedView:
    fx, fy, cx, cy = view.intrinsics
    camera = pb.Camera(
        camera_to_world=c2w_z_up_to_y_up(view.c2w).ravel().tolist(),
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=view.width,
        height=view.height,
    )
    message = pb.PosedView(image=pb.Image(sha256=image_sha256), camera=camera)
    if depth_sha256 is not None:
        message.depth.sha256 = depth_sha256
    return message


def options_to_proto(options: JobOptions) -> pb.Options:
    return pb.Options(
        quality=_QUALITIES[options.quality],
        refine=options.refine,
        target_faces=options.target_faces,
        texture_size=options.texture_size,
        seed=options.seed,
        device=options.device,
        variants=options.variants,
        review_views=options.review_views,
        memory_mib=options.memory_mib,
        multiview=pb.MultiviewOptions(
            generator=options.generator,
            candidates=options.candidates,
            steps=options.steps,
            guidance=options.guidance,
            recall=None if options.recall else False,
            distil_steps=options.distil_steps,
        ),
    )


def update_from_proto(event: pb.WatchJobResponse) -> JobUpdate:
    """What one message of a watch says."""
    match event.WhichOneof("event"):
        case "job":
            return _update_from_job(event.sequence, event.job)
        case "progress":
            return JobUpdate(event.sequence, **_progress_fields(event.progress))
        case "log":
            return JobUpdate(event.sequence, log_line=event.log.text)
        case "preview":
            picture = event.preview
            return JobUpdate(
                event.sequence,
                preview=PreviewPicture(picture.data, picture.media_type, picture.index, picture.count, picture.variant),
            )
        case _:  # a heartbeat, or what a newer server may send
            return JobUpdate(event.sequence)


def _update_from_job(sequence: int, job: pb.Job) -> JobUpdate:
    error = job.error if job.HasField("error") else None
    return JobUpdate(
        sequence,
        state=_STATES.get(job.state),
        reason=error.reason if error else None,
        error_message=error.message if error else None,
        assets=tuple(asset_from_proto(asset) for asset in job.assets),
        **_progress_fields(job.progress),
    )


def _progress_fields(progress: pb.Progress) -> dict:
    return {
        "stage": _STAGES.get(progress.stage),
        "fraction": progress.total_fraction,
        "message": progress.message or None,
        "seconds_left": progress.seconds_left if progress.HasField("seconds_left") else None,
        "queue_position": progress.queue_position,
    }


def asset_from_proto(asset: pb.Asset) -> AssetInfo:
    kind = _KINDS.get(asset.kind, "")
    return AssetInfo(asset.id, asset.media_type, asset.size_bytes, asset.sha256, asset.name, kind)


def words_from_proto(answer: pb.LookUpWordsResponse) -> WordsFound:
    return WordsFound(
        tuple(answer.known),
        {entry.word: tuple(entry.nearest) for entry in answer.unknown if not entry.taken_for},
        tuple(answer.suggestions),
        tuple(KnownWord(e.word, 0, e.taken_for, e.is_rough) for e in answer.unknown if e.taken_for),
        tuple(KnownWord(e.word, e.count, e.taken_for, e.is_rough) for e in answer.vocabulary),
    )


def server_from_proto(answer: pb.DescribeServerResponse) -> ServerInfo:
    generators = [model for model in answer.models if model.kind == "multiview"]
    return ServerInfo(
        answer.ready,
        tuple(answer.sources),
        tuple(GeneratorInfo(m.id, m.available, m.why_not, tuple(m.sources)) for m in generators),
        version=answer.version,
        api=tuple(answer.api),
        devices=tuple(DeviceInfo(d.id, d.name, d.memory_bytes, d.free_memory_bytes) for d in answer.devices),
        num_queued=answer.queued_jobs,
        num_running=answer.running_jobs,
        problem=answer.not_ready_reason,
        packages=tuple(sorted(answer.versions.items())),
    )
