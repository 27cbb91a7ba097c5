"""Published weights -> a pipeline that is ready to run: folders of components, and the original single-file checkpoints.

A folder has the layout of `ashawkey/mvdream-sd2.1-diffusers` and `ashawkey/imagedream-ipmv-diffusers`, which is also what `save_pretrained` of
our pipelines writes:

    model_index.json   scheduler/   tokenizer/   text_encoder/   unet/   vae/
    image_encoder/   feature_extractor/                                       (ImageDream)

Each component is read by itself and by its own class here; code that lies in such a folder, and names of classes in it, are not used. A
single file (`sd-v2.1-base-4view.pt`, `sd-v2.1-base-4view-ipmv.pt`) needs the folder `tokenizer/` beside it, as it holds no vocabulary.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
)

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.multiview.mvdream import ldm_names
from mvgamba.multiview.mvdream.pipeline import SCHEDULERS, ImageDreamPipeline, MVDreamPipeline
from mvgamba.multiview.mvdream.placement import Placement, available_bytes, place
from mvgamba.multiview.mvdream.settings_of import (
    text_settings,
    unet_settings,
    unet_settings_of_shapes,
    vae_settings,
    vision_settings,
)
from mvgamba.multiview.mvdream.state_files import fill, find_weights, fitting, read_tensors, renamed
from mvgamba.multiview.mvdream.unet import MultiViewUNet

log = logging.getLogger(__name__)

PIPELINES = ("MVDreamPipeline", "ImageDreamPipeline")
"""Classes that a `model_index.json` may name: the published ones both have the first."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Modules without storage beside their weights, and what has no weights."""

    modules: dict[str, nn.Module]
    weights: dict[str, dict[str, Tensor]]
    tokenizer: CLIPTokenizer
    scheduler: Any
    feature_extractor: CLIPImageProcessor | None
    """None for a network that takes no images."""


def load_pipeline(
    path: Path, *, device: str = "cpu", placement: Placement | None = None
) -> tuple[MVDreamPipeline, Placement]:
    """A pipeline from a folder or a single file; an `ImageDreamPipeline` if the network takes images.

    Args:
        placement: Found out by the free memory unless given.
    Raises:
        WeightsMissing: A file or folder is not there.
        WeightsCorrupt: It is cut off, of another layout, or of another network; the first wrong keys are named.
        OutOfMemory.
    """
    parts = parts_of_folder(path) if path.is_dir() else parts_of_file(path)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.modules.items()}
    if placement is None:
        fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        placement = place(counts, device=device, available=available_bytes(device), can_halve_fast=fast)
    for name, module in parts.modules.items():
        fill(module, parts.weights.pop(name), dtype=placement.dtype, name=name)
    log.info("%d M parameters as %s", sum(counts.values()) // 10**6, str(placement.dtype).removeprefix("torch."))
    named: dict[str, Any] = {**parts.modules, "tokenizer": parts.tokenizer, "scheduler": parts.scheduler}
    pipeline: MVDreamPipeline
    if parts.feature_extractor is None:
        pipeline = MVDreamPipeline(**named)
    else:
        pipeline = ImageDreamPipeline(**named, feature_extractor=parts.feature_extractor)
    if placement.offload:
        pipeline.enable_model_cpu_offload(device=placement.device)
    else:
        pipeline.to(placement.device)
    return pipeline, placement


def check_parts(parts: Parts) -> None:
    """Raises: WeightsCorrupt, unless every key of every part has its place."""
    for name, module in parts.modules.items():
        fitting(module, parts.weights[name], name=name)


def parts_of_folder(folder: Path) -> Parts:
    """Raises: WeightsMissing, WeightsCorrupt."""
    index = _index_of(folder)
    takes_images = bool((index.get("image_encoder") or [None])[0])
    needed = ["scheduler", "tokenizer", "text_encoder", "unet", "vae"]
    needed += ["image_encoder", "feature_extractor"] if takes_images else []
    missing = [name for name in needed if not (folder / name).is_dir()]
    if missing:
        raise WeightsMissing(
            f"{folder} has no folder {missing[0]}; of this generator it needs model_index.json and "
            f"{', '.join(f'{name}/' for name in needed)}. Pull or copy it again."
        )
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    stems |= {"image_encoder": "model"} if takes_images else {}
    files = {name: find_weights(folder / name, stem) for name, stem in stems.items()}
    configs = {name: _json(folder / name / "config.json") for name in stems}
    weights = {name: read_tensors(path) for name, path in files.items()}
    weights["vae"] = renamed(weights["vae"], _newer_vae_name)
    settings = unet_settings(configs["unet"], weights["unet"])
    if bool(settings["ip_dim"]) != takes_images:
        raise WeightsCorrupt(
            f"{folder}: model_index.json has {'an' if takes_images else 'no'} image encoder, but unet/config.json has ip_dim "
            f"{settings['ip_dim']}. The folder is a mixture of two models."
        )
    with init_empty_weights(include_buffers=False):
        modules: dict[str, Any] = {
            "unet": MultiViewUNet(**settings),
            "vae": AutoencoderKL.from_config(configs["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_dict(configs["text_encoder"])),
        }
        if takes_images:
            modules["image_encoder"] = CLIPVisionModel(CLIPVisionConfig.from_dict(configs["image_encoder"]))
    extractor = _feature_extractor(folder / "feature_extractor") if takes_images else None
    return Parts(modules, weights, _tokenizer(folder / "tokenizer"), _scheduler(folder / "scheduler"), extractor)


def parts_of_file(path: Path) -> Parts:
    """Of an original checkpoint; its sizes follow from its shapes. Raises: WeightsMissing, WeightsCorrupt."""
    if not path.is_file():
        raise WeightsMissing(f"There is neither a file nor a folder {path}.")
    tokenizer = _tokenizer(path.parent / "tokenizer")
    given = ldm_names.split_checkpoint(read_tensors(path))
    settings = unet_settings_of_shapes(given["unet"])
    vae = vae_settings(given["vae"])
    # all blocks but the last: its output, normalised, is what the network was trained with
    num_layers = ldm_names.num_text_blocks(given["clip"]) - 1
    text, image = ldm_names.clip_to_transformers(given["clip"], num_text_layers=num_layers)
    weights = {
        "unet": given["unet"],
        "vae": ldm_names.vae_to_diffusers(given["vae"], num_levels=len(vae["block_out_channels"])),
        "text_encoder": text,
    }
    extractor = None
    with init_empty_weights(include_buffers=False):
        modules: dict[str, Any] = {
            "unet": MultiViewUNet(**settings),
            "vae": AutoencoderKL(**vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text_settings(text, num_layers=num_layers))),
        }
        if settings["ip_dim"]:
            vision = CLIPVisionConfig(**vision_settings(image))
            modules["image_encoder"] = CLIPVisionModel(vision)
            weights["image_encoder"] = image
            size: Any = vision.image_size
            extractor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return Parts(modules, weights, tokenizer, scheduler, extractor)


def _index_of(folder: Path) -> dict[str, Any]:
    if not (folder / "model_index.json").is_file():
        there = sorted(p.name for p in folder.iterdir())[:8]
        raise WeightsMissing(
            f"{folder} has no model_index.json (there is: {', '.join(there) or 'nothing'}). Expected is a folder as "
            "`mvgamba weights pull mvdream` makes it, or one that was saved by `save_pretrained`."
        )
    index = _json(folder / "model_index.json")
    if index.get("_class_name") not in PIPELINES:
        raise WeightsCorrupt(
            f"{folder} is of the pipeline {index.get('_class_name')!r}, expected {' or '.join(PIPELINES)}: another model."
        )
    return index


def _tokenizer(folder: Path) -> CLIPTokenizer:
    if not (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise WeightsMissing(
            f"{folder} has no vocabulary (vocab.json and merges.txt, or tokenizer.json). It is the folder tokenizer/ of Stable "
            "Diffusion 2.1 and of the pulled weights; put it there."
        )
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsCorrupt(f"The tokenizer in {folder} cannot be read: {error}") from error
    return tokenizer


def _scheduler(folder: Path) -> Any:
    config = _json(folder / "scheduler_config.json")
    known = {made.__name__: made for made in SCHEDULERS.values()}
    if config.get("_class_name") not in known:
        raise WeightsCorrupt(
            f"{folder} is of the scheduler {config.get('_class_name')!r}; expected {' or '.join(known)}, which these networks run with."
        )
    return known[config["_class_name"]].from_config(config)


def _feature_extractor(folder: Path) -> CLIPImageProcessor:
    config = _json(folder / "preprocessor_config.json")
    plain = {k: v for k, v in config.items() if not k.endswith(("_type", "_class"))}
    extractor: CLIPImageProcessor = CLIPImageProcessor(**plain)
    return extractor


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsMissing(f"There is no file {path}. Pull or copy the folder again.") from error
    except (OSError, ValueError) as error:
        raise WeightsCorrupt(f"{path} is not JSON: {error}. Pull or copy it again.") from error
    if not isinstance(content, dict):
        raise WeightsCorrupt(f"{path} holds a {type(content).__name__}, expected a table.")
    return content


_OLD_VAE_WORDS: Mapping[str, str] = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _newer_vae_name(key: str) -> str:
    """Before version 0.14 of diffusers the attention of the autoencoder had other names."""
    if ".attentions." not in key:
        return key
    stem, _, end = key.rpartition(".")
    before, _, word = stem.rpartition(".")
    return f"{before}.{_OLD_VAE_WORDS.get(word, word)}.{end}"
