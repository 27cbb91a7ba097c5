"""Coordinates in which a step moves whole regions of a surface and not single vertices.

After Nicolet, Jacobson and Jakob 2021, "Large Steps in Inverse Rendering of Geometry": vertices are x = (I + lambda L)^-1 u
with the combinatorial Laplacian L, and the optimiser works on u. A gradient at one vertex then pulls its whole neighbourhood.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvgamba.render.face_surfels import csr_matrix

DENSE_VERTICES = 16_384
"""Up to here a CUDA device keeps the inverse itself (1 GiB): one product a solve is faster than any iteration."""


def edge_list(faces: np.ndarray) -> np.ndarray:
    """Each undirected edge once, (E, 2)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(edges, 1), axis=0)


def adjacent_faces(faces: np.ndarray) -> np.ndarray:
    """Pairs of triangles that share an edge, (E, 2)."""
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((half[:, 1], half[:, 0]))
    half, owner = half[order], owner[order]
    same = (half[1:] == half[:-1]).all(1)
    return np.stack([owner[:-1][same], owner[1:][same]], 1)


def laplacian(num_vertices: int, edges: np.ndarray) -> sp.csc_matrix:
    """Combinatorial graph Laplacian: degree on the diagonal, -1 on edges."""
    i, j = edges[:, 0], edges[:, 1]
    ones = np.ones(len(edges))
    adjacency = sp.coo_matrix((ones, (i, j)), (num_vertices, num_vertices))
    adjacency = adjacency + adjacency.T
    degree = sp.diags(np.asarray(adjacency.sum(1)).ravel())
    return (degree - adjacency).tocsc()


def on_device(matrix: sp.spmatrix, device: torch.device) -> Tensor:
    """A sparse matrix for float32 products on a device."""
    csr = sp.csr_matrix(matrix)
    csr.sort_indices()
    parts = (csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data.astype(np.float32))
    starts, columns, values = (torch.from_numpy(part).to(device) for part in parts)
    return csr_matrix(starts, columns, values, *csr.shape)


def quadratic(x: Float[Tensor, "n c"], matrix: Tensor) -> Float[Tensor, ""]:
    """The sum of x^T M x over columns, for a symmetric sparse matrix; for a Laplacian the squared lengths of all edges."""
    return _Quadratic.apply(x, matrix)


class _Quadratic(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, matrix):
        product = matrix @ x.detach()
        ctx.save_for_backward(product)
        return (x * product).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (product,) = ctx.saved_tensors
        return 2 * grad * product, None


class SmoothCoordinates:
    """The change between vertices and the smooth coordinates of one mesh.

    The CPU solves with a sparse factorisation in double precision (SuperLU), a CUDA device with the inverse or, for large
    meshes, with a fixed number of Chebyshev iterations; all of them in the same order every time.
    """

    def __init__(
        self, num_vertices: int, faces: np.ndarray, strength: float, device: torch.device | str = "cpu"
    ) -> None:
        device = torch.device(device)
        graph = laplacian(num_vertices, edge_list(faces))
        self.matrix = (sp.identity(num_vertices, format="csc") + strength * graph).tocsc()
        self._product = on_device(self.matrix, device)
        self._solve: Callable[[Tensor], Tensor]
        if device.type == "cpu":
            self._solve = factorised(self.matrix)
        elif num_vertices <= DENSE_VERTICES:
            self._solve = inverted(self._product)
        else:
            self._solve = chebyshev(self._product, 1.0, 1.0 + 2.0 * strength * float(graph.diagonal().max()))

    def to_latent(self, vertices: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        return self._product @ vertices

    def to_vertices(self, latent: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        """Differentiable."""
        return _Solve.apply(latent, self._solve)


def factorised(matrix: sp.csc_matrix) -> Callable[[Tensor], Tensor]:
    """Solves for a symmetric positive definite matrix on the CPU; right-hand sides must be there as well."""
    # SuperLU pads the leaves of the elimination tree to dense blocks of many columns: four times the numbers on a mesh
    solver = splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        relax=1,
        panel_size=1,
        options={"SymmetricMode": True},
    )
    return lambda b: torch.from_numpy(solver.solve(b.numpy().astype(np.float64))).to(b.dtype)


def inverted(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """Solves with the dense inverse of a positive definite matrix, on its device."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix.to_dense()))
    return lambda b: inverse @ b


def chebyshev(matrix: Tensor, smallest: float, largest: float, *, error: float = 1e-6) -> Callable[[Tensor], Tensor]:
    """Solves with the polynomial that is best for eigenvalues between two bounds (Saad 2003, algorithm 12.1).

    Unlike conjugate gradients it takes no sums over the mesh, so nothing waits; and it is linear in the right-hand side, so
    that its adjoint is itself.
    """
    middle, half = 0.5 * (largest + smallest), 0.5 * (largest - smallest)
    ratio = half / middle
    rate = (1 - math.sqrt(1 - ratio * ratio)) / ratio if ratio > 0 else 0.0
    rounds = math.ceil(math.log(0.5 * error) / math.log(rate)) if rate > 0 else 1

    def solve(b: Tensor) -> Tensor:
        x = step = b / middle
        rho = ratio
        for _ in range(rounds):
            residual = b - matrix @ x
            following = 1 / (2 / ratio - rho) if ratio > 0 else 0.0
            step = following * rho * step + (2 * following / half if half > 0 else 1 / middle) * residual
            x = x + step
            rho = following
        return x

    return solve


class _Solve(torch.autograd.Function):
    """x = M^-1 u; M is symmetric, so its adjoint is itself."""

    @staticmethod
    def forward(ctx, latent, solve):
        ctx.solve = solve
        return solve(latent.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.solve(grad), None


class UniformAdam:
    """Adam with one step size for all components, so that the smoothness of a gradient survives (same paper, section 4)."""

    def __init__(self, parameter: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.parameter, self.lr, self.betas = parameter, lr, betas
        self.first = torch.zeros_like(parameter)
        # a tensor, so that a device need not be waited for
        self.second = torch.zeros((), dtype=parameter.dtype, device=parameter.device)
        self.step_count = 0

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        grad = self.parameter.grad
        if grad is None:
            return
        self.step_count += 1
        b1, b2 = self.betas
        self.first.mul_(b1).add_(grad, alpha=1 - b1)
        self.second.mul_(b2).add_(grad.abs().max().square(), alpha=1 - b2)
        scale = (self.second / (1 - b2**self.step_count)).sqrt() + 1e-12
        self.parameter.sub_(self.first / scale, alpha=factor * self.lr / (1 - b1**self.step_count))
        self.parameter.grad = None
