"""Posed views -> surfels: the visual hull, our own learned network, and the published MVGamba network."""

from mvgamba.registry import Registry

RECONSTRUCTORS = Registry(
    "reconstructor",
    {
        "hull": "mvgamba.reconstructor.hull:hull_from_settings",
        "ray": "mvgamba.reconstructor.ray_reconstructor:ray_from_settings",
        "mvgamba": "mvgamba.reconstructor.mvgamba_reconstructor:mvgamba_from_settings",
    },
)
"""Name -> function of `ReconstructorSettings` that makes a `Reconstructor` (see `protocol`)."""
