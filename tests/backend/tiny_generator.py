"""A starter generator that is small enough to be taught one ball in a second: its views can be reconstructed, and that is all."""

from pathlib import Path

import torch

from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig, save_starter
from mvgamba.multiview.starter_network import StarterConfig, camera_code, ray_code, to_signal
from mvgamba.multiview.words import WordConfig
from mvgamba.weights import Weights, sha256_of
from mvgamba.weights.user import register

SIZE, STEPS = 64, 150
WORDS = ("a", "barrel", "red", "wooden")


def untaught(words: tuple[str, ...] = WORDS) -> StarterModel:
    """That knows nothing yet."""
    torch.manual_seed(0)
    network = StarterConfig(image_size=SIZE, width=32, num_layers=1, num_heads=2)
    return StarterModel(StarterModelConfig(network, WordConfig(words, num_layers=1, buckets=64)))


def save_untaught(path: Path, words: tuple[str, ...] = WORDS) -> None:
    save_starter(untaught(words), path)


def install_tiny_generator(folder: Path) -> None:
    """Teach one and put it among the weights of a user."""
    model = untaught()
    cameras = rig_cameras(size=SIZE)
    codes, rays = camera_code(cameras)[None], ray_code(cameras, SIZE // model.config.network.patch_size)[None]
    at = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    alpha = ((0.3 - torch.hypot(x, y)) * SIZE + 0.5).clamp(0, 1).expand(1, 5, 1, SIZE, SIZE)
    rgb = torch.tensor([0.8, 0.3, 0.2])[:, None, None].expand(1, 5, 3, SIZE, SIZE)
    clean = to_signal(rgb, alpha)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        time = torch.rand(1, generator=generator)
        noisy = time * clean + (1 - time) * torch.randn(clean.shape, generator=generator)
        loss = (model(noisy, time, codes, rays, ["a barrel"]) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.safetensors"
    save_starter(model.eval(), path)
    about = "Knows one ball, for tests."
    entry = Weights("tiny", "generator", "starter", path.name, sha256_of(path), "CC0-1.0", about, preferred=True)
    register(entry, folder)
