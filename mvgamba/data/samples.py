"""One object in one variant as the ray network learns from it: its inputs, and the truth for every pixel."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float16, Float32, UInt8

from mvgamba.data.sources import Source
from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.reconstructor.ray_inputs import ray_inputs
from mvgamba.types import Cameras

_Stored = TypeVar("_Stored", bound="Stored")


@dataclass(frozen=True, eq=False)
class Stored:
    """What shards hold: a dataclass of arrays, and the number of its first views that are given."""

    num_given: int

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls: type[_Stored], arrays: dict[str, np.ndarray]) -> _Stored:
        values: dict[str, Any] = {f.name: arrays[f.name] for f in dataclasses.fields(cls)}
        return cls(**values | {"num_given": int(values["num_given"])})


@dataclass(frozen=True, eq=False)
class RaySample(Stored):
    """As `RayInputs`, in few bytes, with targets. Given views first, then the queried ones."""

    rgb: UInt8[np.ndarray, "V 3 S S"]
    alpha: UInt8[np.ndarray, "V S S"]
    near: Float16[np.ndarray, "V S S"]
    """Less the distance of the camera from the origin, so that half precision has digits to spare; see `hit`."""
    far: Float16[np.ndarray, "V S S"]
    hit: UInt8[np.ndarray, "V S S"]
    """1 where the ray meets the hull."""
    depth: Float16[np.ndarray, "V S S"]
    """The truth, less the same distance."""
    solid: UInt8[np.ndarray, "V S S"]
    """1 where the ray meets the object."""
    true_rgb: UInt8[np.ndarray, "V 3 S S"]
    """Straight."""
    c2w: Float32[np.ndarray, "V 4 4"]
    intrinsics: Float32[np.ndarray, "V 3 3"]


def make_sample(source: Source, index: int, variant: int, *, size: int) -> RaySample:
    """Raises: InvalidInput, InvalidImage, EmptyReconstruction for an object that cannot be used."""
    taken = source.views(index, variant, size=size)
    if taken.draw is None or taken.inputs.depth is None:
        raise InvalidInput(
            f"{source.names[index]} comes as photographs without depth from every side; the ray network learns from meshes."
        )
    views = normalise_views(taken.inputs)
    given = ray_inputs(views, size=size)
    count = views.views.num_views
    c2w = given.cameras.c2w[count:].clone()
    c2w[:, :3, 3] = views.to_world.apply(c2w[:, :3, 3])
    truth = taken.draw(Cameras(c2w, given.cameras.intrinsics[count:], size, size))
    assert truth.depth is not None and views.views.depth is not None
    depth = torch.cat([views.views.depth, (truth.depth / views.to_world.scale).float()])
    true_rgb = torch.cat([views.views.rgb, truth.rgb])
    distance = given.cameras.c2w[:, :3, 3].norm(dim=-1).float()[:, None, None, None]

    def half(x: torch.Tensor, known: torch.Tensor) -> np.ndarray:
        return torch.where(known, x - distance, 0.0)[:, 0].half().numpy()

    def byte(x: torch.Tensor) -> np.ndarray:
        return (255 * x).round().to(torch.uint8).numpy()

    hit, solid = given.near > 0, depth > 0
    return RaySample(
        rgb=byte(given.rgb),
        alpha=byte(given.alpha[:, 0]),
        near=half(given.near, hit),
        far=half(given.far, hit),
        hit=hit[:, 0].to(torch.uint8).numpy(),
        depth=half(depth, solid),
        solid=solid[:, 0].to(torch.uint8).numpy(),
        true_rgb=byte(true_rgb),
        c2w=given.cameras.c2w.float().numpy(),
        intrinsics=given.cameras.intrinsics.float().numpy(),
        num_given=count,
    )
