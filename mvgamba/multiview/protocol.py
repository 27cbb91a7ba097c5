"""What a multi-view generator must offer, whatever it is inside, and what it is made from and asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mvgamba.progress import CancelToken
from mvgamba.types import Cameras, PosedViews, SourceImage


@dataclass(frozen=True)
class GeneratorSettings:
    """Where a generator finds its weights and where it runs."""

    weights: Path | None = None
    """A file or folder, instead of the default."""
    weights_folder: Path | None = None
    """Of the user; what lies there is looked at beside what comes with the package."""
    device: str = "cpu"
    adapters: tuple[Path, ...] = ()
    """Files of `mvgamba train personalise`, added to the weights one after the other."""


@dataclass(frozen=True, eq=False)
class ViewsRequest:
    """One set of views. At least one of prompt, image and start is given."""

    prompt: str = ""
    negative_prompt: str = ""
    image: SourceImage | None = None
    """The object alone, upright, framed as `multiview.framing` does it."""
    elevation: float | None = None
    """Radians, of the camera that took the image; None to find it out."""
    start: PosedViews | None = None
    """Views from the cameras that the generator makes views for: what to begin from instead of noise."""
    strength: float = 1.0
    """How much of `start` is given up: 0 keeps it, 1 forgets it."""
    recall: bool = True
    """Begin from an object that the generator remembers and the prompt fits, where it remembers any; else from noise."""
    candidates: int = 1
    """How many are made, of which the best is given."""
    steps: int | None = None
    """None for what the generator does best with."""
    guidance: float | None = None
    """How much more of the prompt than of no prompt (classifier-free guidance); None likewise."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class GeneratedViews:
    """What came of it."""

    views: PosedViews
    """About the object in the unit ball, its front facing +Z; with an image, its camera stands at azimuth 0."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Generator, seed, steps, scores of the candidates: what a file carries along."""
    warnings: tuple[str, ...] = ()


Preview = Callable[[float, PosedViews | None], None]
"""Called after each step with the fraction that is done and, where it is cheap, the views as they are expected to become."""


@runtime_checkable
class MultiviewGenerator(Protocol):
    """Makes views of one object that agree with each other."""

    name: str

    @property
    def cameras(self) -> Cameras:
        """That it makes views for where nothing else is asked for, about the object in the unit ball."""
        ...

    def generate(
        self, request: ViewsRequest, *, preview: Preview | None = None, cancel: CancelToken | None = None
    ) -> GeneratedViews:
        """Same request, same views on the same device.

        Raises:
            InvalidInput: The request asks for what this generator cannot make (no image, no prompt), naming it.
            Cancelled: The token was set; looked at between steps.
            OutOfMemory: By its name, with what to do.
        """
        ...
