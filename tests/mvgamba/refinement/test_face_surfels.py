"""Surfels on triangles: centre, plane and moments are those of the triangle, and gradients those of what is shown."""

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.render.face_surfels import FaceIndex, lie_on_faces, surfels_on_faces


def axes(quats: torch.Tensor) -> torch.Tensor:
    """Unit quaternions wxyz -> rotation matrices (n, 3, 3)."""
    w, x, y, z = quats.unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(r, 1) for r in rows], 1)


def crumpled() -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere with noise: normals all around, triangles of every shape."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    generator = torch.Generator().manual_seed(0)
    vertices = torch.from_numpy(np.asarray(mesh.vertices, np.float64))
    noise = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    return vertices + 0.05 * noise, torch.from_numpy(np.asarray(mesh.faces, np.int64))


def test_moments_are_those_of_the_triangle():
    vertices, faces = crumpled()
    means, quats, scales, normals = lie_on_faces(vertices, FaceIndex(faces, len(vertices)), spread=1.0, smallest=0.0)
    corners = vertices[faces]
    torch.testing.assert_close(means, corners.mean(1))
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    torch.testing.assert_close(normals, torch.nn.functional.normalize(across, dim=1))
    frames = axes(quats)
    torch.testing.assert_close(frames[:, :, 2], normals)
    local = corners - means[:, None]
    spanned = frames[:, :, :2] * scales[:, None]
    torch.testing.assert_close(spanned @ spanned.transpose(1, 2), local.transpose(1, 2) @ local / 12)


def test_gradients_are_those_of_centres_and_normals():
    vertices, faces = crumpled()
    index = FaceIndex(faces, len(vertices))
    generator = torch.Generator().manual_seed(1)
    pull = torch.randn(3, len(faces), 3, generator=generator, dtype=torch.float64)
    vertices.requires_grad_(True)
    means, quats, _, normals = lie_on_faces(vertices, index)
    seen = (means * pull[0] + axes(quats)[:, :, 2] * pull[1] + normals * pull[2]).sum()
    (given,) = torch.autograd.grad(seen, vertices)
    corners = vertices[faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    plain = (corners.mean(1) * pull[0] + torch.nn.functional.normalize(across, dim=1) * (pull[1] + pull[2])).sum()
    torch.testing.assert_close(given, torch.autograd.grad(plain, vertices)[0], rtol=1e-9, atol=1e-9)


def test_a_disc_turns_with_its_triangle():
    """The disc follows the normal without spinning about it: what numerical differences of a carried frame give."""
    vertices, faces = crumpled()
    index = FaceIndex(faces, len(vertices))
    generator = torch.Generator().manual_seed(2)
    pull = torch.randn(len(faces), 3, generator=generator, dtype=torch.float64)
    push = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    vertices.requires_grad_(True)
    _, quats, _, normals = lie_on_faces(vertices, index)
    long_axis = axes(quats)[:, :, 0]
    (given,) = torch.autograd.grad((long_axis * pull).sum(), vertices)

    def carried(step: float) -> torch.Tensor:
        moved = lie_on_faces(vertices.detach() + step * push, index)[3]
        axis = torch.linalg.cross(normals, moved)
        return ((long_axis + torch.linalg.cross(axis, long_axis)) * pull).sum().detach()

    numerical = (carried(1e-5) - carried(-1e-5)) / 2e-5
    torch.testing.assert_close((given * push).sum(), numerical, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normal", [[0.0, 0, 1], [0.0, 0, -1], [1.0, 0, 0], [0.0, -1, 0], [1e-9, 0, -1]])
def test_frames_hold_at_the_poles_of_the_sphere(normal):
    n = torch.nn.functional.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    a = torch.linalg.cross(n, torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64))
    vertices = torch.stack([torch.zeros_like(n), a, torch.linalg.cross(n, a)])
    made = surfels_on_faces(
        vertices, torch.tensor([[0, 1, 2]]), torch.ones(1).double(), torch.ones(1, 3).double(), smallest=0.0
    )
    torch.testing.assert_close(axes(made.quats)[0, :, 2], n)
    torch.testing.assert_close(made.quats.norm(dim=1), torch.ones(1).double())


def test_triangles_without_area_become_small_discs_that_pull_on_nothing():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 0]]).requires_grad_(True)
    index = FaceIndex(torch.tensor([[0, 1, 2], [0, 3, 0]]), 4)
    means, quats, scales, normals = lie_on_faces(vertices, index)
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0, 1], [0, 0, 1]]))
    assert quats.isfinite().all() and scales.min() == pytest.approx(1e-4)
    (grad,) = torch.autograd.grad((quats.sum() + normals.sum()), vertices)
    assert torch.equal(grad, torch.zeros(4, 3))


def test_summing_to_vertices_is_the_adjoint_of_gathering():
    vertices, faces = crumpled()
    index = FaceIndex(faces, len(vertices))
    generator = torch.Generator().manual_seed(3)
    pulls = [torch.randn(3, len(faces), generator=generator, dtype=torch.float64) for _ in range(3)]
    forward = sum((c * p).sum() for c, p in zip(index.corners(vertices), pulls, strict=True))
    torch.testing.assert_close((index.sum_to_vertices(pulls) * vertices).sum(), forward)
