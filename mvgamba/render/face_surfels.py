"""Surfels that lie on the triangles of a mesh, one each: how a surface becomes something that can be splatted."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvgamba.types import Surfels

SPREAD = 1.9
"""Standard deviations of a surfel over those of its triangle. Below 1.6 the surface shows holes, above 2.4 it blurs."""
DEGENERATE = 1e-12
"""A triangle of less than half this area has no normal; its surfel faces +Z and pulls on nothing."""


class FaceIndex:
    """The triangles of a mesh, laid out for gathering corners and for summing over them in a fixed order.

    Args:
        faces: Corners of each triangle; the index lives on their device.
    """

    def __init__(self, faces: Int[Tensor, "F 3"], num_vertices: int) -> None:
        self.columns = faces.t().contiguous()
        self.num_vertices = num_vertices
        self._incidence: dict[torch.dtype, Tensor] = {}

    def corners(self, vertices: Float[Tensor, "P 3"]) -> list[Tensor]:
        """First, second and third corners, each (3, F): vectors as rows, several times faster than (F, 3)."""
        rows = vertices.t().contiguous()
        return [rows.index_select(1, column) for column in self.columns]

    def sum_to_vertices(self, corners: list[Tensor]) -> Float[Tensor, "P 3"]:
        """The adjoint of `corners`, added in the same order whatever the number of threads."""
        values = torch.cat(corners, 1).t().contiguous()
        if values.dtype not in self._incidence:
            self._incidence[values.dtype] = self._sums(values)
        return self._incidence[values.dtype] @ values

    def _sums(self, like: Tensor) -> Tensor:
        flat = self.columns.reshape(-1)
        starts = torch.zeros(self.num_vertices + 1, dtype=torch.int64, device=flat.device)
        starts[1:] = torch.bincount(flat, minlength=self.num_vertices).cumsum(0)
        return csr_matrix(starts, torch.argsort(flat, stable=True), torch.ones_like(like[:, 0]), self.num_vertices)


def csr_matrix(starts: Tensor, columns: Tensor, values: Tensor, rows: int, width: int | None = None) -> Tensor:
    """A sparse matrix for products with dense ones; of `width` columns, or as many as there are values."""
    with warnings.catch_warnings():
        # torch calls the layout a beta and its unchecked indices a risk, once per process each
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, (rows, len(values) if width is None else width))


def surfels_on_faces(
    vertices: Float[Tensor, "P 3"],
    faces: Int[Tensor, "F 3"],
    opacities: Float[Tensor, "F"],
    colors: Float[Tensor, "F 3"],
    *,
    spread: float = SPREAD,
    smallest: float = 1e-4,
) -> Surfels:
    """Surfels with the centre, the normal and the (widened) second moments of their triangles.

    Differentiable once in the vertices through centres and normals; the shape within the plane is taken as constant.
    """
    index = FaceIndex(faces, len(vertices))
    means, quats, scales, _ = lie_on_faces(vertices, index, spread=spread, smallest=smallest)
    return Surfels(means, quats, scales, opacities, colors)


def lie_on_faces(
    vertices: Float[Tensor, "P 3"], index: FaceIndex, *, spread: float = SPREAD, smallest: float = 1e-4
) -> tuple[Float[Tensor, "F 3"], Float[Tensor, "F 4"], Float[Tensor, "F 2"], Float[Tensor, "F 3"]]:
    """Centres, unit quaternions, standard deviations and unit normals of the surfels of `surfels_on_faces`."""
    return _LieOnFaces.apply(vertices, index, spread, smallest)


class _LieOnFaces(torch.autograd.Function):
    """Written out by hand: a chain of torch operators takes three times as long, most of it for its gradient."""

    @staticmethod
    def forward(ctx, vertices, index, spread, smallest):
        a, b, c = index.corners(vertices)
        e1, e2 = b - a, c - a
        across = _cross(e1, e2)
        length = across.square().sum(0).sqrt()
        flat = length < DEGENERATE
        inverse = torch.where(flat, 0.0, 1.0 / length.clamp_min(DEGENERATE))
        normals = across * inverse
        normals[2] = torch.where(flat, 1.0, normals[2])
        quats, scales = _frames(e1, e2, normals, spread, smallest)
        ctx.index = index
        ctx.save_for_backward(e1, e2, normals, inverse, quats)
        ctx.mark_non_differentiable(scales)
        means = ((a + b + c) / 3).t().contiguous()
        return means, quats.t().contiguous(), scales, normals.t().contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_means, grad_quats, grad_scales, grad_normals):
        e1, e2, normals, inverse, quats = ctx.saved_tensors
        # a small turn omega of the disc moves q by (0, omega) q / 2; a normal that moves by dn turns it by n x dn
        gw, gv = grad_quats[:, 0], grad_quats[:, 1:].t()
        w, v = quats[0], quats[1:]
        turn = 0.5 * (w * gv - gw * v + _cross(v, gv))
        pull = _cross(turn, normals) + grad_normals.t()
        pull = (pull - (pull * normals).sum(0) * normals) * inverse
        to_b, to_c = _cross(e2, pull), _cross(pull, e1)
        share = grad_means.t() / 3
        corners = [share - to_b - to_c, share + to_b, share + to_c]
        return ctx.index.sum_to_vertices(corners), None, None, None


def _frames(e1: Tensor, e2: Tensor, normals: Tensor, spread: float, smallest: float) -> tuple[Tensor, Tensor]:
    """Quaternions (4, F) and standard deviations (F, 2) along the principal axes of triangles, from two edges (3, F)."""
    nx, ny, nz = normals
    # the shortest turn of +Z to the normal or, on the lower half, of -Z after half a turn about X: never near a pole
    up = nz >= 0
    sign = torch.where(up, 1.0, -1.0).to(nz)
    t = 1 + nz.abs()
    first = torch.stack([1 - nx * nx / t, -nx * ny / t, -sign * nx])
    second = torch.stack([-sign * nx * ny / t, sign * (1 - ny * ny / t), -ny])
    u1, v1, u2, v2 = (e1 * first).sum(0), (e1 * second).sum(0), (e2 * first).sum(0), (e2 * second).sum(0)
    # an even density over a triangle has a twelfth of the summed squares of its corners, from the centre, as covariance
    xx, yy = (u1 * u1 + u2 * u2 - u1 * u2) / 18, (v1 * v1 + v2 * v2 - v1 * v2) / 18
    xy = (2 * (u1 * v1 + u2 * v2) - u1 * v2 - u2 * v1) / 36
    middle, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    spin = torch.sqrt(half * half + xy * xy)
    quarter = 0.25 * torch.atan2(xy, half)
    cos, sin = torch.cos(quarter), torch.sin(quarter)
    unit = torch.rsqrt(2 * t)
    cos, sin = cos * unit, sin * unit
    w, x = torch.where(up, t, -ny), torch.where(up, -ny, t)
    y, z = torch.where(up, nx, 0.0), torch.where(up, 0.0, nx)
    quats = torch.stack([w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin])
    scales = spread * torch.sqrt(torch.stack([middle + spin, middle - spin], 1).clamp_min(0.0))
    return quats, scales.clamp_min(smallest)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross products of vectors that are columns, (3, F)."""
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
