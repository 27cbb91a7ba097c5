"""What a reconstructor must offer, whatever it is inside."""

from typing import Protocol

from mvgamba.reconstructor.normalise import NormalisedViews
from mvgamba.types import Reconstruction


class Reconstructor(Protocol):
    """Turns views of an object in the normalised frame into surfels there."""

    name: str

    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Raises: InvalidCameras or InvalidImage for views it cannot use; EmptyReconstruction."""
        ...
