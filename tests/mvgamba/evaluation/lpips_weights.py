"""Random weights in exactly the published layout of LPIPS v0.1 with VGG16."""

import torch

CONVOLUTIONS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
"""Index in torchvision's `vgg16().features`: channels out and in."""
LINEAR = (64, 128, 256, 512, 512)


def backbone(seed: int = 0) -> dict[str, torch.Tensor]:
    """Of a size that keeps features alive through all layers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for index, (wide, before) in CONVOLUTIONS.items():
        weights[f"features.{index}.weight"] = (
            torch.randn(wide, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        )
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(wide, generator=generator)
    return weights


def linear(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator) for k, c in enumerate(LINEAR)}


def write_lpips(folder):
    """The two files as they are published, the linear one in the format of its year."""
    folder.mkdir(parents=True, exist_ok=True)
    classifier = {"classifier.6.weight": torch.zeros(1000, 8), "classifier.6.bias": torch.zeros(1000)}
    torch.save(backbone() | classifier, folder / "vgg16-397923af.pth")
    torch.save(linear(), folder / "vgg.pth", _use_new_zipfile_serialization=False)
    return folder
