"""Posed views -> surfels: the visual hull, and the MVGamba network."""

from mvgamba.registry import Registry

RECONSTRUCTORS = Registry("reconstructor", {"hull": "mvgamba.reconstructor.hull:HullReconstructor"})
