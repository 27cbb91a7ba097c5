"""Between the plain data of the extension and the messages of the contract."""

from collections.abc import Sequence

from .axes import c2w_z_up_to_y_up
from .jobs import AssetInfo, JobUpdate
from .request import CapturedView, JobOptions, JobRequest
from .rpc import generation_pb2 as pb

_QUALITIES = {"draft": pb.QUALITY_DRAFT, "standard": pb.QUALITY_STANDARD, "high": pb.QUALITY_HIGH}
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


def request_to_proto(
    request: JobRequest, image_hashes: Sequence[str], depth_hashes: Sequence[str | None]
) -> pb.CreateJobRequest:
    """The request, its pictures named by the SHA-256 under which they were uploaded."""
    views = [
        view_to_proto(view, image, depth)
        for view, image, depth in zip(request.views, image_hashes, depth_hashes, strict=True)
    ]
    spec = pb.JobSpec(
        capture=pb.CaptureSource(views=views), options=options_to_proto(request.options), label=request.label[:200]
    )
    return pb.CreateJobRequest(spec=spec, request_id=request.request_id)


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
        case _:  # a preview, a heartbeat, or what a newer server may send
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
    return AssetInfo(asset.id, asset.media_type, asset.size_bytes, asset.sha256)
