"""LPIPS, a distance of pictures that follows people's judgement (Zhang et al. 2018), for those who have its weights."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.evaluation.image_scores import on_white
from mvgamba.reconstructor.checkpoint import read_pickle
from mvgamba.types import PosedViews

Perceptual = Callable[[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]], Tensor]
"""Distance of two sets of pictures in [-1, 1], as LPIPS measures it: one number, or one for each pair."""
BACKBONE, LINEAR = "vgg16-397923af.pth", "vgg.pth"
"""What the two files are called where they are published."""
ORIGIN = (
    f"LPIPS needs two public files, which do not come with the package: the VGG16 weights of torchvision ({BACKBONE}) and the "
    f"linear weights of LPIPS v0.1 for VGG ({LINEAR}, in lpips/weights/v0.1 of richzhang/PerceptualSimilarity). Put both into "
    "one folder and name it."
)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""The colours that VGG16 was trained on have their mean and spread there, in [-1, 1]."""
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of VGG16 between its pools."""
LEAST_SIZE = 16
"""Pixels that four pools leave one of."""
EPSILON = 1e-10


class Lpips(nn.Module):
    """The distance of version 0.1 with VGG16, frozen and differentiable in the pictures. `load_lpips` gives it its weights.

    Names of weights are the published ones: `features.0.weight` as in torchvision's `vgg16`, `lin0.model.1.weight` as in
    the linear weights.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        """Indices of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 among the features."""
        before = 3
        for stage, (channels, convolutions) in enumerate(STAGES):
            layers += [nn.MaxPool2d(2)] if stage else []
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = channels
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        for stage, (channels, _) in enumerate(STAGES):
            # first what stands for the published dropout, which does nothing outside its own training
            linear = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{stage}", nn.ModuleDict({"model": linear}))
        # on the CPU also where the weights are made without storage
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values, device="cpu").view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n"]:
        """Of each pair of pictures in [-1, 1]: 0 for equal ones. Raises: InvalidInput below 16 pixels."""
        if min(first.shape[-2:]) < LEAST_SIZE:
            raise InvalidInput(
                f"LPIPS needs pictures of at least {LEAST_SIZE} x {LEAST_SIZE} pixels, got "
                f"{first.shape[-2]} x {first.shape[-1]}; make them larger."
            )
        a, b = ((pictures - self.shift) / self.scale for pictures in (first, second))
        distance = first.new_zeros(len(first))
        # one after the other, not as one batch: pictures that need no gradient keep nothing for it
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in self.taps:
                linear = self.get_submodule(f"lin{self.taps.index(index)}.model")
                distance = distance + linear((_unit(a) - _unit(b)).square()).mean((1, 2, 3))
        return distance


def _unit(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPSILON)


@torch.no_grad()
def lpips_scores(truth: PosedViews, result: PosedViews, perceptual: Perceptual | None) -> dict[str, float]:
    """Mean and largest distance of the views on white, in their own size; nothing without a distance."""
    if perceptual is None:
        return {}
    # view by view: the features of a large picture take as much memory as a hundred of it
    pairs = zip(on_white(truth).float().split(1), on_white(result).float().split(1), strict=True)
    distances = torch.stack([perceptual(2 * a - 1, 2 * b - 1).mean() for a, b in pairs])
    return {"lpips": float(distances.mean()), "worst_lpips": float(distances.max())}


def load_lpips(path: Path) -> Lpips:
    """LPIPS with the published weights, on the CPU.

    Args:
        path: A folder with the VGG16 weights of torchvision (`vgg16-397923af.pth`, else the one `vgg16*.pth` or
            `vgg16*.safetensors`) and the linear weights (`vgg.pth`); or one file with all, also under the names of the
            package `lpips`. What else these hold, such as the classifier of VGG16, is left out.
    Raises:
        WeightsMissing: There is no such file or folder, or one of the two files is not in it.
        WeightsCorrupt: A file cannot be read, or a weight is missing, of another shape, not finite, or negative in a
            linear layer.
        InvalidInput: The folder holds several files of VGG16 and none with the published name.
    """
    weights: dict[str, Tensor] = {}
    for file in [path] if path.is_file() else _files_in(path):
        weights |= {re.sub(r"^net\.slice[1-5]\.", "features.", name): value for name, value in _read(file).items()}
    with torch.device("meta"):
        network = Lpips()
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name, shape in expected.items():
        if name not in weights:
            raise WeightsCorrupt(f"The weights in {path} have no {name}, expected with shape {shape}. {ORIGIN}")
        if tuple(weights[name].shape) != shape:
            raise WeightsCorrupt(
                f"The weights in {path} have {name} with shape {tuple(weights[name].shape)}, expected {shape}. {ORIGIN}"
            )
        if not bool(torch.isfinite(weights[name]).all()):
            raise WeightsCorrupt(f"The weights in {path} have numbers in {name} that are not finite. {ORIGIN}")
        if name.startswith("lin") and bool((weights[name] < 0).any()):
            raise WeightsCorrupt(f"The weights in {path} have negative numbers in {name}, expected none. {ORIGIN}")
    network.load_state_dict({name: weights[name].float() for name in expected}, assign=True)
    return network.requires_grad_(False).eval()


def _files_in(folder: Path) -> list[Path]:
    """Raises: WeightsMissing, InvalidInput."""
    if not folder.is_dir():
        raise WeightsMissing(f"There is no file or folder {folder}. {ORIGIN}")
    backbones = sorted(p for p in folder.glob("vgg16*") if p.suffix in (".pth", ".safetensors"))
    if folder / BACKBONE in backbones:
        backbones = [folder / BACKBONE]
    if not backbones:
        raise WeightsMissing(f"{folder} holds no {BACKBONE}, nor another vgg16*.pth or vgg16*.safetensors. {ORIGIN}")
    if len(backbones) > 1:
        names = ", ".join(p.name for p in backbones)
        raise InvalidInput(f"{folder} holds {names}; leave the one that is meant, or call it {BACKBONE}.")
    if not (folder / LINEAR).is_file():
        raise WeightsMissing(f"{folder} holds no {LINEAR}. {ORIGIN}")
    return [*backbones, folder / LINEAR]


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix.lower() != ".safetensors":
        return read_pickle(file)[0]
    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsCorrupt(f"{file.name} cannot be read: {error}.") from error
