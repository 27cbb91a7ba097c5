"""Refinement: fits the inputs better than it found them, flattens what no view sees, and keeps the outline."""

import numpy as np
import pytest
import torch

from mvgamba.cameras import orbit_cameras, project
from mvgamba.errors import Cancelled
from mvgamba.reconstructor.hull import HullReconstructor
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.refinement.refine import RefineOptions, refine, spread_colors
from mvgamba.refinement.snap import snap_to_silhouettes, vertex_normals
from mvgamba.render.face_surfels import matrix_to_quat, surfels_on_faces
from mvgamba.types import Mesh
from tests.mvgamba.conftest import box, photograph

QUICK = RefineOptions(steps=60, coarse_steps=20, image_size=96)


@pytest.fixture(scope="module")
def ring():
    """A box from a ring of four at its own height: nobody sees the top."""
    cameras = orbit_cameras([0.0, np.pi / 2, np.pi, 1.5 * np.pi], [0.0] * 4, radius=2.4, fovy=0.8, height=96, width=96)
    vertices, faces = box(torch.zeros(3, dtype=torch.float64), torch.tensor([0.4, 0.4, 0.4], dtype=torch.float64))
    return normalise_views(photograph(vertices, faces, cameras))


@pytest.fixture(scope="module")
def hull(ring):
    return HullReconstructor(resolution=48, faces=6000).reconstruct(ring)


@pytest.fixture(scope="module")
def refined(ring, hull):
    return refine(hull, ring.views, QUICK)


def test_the_inputs_are_matched_better_than_before(box_views):
    views = normalise_views(box_views)
    start = HullReconstructor(resolution=48, faces=6000).reconstruct(views)
    untouched = refine(start, views.views, RefineOptions(steps=0, coarse_steps=0, image_size=96))
    assert refine(start, views.views, QUICK).psnr > untouched.psnr + 1


def test_the_roof_that_no_view_sees_comes_down(hull, refined):
    assert hull.scaffold is not None
    before = hull.scaffold.vertices
    top = (before[:, 1] > 0.95 * before[:, 1].max()) & (np.abs(before[:, [0, 2]]).max(1) < 0.1)
    assert top.sum() > 5
    assert refined.scaffold.vertices[top, 1].mean() < before[top, 1].mean() - 0.02


def test_refinement_can_be_stopped(ring, hull):
    def stop(fraction: float) -> None:
        if fraction > 0.2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        refine(hull, ring.views, QUICK, report=stop)


def test_colours_spread_to_what_is_not_seen():
    colors = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.9, 0.1], [0.2, 0.7, 0.4], [0.0, 0.0, 1.0]])
    weight = torch.tensor([500.0, 0.0, 0.0, 500.0])
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3]])
    out = spread_colors(colors, weight, pairs)
    torch.testing.assert_close(out[[0, 3]], colors[[0, 3]], atol=0.01, rtol=0)
    torch.testing.assert_close(out[1], torch.tensor([2 / 3, 0.0, 1 / 3]), atol=0.01, rtol=0)


def test_snapping_brings_a_shrunken_outline_back(ring, hull):
    assert hull.scaffold is not None
    small = Mesh(hull.scaffold.vertices * 0.97, hull.scaffold.faces)
    snapped = snap_to_silhouettes(small, ring.silhouettes, ring.views.cameras)

    def widest(mesh: Mesh) -> float:
        pixels, _ = project(torch.from_numpy(mesh.vertices).double(), ring.views.cameras)
        return float(pixels[0, :, 0].max() - pixels[0, :, 0].min())

    mask = ring.views.alpha[0, 0] >= 0.5
    columns = mask.any(0).nonzero()
    true_width = float(columns.max() - columns.min() + 1)
    assert abs(widest(snapped) - true_width) < 0.5 * abs(widest(small) - true_width)


def test_a_mesh_that_fits_is_left_where_it_is(ring, hull):
    assert hull.scaffold is not None
    snapped = snap_to_silhouettes(hull.scaffold, ring.silhouettes, ring.views.cameras)
    pixel = 2.4 / float(ring.views.cameras.intrinsics[0, 0, 0])
    assert np.abs(snapped.vertices - hull.scaffold.vertices).max() < pixel


def test_surfels_lie_in_the_planes_of_their_triangles(hull):
    assert hull.scaffold is not None
    w, x, y, z = hull.surfels.quats.unbind(1)
    axis = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
    corners = torch.from_numpy(hull.scaffold.vertices)[torch.from_numpy(hull.scaffold.faces)]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    large = normals.norm(dim=1) > 1e-7
    cosine = (axis * torch.nn.functional.normalize(normals, dim=1)).sum(1)
    assert cosine[large].min() > 0.999


def test_the_gradient_of_a_surfels_normal_is_that_of_its_triangle():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64).requires_grad_(True)
    faces = torch.tensor([[0, 1, 2]])

    def tilt(v: torch.Tensor) -> torch.Tensor:
        made = surfels_on_faces(v, faces, torch.ones(1, dtype=v.dtype), torch.ones(1, 3, dtype=v.dtype))
        w, x, y, z = made.quats.unbind(1)
        return 2 * (x * z + w * y)  # the x component of the normal

    (grad,) = torch.autograd.grad(tilt(vertices).sum(), vertices)
    # lifting the corner at x = 1 turns the normal towards -x
    assert grad[1, 2] == pytest.approx(-1.0, abs=1e-6) and grad[2, 2] == pytest.approx(0.0, abs=1e-6)


def test_matrices_become_the_quaternions_of_the_same_rotation():
    generator = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(200, 4, generator=generator, dtype=torch.float64), dim=1)
    w, x, y, z = quats.unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrices = torch.stack([torch.stack(r, 1) for r in rows], 1)
    assert (matrix_to_quat(matrices) * quats).sum(1).abs().min() > 1 - 1e-12


def test_normals_of_a_box_point_outwards():
    vertices, faces = box(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    normals = vertex_normals(vertices.numpy(), faces.numpy())
    assert ((normals * vertices.numpy()).sum(1) > 0.5).all()
