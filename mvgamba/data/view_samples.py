"""One object in one variant as the MVGamba network learns from it: photographs, in the frame of the first camera."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from mvgamba.cameras import orbit_c2w
from mvgamba.data.samples import Stored
from mvgamba.data.shards import ShardReport, ShardSamples, read_samples, write_shards
from mvgamba.data.sources import Source
from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.network import FirstCameraFrame
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.types import Cameras, PosedViews

VIEWS = "views"
"""The kind of shards that hold `ViewSample`."""
NUM_OTHERS = 12
"""Photographs beside the inputs, where a source can draw them."""
LOWEST, HIGHEST = math.radians(-20), math.radians(60)
"""Elevations of theirs, drawn evenly."""


@dataclass(frozen=True, eq=False)
class ViewSample(Stored):
    """Inputs first, then the views that are only compared with."""

    rgb: UInt8[np.ndarray, "V 3 S S"]
    """Straight."""
    alpha: UInt8[np.ndarray, "V S S"]
    c2w: Float32[np.ndarray, "V 4 4"]
    """The first stands at (0, 0, 1.5) and looks along -z, whatever its elevation in the world; the object is around the origin."""
    intrinsics: Float32[np.ndarray, "V 3 3"]

    @property
    def num_others(self) -> int:
        return len(self.rgb) - self.num_given

    def views(self, index: list[int]) -> PosedViews:
        """Some of the photographs."""
        size = self.rgb.shape[-1]
        cameras = Cameras(torch.from_numpy(self.c2w[index]), torch.from_numpy(self.intrinsics[index]), size, size)
        rgb, alpha = (torch.from_numpy(x[index]).float() / 255 for x in (self.rgb, self.alpha[:, None]))
        return PosedViews(rgb, alpha, cameras)


def make_view_sample(source: Source, index: int, variant: int, *, size: int) -> ViewSample:
    """The object is found by its silhouettes and scaled as the reconstructor does it when it is used.

    Raises: InvalidInput, InvalidImage, InvalidCameras for an object that cannot be used.
    """
    taken = source.views(index, variant, size=size)
    normalised = normalise_views(taken.inputs)
    to_world, given = normalised.to_world, normalised.views
    others: PosedViews | None = None
    if taken.draw is not None:
        local = _other_cameras(given.cameras, np.random.default_rng([index, variant, 1]))
        c2w = local.c2w.clone()
        c2w[:, :3, 3] = to_world.apply(c2w[:, :3, 3])
        others = dataclasses.replace(taken.draw(dataclasses.replace(local, c2w=c2w)), cameras=local)
    elif taken.others is not None:
        c2w = taken.others.cameras.c2w.clone()
        c2w[:, :3, 3] = to_world.inverse_apply(c2w[:, :3, 3])
        others = dataclasses.replace(taken.others, cameras=dataclasses.replace(taken.others.cameras, c2w=c2w))
    parts = [given] if others is None else [given, others]
    shapes = {tuple(part.rgb.shape[-2:]) for part in parts}
    if shapes != {(size, size)}:
        raise InvalidInput(
            f"{source.names[index]} comes in views of {sorted(shapes)} pixels; all must be {size} x {size}."
        )
    frame = FirstCameraFrame.of(given.cameras)
    cameras = [frame.cameras_from_world(part.cameras) for part in parts]

    def byte(x: torch.Tensor) -> np.ndarray:
        return (255 * x).round().to(torch.uint8).numpy()

    return ViewSample(
        rgb=byte(torch.cat([part.rgb for part in parts])),
        alpha=byte(torch.cat([part.alpha for part in parts])[:, 0]),
        c2w=torch.cat([c.c2w for c in cameras]).float().numpy(),
        intrinsics=torch.cat([c.intrinsics for c in cameras]).float().numpy(),
        num_given=given.num_views,
    )


def _other_cameras(given: Cameras, generator: np.random.Generator) -> Cameras:
    """From all around the origin of the normalised frame, with the lens of the first given camera and as far away."""
    distance = float(given.c2w[0, :3, 3].norm())
    angles = [(generator.uniform(0, 2 * math.pi), generator.uniform(LOWEST, HIGHEST)) for _ in range(NUM_OTHERS)]
    c2w = torch.stack([orbit_c2w(azimuth, elevation, distance) for azimuth, elevation in angles])
    lens = given.intrinsics[:1].double().expand(NUM_OTHERS, 3, 3).contiguous()
    return Cameras(c2w, lens, given.height, given.width)


def write_view_shards(
    source: Source,
    folder: Path,
    *,
    variants: int,
    size: int,
    workers: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """As `write_shards`, of these samples. Raises: InvalidInput."""
    return write_shards(
        source, folder, variants=variants, size=size, workers=workers, report=report, make=make_view_sample, kind=VIEWS
    )  # fmt: skip


def read_view_shards(folder: Path, *, most: int | None = None) -> ShardSamples[ViewSample]:
    """As `read_shards`. Raises: InvalidInput."""
    return read_samples(folder, from_arrays=ViewSample.from_arrays, kind=VIEWS, most=most)
