"""Batches of samples for the ray network: chosen, disturbed and laid out the same way for the same seed and step."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mvgamba.data.samples import RaySample
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS
from mvgamba.reconstructor.ray_network import make_planes

BUCKET = 16
"""Batches that are filled together, so that each gets samples of about one size and little is padded."""
NOISY = 0.04
"""Share of the samples."""


@dataclass(frozen=True, eq=False)
class RayBatch:
    """What a step learns from."""

    planes: Float[Tensor, "b V 14 S S"]
    targets: Float[Tensor, "b V 5 S S"]
    """Depth (as the planes near and far), 1 where the object is met, rgb."""
    num_given: int
    """Of the V views; the others are queried."""

    def to(self, device: torch.device | str) -> "RayBatch":
        return RayBatch(self.planes.to(device), self.targets.to(device), self.num_given)


def batch_order(
    sizes: Sequence[int], kinds: Sequence[int], *, batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """All samples once, in batches of one kind and of similar size, in random order; what does not fill a batch is left out.

    Args:
        kinds: Number of views of each sample; a batch cannot mix them.
    """
    generator = np.random.default_rng([seed, epoch])
    batches: list[list[int]] = []
    for kind in sorted(set(kinds)):
        order = generator.permutation([i for i, k in enumerate(kinds) if k == kind])
        for begin in range(0, len(order), batch_size * BUCKET):
            bucket = sorted(order[begin : begin + batch_size * BUCKET].tolist(), key=lambda i: sizes[i])
            batches += [bucket[i : i + batch_size] for i in range(0, len(bucket) - batch_size + 1, batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def patches_met(hit: UInt8[np.ndarray, "V S S"], patch: int) -> int:
    """Tokens that a sample takes, from where its rays meet the hull."""
    views, size, _ = hit.shape
    grid = size // patch
    return int(hit.reshape(views, grid, patch, grid, patch).any((2, 4)).sum())


def make_batch(samples: Sequence[RaySample], *, generator: np.random.Generator | None = None) -> RayBatch:
    """Stacked samples of as many views each; mirrored, in other colours, a view lost to noise, all at random, where a generator is given."""
    disturbed = [s if generator is None else _noisy(_mirrored(s, generator), generator) for s in samples]

    def stack(name: str) -> Tensor:
        return torch.stack([torch.from_numpy(np.ascontiguousarray(getattr(s, name))).float() for s in disturbed])

    rgb, true_rgb = stack("rgb") / 255, stack("true_rgb") / 255
    if generator is not None:
        mix = torch.from_numpy(np.stack([_color_mix(generator) for _ in disturbed])).float()
        rgb, true_rgb = (torch.einsum("bij,bvjhw->bvihw", mix, x).clamp(0, 1) for x in (rgb, true_rgb))
    planes = make_planes(
        rgb,
        stack("alpha") / 255,
        stack("near"),
        stack("far"),
        stack("hit"),
        stack("c2w"),
        stack("intrinsics"),
        samples[0].num_given,
    )
    single = torch.stack([stack("depth") / NORMALISED_RADIUS, stack("solid")], 2)
    return RayBatch(planes, torch.cat([single, true_rgb], 2), samples[0].num_given)


def _noisy(sample: RaySample, generator: np.random.Generator) -> RaySample:
    """Now and then the colours of one view, not the first, say nothing."""
    if generator.uniform() >= NOISY or sample.num_given < 2:
        return sample
    view = int(generator.integers(1, sample.num_given))
    rgb = sample.rgb.copy()
    rgb[view] = generator.integers(0, 256, rgb[view].shape) * (sample.alpha[view] / 255)
    return dataclasses.replace(sample, rgb=rgb)


def _mirrored(sample: RaySample, generator: np.random.Generator) -> RaySample:
    """At the plane x = 0, every second time."""
    if generator.uniform() < 0.5:
        return sample
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0]).astype(np.float32)
    names = ("rgb", "alpha", "near", "far", "hit", "depth", "solid", "true_rgb")
    flipped = {name: getattr(sample, name)[..., ::-1] for name in names}
    return dataclasses.replace(sample, c2w=mirror @ sample.c2w @ mirror, **flipped)


def _color_mix(generator: np.random.Generator) -> np.ndarray:
    """A turn of the hue, other saturation and brightness; one time in four none."""
    if generator.uniform() < 0.25:
        return np.eye(3)
    angle = generator.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    third, root = (1 - c) / 3, s / np.sqrt(3)
    turn = np.array(
        [
            [c + third, third - root, third + root],
            [third + root, c + third, third - root],
            [third - root, third + root, c + third],
        ]
    )
    grey = np.full((3, 3), 1 / 3)
    saturation = generator.uniform(0.6, 1.3)
    return generator.uniform(0.7, 1.15) * (saturation * turn + (1 - saturation) * grey)
