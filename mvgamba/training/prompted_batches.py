"""What the starter generator learns from in a step: sets of five views, half of them with a picture, the rest with words alone.

A small corpus has each thing in one colour, so things are repainted and their captions with them; else "a red barrel" would be a brown one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.data.prompted_samples import FRONT_ELEVATIONS, NUM_TURNS, PromptedSample, rig_places
from mvgamba.multiview.placing import boxes, centered, sampled
from mvgamba.multiview.repainting import paints, recolored_caption, repainted
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.multiview.starter_network import camera_code, ray_code, to_signal

FRONT, RIGHT, BACK, LEFT, TOP = range(5)


@dataclass(frozen=True, eq=False)
class PromptedRows:
    """Some rows of a batch, all with a picture or all without."""

    views: Float[Tensor, "B 5 4 S S"]
    """Signals, see `to_signal`."""
    cameras: Float[Tensor, "B 5 16"]
    rays: Float[Tensor, "B 5 n 6"]
    sentences: tuple[str, ...]
    picture: Float[Tensor, "B 4 S S"] | None


@dataclass(frozen=True, eq=False)
class PromptedBatch:
    """See the module."""

    pictured: PromptedRows
    spoken: PromptedRows

    def to(self, device: torch.device | str) -> "PromptedBatch":
        def moved(rows: PromptedRows) -> PromptedRows:
            picture = None if rows.picture is None else rows.picture.to(device)
            return PromptedRows(
                rows.views.to(device), rows.cameras.to(device), rows.rays.to(device), rows.sentences, picture
            )

        return PromptedBatch(moved(self.pictured), moved(self.spoken))


class PromptedRowMaker:
    """Rows out of samples.

    Args:
        patches: Of a view, along an edge.
        disturb: False for sets as they were photographed.
    """

    def __init__(self, samples: Sequence[PromptedSample], *, patches: int, disturb: bool = True) -> None:
        self.samples, self.patches, self.disturb = samples, patches, disturb
        size = samples[0].rgba.shape[1]
        cameras = [rig_cameras(elevation, size=size) for elevation in FRONT_ELEVATIONS]
        self._codes = [camera_code(c) for c in cameras]
        self._rays = [ray_code(c, patches) for c in cameras]
        self._paints = paints(samples)
        self.spoken = [i for i, s in enumerate(samples) if len(s.captions)]

    def rows(self, picked: Sequence[int], generator: np.random.Generator, *, pictured: bool) -> PromptedRows:
        """One for each of the samples."""
        made = [self._row(self.samples[i], generator, pictured=pictured) for i in picked]
        tilts = [tilt for _, _, tilt, _ in made]
        return PromptedRows(
            torch.stack([views for views, _, _, _ in made]),
            torch.stack([self._codes[tilt] for tilt in tilts]),
            torch.stack([self._rays[tilt] for tilt in tilts]),
            tuple(sentence for _, sentence, _, _ in made),
            torch.stack([picture for _, _, _, picture in made]) if pictured else None,
        )

    def _row(
        self, sample: PromptedSample, generator: np.random.Generator, *, pictured: bool
    ) -> tuple[Tensor, str, int, Tensor]:
        free = pictured and self.disturb and generator.uniform() < 0.6
        turn = int(generator.integers(NUM_TURNS)) if free else 0
        tilt = int(generator.choice(len(FRONT_ELEVATIONS), p=[0.5, 0.3, 0.2])) if pictured and self.disturb else 0
        mirrored = self.disturb and generator.uniform() < 0.5
        rgba = torch.from_numpy(set_of_views(sample, turn, tilt, mirrored=mirrored)).float() / 255
        rgb, alpha = rgba[..., :3].permute(0, 3, 1, 2), rgba[..., 3:].permute(0, 3, 1, 2)
        sentence = str(generator.choice(sample.captions)) if len(sample.captions) else ""
        if self.disturb and len(sample.color_names) and generator.uniform() < 0.6:
            name = str(generator.choice(sorted(self._paints)))
            rgb = repainted(rgb, sample, self._paints[name][int(generator.integers(len(self._paints[name])))])
            if sentence:
                sentence = recolored_caption(str(sample.captions[0]), str(sample.color_names[0]), name)
        if self.disturb and generator.uniform() < (0.5 if pictured else 0.1):
            sentence = ""
        picture = prompt_picture(rgb[FRONT], alpha[FRONT], generator if self.disturb else None)
        return to_signal(rgb, alpha), sentence, tilt, picture


def set_of_views(sample: PromptedSample, turn: int, tilt: int, *, mirrored: bool) -> np.ndarray:
    """uint8 (5, S, S, 4): front, right, back, left, above; of the mirror image of the object if wanted."""
    if not mirrored:
        return sample.rgba[rig_places(turn, tilt)]
    index = rig_places(turn, tilt)
    # what stands 45 degrees to the left of the front is to its right in the mirror
    above = rig_places((turn - NUM_TURNS // 4) % NUM_TURNS, tilt)[TOP]
    swapped = [index[FRONT], index[LEFT], index[BACK], index[RIGHT], above]
    return np.ascontiguousarray(sample.rgba[swapped][:, :, ::-1])


def prompt_picture(
    rgb: Float[Tensor, "3 S S"], alpha: Float[Tensor, "1 S S"], generator: np.random.Generator | None
) -> Float[Tensor, "4 S S"]:
    """The picture that a person would give: the object in the middle, its longer side four fifths of the frame, or nearly so."""
    signal = to_signal(rgb, alpha)[None]
    if generator is None:
        return centered(signal, size=rgb.shape[-1])[0]
    low, high = boxes(alpha > 0.5)
    side = (high - low).max() / generator.uniform(0.74, 0.86)
    middle = (low + high) / 2 + side * torch.from_numpy(generator.uniform(-0.02, 0.02, (1, 2))).float()
    return sampled(signal, middle, side.expand(1, 2), size=rgb.shape[-1])[0]
