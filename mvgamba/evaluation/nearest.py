"""The nearest object of a folder as a result: what somebody who knows the training objects by heart would give back."""

import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mvgamba.cameras import intrinsics_from_fovy, orbit_c2w, turn_about_vertical
from mvgamba.errors import EmptyReconstruction, MVGambaError
from mvgamba.evaluation.drawable import Drawable
from mvgamba.evaluation.objects import objects_of, read_object
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import DISTANCE
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews, normalise_views
from mvgamba.types import Cameras, PosedViews, Similarity

log = logging.getLogger(__name__)

SIZE = 24
"""Pixels of the pictures that are compared."""
AZIMUTHS = 16
ELEVATIONS = tuple(math.radians(e) for e in (-30, 0, 30, 60))


class NearestObject:
    """Finds, among the objects of a folder and turns about the vertical, the one that looks most like the photographs.

    Compared are small pictures, colours times coverage and coverage, from directions a sixteenth of a turn and 30 degrees of height apart, each
    framed by the bounding sphere. The pictures of the folder are kept in `cache`.

    Raises: InvalidInput if the folder has no objects.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.paths = objects_of(folder)
        self.last: str = ""
        """Name of the object that was found last."""
        self._pictures = self._read_or_draw(cache)

    def __call__(self, views: PosedViews) -> Drawable:
        """That object in the place of the photographed one, of its size. Raises: EmptyReconstruction, InvalidImage, InvalidCameras."""
        seen = normalise_views(views)
        pictures, steps, heights = _framed(seen)
        wanted = torch.from_numpy(pictures).float()
        least, best, turn = math.inf, -1, 0
        for t in range(AZIMUTHS):
            # turned by t steps, the object shows the camera at azimuth a what it showed at a - t
            known = self._pictures[:, heights, (steps - t) % AZIMUTHS]
            gaps = (torch.from_numpy(known).float() - wanted).square().mean((1, 2, 3, 4))
            if float(gaps.min()) < least:
                least, best, turn = float(gaps.min()), int(gaps.argmin()), t
        if best < 0:
            raise EmptyReconstruction("No object of the folder could be drawn.")
        self.last = self.paths[best].stem
        log.info("nearest: %s, turned by %d degrees", self.last, 360 * turn // AZIMUTHS)
        thing = read_object(self.paths[best])
        rotation = turn_about_vertical(2 * math.pi * turn / AZIMUTHS)
        scale = NORMALISED_RADIUS / thing.radius
        into_frame = Similarity(scale, rotation, -scale * rotation @ torch.from_numpy(thing.center))
        return thing.placed(into_frame).placed(seen.to_world)

    def _read_or_draw(self, cache: Path) -> UInt8[np.ndarray, "n e a 4 S S"]:
        stamp = np.array([f"{p.name} {p.stat().st_size}" for p in self.paths])
        if cache.is_file():
            with np.load(cache) as held:
                if np.array_equal(held["stamp"], stamp):
                    return held["pictures"]
        log.info("drawing %d objects to compare with", len(self.paths))
        pictures = np.zeros((len(self.paths), len(ELEVATIONS), AZIMUTHS, 4, SIZE, SIZE), np.uint8)
        for i, path in enumerate(self.paths):
            try:
                pictures[i] = _all_around(read_object(path))
            except MVGambaError as error:
                log.warning("%s is left out: %s", path.name, error)
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cache, stamp=stamp, pictures=pictures)
        return pictures


def _all_around(thing: Drawable) -> UInt8[np.ndarray, "e a 4 S S"]:
    """Pictures of all directions, framed by the bounding sphere."""
    fovy = 2 * math.asin(1 / DISTANCE)
    angles = [(2 * math.pi * a / AZIMUTHS, e) for e in ELEVATIONS for a in range(AZIMUTHS)]
    c2w = torch.stack([orbit_c2w(a, e, DISTANCE * thing.radius) for a, e in angles])
    c2w[:, :3, 3] += torch.from_numpy(thing.center)
    k = intrinsics_from_fovy(fovy, SIZE, SIZE)
    views = photograph(thing, Cameras(c2w, k.expand(len(angles), 3, 3).contiguous(), SIZE, SIZE), samples=2)
    return _bytes(views.rgb, views.alpha).reshape(len(ELEVATIONS), AZIMUTHS, 4, SIZE, SIZE)


def _framed(seen: NormalisedViews) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views cut out around the bounding sphere; steps of azimuth and of elevation that are nearest to where they stand."""
    cameras = seen.views.cameras
    position = cameras.c2w[:, :3, 3]
    distance = position.norm(dim=1)
    radius = NORMALISED_RADIUS / (distance.square() - NORMALISED_RADIUS**2).clamp_min(1e-6).sqrt()
    local = torch.einsum("vji,vj->vi", cameras.c2w[:, :3, :3], -position)
    k = cameras.intrinsics
    u = k[:, 0, 0] * local[:, 0] / -local[:, 2] + k[:, 0, 2]
    v = k[:, 1, 1] * local[:, 1] / local[:, 2] + k[:, 1, 2]
    half_u, half_v = k[:, 0, 0] * radius, k[:, 1, 1] * radius
    at = (torch.arange(4 * SIZE, dtype=torch.float64) + 0.5) / (2 * SIZE) - 1
    x = (u[:, None] + at * half_u[:, None]) * 2 / cameras.width - 1
    y = (v[:, None] + at * half_v[:, None]) * 2 / cameras.height - 1
    shape = (len(u), 4 * SIZE, 4 * SIZE)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], -1).float()
    planes = torch.cat([seen.views.rgb * seen.views.alpha, seen.views.alpha], 1)
    cut = F.avg_pool2d(F.grid_sample(planes, grid, align_corners=False), 4)
    alpha = cut[:, 3:].clamp(0, 1)
    steps = torch.round(torch.atan2(position[:, 0], position[:, 2]) * AZIMUTHS / (2 * math.pi)).long() % AZIMUTHS
    elevation = torch.asin((position[:, 1] / distance).clamp(-1, 1))
    heights = (elevation[:, None] - torch.tensor(ELEVATIONS, dtype=torch.float64)).abs().argmin(1)
    return _bytes((cut[:, :3] / alpha.clamp_min(1e-4)).clamp(0, 1), alpha), steps.numpy(), heights.numpy()


def _bytes(rgb: Float[Tensor, "V 3 S S"], alpha: Float[Tensor, "V 1 S S"]) -> UInt8[np.ndarray, "V 4 S S"]:
    return (255 * torch.cat([rgb * alpha, alpha], 1)).round().to(torch.uint8).numpy()
