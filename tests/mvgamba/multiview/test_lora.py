"""Additions to linear layers: what they compute, their files, and networks that they are not for."""

import copy

import pytest
import torch
from torch import nn

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.lora import (
    DIFFUSERS_LAYERS,
    LoraConfig,
    add_adapter,
    fingerprint,
    inject,
    load_adapter,
    lora_layers,
    merge,
    save_adapter,
)
from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig, load_starter, save_starter
from mvgamba.multiview.starter_network import StarterConfig


class Attention(nn.Module):
    """Attention with the names of `diffusers`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])

    def forward(self, x):
        seen = nn.functional.scaled_dot_product_attention(self.to_q(x), self.to_k(x), self.to_v(x))
        return x + self.to_out[1](self.to_out[0](seen))


class Toy(nn.Module):
    """Two blocks, and linear layers that no pattern names."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.proj_in = nn.Linear(3, width)
        self.blocks = nn.ModuleList([nn.ModuleDict({"attn1": Attention(width)}) for _ in range(2)])

    def forward(self, x):
        x = self.proj_in(x)
        for block in self.blocks:
            x = block["attn1"](x)
        return x


CONFIG = LoraConfig(rank=2, scale=0.5, layers=DIFFUSERS_LAYERS)


def taught(seed: int = 0) -> tuple[Toy, Toy]:
    """A network as it was, and one with additions that do something."""
    torch.manual_seed(seed)
    plain = Toy()
    changed = copy.deepcopy(plain)
    for layer in inject(changed, CONFIG).values():
        nn.init.normal_(layer.up, std=0.5)
    return plain, changed


X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1))


def test_new_additions_change_nothing_and_alone_can_learn():
    torch.manual_seed(0)
    network = Toy()
    before = network(X)
    layers = inject(network, CONFIG)
    assert sorted(layers) == sorted(
        f"blocks.{i}.attn1.{name}" for i in range(2) for name in ("to_q", "to_k", "to_v", "to_out.0")
    )
    torch.testing.assert_close(network(X), before, rtol=0, atol=0)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.{part}" for name in layers for part in ("down", "up")}
    network(X).square().mean().backward()
    assert all(layer.up.grad is not None and float(layer.up.grad.abs().max()) > 0 for layer in layers.values())


def test_merged_layers_say_what_layer_and_addition_said():
    plain, changed = taught()
    said = changed(X)
    assert float((said - plain(X)).detach().abs().max()) > 0.05
    merge(changed)
    assert not lora_layers(changed) and set(changed.state_dict()) == set(plain.state_dict())
    # two orders of the same sums in float32
    torch.testing.assert_close(changed(X), said, rtol=1e-5, atol=1e-5)


def test_a_saved_adapter_makes_the_same_network_of_the_old_one(tmp_path):
    plain, changed = taught()
    path = tmp_path / "sks.safetensors"
    save_adapter(changed, CONFIG, path, {"words": ["sks"]})
    adapter = load_adapter(path)
    assert adapter.config == CONFIG and adapter.facts == {"words": ["sks"]}
    half = copy.deepcopy(plain)
    add_adapter(plain, adapter)
    # the file is in half precision: 2^-11 of entries of about 1, over rank 2 and width 8
    torch.testing.assert_close(plain(X), changed(X), rtol=0, atol=2e-2)
    add_adapter(half, adapter, strength=0.5)
    weights = [n.blocks[0]["attn1"].to_q.weight for n in (half, plain, taught()[0])]
    torch.testing.assert_close(weights[0], 0.5 * (weights[1] + weights[2]))


def test_two_adapters_add_up_in_any_order(tmp_path):
    adapters = []
    for seed in range(2):
        _, changed = taught(seed)
        save_adapter(changed, CONFIG, tmp_path / f"{seed}.safetensors", {})
        adapters.append(load_adapter(tmp_path / f"{seed}.safetensors"))
    one, other = taught()[0], taught()[0]
    for adapter in adapters:
        add_adapter(one, adapter)
    for adapter in adapters[::-1]:
        add_adapter(other, adapter)
    torch.testing.assert_close(one(X), other(X))


def test_an_adapter_of_another_network_is_refused_and_changes_nothing(tmp_path):
    _, changed = taught()
    save_adapter(changed, CONFIG, tmp_path / "a.safetensors", {})
    adapter = load_adapter(tmp_path / "a.safetensors")
    wide = Toy(16)
    before = fingerprint(wide)
    with pytest.raises(InvalidInput, match=r"for another network.* is 8 x 8, that of these weights 16 x 16"):
        add_adapter(wide, adapter, name="a.safetensors")
    with pytest.raises(InvalidInput, match=r"changes blocks.0.attn1.to_\w, which is not here"):
        add_adapter(nn.Sequential(nn.Linear(3, 8)), adapter)
    assert fingerprint(wide) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0; it must lie between 1"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"layers": ()}, "layers is empty"),
    ],
)
def test_wrong_sizes_are_named(changes, message):
    with pytest.raises(InvalidInput, match=message):
        LoraConfig(**changes)


def test_patterns_that_name_nothing_and_a_second_injection_are_refused():
    with pytest.raises(InvalidInput, match="No linear layer is called .*the network has, for instance, proj_in"):
        inject(Toy(), LoraConfig())
    _, changed = taught()
    with pytest.raises(InvalidInput, match="has additions already"):
        inject(changed, CONFIG)


def test_files_that_are_no_adapters_are_refused(tmp_path):
    with pytest.raises(WeightsMissing, match="train personalise"):
        load_adapter(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsCorrupt, match="not a .safetensors file"):
        load_adapter(tmp_path / "broken.safetensors")
    save_starter(StarterModel(StarterModelConfig(StarterConfig(16, 8, 16, 1, 2, 8))), tmp_path / "whole.safetensors")
    with pytest.raises(WeightsCorrupt, match="holds no adapter .*'starter'"):
        load_adapter(tmp_path / "whole.safetensors")


def test_a_fingerprint_survives_a_file_and_tells_networks_apart(tmp_path):
    config = StarterModelConfig(StarterConfig(16, 8, 16, 1, 2, 8))
    one, other = StarterModel(config), StarterModel(config)
    save_starter(one, tmp_path / "one.safetensors")
    assert fingerprint(load_starter(tmp_path / "one.safetensors")) == fingerprint(one) != fingerprint(other)
