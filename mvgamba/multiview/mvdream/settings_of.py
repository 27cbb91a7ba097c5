"""Sizes of the networks, from a published `config.json` and from the shapes of the weights."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvgamba.errors import WeightsCorrupt

HEAD_WIDTH = 64
"""Of the UNet and the text encoder; shapes do not tell it."""
VISION_HEAD_WIDTH = 80
"""Of OpenCLIP's ViT-H."""

_KNOWN = (
    "in_channels", "out_channels", "model_channels", "num_res_blocks", "attention_resolutions", "channel_mult",
    "num_head_channels", "transformer_depth", "context_dim", "camera_dim", "ip_dim",
)  # fmt: skip
_PLAIN: Mapping[str, object] = {
    "dims": 2,
    "dropout": 0,
    "num_classes": None,
    "num_heads": -1,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "conv_resample": True,
    "n_embed": None,
    "num_attention_blocks": None,
    "adm_in_channels": None,
    "ip_weight": 1,
}
"""What the published class can be told beside, and what it is told for every published file."""


def unet_settings(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `MultiViewUNet` from the `config.json` beside it. Raises: WeightsCorrupt, naming what it cannot be."""
    missing = [name for name in ("model_channels", "channel_mult", "context_dim") if name not in config]
    if missing:
        raise WeightsCorrupt(
            f"unet/config.json has no {missing[0]}; expected are the settings of MVDream's UNet. It has {', '.join(config) or 'none'}."
        )
    for name, plain in _PLAIN.items():
        if config.get(name, plain) != plain:
            raise WeightsCorrupt(
                f"unet/config.json has {name} {config[name]!r}; this network is made with {plain!r} only."
            )
    settings = {name: config[name] for name in _KNOWN if name in config}
    settings.setdefault("ip_dim", 0)
    return settings | (_resampler_settings(weights) if settings["ip_dim"] else {})


def unet_settings_of_shapes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same without a configuration. Raises: WeightsCorrupt."""
    first = _shape(weights, "input_blocks.0.0.weight")
    widths: list[list[int]] = [[]]
    attends: set[int] = set()
    number = 1
    while any(key.startswith(f"input_blocks.{number}.") for key in weights):
        place = f"input_blocks.{number}."
        if f"{place}0.op.weight" in weights:
            widths.append([])
        else:
            widths[-1].append(_shape(weights, f"{place}0.in_layers.2.weight")[0])
            if f"{place}1.norm.weight" in weights:
                attends.add(2 ** (len(widths) - 1))
        number += 1
    if len({len(level) for level in widths}) != 1 or not widths[0] or any(w[0] % first[0] for w in widths):
        raise WeightsCorrupt(f"The UNet's levels have the widths {widths}, expected the same number of blocks in each.")
    block = "middle_block.1.transformer_blocks."
    depth = len({key.removeprefix(block).split(".")[0] for key in weights if key.startswith(block)})
    takes_images = "image_embed.latents" in weights
    settings = {
        "in_channels": first[1],
        "out_channels": _shape(weights, "out.2.weight")[0],
        "model_channels": first[0],
        "num_res_blocks": len(widths[0]),
        "attention_resolutions": sorted(attends, reverse=True),
        "channel_mult": [level[0] // first[0] for level in widths],
        "num_head_channels": HEAD_WIDTH,
        "transformer_depth": depth,
        "context_dim": _shape(weights, f"{block}0.attn2.to_k.weight")[1],
        "camera_dim": weights["camera_embed.0.weight"].shape[1] if "camera_embed.0.weight" in weights else None,
        "ip_dim": _shape(weights, "image_embed.latents")[1] if takes_images else 0,
    }
    return settings | (_resampler_settings(weights) if takes_images else {})


def _resampler_settings(weights: Mapping[str, Tensor]) -> dict[str, int]:
    layers = {m[1] for key in weights if (m := re.match(r"image_embed\.layers\.(\d+)\.", key))}
    return {
        "feature_width": _shape(weights, "image_embed.proj_in.weight")[1],
        "resampler_depth": len(layers),
        "resampler_heads": _shape(weights, "image_embed.layers.0.0.to_q.weight")[0] // HEAD_WIDTH,
    }


def vae_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `AutoencoderKL` for an autoencoder with LDM's names. Raises: WeightsCorrupt."""
    levels = 1 + max((int(m[1]) for key in weights if (m := re.match(r"encoder\.down\.(\d+)\.", key))), default=-1)
    widths = [_shape(weights, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels)]
    if not widths:
        raise WeightsCorrupt("The checkpoint's autoencoder has no encoder.down.0; it is not one of LDM.")
    blocks = {key.split(".")[4] for key in weights if key.startswith("encoder.down.0.block.")}
    return {
        "in_channels": _shape(weights, "encoder.conv_in.weight")[1],
        "out_channels": _shape(weights, "decoder.conv_out.weight")[0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(widths),
        "layers_per_block": len(blocks),
        "latent_channels": _shape(weights, "post_quant_conv.weight")[0],
        "sample_size": 256,
        "scaling_factor": 0.18215,
    }


def text_settings(weights: Mapping[str, Tensor], *, num_layers: int) -> dict[str, Any]:
    """Arguments of `CLIPTextConfig`, for weights with the names of transformers. Raises: WeightsCorrupt."""
    vocabulary, width = _shape(weights, "embeddings.token_embedding.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(weights, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": num_layers,
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": _shape(weights, "embeddings.position_embedding.weight")[0],
        "hidden_act": "gelu",
    }


def vision_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `CLIPVisionConfig`, likewise. Raises: WeightsCorrupt."""
    width, _, patch, _ = _shape(weights, "embeddings.patch_embedding.weight")
    positions = _shape(weights, "embeddings.position_embedding.weight")[0]
    layers = {m[1] for key in weights if (m := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return {
        "hidden_size": width,
        "intermediate_size": _shape(weights, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // VISION_HEAD_WIDTH),
        "patch_size": patch,
        "image_size": patch * round((positions - 1) ** 0.5),
        "hidden_act": "gelu",
    }


def _shape(weights: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in weights:
        raise WeightsCorrupt(f"There are no weights {key}; the file is of another network.")
    return tuple(weights[key].shape)
