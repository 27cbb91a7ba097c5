"""Where the parts of a pipeline lie and in which precision, by the memory that is free."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch

from mvgamba.errors import OutOfMemory

GIB = 2**30
WORKING = 3.0 * GIB
"""What a step and the autoencoder take beside the weights, in single precision, at four views and an image; half of it in half precision."""


@dataclass(frozen=True)
class Placement:
    """A choice that fits."""

    device: str
    dtype: torch.dtype
    offload: bool = False
    """Only the part that works is on the device, the others wait in main memory."""
    warning: str | None = None
    """What was given up, and what it costs."""


def place(num_parameters: Mapping[str, int], *, device: str, available: int, can_halve_fast: bool = True) -> Placement:
    """The best placement that fits.

    On CUDA: half precision (float16, as the weights are published), all parts there; else one after the other. On the CPU: single precision;
    else bfloat16, which takes as many bytes as the published files and is as exact as the weights, but is slow where
    the processor cannot multiply it.

    Args:
        num_parameters: Of each part.
        available: Bytes that are free on the device.
    Raises:
        OutOfMemory: It does not fit in half precision, naming the bytes.
    """
    total, largest = sum(num_parameters.values()), max(num_parameters.values())
    half, full = 2 * total + WORKING / 2, 4 * total + WORKING
    if device.startswith("cuda"):
        if half <= available:
            return Placement(device, torch.float16)
        alone = 2 * largest + WORKING / 2
        if alone <= available:
            warning = (
                f"Of the {half / GIB:.1f} GiB of device memory that would be needed {available / GIB:.1f} GiB are free: the parts take "
                "turns on the device, which takes longer."
            )
            return Placement(device, torch.float16, offload=True, warning=warning)
        raise _short(alone, available, "device memory", "Close other programs on the device, or use the CPU")
    if full <= available:
        return Placement(device, torch.float32)
    if half <= available:
        slow = "" if can_halve_fast else ", and this processor multiplies it slowly"
        warning = (
            f"Of the {full / GIB:.1f} GiB of memory that single precision needs {available / GIB:.1f} GiB are free: bfloat16 is used, "
            f"which is less exact{slow}."
        )
        return Placement(device, torch.bfloat16, warning=warning)
    raise _short(half, available, "memory", "Close other programs")


def _short(need: float, available: int, kind: str, cure: str) -> OutOfMemory:
    return OutOfMemory(
        f"This generator needs {need / GIB:.1f} GiB of {kind}, {available / GIB:.1f} GiB are free. {cure}, or use the generator 'starter'."
    )


def available_bytes(device: str) -> int:
    """Free on the device now, by the driver or the system."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
