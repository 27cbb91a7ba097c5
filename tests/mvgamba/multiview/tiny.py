"""Starter models for tests: one that has learned nothing, and one that knows a ball."""

import json

import torch

from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig, save_starter
from mvgamba.multiview.starter_network import StarterConfig, to_signal
from mvgamba.multiview.words import WordConfig
from mvgamba.weights import sha256_of

WORDS = WordConfig(vocabulary=("a", "barrel", "red"), width=16, num_layers=1, num_heads=2, buckets=64)


def tiny_model(seed=0, *, image_size=16, said_at_once=True):
    """With weights that say something: the last layers of a new model are zero."""
    torch.manual_seed(seed)
    network = StarterConfig(
        image_size=image_size, patch_size=8, width=32, num_layers=2, num_heads=2, bottleneck=16, text_width=16
    )
    model = StarterModel(StarterModelConfig(network, WORDS))
    if said_at_once:
        with torch.no_grad():
            for parameter in model.parameters():
                if not bool(parameter.any()):
                    parameter.normal_(std=0.2)
    return model.eval().requires_grad_(False)


def ball_model(color=(0.8, 0.2, 0.1), *, radius=0.3):
    """Knows one thing, a ball of one colour: its last layer says so whatever it is asked. One patch is a whole picture."""
    network = StarterConfig(
        image_size=64, patch_size=64, width=8, num_layers=1, num_heads=2, bottleneck=4, text_width=16
    )
    model = StarterModel(StarterModelConfig(network, WORDS))
    at = (torch.arange(64) + 0.5) / 64 - 0.5
    inside = ((at[:, None] ** 2 + at[None] ** 2) < radius**2).float()
    disc = to_signal(torch.tensor(color)[:, None, None].expand(3, 64, 64), inside[None])
    with torch.no_grad():
        model.network.head.bias.copy_(disc.flatten())
    return model.eval().requires_grad_(False)


def write_weights(model, folder):
    """Into a user's folder of weights, before those of the package."""
    folder.mkdir(parents=True, exist_ok=True)
    save_starter(model, folder / "tiny.safetensors")
    entry = {"name": "tiny", "kind": "generator", "model": "starter", "file": "tiny.safetensors", "licence": "CC0-1.0"}
    entry |= {"sha256": sha256_of(folder / "tiny.safetensors"), "about": "For tests.", "preferred": True}
    (folder / "manifest.json").write_text(json.dumps([entry]))
    return folder
