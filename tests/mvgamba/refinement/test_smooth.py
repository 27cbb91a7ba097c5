"""Smooth coordinates: exact there and back, with the right adjoint, and spreading what pulls at one vertex."""

import numpy as np
import torch
import trimesh

from mvgamba.refinement.smooth import SmoothCoordinates, UniformAdam, edge_list, laplacian


def sphere() -> tuple[torch.Tensor, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return torch.from_numpy(np.asarray(mesh.vertices, np.float32)), np.asarray(mesh.faces, np.int64)


def test_there_and_back_is_the_identity():
    vertices, faces = sphere()
    coordinates = SmoothCoordinates(len(vertices), faces, 10.0)
    torch.testing.assert_close(coordinates.to_vertices(coordinates.to_latent(vertices)), vertices, atol=1e-5, rtol=0)


def test_the_gradient_is_that_of_the_linear_map():
    vertices, faces = sphere()
    coordinates = SmoothCoordinates(len(vertices), faces, 3.0)
    latent = coordinates.to_latent(vertices).requires_grad_(True)
    pull = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0))
    (coordinates.to_vertices(latent) * pull).sum().backward()
    dense = torch.from_numpy(coordinates.matrix.toarray()).float()
    torch.testing.assert_close(latent.grad, torch.linalg.solve(dense, pull), atol=1e-4, rtol=1e-3)


def test_the_laplacian_is_blind_to_translation():
    vertices, faces = sphere()
    matrix = laplacian(len(vertices), edge_list(faces))
    assert abs(matrix @ np.ones(len(vertices))).max() < 1e-12


def test_a_step_moves_neighbours_along():
    vertices, faces = sphere()
    coordinates = SmoothCoordinates(len(vertices), faces, 20.0)
    latent = coordinates.to_latent(vertices).requires_grad_(True)
    optimiser = UniformAdam(latent, 0.1)
    coordinates.to_vertices(latent)[0, 1].backward()
    optimiser.step()
    shift = (coordinates.to_vertices(latent) - vertices)[:, 1].detach()
    neighbours = np.unique(faces[(faces == 0).any(1)])
    assert shift[0] < 0 and bool((shift[neighbours] < 0.1 * shift[0]).all())
    assert shift.abs().max() == shift[0].abs()
