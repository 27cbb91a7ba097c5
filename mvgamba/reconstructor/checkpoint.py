"""Weights of the MVGamba network in the layout of the released code, read with suspicion and written for others to read."""

import dataclasses
import json
import logging
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import NetworkConfig, RotationHead
from mvgamba.weights.header import read_header

log = logging.getLogger(__name__)

MODEL = "mvgamba"
"""What the header of a `.safetensors` file says it is of."""
NUM_VIEWS = 4
NUM_SCANS = 4
_ROTATION_OF_WIDTH: dict[int, RotationHead] = {32: "rotnet_soft", 4: "quat", 6: "sixd"}
_LAYER = "transformer.layers."


def load_checkpoint(path: Path, *, overrides: Mapping[str, object] | None = None) -> MVGambaNetwork:
    """The network with the weights of a file, in evaluation mode on the CPU.

    The file is what `torch.save` wrote: a dictionary with the weights under `model`, or the weights themselves, with names
    that begin with `model.`, `module.`, both, or neither; those of a loss (`lpips_loss.`) are left out. Or it is a
    `.safetensors` file of the same names. Sizes follow from the shapes. What shapes do not tell (the order of scanning)
    follows from the entry `config`, in the dictionary or the header, if there is one, else it is that of the released code.

    Args:
        overrides: Fields of `NetworkConfig` that the file does not know, such as `scan_order` or `scale_rows`.
    Raises:
        WeightsMissing: There is no such file.
        WeightsCorrupt: It cannot be read, or a weight is missing, unknown, not finite or of another shape.
    """
    if not path.is_file():
        raise WeightsMissing(f"There are no MVGamba weights at {path.name}; give the path of a checkpoint file.")
    weights, known = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else read_pickle(path)
    return network_from_weights(weights, overrides={**known, **(overrides or {})})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, object]]:
    header = read_header(path)
    if header.get("kind", MODEL) != MODEL:
        raise WeightsCorrupt(f"{path.name} says it is of the model {header['kind']!r}, expected {MODEL!r}.")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise WeightsCorrupt(f"{path.name} cannot be read: {error}.") from error
    known = header.get("config")
    return weights, known if isinstance(known, dict) else {}


def read_pickle(path: Path) -> tuple[dict[str, Tensor], Mapping[str, object]]:
    """The tensors of a file that `torch.save` wrote, and its `config`. Nothing of it is run. Raises: WeightsCorrupt."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if asked := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise WeightsCorrupt(
                f"{path.name} holds more than tensors: to read it, {asked[1]} would have to be called, which may do anything. "
                "Nothing of it was run. Ask its author for a file of the state_dict alone."
            ) from error
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsCorrupt(f"{path.name} cannot be read as a checkpoint of tensors: {why}") from error
    if not isinstance(content, dict):
        raise WeightsCorrupt(f"{path.name} holds a {type(content).__name__}, expected a dictionary of tensors.")
    known = content.get("config")
    weights = content["model"] if isinstance(content.get("model"), dict) else content
    for name, value in weights.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise WeightsCorrupt(
                f"{path.name} holds {name!r} of type {type(value).__name__} among the weights, expected tensors only."
            )
    return weights, known if isinstance(known, dict) else {}


def save_checkpoint(network: MVGambaNetwork, path: Path) -> None:
    """Write weights in the layout of the released code, with the configuration beside them."""
    weights = {f"model.{name}": value.detach().cpu() for name, value in network.state_dict().items()}
    torch.save({"model": weights, "config": dataclasses.asdict(network.config)}, path)


def save_safetensors(network: MVGambaNetwork, path: Path) -> None:
    """Weights under the names of the released code without a prefix, with the configuration in the header."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    words = {"kind": MODEL, "config": json.dumps(dataclasses.asdict(network.config))}
    save_file(tensors, path, metadata=words)


def network_from_weights(
    weights: Mapping[str, Tensor], *, overrides: Mapping[str, object] | None = None
) -> MVGambaNetwork:
    """See `load_checkpoint`. Raises: WeightsCorrupt."""
    named = _without_prefixes(weights)
    config = config_from_shapes(named, overrides=overrides)
    with torch.device("meta"):
        network = MVGambaNetwork(config)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if "decoder.coords" not in named:
        bins = torch.linspace(-config.position_range, config.position_range, config.num_bins)
        named["decoder.coords"] = bins.repeat(3, 1)
    for name, shape in expected.items():
        if name not in named:
            raise WeightsCorrupt(f"The checkpoint has no {name}, expected with shape {shape}.")
        if tuple(named[name].shape) != shape:
            raise WeightsCorrupt(f"{name} has shape {tuple(named[name].shape)}, expected {shape}.")
        if not bool(torch.isfinite(named[name]).all()):
            raise WeightsCorrupt(f"{name} holds numbers that are not finite.")
    unknown = sorted(set(named) - set(expected))
    if unknown:
        raise WeightsCorrupt(
            f"The checkpoint holds {len(unknown)} weights that this network does not have, "
            f"the first is {unknown[0]} with shape {tuple(named[unknown[0]].shape)}."
        )
    network.load_state_dict({name: value.float() for name, value in named.items()}, assign=True)
    for module in network.modules():  # buffers outside the checkpoint are still without storage
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module.register_buffer(name, _constant(name), persistent=False)
    network.requires_grad_(True)
    log.info("MVGamba network %d x %d, %d tokens", config.num_layers, config.width, config.num_tokens)
    return network.eval()


def config_from_shapes(
    weights: Mapping[str, Tensor], *, overrides: Mapping[str, object] | None = None
) -> NetworkConfig:
    """Sizes of the network that weights without prefixes belong to. Raises: WeightsCorrupt."""

    def shape(name: str, dims: int) -> tuple[int, ...]:
        if name not in weights:
            raise WeightsCorrupt(f"The checkpoint has no {name}; it is not one of an MVGamba reconstructor.")
        if weights[name].ndim != dims:
            raise WeightsCorrupt(f"{name} has shape {tuple(weights[name].shape)}, expected {dims} axes.")
        return tuple(weights[name].shape)

    width, channels, patch, _ = shape("map_image.weight", 4)
    if channels != 9:
        raise WeightsCorrupt(f"map_image.weight takes {channels} channels, expected 9 (colour and Plücker rays).")
    tokens, _ = shape("transformer.pos_embed", 2)
    grid = math.isqrt(tokens // (NUM_VIEWS * NUM_SCANS))
    if grid == 0 or grid * grid * NUM_VIEWS * NUM_SCANS != tokens:
        raise WeightsCorrupt(
            f"transformer.pos_embed has {tokens} rows, expected 4 views x 4 scans x a square number of patches."
        )
    indices = {int(name[len(_LAYER) :].split(".")[0]) for name in weights if name.startswith(_LAYER)}
    if indices != set(range(len(indices))) or not indices:
        raise WeightsCorrupt(f"The checkpoint has the layers {sorted(indices)}, expected 0, 1, 2 and so on.")
    mixer = f"{_LAYER}0.mamba_block.mixer."
    inner, states = shape(mixer + "A_log", 2)
    rotation = _ROTATION_OF_WIDTH.get(shape("decoder.gs_layer.rot.weight", 2)[0])
    if rotation is None:
        raise WeightsCorrupt(
            f"decoder.gs_layer.rot.weight has {shape('decoder.gs_layer.rot.weight', 2)[0]} rows, "
            f"expected one of {sorted(_ROTATION_OF_WIDTH)}."
        )
    if rotation == "rotnet_soft" and "decoder.get_rot.canonical_quaternions" in weights:
        rotation = "rotnet_hard"
    scale_width = shape("decoder.gs_layer.scale.weight", 2)[0]
    if scale_width not in (2, 3):
        raise WeightsCorrupt(f"decoder.gs_layer.scale.weight has {scale_width} rows, expected 2 or 3.")
    facts: dict[str, Any] = {
        "width": width,
        "num_layers": len(indices),
        "patch_size": patch,
        "image_size": grid * patch,
        "state_size": states,
        "conv_size": shape(mixer + "conv1d.weight", 3)[2],
        "expand": max(1, inner // width),
        "mlp_width": shape("decoder.mlp_net.layers.0.weight", 2)[0],
        "num_bins": shape("decoder.gs_layer.xyz.weight", 2)[0] // 3,
        "rotation_head": rotation,
        "scale_width": scale_width,
    }
    if "decoder.coords" in weights:
        facts["position_range"] = round(float(weights["decoder.coords"].abs().max()), 6)
    fields = {field.name for field in dataclasses.fields(NetworkConfig)}
    extra = {k: v for k, v in (overrides or {}).items() if k in fields and k not in facts}
    return NetworkConfig(**{**facts, **extra})


def _without_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        while name.startswith(("model.", "module.")):
            name = name.split(".", 1)[1]
        if not name.startswith("lpips_loss."):
            named[name] = value
    return named


def _constant(name: str) -> Tensor:
    from mvgamba.reconstructor.rotations import canonical_quats

    assert name == "canonical_quaternions", name
    return canonical_quats()
