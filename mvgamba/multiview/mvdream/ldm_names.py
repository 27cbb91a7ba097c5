"""Names in the original single-file checkpoints (LDM and OpenCLIP) -> names of the same weights in `diffusers` and `transformers`.

The UNet keeps its names. Of the text encoder all but the last block is used, of OpenCLIP's image encoder all but what leads to the
joint space; the rest is left out by name, so that anything else is noticed.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mvgamba.errors import WeightsCorrupt

UNET = "model.diffusion_model."
VAE = ("first_stage_model.", "vae_model.")
"""MVDream's, ImageDream's."""
CLIP = ("cond_stage_model.model.", "clip_model.model.")
UNUSED = re.compile(
    r"(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_\w+|log_one_minus_alphas_cumprod|posterior_\w+|model_ema\..*)$"
)
"""The noise schedule, which follows from two numbers, and running means of training."""


def split_checkpoint(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By part: `unet`, `vae`, `clip`, without prefixes. Raises: WeightsCorrupt, naming what belongs to none."""
    parts: dict[str, dict[str, Tensor]] = {"unet": {}, "vae": {}, "clip": {}}
    prefixes = {UNET: "unet", **dict.fromkeys(VAE, "vae"), **dict.fromkeys(CLIP, "clip")}
    over = []
    for key, value in weights.items():
        for prefix, part in prefixes.items():
            if key.startswith(prefix):
                parts[part][key.removeprefix(prefix)] = value
                break
        else:
            if not UNUSED.match(key):
                over.append(key)
    missing = [part for part, found in parts.items() if not found]
    if missing:
        raise WeightsCorrupt(
            f"The checkpoint has no weights of {' and '.join(missing)}; its first keys are {', '.join(list(weights)[:3])}. "
            f"Expected are keys that begin with {UNET}, {' or '.join(VAE)} and {' or '.join(CLIP)}"
        )
    if over:
        raise WeightsCorrupt(
            f"The checkpoint holds {len(over)} weights that belong to no part of these networks, the first: {', '.join(over[:3])}."
        )
    return parts


def vae_to_diffusers(weights: Mapping[str, Tensor], *, num_levels: int) -> dict[str, Tensor]:
    """Of the autoencoder. Its attention was written with convolutions of one pixel, and its decoder counts levels from the other end."""
    out = {}
    for key, value in weights.items():
        new = _vae_name(key, num_levels)
        out[new] = value[:, :, 0, 0] if ".attentions." in new and value.ndim == 4 else value
    return out


_VAE_WORDS = (
    (re.compile(r"\.mid\.block_(\d)\."), lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
    (re.compile(r"\.mid\.attn_1\.norm\."), ".mid_block.attentions.0.group_norm."),
    (re.compile(r"\.mid\.attn_1\.proj_out\."), ".mid_block.attentions.0.to_out.0."),
    (re.compile(r"\.mid\.attn_1\.([qkv])\."), r".mid_block.attentions.0.to_\1."),
    (re.compile(r"^(encoder|decoder)\.norm_out\."), r"\1.conv_norm_out."),
    (re.compile(r"\.nin_shortcut\."), ".conv_shortcut."),
    (re.compile(r"\.down\.(\d+)\.block\."), r".down_blocks.\1.resnets."),
    (re.compile(r"\.down\.(\d+)\.downsample\."), r".down_blocks.\1.downsamplers.0."),
)


def _vae_name(key: str, num_levels: int) -> str:
    for pattern, replacement in _VAE_WORDS:
        key = pattern.sub(replacement, key)  # type: ignore[arg-type]
    if found := re.match(r"decoder\.up\.(\d+)\.(block|upsample)\.(.*)", key):
        part = "resnets" if found[2] == "block" else "upsamplers.0"
        key = f"decoder.up_blocks.{num_levels - 1 - int(found[1])}.{part}.{found[3]}"
    return key


_BLOCK_WORDS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_TEXT_WORDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_IMAGE_WORDS = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_JOINT_SPACE = ("text_projection", "logit_scale", "attn_mask", "visual.proj")


def clip_to_transformers(
    weights: Mapping[str, Tensor], *, num_text_layers: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of OpenCLIP: the text encoder with its first `num_text_layers` blocks, and the image encoder (empty if there is none).

    Raises: WeightsCorrupt, naming what has no place.
    """
    text: dict[str, Tensor] = {}
    image: dict[str, Tensor] = {}
    over = []
    for key, value in weights.items():
        if key in _JOINT_SPACE:
            continue
        out, words, short = text, _TEXT_WORDS, key
        if key.startswith("visual."):
            out, words, short = image, _IMAGE_WORDS, key.removeprefix("visual.")
        if short in words:
            out[words[short]] = value
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.*)", short):
            if out is image or int(found[1]) < num_text_layers:
                over += _add_block(out, int(found[1]), found[2], value)
        else:
            over.append(key)
    if over:
        raise WeightsCorrupt(
            f"The checkpoint's CLIP holds {len(over)} weights that are not known, the first: {', '.join(over[:3])}."
        )
    return text, image


def num_text_blocks(weights: Mapping[str, Tensor]) -> int:
    """How many blocks the text encoder of OpenCLIP has."""
    found = [re.match(r"transformer\.resblocks\.(\d+)\.", key) for key in weights]
    return 1 + max((int(m[1]) for m in found if m), default=-1)


def _add_block(out: dict[str, Tensor], number: int, name: str, value: Tensor) -> list[str]:
    """Add a weight of a block; gives its name if it is not known. OpenCLIP keeps the three projections in one matrix."""
    place = f"encoder.layers.{number}."
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        end = name.rpartition("_")[2]
        for word, part in zip("qkv", torch.chunk(value, 3, dim=0), strict=True):
            out[f"{place}self_attn.{word}_proj.{end}"] = part
        return []
    stem, _, end = name.rpartition(".")
    if stem not in _BLOCK_WORDS or end not in ("weight", "bias"):
        return [f"transformer.resblocks.{number}.{name}"]
    out[f"{place}{_BLOCK_WORDS[stem]}.{end}"] = value
    return []
