"""Coordinates in which a step moves whole regions of a surface and not single vertices.

After Nicolet, Jacobson and Jakob 2021, "Large Steps in Inverse Rendering of Geometry": vertices are x = (I + lambda L)^-1 u
with the combinatorial Laplacian L, and the optimiser works on u. A gradient at one vertex then pulls its whole neighbourhood.
"""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.sparse.linalg import splu
from torch import Tensor


def edge_list(faces: np.ndarray) -> np.ndarray:
    """Each undirected edge once, (E, 2)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(edges, 1), axis=0)


def laplacian(num_vertices: int, edges: np.ndarray) -> sp.csc_matrix:
    """Combinatorial graph Laplacian: degree on the diagonal, -1 on edges."""
    i, j = edges[:, 0], edges[:, 1]
    ones = np.ones(len(edges))
    adjacency = sp.coo_matrix((ones, (i, j)), (num_vertices, num_vertices))
    adjacency = adjacency + adjacency.T
    degree = sp.diags(np.asarray(adjacency.sum(1)).ravel())
    return (degree - adjacency).tocsc()


class SmoothCoordinates:
    """The change between vertices and the smooth coordinates of one mesh."""

    def __init__(self, num_vertices: int, faces: np.ndarray, strength: float) -> None:
        self.matrix = (
            sp.identity(num_vertices, format="csc") + strength * laplacian(num_vertices, edge_list(faces))
        ).tocsc()
        self._solver = splu(self.matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def to_latent(self, vertices: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        return torch.from_numpy(self.matrix @ vertices.numpy().astype(np.float64)).float()

    def to_vertices(self, latent: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        """Differentiable."""
        return _Solve.apply(latent, self._solver)


class _Solve(torch.autograd.Function):
    """x = M^-1 u; M is symmetric, so its adjoint is itself."""

    @staticmethod
    def forward(ctx, latent, solver):
        ctx.solver = solver
        return torch.from_numpy(solver.solve(latent.detach().numpy().astype(np.float64))).float()

    @staticmethod
    def backward(ctx, grad):
        return torch.from_numpy(ctx.solver.solve(grad.numpy().astype(np.float64))).float(), None


class UniformAdam:
    """Adam with one step size for all components, so that the smoothness of a gradient survives (same paper, section 4)."""

    def __init__(self, parameter: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.parameter, self.lr, self.betas = parameter, lr, betas
        self.first = torch.zeros_like(parameter)
        self.second = 0.0
        self.step_count = 0

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        grad = self.parameter.grad
        if grad is None:
            return
        self.step_count += 1
        b1, b2 = self.betas
        self.first.mul_(b1).add_(grad, alpha=1 - b1)
        self.second = b2 * self.second + (1 - b2) * float(grad.abs().max()) ** 2
        first = self.first / (1 - b1**self.step_count)
        scale = (self.second / (1 - b2**self.step_count)) ** 0.5
        self.parameter -= factor * self.lr * first / (scale + 1e-12)
        self.parameter.grad = None
