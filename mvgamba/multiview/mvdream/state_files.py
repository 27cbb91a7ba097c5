"""Files of tensors, read without running anything, and put into a module key by key."""

import logging
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mvgamba.errors import WeightsCorrupt, WeightsMissing

log = logging.getLogger(__name__)

UNUSED = ("position_ids",)
"""Last words of keys that older files hold and that are no weights."""


def find_weights(folder: Path, stem: str) -> Path:
    """The file of a component: `STEM.safetensors`, with `.fp16` before the ending or without, else `.bin`.

    Raises: WeightsMissing, naming what there is.
    """
    bins = {"model": "pytorch_model"}.get(stem, stem)
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{bins}.bin", f"{bins}.fp16.bin"):
        if (folder / name).is_file():
            return folder / name
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    hint = ""
    if any(name.endswith((".partial", ".incomplete", ".part")) for name in there):
        hint = " A download there was not finished: run it again, it goes on where it was cut."
    raise WeightsMissing(
        f"{folder} has no {stem}.safetensors and no {bins}.bin (there is: {', '.join(there) or 'nothing'}).{hint}"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, read as they are needed. Of a checkpoint of Lightning, its `state_dict`.

    Raises: WeightsCorrupt, if the file is cut off, is something else, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsCorrupt(
            f"{path} cannot be read as a file of tensors: {why} Nothing of it was run. If it was copied or downloaded, it may be cut "
            "off: fetch it again."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsCorrupt(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors only.")
    return content


def fitting(module: nn.Module, weights: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """The weights under the keys of a module: all of them, each with its shape, none left over.

    A prefix that older versions of `transformers` put before every key, or newer ones no longer do, is seen to.
    Raises: WeightsCorrupt, naming the first keys that are wrong.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: value for key, value in weights.items() if not key.endswith(UNUSED)}
    given = _with_prefix_of(given, expected)
    missing = [f"{key} {shape}" for key, shape in expected.items() if key not in given]
    over = [f"{key} {tuple(value.shape)}" for key, value in given.items() if key not in expected]
    wrong = [
        f"{key} {tuple(given[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in given and tuple(given[key].shape) != shape
    ]
    said = [
        f"{len(keys)} {what}, the first: {', '.join(keys[:3])}"
        for what, keys in (("are missing", missing), ("are not known", over), ("have another shape", wrong))
        if keys
    ]
    if said:
        raise WeightsCorrupt(f"The weights of {name} are not those of this network: {'; '.join(said)}.")
    return given


def fill(module: nn.Module, weights: Mapping[str, Tensor], *, dtype: torch.dtype, name: str) -> None:
    """Give a module without storage its weights, see `fitting`. Raises: WeightsCorrupt, also for numbers that are not finite."""
    ready = {}
    for key, value in fitting(module, weights, name=name).items():
        if not value.is_floating_point():
            raise WeightsCorrupt(f"{key} of {name} holds {value.dtype}, expected floating point numbers.")
        ready[key] = value.to(dtype)
        if not bool(torch.isfinite(ready[key]).all()):
            raise WeightsCorrupt(f"{key} {tuple(value.shape)} of {name} holds numbers that are not finite.")
    module.load_state_dict(ready, assign=True)
    module.requires_grad_(False).eval()
    log.debug("%s: %d tensors", name, len(ready))


def renamed(weights: Mapping[str, Tensor], rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    """Under other keys; those for which None is said are left out."""
    return {new: value for key, value in weights.items() if (new := rename(key)) is not None}


_PREFIXES = ("text_model.", "vision_model.")


def _with_prefix_of(given: dict[str, Tensor], expected: Mapping[str, object]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        has, wants = (all(key.startswith(prefix) for key in keys) and keys for keys in (given, expected))
        if has and not wants:
            return {key.removeprefix(prefix): value for key, value in given.items()}
        if wants and not any(key.startswith(prefix) for key in given):
            return {prefix + key: value for key, value in given.items()}
    return given
