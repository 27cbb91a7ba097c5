"""A starter model that has learned nothing, small enough for tests."""

import torch

from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig
from mvgamba.multiview.starter_network import StarterConfig
from mvgamba.multiview.words import WordConfig

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
