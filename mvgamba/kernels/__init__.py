"""The operations that everything else is made of, each with a reference in plain torch and faster variants."""

import importlib

from mvgamba.kernels.kernel import Kernel

_NAMES = ("carve_silhouettes", "fuse_tsdf", "rasterize_mesh", "rasterize_surfels", "selective_scan")


def all_kernels() -> dict[str, Kernel]:
    """All kernels by name, imported when asked for."""
    return {name: getattr(importlib.import_module(f"mvgamba.kernels.{name}"), name) for name in _NAMES}
