"""Every error a caller may meet, as one small tree.

Each class carries a `reason`, the stable upper-case word that the service sends and the add-on turns into a
sentence and a button. The message says what came, what would be accepted and what to do.
"""


class MVGambaError(Exception):
    """Root of the tree. Raise a subclass."""

    reason = "INTERNAL"


class InvalidInput(MVGambaError):
    """Something the caller handed over cannot be used as it is."""

    reason = "INVALID_INPUT"


class InvalidCameras(InvalidInput):
    """Camera matrices or intrinsics are not those of pinhole cameras that see a common object."""

    reason = "INVALID_CAMERAS"


class InvalidImage(InvalidInput):
    """An image is missing, broken, too large, of another size, or shows no subject."""

    reason = "INVALID_IMAGE"


class EmptyReconstruction(MVGambaError):
    """The views gave no surface."""

    reason = "EMPTY_RECONSTRUCTION"


class OutputFailed(MVGambaError):
    """A result could not be written."""

    reason = "OUTPUT_FAILED"


class DiskFull(OutputFailed):
    """No room is left where a result should go."""

    reason = "DISK_FULL"


class OutOfMemory(MVGambaError):
    """Main or device memory does not suffice for the request."""

    reason = "OUT_OF_MEMORY"


class Unavailable(MVGambaError):
    """A variant, device or model was asked for that cannot run here."""

    reason = "UNAVAILABLE"


class WeightsMissing(Unavailable):
    """A model was asked for whose weights are not present."""

    reason = "WEIGHTS_MISSING"


class WeightsCorrupt(Unavailable):
    """A weights file does not hold what its layout or hash promises."""

    reason = "WEIGHTS_CORRUPT"


class Cancelled(MVGambaError):
    """The caller asked to stop."""

    reason = "CANCELLED"
