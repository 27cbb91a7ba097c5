"""Folders and single files as published: complete, to the key, and what is wrong with others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.multiview.mvdream import ldm_names
from mvgamba.multiview.mvdream.loading import load_pipeline
from mvgamba.multiview.mvdream.pipeline import ImageDreamPipeline, MVDreamPipeline
from mvgamba.multiview.mvdream.settings_of import vae_settings
from tests.mvgamba.multiview.mvdream.checkpoints import SIZE, published_folder, single_file
from tests.mvgamba.multiview.mvdream.conftest import CPU

VAE_KEYS = Path(__file__).with_name("published_vae_keys.txt")


def run(pipeline, rig):
    given = {"image": torch.linspace(0, 1, 64).expand(3, 64, 64)} if isinstance(pipeline, ImageDreamPipeline) else {}
    noise = torch.Generator().manual_seed(5)
    return pipeline("a red chair", c2w=rig.c2w, steps=2, generator=noise, decode=False, **given).latents


@pytest.mark.parametrize("which", ["mvdream", "imagedream"])
def test_published_weights_come_back_the_same_when_they_are_saved_and_loaded(which, rig, tmp_path, request):
    pipeline = request.getfixturevalue(which)
    base = run(pipeline, rig)
    pipeline.save_pretrained(tmp_path / "ours")
    index = json.loads((tmp_path / "ours" / "model_index.json").read_text())
    assert index["unet"] == ["mvgamba.multiview.mvdream.unet", "MultiViewUNet"]
    again, _ = load_pipeline(tmp_path / "ours", placement=CPU)
    assert type(again) is type(pipeline) and torch.equal(run(again, rig), base)
    by_diffusers = type(pipeline).from_pretrained(tmp_path / "ours")
    assert torch.equal(run(by_diffusers, rig), base)


@pytest.mark.parametrize("which", ["mvdream", "imagedream"])
def test_the_original_single_file_gives_the_same_views(which, rig, request):
    folder, images = request.getfixturevalue(f"{which}_folder"), which == "imagedream"
    loaded, _ = load_pipeline(single_file(folder, images=images), placement=CPU)
    assert type(loaded) is (ImageDreamPipeline if images else MVDreamPipeline)
    assert loaded.unet.config.attention_resolutions == [2] and loaded.size == 256
    loaded.vae.register_to_config(sample_size=SIZE)  # no shape tells it
    torch.testing.assert_close(run(loaded, rig), run(request.getfixturevalue(which), rig), atol=1e-5, rtol=1e-5)


def test_files_of_pickled_tensors_give_the_same_views(rig, tmp_path, mvdream):
    loaded, _ = load_pipeline(published_folder(tmp_path / "bins", images=False, pickled=True), placement=CPU)
    assert torch.equal(run(loaded, rig), run(mvdream, rig))


def test_every_key_of_the_published_autoencoder_has_its_place():
    keys = [line.split() for line in VAE_KEYS.read_text().splitlines() if not line.startswith("#")]
    given = {key: torch.empty([int(n) for n in shape.split("x")], device="meta") for key, shape in keys}
    with torch.device("meta"):
        ours = AutoencoderKL(**vae_settings(given))
    named = ldm_names.vae_to_diffusers(given, num_levels=4)
    assert {k: v.shape for k, v in named.items()} == {k: v.shape for k, v in ours.state_dict().items()}


class OpenClipBlock(torch.nn.Module):
    """A block as OpenCLIP has it, of torch's own attention: an independent reading of the names."""

    def __init__(self, width, inner):
        super().__init__()
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.mlp = torch.nn.ModuleDict({"c_fc": torch.nn.Linear(width, inner), "c_proj": torch.nn.Linear(inner, width)})

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](torch.nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


@torch.no_grad()
def test_the_text_encoder_gives_openclips_last_layer_but_one():
    width, words, blocks = 128, 9, 3
    torch.manual_seed(0)
    tower = torch.nn.Module()
    tower.token_embedding = torch.nn.Embedding(30, width)
    tower.positional_embedding = torch.nn.Parameter(torch.randn(words, width))
    tower.transformer = torch.nn.Module()
    tower.transformer.resblocks = torch.nn.ModuleList(OpenClipBlock(width, 48) for _ in range(blocks))
    tower.ln_final = torch.nn.LayerNorm(width)
    for p in tower.parameters():
        p.data = torch.randn_like(p) * (0.3 if p.ndim == 1 else p.shape[-1] ** -0.5) + (p.ndim == 1) * 0.5
    ids = torch.randint(0, 30, (2, words))
    x = tower.token_embedding(ids) + tower.positional_embedding
    mask = torch.full((words, words), float("-inf")).triu(1)
    for block in tower.transformer.resblocks[:-1]:
        x = block(x, mask)
    expected = tower.ln_final(x)

    weights = tower.state_dict()
    assert ldm_names.num_text_blocks(weights) == blocks
    text, image = ldm_names.clip_to_transformers(weights, num_text_layers=blocks - 1)
    config = CLIPTextConfig(
        vocab_size=30, hidden_size=width, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=words, hidden_act="gelu", bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    encoder = CLIPTextModel(config).eval()
    encoder.load_state_dict(text)
    assert image == {}
    torch.testing.assert_close(encoder(ids)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def broken(mvdream_folder, tmp_path):
    """A copy to be broken."""
    return Path(shutil.copytree(mvdream_folder, tmp_path / "copy"))


def edit(path, change):
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path)


UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("camera_embed.0.weight"),
            r"unet .*1 are missing, the first: camera_embed.0.weight \(256, 16\)",
        ),
        (lambda t: t.update(extra=torch.ones(3)), r"1 are not known, the first: extra \(3,\)"),
        (
            lambda t: t.update({"out.2.bias": torch.ones(5)}),
            r"1 have another shape, the first: out.2.bias \(5,\) instead of \(4,\)",
        ),
        (lambda t: t.update({"out.2.bias": torch.full((4,), float("nan"))}), "out.2.bias .* not finite"),
    ],
)
def test_keys_that_are_wrong_are_named(broken, change, said):
    edit(broken / UNET, change)
    with pytest.raises(WeightsCorrupt, match=said):
        load_pipeline(broken, placement=CPU)


def test_a_file_that_is_cut_off_is_noticed(broken):
    path = broken / UNET
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsCorrupt, match="cut off: fetch it again"):
        load_pipeline(broken, placement=CPU)


def test_half_a_download_says_so(broken):
    (broken / UNET).rename(broken / f"{UNET}.0123456789ab.partial")
    with pytest.raises(WeightsMissing, match="was not finished: run it again"):
        load_pipeline(broken, placement=CPU)


def test_pickles_that_hold_code_are_refused(broken):
    (broken / UNET).unlink()
    torch.save({"out.2.bias": CPU}, broken / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsCorrupt, match="Nothing of it was run"):
        load_pipeline(broken, placement=CPU)


def test_other_layouts_are_told_apart(broken, tmp_path, imagedream_folder):
    with pytest.raises(WeightsMissing, match="neither a file nor a folder"):
        load_pipeline(tmp_path / "nowhere", placement=CPU)
    with pytest.raises(WeightsMissing, match="has no model_index.json"):
        load_pipeline(tmp_path, placement=CPU)
    shutil.rmtree(broken / "vae")
    with pytest.raises(WeightsMissing, match="has no folder vae"):
        load_pipeline(broken, placement=CPU)
    index = json.loads((imagedream_folder / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(WeightsCorrupt, match="StableDiffusionPipeline.*another model"):
        load_pipeline(broken, placement=CPU)


def test_half_of_one_model_and_half_of_the_other_is_noticed(broken):
    index = json.loads((broken / "model_index.json").read_text())
    mixed = index | {"image_encoder": ["transformers", "CLIPVisionModel"]}
    (broken / "model_index.json").write_text(json.dumps(mixed))
    for name in ("image_encoder", "feature_extractor"):
        (broken / name).mkdir()
    with pytest.raises(WeightsMissing, match="image_encoder has no model.safetensors"):
        load_pipeline(broken, placement=CPU)
    (broken / "image_encoder" / "config.json").write_text("{}")
    save_file({}, broken / "image_encoder" / "model.safetensors")
    with pytest.raises(WeightsCorrupt, match="mixture of two models"):
        load_pipeline(broken, placement=CPU)


def test_a_unet_of_other_make_is_refused(broken):
    config = json.loads((broken / "unet" / "config.json").read_text())
    (broken / "unet" / "config.json").write_text(json.dumps(config | {"use_scale_shift_norm": True}))
    with pytest.raises(WeightsCorrupt, match="use_scale_shift_norm True"):
        load_pipeline(broken, placement=CPU)
    (broken / "unet" / "config.json").write_text("[")
    with pytest.raises(WeightsCorrupt, match="is not JSON"):
        load_pipeline(broken, placement=CPU)


def test_a_single_file_needs_its_parts_and_a_vocabulary(mvdream_folder, tmp_path):
    folder = Path(shutil.copytree(mvdream_folder, tmp_path / "copy"))
    path = single_file(folder, images=False)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "lora.weight": torch.ones(1)}, path)
    with pytest.raises(WeightsCorrupt, match="1 weights that belong to no part.*lora.weight"):
        load_pipeline(path, placement=CPU)
    torch.save({k: v for k, v in content.items() if not k.startswith("cond_stage")}, path)
    with pytest.raises(WeightsCorrupt, match="no weights of clip"):
        load_pipeline(path, placement=CPU)
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(WeightsMissing, match="has no vocabulary"):
        load_pipeline(path, placement=CPU)
