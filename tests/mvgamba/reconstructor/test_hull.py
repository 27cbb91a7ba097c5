"""Finding the object from silhouettes, and the visual hull as a reconstructor."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.cameras import fibonacci_cameras, orbit_cameras
from mvgamba.errors import InvalidCameras, InvalidImage
from mvgamba.reconstructor.hull import HullReconstructor, hull_field
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, normalise_views
from mvgamba.types import Cameras, PosedViews


def views_of_sphere(cameras: Cameras, center: torch.Tensor, radius: float) -> PosedViews:
    """Exact coverage of a sphere, from the angle between each pixel's ray and the way to the centre."""
    h, w = cameras.height, cameras.width
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    alphas = []
    for c2w, k in zip(cameras.c2w, cameras.intrinsics, strict=True):
        rays = torch.stack([(x - k[0, 2]) / k[0, 0], -(y - k[1, 2]) / k[1, 1], -torch.ones_like(x)], -1).double()
        rays = rays @ c2w[:3, :3].T
        way = center - c2w[:3, 3]
        cosine = (rays @ way) / rays.norm(dim=-1) / way.norm()
        angle = torch.arccos(cosine.clamp(-1, 1))
        edge = math.asin(radius / float(way.norm()))
        alphas.append(((edge - angle) * float(k[0, 0]) + 0.5).clamp(0, 1))
    alpha = torch.stack(alphas)[:, None].float()
    return PosedViews(torch.full((len(alpha), 3, h, w), 0.4), alpha, cameras)


def moved(cameras: Cameras, shift: torch.Tensor, scale: float) -> Cameras:
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] = c2w[:, :3, 3] * scale + shift
    return dataclasses.replace(cameras, c2w=c2w)


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_a_sphere_is_found_at_any_place_and_size(scale):
    shift = torch.tensor([40.0, -7.0, 13.0], dtype=torch.float64) * scale
    cameras = moved(fibonacci_cameras(12, radius=3.0, fovy=0.8, height=96, width=128), shift, scale)
    center = shift + torch.tensor([0.2, -0.1, 0.05], dtype=torch.float64) * scale
    found = normalise_views(views_of_sphere(cameras, center, 0.5 * scale))
    assert (found.to_world.translation - center).norm() < 0.02 * scale
    assert found.to_world.scale * NORMALISED_RADIUS == pytest.approx(0.5 * scale, rel=0.12)
    assert (found.to_world.apply(found.to_world.inverse_apply(center)) - center).norm() < 1e-9 * scale


def test_the_hull_of_a_sphere_is_a_closed_sphere_around_the_origin():
    cameras = fibonacci_cameras(24, radius=3.0, fovy=0.6, height=128, width=128)
    found = normalise_views(views_of_sphere(cameras, torch.zeros(3, dtype=torch.float64), 0.7))
    made = HullReconstructor(resolution=64, faces=4000).reconstruct(found)
    assert made.scaffold is not None
    mesh = trimesh.Trimesh(made.scaffold.vertices, made.scaffold.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent
    ideal = 4 / 3 * math.pi * (0.7 / found.to_world.scale) ** 3
    assert mesh.volume == pytest.approx(ideal, rel=0.05)  # positive: it faces outwards
    assert made.surfels.num_surfels == len(made.scaffold.faces) < 5200
    centers = made.scaffold.vertices[made.scaffold.faces].mean(1)
    np.testing.assert_allclose(made.surfels.means.numpy(), centers, atol=1e-6)


def test_one_view_gives_a_hull_too():
    cameras = orbit_cameras([0.0], [0.0], radius=3.0, fovy=0.6, height=64, width=64)
    found = normalise_views(views_of_sphere(cameras, torch.zeros(3, dtype=torch.float64), 0.5))
    assert HullReconstructor(resolution=32).reconstruct(found).surfels.num_surfels > 100


def test_an_empty_mask_is_named():
    views = views_of_sphere(
        fibonacci_cameras(3, radius=3.0, fovy=0.6, height=32, width=32), torch.zeros(3).double(), 0.5
    )
    views.alpha[1] = 0
    with pytest.raises(InvalidImage, match="View 1 shows nothing"):
        normalise_views(views)


def test_pictures_without_background_are_refused():
    views = views_of_sphere(
        fibonacci_cameras(3, radius=3.0, fovy=0.6, height=32, width=32), torch.zeros(3).double(), 0.5
    )
    with pytest.raises(InvalidImage, match="transparent background"):
        normalise_views(dataclasses.replace(views, alpha=torch.ones_like(views.alpha)))


def test_cameras_that_look_away_are_refused():
    cameras = fibonacci_cameras(6, radius=3.0, fovy=0.6, height=48, width=48)
    views = views_of_sphere(cameras, torch.zeros(3).double(), 0.4)
    turned = cameras.c2w.clone()
    turned[:3, :3, :3] = turned[:3, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    with pytest.raises(InvalidCameras, match="common object"):
        normalise_views(dataclasses.replace(views, cameras=dataclasses.replace(cameras, c2w=turned)))


def test_cameras_of_different_places_have_no_common_object():
    cameras = fibonacci_cameras(6, radius=3.0, fovy=0.4, height=48, width=48)
    views = views_of_sphere(cameras, torch.zeros(3).double(), 0.4)
    apart = cameras.c2w.clone()
    apart[:, 0, 3] += torch.linspace(-9, 9, 6, dtype=torch.float64)
    with pytest.raises(InvalidCameras, match="common object"):
        normalise_views(dataclasses.replace(views, cameras=dataclasses.replace(cameras, c2w=apart)))


def test_where_no_view_has_a_say_the_field_is_still_a_number():
    azimuths = [0.0, math.pi / 2, math.pi, 3 * math.pi / 2, math.pi / 4]
    cameras = orbit_cameras(azimuths, [0.0] * 4 + [1.0], radius=2.5, fovy=0.6, height=48, width=48)
    views = views_of_sphere(cameras, torch.zeros(3, dtype=torch.float64), 0.7)
    views.alpha[2:] = 1.0  # outlines that fill their frames say nothing of what is beside them
    field, _, _ = hull_field(normalise_views(views), resolution=24)
    assert bool(field.isfinite().all())
    assert float(field.max()) > 0 > float(field.min())
