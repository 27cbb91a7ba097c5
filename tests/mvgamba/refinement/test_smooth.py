"""Smooth coordinates: exact there and back, with the right adjoint, and spreading what pulls at one vertex."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import trimesh

from mvgamba.refinement.smooth import (
    SmoothCoordinates,
    UniformAdam,
    adjacent_faces,
    chebyshev,
    edge_list,
    factorised,
    inverted,
    laplacian,
    on_device,
    quadratic,
)


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


@pytest.mark.parametrize("strength", [0.0, 0.5, 12.0, 60.0])
def test_all_ways_to_solve_agree(strength):
    """What a CUDA device does, done on the CPU: with the inverse, and with Chebyshev polynomials."""
    vertices, faces = sphere()
    graph = laplacian(len(vertices), edge_list(faces))
    matrix = (sp.identity(len(vertices), format="csc") + strength * graph).tocsc()
    product = on_device(matrix, torch.device("cpu"))
    b = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0))
    wanted = factorised(matrix)(b)
    # single precision: 1e-7 times the condition, which is 1 + 24 strength
    error = {"rtol": 0, "atol": 1e-6 * (1 + 24 * strength) ** 0.5}
    torch.testing.assert_close(inverted(product)(b), wanted, **error)
    bound = 1 + 2 * strength * float(graph.diagonal().max())
    torch.testing.assert_close(chebyshev(product, 1.0, bound)(b), wanted, **error)


def test_the_quadratic_form_of_a_laplacian_is_the_squared_length_of_all_edges():
    vertices, faces = sphere()
    vertices.requires_grad_(True)
    edges = edge_list(faces)
    form = quadratic(vertices, on_device(laplacian(len(vertices), edges), torch.device("cpu")))
    plain = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).square().sum()
    torch.testing.assert_close(form, plain, rtol=1e-4, atol=0)
    (given,), (wanted,) = torch.autograd.grad(form, vertices), torch.autograd.grad(plain, vertices)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_every_triangle_of_a_closed_mesh_has_three_neighbours():
    _, faces = sphere()
    pairs = adjacent_faces(faces)
    assert (np.bincount(pairs.ravel(), minlength=len(faces)) == 3).all()
    shared = [len(set(faces[a]) & set(faces[b])) for a, b in pairs]
    assert set(shared) == {2}


def test_a_step_has_the_size_of_its_rate_whatever_the_size_of_the_gradient():
    for size in (1e-6, 1.0, 1e6):
        parameter = torch.zeros(4, 3, requires_grad=True)
        optimiser = UniformAdam(parameter, 0.1)
        parameter.grad = torch.full((4, 3), size)
        parameter.grad[0] *= -0.5
        optimiser.step(0.5)
        torch.testing.assert_close(parameter[1:].detach(), torch.full((3, 3), -0.05))
        torch.testing.assert_close(parameter[0].detach(), torch.full((3,), 0.025))
