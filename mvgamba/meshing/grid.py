"""A field on a regular grid, positive inside, and the closed surface where it is zero."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from skimage import measure
from torch import Tensor

from mvgamba.errors import EmptyReconstruction
from mvgamba.types import Mesh


@dataclass(frozen=True, eq=False)
class Grid:
    """Values at the points `origin + spacing * (i, j, k)`, in scene units, positive inside."""

    field: Float[Tensor, "nx ny nz"]
    origin: Float[Tensor, "3"]
    spacing: float

    def resample(self, like: "Grid") -> "Grid":
        """This field at the points of another grid, by trilinear interpolation; -infinity (outside) beyond this grid."""
        first = (like.origin - self.origin) / self.spacing
        is_aligned = like.spacing == self.spacing and bool((first == 0).all())
        if is_aligned and like.field.shape == self.field.shape:
            return self
        result = self.field
        for axis in range(3):
            positions = first[axis] + torch.arange(like.field.shape[axis]) * (like.spacing / self.spacing)
            result = _resample_axis(result, positions.to(result.device), axis)
        return Grid(result, like.origin, like.spacing)


def empty_grid(low: Float[Tensor, "3"], high: Float[Tensor, "3"], *, resolution: int) -> Grid:
    """A grid of zeros over a box, with `resolution` points along its longest side and cubic cells."""
    low, high = low.double().cpu(), high.double().cpu()
    extent = high - low
    if resolution < 2 or not bool((extent > 0).all()) or not bool(torch.isfinite(extent).all()):
        raise ValueError(f"a grid needs high > low and two points or more, got {low}, {high}, {resolution}")
    spacing = float(extent.max()) / (resolution - 1)
    shape = [math.ceil(float(e) / spacing - 1e-6) + 1 for e in extent]
    return Grid(torch.zeros(shape), low, spacing)


def extract_surface(grid: Grid) -> Mesh:
    """The closed surface around the inside, counter-clockwise from outside, by marching cubes.

    Beyond the grid everything is outside, so the surface closes there.

    Raises:
        EmptyReconstruction: No point is inside.
    """
    field = grid.field.detach().cpu()
    inside = field > 0
    if not bool(inside.any()):
        raise EmptyReconstruction(
            "No point of the grid lies inside the object, so there is no surface. The silhouettes may be empty, or the "
            "cameras may not see a common object."
        )
    # Only the box around the inside, and one layer more, which is all there is to close beyond the grid.
    flat = (inside.any(2), inside.any(1))
    ranges = [axis.nonzero()[[0, -1], 0].tolist() for axis in (flat[0].any(1), flat[0].any(0), flat[1].any(0))]
    low = [first - 1 for first, _ in ranges]
    box = torch.full([last - first + 3 for first, last in ranges], -grid.spacing)
    within = [slice(max(0, a), min(n, b + 2)) for a, (_, b), n in zip(low, ranges, field.shape, strict=True)]
    place = [slice(w.start - a, w.stop - a) for w, a in zip(within, low, strict=True)]
    box[tuple(place)] = field[tuple(within)].float()
    box.clamp_(-8 * grid.spacing, 8 * grid.spacing)
    # Away from zero, so that no two vertices meet in a grid point.
    least = 0.02 * grid.spacing
    box.masked_fill_((box > 0) & (box < least), least).masked_fill_((box <= 0) & (box > -least), -least)
    vertices, faces, _, _ = measure.marching_cubes(box.numpy(), 0.0, gradient_direction="ascent")
    vertices = grid.origin.double().cpu().numpy() + (vertices.astype(np.float64) + low) * grid.spacing
    return Mesh(vertices, np.ascontiguousarray(faces).astype(np.int64))


def _resample_axis(values: Float[Tensor, "a b c"], positions: Float[Tensor, " n"], axis: int) -> Float[Tensor, "d e f"]:
    """Linear interpolation along one axis at fractional indices."""
    count = values.shape[axis]
    is_within = (positions >= -1e-6) & (positions <= count - 1 + 1e-6)
    low = positions.floor().clamp(0, max(count - 2, 0)).long()
    high = (low + 1).clamp(max=count - 1)
    view = [1, 1, 1]
    view[axis] = -1
    share = (positions - low).clamp(0, 1).to(values).view(view)
    result = values.index_select(axis, low) * (1 - share) + values.index_select(axis, high) * share
    return torch.where(is_within.view(view), result, -torch.inf)
