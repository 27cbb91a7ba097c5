"""What a reconstructor must offer, whatever it is inside, and what it is made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mvgamba.reconstructor.normalise import NormalisedViews
from mvgamba.types import Reconstruction


@dataclass(frozen=True)
class ReconstructorSettings:
    """Wishes; each reconstructor takes those that mean something to it."""

    resolution: int = 96
    """Of a grid, in cells along the longest side."""
    faces: int = 20_000
    """About how many surfels."""
    weights: Path | None = None
    """A file, instead of the default."""
    weights_folder: Path | None = None
    """Of the user; what lies there is looked at beside what comes with the package."""
    device: str = "cpu"


class Reconstructor(Protocol):
    """Turns views of an object in the normalised frame into surfels there."""

    name: str

    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Raises: InvalidCameras or InvalidImage for views it cannot use; EmptyReconstruction."""
        ...
