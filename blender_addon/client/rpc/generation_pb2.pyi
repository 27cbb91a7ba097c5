import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_FRONT: _ClassVar[Side]
    SIDE_RIGHT: _ClassVar[Side]
    SIDE_BACK: _ClassVar[Side]
    SIDE_LEFT: _ClassVar[Side]

class Background(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BACKGROUND_UNSPECIFIED: _ClassVar[Background]
    BACKGROUND_AUTO: _ClassVar[Background]
    BACKGROUND_KEEP_ALPHA: _ClassVar[Background]
    BACKGROUND_REMOVE: _ClassVar[Background]
    BACKGROUND_NONE: _ClassVar[Background]

class Quality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_UNSPECIFIED: _ClassVar[Quality]
    QUALITY_DRAFT: _ClassVar[Quality]
    QUALITY_STANDARD: _ClassVar[Quality]
    QUALITY_HIGH: _ClassVar[Quality]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_CANCELLING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_PREPARE: _ClassVar[Stage]
    STAGE_MULTIVIEW: _ClassVar[Stage]
    STAGE_RECONSTRUCT: _ClassVar[Stage]
    STAGE_REFINE: _ClassVar[Stage]
    STAGE_MESH: _ClassVar[Stage]
    STAGE_TEXTURE: _ClassVar[Stage]
    STAGE_EXPORT: _ClassVar[Stage]

class AssetKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASSET_KIND_UNSPECIFIED: _ClassVar[AssetKind]
    ASSET_KIND_MESH: _ClassVar[AssetKind]
    ASSET_KIND_PREVIEW: _ClassVar[AssetKind]
    ASSET_KIND_VIEW: _ClassVar[AssetKind]
    ASSET_KIND_CAMERAS: _ClassVar[AssetKind]
    ASSET_KIND_FACTS: _ClassVar[AssetKind]
SIDE_UNSPECIFIED: Side
SIDE_FRONT: Side
SIDE_RIGHT: Side
SIDE_BACK: Side
SIDE_LEFT: Side
BACKGROUND_UNSPECIFIED: Background
BACKGROUND_AUTO: Background
BACKGROUND_KEEP_ALPHA: Background
BACKGROUND_REMOVE: Background
BACKGROUND_NONE: Background
QUALITY_UNSPECIFIED: Quality
QUALITY_DRAFT: Quality
QUALITY_STANDARD: Quality
QUALITY_HIGH: Quality
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_CANCELLING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
STAGE_UNSPECIFIED: Stage
STAGE_PREPARE: Stage
STAGE_MULTIVIEW: Stage
STAGE_RECONSTRUCT: Stage
STAGE_REFINE: Stage
STAGE_MESH: Stage
STAGE_TEXTURE: Stage
STAGE_EXPORT: Stage
ASSET_KIND_UNSPECIFIED: AssetKind
ASSET_KIND_MESH: AssetKind
ASSET_KIND_PREVIEW: AssetKind
ASSET_KIND_VIEW: AssetKind
ASSET_KIND_CAMERAS: AssetKind
ASSET_KIND_FACTS: AssetKind

class JobSpec(_message.Message):
    __slots__ = ("text", "image", "capture", "variation", "options", "label")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    VARIATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    text: TextSource
    image: ImageSource
    capture: CaptureSource
    variation: VariationSource
    options: Options
    label: str
    def __init__(self, text: _Optional[_Union[TextSource, _Mapping]] = ..., image: _Optional[_Union[ImageSource, _Mapping]] = ..., capture: _Optional[_Union[CaptureSource, _Mapping]] = ..., variation: _Optional[_Union[VariationSource, _Mapping]] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., label: _Optional[str] = ...) -> None: ...

class TextSource(_message.Message):
    __slots__ = ("prompt", "negative_prompt")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    negative_prompt: str
    def __init__(self, prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class ImageSource(_message.Message):
    __slots__ = ("image", "prompt", "elevation", "others", "background")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ELEVATION_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    image: Image
    prompt: str
    elevation: float
    others: _containers.RepeatedCompositeFieldContainer[SidePicture]
    background: Background
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., prompt: _Optional[str] = ..., elevation: _Optional[float] = ..., others: _Optional[_Iterable[_Union[SidePicture, _Mapping]]] = ..., background: _Optional[_Union[Background, str]] = ...) -> None: ...

class SidePicture(_message.Message):
    __slots__ = ("image", "side")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    side: Side
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., side: _Optional[_Union[Side, str]] = ...) -> None: ...

class VariationSource(_message.Message):
    __slots__ = ("capture", "job_id", "prompt", "negative_prompt", "strength", "asset_name")
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    ASSET_NAME_FIELD_NUMBER: _ClassVar[int]
    capture: CaptureSource
    job_id: str
    prompt: str
    negative_prompt: str
    strength: float
    asset_name: str
    def __init__(self, capture: _Optional[_Union[CaptureSource, _Mapping]] = ..., job_id: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., strength: _Optional[float] = ..., asset_name: _Optional[str] = ...) -> None: ...

class CaptureSource(_message.Message):
    __slots__ = ("views",)
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[PosedView]
    def __init__(self, views: _Optional[_Iterable[_Union[PosedView, _Mapping]]] = ...) -> None: ...

class PosedView(_message.Message):
    __slots__ = ("image", "camera", "depth")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    image: Image
    camera: Camera
    depth: Depth
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., camera: _Optional[_Union[Camera, _Mapping]] = ..., depth: _Optional[_Union[Depth, _Mapping]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("png", "sha256")
    PNG_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    png: bytes
    sha256: str
    def __init__(self, png: _Optional[bytes] = ..., sha256: _Optional[str] = ...) -> None: ...

class Depth(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class Camera(_message.Message):
    __slots__ = ("camera_to_world", "fx", "fy", "cx", "cy", "width", "height")
    CAMERA_TO_WORLD_FIELD_NUMBER: _ClassVar[int]
    FX_FIELD_NUMBER: _ClassVar[int]
    FY_FIELD_NUMBER: _ClassVar[int]
    CX_FIELD_NUMBER: _ClassVar[int]
    CY_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    camera_to_world: _containers.RepeatedScalarFieldContainer[float]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    def __init__(self, camera_to_world: _Optional[_Iterable[float]] = ..., fx: _Optional[float] = ..., fy: _Optional[float] = ..., cx: _Optional[float] = ..., cy: _Optional[float] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("quality", "reconstructor", "refine", "target_faces", "texture_size", "seed", "device", "seconds", "multiview", "variants", "review_views", "memory_mib")
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCTOR_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FACES_FIELD_NUMBER: _ClassVar[int]
    TEXTURE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MULTIVIEW_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    REVIEW_VIEWS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    quality: Quality
    reconstructor: str
    refine: bool
    target_faces: int
    texture_size: int
    seed: int
    device: str
    seconds: float
    multiview: MultiviewOptions
    variants: int
    review_views: bool
    memory_mib: int
    def __init__(self, quality: _Optional[_Union[Quality, str]] = ..., reconstructor: _Optional[str] = ..., refine: _Optional[bool] = ..., target_faces: _Optional[int] = ..., texture_size: _Optional[int] = ..., seed: _Optional[int] = ..., device: _Optional[str] = ..., seconds: _Optional[float] = ..., multiview: _Optional[_Union[MultiviewOptions, _Mapping]] = ..., variants: _Optional[int] = ..., review_views: _Optional[bool] = ..., memory_mib: _Optional[int] = ...) -> None: ...

class MultiviewOptions(_message.Message):
    __slots__ = ("generator", "candidates", "steps", "guidance", "recall", "distil_steps")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    DISTIL_STEPS_FIELD_NUMBER: _ClassVar[int]
    generator: str
    candidates: int
    steps: int
    guidance: float
    recall: bool
    distil_steps: int
    def __init__(self, generator: _Optional[str] = ..., candidates: _Optional[int] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., recall: _Optional[bool] = ..., distil_steps: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "request_id", "state", "progress", "error", "assets", "spec", "create_time", "start_time", "end_time", "last_sequence", "attempt")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    state: JobState
    progress: Progress
    error: JobError
    assets: _containers.RepeatedCompositeFieldContainer[Asset]
    spec: JobSpec
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    last_sequence: int
    attempt: int
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., assets: _Optional[_Iterable[_Union[Asset, _Mapping]]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_sequence: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "total_fraction", "stage_fraction", "message", "seconds_left", "queue_position")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FRACTION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FRACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    total_fraction: float
    stage_fraction: float
    message: str
    seconds_left: float
    queue_position: int
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., total_fraction: _Optional[float] = ..., stage_fraction: _Optional[float] = ..., message: _Optional[str] = ..., seconds_left: _Optional[float] = ..., queue_position: _Optional[int] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Asset(_message.Message):
    __slots__ = ("id", "name", "kind", "media_type", "size_bytes", "sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    kind: AssetKind
    media_type: str
    size_bytes: int
    sha256: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[AssetKind, str]] = ..., media_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("spec", "request_id")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    request_id: str
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "after_sequence")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_sequence: int
    def __init__(self, job_id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("sequence", "job", "progress", "log", "preview", "heartbeat")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    job: Job
    progress: Progress
    log: LogLine
    preview: Preview
    heartbeat: Heartbeat
    def __init__(self, sequence: _Optional[int] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., log: _Optional[_Union[LogLine, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("data", "media_type", "index", "count", "variant")
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    media_type: str
    index: int
    count: int
    variant: int
    def __init__(self, data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., index: _Optional[int] = ..., count: _Optional[int] = ..., variant: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FindBlobsRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class FindBlobsResponse(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[BlobStatus]
    def __init__(self, blobs: _Optional[_Iterable[_Union[BlobStatus, _Mapping]]] = ...) -> None: ...

class BlobStatus(_message.Message):
    __slots__ = ("sha256", "complete", "received_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    complete: bool
    received_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., complete: _Optional[bool] = ..., received_bytes: _Optional[int] = ...) -> None: ...

class UploadBlobRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: BlobHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[BlobHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class BlobHeader(_message.Message):
    __slots__ = ("sha256", "size_bytes", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    offset: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class UploadBlobResponse(_message.Message):
    __slots__ = ("sha256", "size_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class DownloadAssetRequest(_message.Message):
    __slots__ = ("asset_id", "offset")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    offset: int
    def __init__(self, asset_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadAssetResponse(_message.Message):
    __slots__ = ("offset", "chunk", "size_bytes", "sha256")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    offset: int
    chunk: bytes
    size_bytes: int
    sha256: str
    def __init__(self, offset: _Optional[int] = ..., chunk: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class LookUpWordsRequest(_message.Message):
    __slots__ = ("prompt", "prefix", "max_suggestions", "generator", "list_all")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MAX_SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    LIST_ALL_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    prefix: str
    max_suggestions: int
    generator: str
    list_all: bool
    def __init__(self, prompt: _Optional[str] = ..., prefix: _Optional[str] = ..., max_suggestions: _Optional[int] = ..., generator: _Optional[str] = ..., list_all: _Optional[bool] = ...) -> None: ...

class LookUpWordsResponse(_message.Message):
    __slots__ = ("known", "unknown", "suggestions", "vocabulary")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    known: _containers.RepeatedScalarFieldContainer[str]
    unknown: _containers.RepeatedCompositeFieldContainer[UnknownWord]
    suggestions: _containers.RepeatedScalarFieldContainer[str]
    vocabulary: _containers.RepeatedCompositeFieldContainer[KnownWord]
    def __init__(self, known: _Optional[_Iterable[str]] = ..., unknown: _Optional[_Iterable[_Union[UnknownWord, _Mapping]]] = ..., suggestions: _Optional[_Iterable[str]] = ..., vocabulary: _Optional[_Iterable[_Union[KnownWord, _Mapping]]] = ...) -> None: ...

class UnknownWord(_message.Message):
    __slots__ = ("word", "nearest", "taken_for", "is_rough")
    WORD_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FOR_FIELD_NUMBER: _ClassVar[int]
    IS_ROUGH_FIELD_NUMBER: _ClassVar[int]
    word: str
    nearest: _containers.RepeatedScalarFieldContainer[str]
    taken_for: str
    is_rough: bool
    def __init__(self, word: _Optional[str] = ..., nearest: _Optional[_Iterable[str]] = ..., taken_for: _Optional[str] = ..., is_rough: _Optional[bool] = ...) -> None: ...

class KnownWord(_message.Message):
    __slots__ = ("word", "count", "taken_for", "is_rough")
    WORD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FOR_FIELD_NUMBER: _ClassVar[int]
    IS_ROUGH_FIELD_NUMBER: _ClassVar[int]
    word: str
    count: int
    taken_for: str
    is_rough: bool
    def __init__(self, word: _Optional[str] = ..., count: _Optional[int] = ..., taken_for: _Optional[str] = ..., is_rough: _Optional[bool] = ...) -> None: ...

class ShutdownRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShutdownResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeServerRequest(_message.Message):
    __slots__ = ("wait_until_ready",)
    WAIT_UNTIL_READY_FIELD_NUMBER: _ClassVar[int]
    wait_until_ready: bool
    def __init__(self, wait_until_ready: _Optional[bool] = ...) -> None: ...

class DescribeServerResponse(_message.Message):
    __slots__ = ("version", "api", "pipeline", "engine", "ready", "not_ready_reason", "versions", "devices", "models", "kernels", "sources", "limits", "queued_jobs", "running_jobs")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_JOBS_FIELD_NUMBER: _ClassVar[int]
    version: str
    api: _containers.RepeatedScalarFieldContainer[str]
    pipeline: str
    engine: str
    ready: bool
    not_ready_reason: str
    versions: _containers.ScalarMap[str, str]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    kernels: _containers.RepeatedCompositeFieldContainer[Kernel]
    sources: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    queued_jobs: int
    running_jobs: int
    def __init__(self, version: _Optional[str] = ..., api: _Optional[_Iterable[str]] = ..., pipeline: _Optional[str] = ..., engine: _Optional[str] = ..., ready: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., kernels: _Optional[_Iterable[_Union[Kernel, _Mapping]]] = ..., sources: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., queued_jobs: _Optional[int] = ..., running_jobs: _Optional[int] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("id", "name", "memory_bytes", "free_memory_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    memory_bytes: int
    free_memory_bytes: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., free_memory_bytes: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "kind", "available", "why_not", "sources")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    WHY_NOT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    available: bool
    why_not: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., available: _Optional[bool] = ..., why_not: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class Kernel(_message.Message):
    __slots__ = ("operation", "device", "variant", "why_not")
    class WhyNotEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    WHY_NOT_FIELD_NUMBER: _ClassVar[int]
    operation: str
    device: str
    variant: str
    why_not: _containers.ScalarMap[str, str]
    def __init__(self, operation: _Optional[str] = ..., device: _Optional[str] = ..., variant: _Optional[str] = ..., why_not: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_views", "max_image_edge", "max_total_pixels", "max_inline_image_bytes", "max_blob_bytes", "chunk_bytes", "max_message_bytes", "queue_limit", "min_target_faces", "max_target_faces", "min_texture_size", "max_texture_size", "max_prompt_characters", "max_variants", "max_candidates", "max_steps", "max_guidance", "max_pictures", "max_distil_steps")
    MAX_VIEWS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_EDGE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOTAL_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_INLINE_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MIN_TARGET_FACES_FIELD_NUMBER: _ClassVar[int]
    MAX_TARGET_FACES_FIELD_NUMBER: _ClassVar[int]
    MIN_TEXTURE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXTURE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURES_FIELD_NUMBER: _ClassVar[int]
    MAX_DISTIL_STEPS_FIELD_NUMBER: _ClassVar[int]
    max_views: int
    max_image_edge: int
    max_total_pixels: int
    max_inline_image_bytes: int
    max_blob_bytes: int
    chunk_bytes: int
    max_message_bytes: int
    queue_limit: int
    min_target_faces: int
    max_target_faces: int
    min_texture_size: int
    max_texture_size: int
    max_prompt_characters: int
    max_variants: int
    max_candidates: int
    max_steps: int
    max_guidance: int
    max_pictures: int
    max_distil_steps: int
    def __init__(self, max_views: _Optional[int] = ..., max_image_edge: _Optional[int] = ..., max_total_pixels: _Optional[int] = ..., max_inline_image_bytes: _Optional[int] = ..., max_blob_bytes: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., queue_limit: _Optional[int] = ..., min_target_faces: _Optional[int] = ..., max_target_faces: _Optional[int] = ..., min_texture_size: _Optional[int] = ..., max_texture_size: _Optional[int] = ..., max_prompt_characters: _Optional[int] = ..., max_variants: _Optional[int] = ..., max_candidates: _Optional[int] = ..., max_steps: _Optional[int] = ..., max_guidance: _Optional[int] = ..., max_pictures: _Optional[int] = ..., max_distil_steps: _Optional[int] = ...) -> None: ...
