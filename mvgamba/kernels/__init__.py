"""The operations that everything else is made of, each with a reference in plain torch and faster variants."""

import importlib
from pathlib import Path

from mvgamba.kernels.kernel import Kernel

_NAMES = (
    "add_rms_norm",
    "carve_silhouettes",
    "causal_conv_silu",
    "fuse_tsdf",
    "rasterize_mesh",
    "rasterize_surfels",
    "selective_scan",
)


def all_kernels() -> dict[str, Kernel]:
    """All kernels by name, imported when asked for."""
    return {name: getattr(importlib.import_module(f"mvgamba.kernels.{name}"), name) for name in _NAMES}


def cuda_modules() -> list[str]:
    """The modules that hold kernels for CUDA; each has `cuda_kernels()`, which lists them for compiling ahead of time."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*_cuda.py"))
