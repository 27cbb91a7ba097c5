"""Refinement: fits the inputs better than it found them, flattens what no view sees, and keeps the outline."""

import dataclasses

import numpy as np
import pytest
import torch

from mvgamba.cameras import orbit_cameras, project
from mvgamba.errors import Cancelled, InvalidInput
from mvgamba.kernels.rasterize_surfels import rasterize_surfels
from mvgamba.reconstructor.hull import HullReconstructor
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.refinement import targets
from mvgamba.refinement.colors import spread_colors
from mvgamba.refinement.refine import RefineOptions, loss_weights, refine
from mvgamba.refinement.schedule import FEWEST_STEPS, LANDING, WINDOW
from mvgamba.refinement.snap import snap_to_silhouettes, vertex_normals
from mvgamba.types import Mesh
from tests.mvgamba.conftest import box, photograph

QUICK = RefineOptions(steps=60, coarse_steps=20, image_size=96, views_per_step=2, least_gain=0.0)


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
    still = RefineOptions(steps=1, coarse_steps=0, image_size=96, vertex_lr=0.0, color_lr=0.0, opacity_lr=0.0)
    assert refine(start, views.views, QUICK).psnr > refine(start, views.views, still).psnr + 1


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


def test_the_same_seed_gives_the_same_surfels_bit_for_bit(ring, hull, refined):
    again = refine(hull, ring.views, QUICK)
    assert torch.equal(again.surfels.means, refined.surfels.means)
    assert torch.equal(again.surfels.colors, refined.surfels.colors)
    assert np.array_equal(again.scaffold.vertices, refined.scaffold.vertices)


def test_another_seed_gives_other_surfels(ring, hull, refined):
    assert not torch.equal(refine(hull, ring.views, QUICK, seed=1).surfels.means, refined.surfels.means)


def test_all_steps_are_taken_when_nothing_ends_them(refined):
    assert (refined.steps, refined.stopped) == (QUICK.steps, "steps")


def test_a_budget_that_is_never_used_up_changes_nothing(ring, hull, refined):
    ample = refine(hull, ring.views, dataclasses.replace(QUICK, seconds=1e6))
    assert (ample.steps, ample.stopped) == (QUICK.steps, "steps")
    assert torch.equal(ample.surfels.means, refined.surfels.means)


def test_a_budget_of_nothing_still_takes_a_few_steps(ring, hull):
    hurried = refine(hull, ring.views, dataclasses.replace(QUICK, seconds=1e-6))
    assert (hurried.steps, hurried.stopped) == (FEWEST_STEPS, "seconds")
    assert hurried.surfels.means.isfinite().all()


def test_a_fit_that_gains_nothing_is_ended(ring, hull):
    still = RefineOptions(
        steps=200, coarse_steps=0, image_size=48, least_gain=0.5, vertex_lr=0.0, color_lr=0.0, opacity_lr=0.0
    )
    ended = refine(hull, ring.views, still)
    # two windows to see that nothing is gained, then the landing
    assert (ended.steps, ended.stopped) == (2 * WINDOW + round(LANDING * 200), "gain")


def test_few_views_and_known_depth_weaken_the_pull_of_area_and_time_eases_it(ring):
    def area(views, depth, progress):
        take = [i % 4 for i in range(views)]
        posed = dataclasses.replace(
            ring.views, rgb=ring.views.rgb[take], alpha=ring.views.alpha[take], cameras=ring.views.cameras[take],
            depth=ring.views.alpha[take] if depth else None,
        )  # fmt: skip
        return loss_weights(RefineOptions(), posed, progress).area

    assert area(8, False, 0.0) == max(area(v, False, 0.0) for v in range(1, 20))
    assert area(8, True, 0.0) < 0.5 * area(8, False, 0.0)
    assert area(8, False, 1.0) < 0.2 * area(8, False, 0.5)
    assert area(4, False, 1.0) == area(4, False, 0.0) == area(1, False, 0.5)


def test_a_step_sees_at_most_half_of_the_views(ring, hull):
    half = RefineOptions(steps=2, coarse_steps=0, image_size=48, views_per_step=2)
    many = dataclasses.replace(half, views_per_step=64)
    assert torch.equal(refine(hull, ring.views, half).surfels.means, refine(hull, ring.views, many).surfels.means)


def test_the_views_of_a_step_are_rasterized_by_one_call(ring, hull, monkeypatch):
    sizes = []

    def counting(*args, **kwargs):
        sizes.append((args[5].shape[0], kwargs["width"]))
        return rasterize_surfels(*args, **kwargs)

    monkeypatch.setattr(targets, "rasterize_surfels", counting)
    refine(hull, ring.views, RefineOptions(steps=3, coarse_steps=1, image_size=64, views_per_step=2))
    # painting, three steps of which the first is coarse, and what is measured and painted at the end
    assert sizes == [(4, 32), (2, 32), (2, 64), (2, 64), (4, 64), (4, 64)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("views_per_step", 0),
        ("image_size", 8),
        ("coarse_steps", -1),
        ("coarse_steps", 241),
        ("seconds", 0.0),
        ("seconds", -2.0),
        ("seconds", float("nan")),
        ("least_gain", -0.1),
        ("least_gain", 1.0),
        ("smoothness", -1.0),
        ("color_lr", float("inf")),
        ("mask_weight", -1.0),
    ],
)
def test_an_option_out_of_range_is_named(name, value):
    with pytest.raises(InvalidInput, match=rf"^{name} is {value}; it must"):
        RefineOptions(**{name: value})


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


def test_normals_of_a_box_point_outwards():
    vertices, faces = box(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    normals = vertex_normals(vertices.numpy(), faces.numpy())
    assert ((normals * vertices.numpy()).sum(1) > 0.5).all()
