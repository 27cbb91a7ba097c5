"""LPIPS with random weights of the published layout: what must hold of a distance whatever was learned."""

import pytest
import torch
from safetensors.torch import save_file

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.evaluation.lpips import load_lpips

CONVOLUTIONS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
"""Index in torchvision's `vgg16().features` -> channels out and in, as the published file has them."""


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, (to, of) in CONVOLUTIONS.items():
        tensors[f"features.{index}.weight"] = torch.randn(to, of, 3, 3, generator=generator) * (2 / (9 * of)) ** 0.5
        tensors[f"features.{index}.bias"] = 0.1 * torch.randn(to, generator=generator)
    for index, width in enumerate((64, 128, 256, 512, 512)):
        tensors[f"lin{index}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return tensors


@pytest.fixture(scope="module")
def lpips(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "vgg.pth"
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return load_lpips(path)


def test_it_is_a_distance_that_grows_with_noise(lpips):
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, 3, 32, 32, generator=generator).expand(4, -1, -1, -1)
    noise = torch.randn(1, 3, 32, 32, generator=generator)
    other = (picture + torch.tensor([0.0, 0.02, 0.1, 0.3])[:, None, None, None] * noise).clamp(0, 1)
    distances = lpips(picture, other)
    assert distances[0] == 0
    assert (distances[1:] > distances[:-1]).all()
    torch.testing.assert_close(lpips(other, picture), distances)


def test_it_is_the_published_formula(lpips, state):
    """Written out a second time with functions alone."""
    a, b = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    x = (torch.cat([a, b]) * 2 - 1 - shift) / scale
    total, stage = 0.0, 0
    for index in CONVOLUTIONS:
        if index in (5, 10, 17, 24):
            x = torch.max_pool2d(x, 2)
        x = torch.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1).relu()
        if index in (2, 7, 14, 21, 28):
            unit = x / x.norm(dim=1, keepdim=True)
            weight = state[f"lin{stage}.model.1.weight"][0]
            total, stage = total + float((weight * (unit[0] - unit[1]).square()).sum(0).mean()), stage + 1
    assert float(lpips(a, b)) == pytest.approx(total, rel=1e-4)


def test_safetensors_do_as_well(state, lpips, tmp_path):
    save_file(state, tmp_path / "vgg.safetensors")
    read = load_lpips(tmp_path / "vgg.safetensors")
    assert torch.equal(read.features[28].weight, lpips.features[28].weight)


def test_a_wrong_file_is_refused_by_what_is_wrong(state, tmp_path):
    with pytest.raises(WeightsMissing, match=r"none\.pth"):
        load_lpips(tmp_path / "none.pth")
    torch.save({k: v for k, v in state.items() if not k.startswith("lin")}, tmp_path / "half.pth")
    with pytest.raises(WeightsCorrupt, match=r"lacks lin0\.model\.1\.weight"):
        load_lpips(tmp_path / "half.pth")
    torch.save(state | {"features.5.bias": torch.zeros(64)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsCorrupt, match=r"features\.5\.bias .* \(64,\); it must be \(128,\)"):
        load_lpips(tmp_path / "odd.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsCorrupt, match=r"text\.pth cannot be read"):
        load_lpips(tmp_path / "text.pth")
