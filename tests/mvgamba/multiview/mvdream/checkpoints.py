"""Small random checkpoints with the published layouts: folders of components, and original single files."""

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from mvgamba.multiview.mvdream.unet import MultiViewUNet

SIZE = 64
"""Pixels along an edge of the pictures."""
WORDS = 24
"""Length of a prompt in tokens."""
TEXT_WIDTH = 64
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "attention_resolutions": [2],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 64,
    "transformer_depth": 1,
    "context_dim": TEXT_WIDTH,
    "use_checkpoint": False,
    "camera_dim": 16,
}
"""As `unet/config.json` is published, but narrower."""
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "latent_channels": 4,
    "sample_size": SIZE,
    "scaling_factor": 0.18215,
}
TEXT = CLIPTextConfig(
    vocab_size=80,
    hidden_size=TEXT_WIDTH,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=1,
    max_position_embeddings=WORDS,
    hidden_act="gelu",
)
VISION = CLIPVisionConfig(
    hidden_size=80,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=1,
    patch_size=14,
    image_size=56,
    hidden_act="gelu",
)


def write_tokenizer(folder: Path) -> None:
    """Letters only, and the special words of Stable Diffusion 2.1, which pads with an exclamation mark."""
    folder.mkdir(parents=True)
    letters = ["!", *string.ascii_lowercase, ",", *(f"{c}</w>" for c in ["!", *string.ascii_lowercase, ",", "3"]), "3"]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special |= {"pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = special | {"model_max_length": WORDS, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def random_module(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights of a size at which every one shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        is_norm = "norm" in name or value.ndim == 1
        value.data = (
            (1.0 + 0.1 * noise) if is_norm and name.endswith("weight") else 0.5 * noise / noise[0].numel() ** 0.5
        )
    return module.eval()


def published_folder(folder: Path, *, images: bool, half: bool = True, pickled: bool = False) -> Path:
    """Every file that the released pipeline's `save_pretrained` wrote, with its names of classes and of keys."""
    dtype = torch.float16 if half else torch.float32
    unet_config = UNET | ({"ip_dim": 3} if images else {})
    unet = MultiViewUNet(**_ours(unet_config), **({"feature_width": 80, "resampler_heads": 2} if images else {}))
    parts: dict[str, tuple[torch.nn.Module, str, dict[str, Any]]] = {
        "unet": (unet, "diffusion_pytorch_model", unet_config | {"_class_name": "MultiViewUNetModel"}),
        "vae": (AutoencoderKL(**VAE), "diffusion_pytorch_model", VAE | {"_class_name": "AutoencoderKL"}),
        "text_encoder": (CLIPTextModel(TEXT), "model", TEXT.to_dict()),
    }
    if images:
        parts["image_encoder"] = (CLIPVisionModel(VISION), "model", VISION.to_dict())
    for name, (module, stem, config) in parts.items():
        tensors = {k: v.to(dtype).contiguous() for k, v in random_module(module).state_dict().items()}
        prefix = {"text_encoder": "text_model.", "image_encoder": "vision_model."}.get(name, "")
        tensors = {prefix + k.removeprefix(prefix): v for k, v in tensors.items()}
        if prefix:
            tensors[f"{prefix}embeddings.position_ids"] = torch.arange(WORDS)[None]
        write_component(folder / name, stem, tensors, config, pickled=pickled)
    write_tokenizer(folder / "tokenizer")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    ddim = noise | {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False, "prediction_type": "epsilon"}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(ddim | {"_class_name": "DDIMScheduler"}))
    index: dict[str, Any] = {
        "_class_name": "MVDreamPipeline",
        "_diffusers_version": "0.25.1",
        "feature_extractor": ["transformers", "CLIPImageProcessor"] if images else [None, None],
        "image_encoder": ["transformers", "CLIPVisionModel"] if images else [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["mv_unet", "MultiViewUNetModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if images:
        (folder / "feature_extractor").mkdir()
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        processor = {"crop_size": {"height": 56, "width": 56}, "size": {"shortest_edge": 56}, "resample": 3}
        processor |= {"image_mean": mean, "image_std": std, "image_processor_type": "CLIPImageProcessor"}
        (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_component(
    folder: Path, stem: str, tensors: dict[str, Tensor], config: dict[str, Any], *, pickled: bool = False
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, default=str))
    if pickled:
        torch.save(tensors, folder / f"{'pytorch_model' if stem == 'model' else stem}.bin")
    else:
        save_file(tensors, folder / f"{stem}.safetensors")


def single_file(folder: Path, *, images: bool) -> Path:
    """An original checkpoint as MVDream and ImageDream published theirs, with the weights of a `published_folder`."""
    vae, clip = ("vae_model.", "clip_model.model.") if images else ("first_stage_model.", "cond_stage_model.model.")
    tensors = {name: load_file(path) for name, path in _component_files(folder)}
    out = {f"model.diffusion_model.{k}": v for k, v in tensors["unet"].items()}
    out |= {vae + ldm_vae_name(k): _as_pixel_convolution(k, v) for k, v in tensors["vae"].items()}
    text = {k.removeprefix("text_model."): v for k, v in tensors["text_encoder"].items() if "position_ids" not in k}
    out |= {clip + k: v for k, v in open_clip_names(text, TEXT_OUTSIDE).items()}
    # the last block is there and is not used
    last = [k for k in out if k.startswith(f"{clip}transformer.resblocks.{TEXT.num_hidden_layers - 1}.")]
    renumbered = {
        k.replace(f"resblocks.{TEXT.num_hidden_layers - 1}.", f"resblocks.{TEXT.num_hidden_layers}."): k for k in last
    }
    out |= {new: torch.full_like(out[old], 3.0) for new, old in renumbered.items()}
    out[f"{clip}text_projection"], out[f"{clip}logit_scale"] = torch.ones(TEXT_WIDTH, 8), torch.ones(())
    if images:
        vision = {k.removeprefix("vision_model."): v for k, v in tensors["image_encoder"].items()}
        vision = {k: v for k, v in vision.items() if "position_ids" not in k}
        out |= {f"{clip}visual.{k}": v for k, v in open_clip_names(vision, VISION_OUTSIDE).items()}
        out[f"{clip}visual.proj"] = torch.ones(80, 8)
    out |= {"betas": torch.ones(1000), "alphas_cumprod": torch.ones(1000), "sqrt_alphas_cumprod": torch.ones(1000)}
    path = folder.parent / f"sd-v2.1-base-4view{'-ipmv' if images else ''}.pt"
    torch.save(out, path)
    if not (folder.parent / "tokenizer").exists():
        write_tokenizer(folder.parent / "tokenizer")
    return path


def _component_files(folder: Path) -> list[tuple[str, Path]]:
    return [(p.parent.name, p) for p in sorted(folder.glob("*/*.safetensors"))]


def ldm_vae_name(key: str) -> str:
    """The name in the original autoencoder of one in `diffusers`."""
    side, _, rest = key.partition(".")
    words = rest.split(".")
    if words[0] == "down_blocks":
        part = ["block", words[3]] if words[2] == "resnets" else ["downsample"]
        rest = ".".join(["down", words[1], *part, *words[4:]])
    elif words[0] == "up_blocks":
        part = ["block", words[3]] if words[2] == "resnets" else ["upsample"]
        rest = ".".join(["up", str(len(VAE["block_out_channels"]) - 1 - int(words[1])), *part, *words[4:]])
    elif words[:2] == ["mid_block", "resnets"]:
        rest = ".".join(["mid", f"block_{int(words[2]) + 1}", *words[3:]])
    elif words[:2] == ["mid_block", "attentions"]:
        names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
        rest = ".".join(["mid", "attn_1", names[words[3]], words[-1]])
    elif words[0] == "conv_norm_out":
        rest = f"norm_out.{words[1]}"
    return f"{side}.{rest}".replace("conv_shortcut", "nin_shortcut")


def _as_pixel_convolution(key: str, value: Tensor) -> Tensor:
    return value[:, :, None, None] if ".attentions." in key and value.ndim == 2 else value


TEXT_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
VISION_OUTSIDE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
_INSIDE = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_INSIDE |= {"self_attn.out_proj": "attn.out_proj"}


def open_clip_names(weights: dict[str, Tensor], outside: dict[str, str]) -> dict[str, Tensor]:
    """Names of `transformers` -> those of OpenCLIP, with the three projections in one."""
    out = {outside[k]: v for k, v in weights.items() if k in outside}
    layers = {k.split(".")[2] for k in weights if k.startswith("encoder.layers.")}
    for n in layers:
        old, new = f"encoder.layers.{n}.", f"transformer.resblocks.{n}."
        for end in ("weight", "bias"):
            out |= {f"{new}{b}.{end}": weights[f"{old}{a}.{end}"] for a, b in _INSIDE.items()}
            out[f"{new}attn.in_proj_{end}"] = torch.cat([weights[f"{old}self_attn.{c}_proj.{end}"] for c in "qkv"])
    return out


def _ours(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in ("image_size", "use_checkpoint")}
