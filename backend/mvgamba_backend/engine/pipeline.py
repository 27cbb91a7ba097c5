"""What a worker runs: the real pipeline, or one that only plays."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from mvgamba.progress import CancelToken
from mvgamba.registry import Registry
from mvgamba_backend.engine.protocol import Description, OutputFile
from mvgamba_backend.spec import ImageSource, JobSpec


class Job(ABC):
    """One job as a pipeline sees it."""

    def __init__(self, spec: JobSpec, blobs: dict[str, Path], folder: Path, cancel: CancelToken) -> None:
        self.spec = spec
        self.blobs = blobs
        self.folder = folder
        """Results go here."""
        self.cancel = cancel

    @abstractmethod
    def report(self, stage: str, fraction: float, **more: Any) -> None:
        """`fraction` is of the whole job; `more`: message, stage_fraction, seconds_left."""

    @abstractmethod
    def log(self, text: str) -> None:
        """Tell the user something."""

    @abstractmethod
    def preview(self, data: bytes, media_type: str, *, index: int, count: int, variant: int = 0) -> None:
        """Show a small picture (at most `MAX_PREVIEW_BYTES`) of one of `count` views of a result."""


def source_facts(spec: JobSpec) -> dict[str, Any]:
    """What the facts of a result say about what it was made from, beside what the library says."""
    facts: dict[str, Any] = {"kind": spec.kind}
    if isinstance(spec.source, ImageSource):
        sides = ["front", *(other.side for other in spec.source.others)]
        facts |= {"sides": sides, "background": spec.source.background}
    return facts


class Pipeline(Protocol):
    """Made once for each worker, then used for one job after the other. It computes on the devices that CUDA_VISIBLE_DEVICES leaves it."""

    def describe(self) -> Description: ...

    def run(self, job: Job) -> list[OutputFile]:
        """Raises: what `mvgamba.pipeline.generate` raises."""


def numbered(name: str, variant: int) -> str:
    """mesh.glb, mesh_2.glb, mesh_3.glb, ... for 0, 1, 2, ..."""
    path = Path(name)
    return name if variant == 0 else f"{path.stem}_{variant + 1}{path.suffix}"


PIPELINES = Registry(
    "pipeline",
    {
        "real": "mvgamba_backend.engine.real:RealPipeline",
        "fake": "mvgamba_backend.engine.fake:FakePipeline",
    },
)
