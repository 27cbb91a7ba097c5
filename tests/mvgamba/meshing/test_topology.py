import numpy as np
import pytest
import torch

from mvgamba.errors import EmptyReconstruction
from mvgamba.meshing import Grid, clean_mesh, decimate, extract_surface, mesh_report, smooth_mesh
from mvgamba.meshing.topology import cancel_opposites, fill_holes, split_touching, weld
from mvgamba.types import Mesh

CUBE = Mesh(
    np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)]),
    np.array(
        [
            [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
            [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
        ]
    ),
)  # fmt: skip


def moved(mesh, by, scale=1.0):
    return Mesh(mesh.vertices * scale + np.array(by), mesh.faces)


def together(*meshes):
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts)]),
    )


def inside_out(mesh):
    return Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def test_a_cube_is_sound():
    report = mesh_report(CUBE)
    assert report.is_sound
    assert report.num_components == 1
    assert report.volume == pytest.approx(1.0)
    assert report.area == pytest.approx(6.0)


def test_the_report_sees_each_fault():
    assert mesh_report(Mesh(CUBE.vertices, CUBE.faces[1:])).boundary_edges == 3
    assert mesh_report(inside_out(CUBE)).volume == pytest.approx(-1.0)
    one_turned = CUBE.faces.copy()
    one_turned[0] = one_turned[0, ::-1]
    assert not mesh_report(Mesh(CUBE.vertices, one_turned)).is_consistently_wound
    edge = weld(together(CUBE, moved(CUBE, [1, 1, 0])), tolerance=1e-6)
    assert mesh_report(edge).nonmanifold_edges == 1
    corner = weld(together(CUBE, moved(CUBE, [1, 1, 1])), tolerance=1e-6)
    assert mesh_report(corner).nonmanifold_vertices == 1
    assert mesh_report(corner).nonmanifold_edges == 0


@pytest.mark.parametrize("by", [[1, 1, 0], [1, 1, 1]], ids=["edge", "corner"])
def test_solids_that_touch_are_cut_apart_for_good(by):
    touching = weld(together(CUBE, moved(CUBE, by)), tolerance=1e-6)
    apart = split_touching(touching)
    assert mesh_report(apart).is_sound
    assert mesh_report(apart).num_components == 2
    welded = weld(apart, tolerance=1e-4)  # a reader that welds by position does not undo it
    assert mesh_report(welded).is_sound


def test_solids_that_touch_in_an_edge_can_be_joined():
    touching = weld(together(CUBE, moved(CUBE, [1, 1, 0])), tolerance=1e-6)
    joined = split_touching(touching, join_edges=True)
    report = mesh_report(weld(joined, tolerance=1e-4))
    assert report.is_sound
    assert report.num_components == 1
    assert report.volume == pytest.approx(2.0, rel=0.02)


def test_cubes_that_share_a_side_become_one():
    touching = weld(together(CUBE, moved(CUBE, [1, 0, 0])), tolerance=1e-6)
    report = mesh_report(touching)
    # Both triangulate the common side alike or across; alike cancels, across leaves a closed pillow inside.
    assert report.boundary_edges == 0
    assert report.volume == pytest.approx(2.0)


def test_opposite_faces_cancel_and_repeated_ones_stay():
    faces = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [3, 4, 5]])
    left = cancel_opposites(faces)
    assert sorted(tuple(sorted(f)) for f in left.tolist()) == [(0, 1, 2), (3, 4, 5)]


def test_holes_are_filled_outwards():
    closed = fill_holes(Mesh(CUBE.vertices, CUBE.faces[2:]))
    report = mesh_report(closed)
    assert report.is_sound
    assert report.volume == pytest.approx(1.0)


def test_cavities_and_what_floats_in_them_go():
    mesh = together(moved(CUBE, [0, 0, 0], 10.0), inside_out(moved(CUBE, [2, 2, 2], 6.0)), moved(CUBE, [4, 4, 4], 2.0))
    report = mesh_report(clean_mesh(mesh))
    assert report.num_components == 1
    assert report.volume == pytest.approx(1000.0)


def test_parts_that_matter_stay_and_crumbs_go():
    mesh = together(moved(CUBE, [0, 0, 0], 1.0), moved(CUBE, [2, 0, 0], 0.3), moved(CUBE, [0, 2, 0], 0.05))
    assert mesh_report(clean_mesh(mesh)).num_components == 2
    assert mesh_report(clean_mesh(mesh, min_component_fraction=0.0)).num_components == 3


def test_a_mesh_of_cavities_alone_is_empty():
    with pytest.raises(EmptyReconstruction, match="Nothing is left"):
        clean_mesh(inside_out(CUBE))


@pytest.mark.parametrize("target", [4000, 300])
def test_noise_ends_sound_and_within_budget(target):
    noise = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(3)) - 0.3
    mesh = clean_mesh(extract_surface(Grid(noise, torch.zeros(3), 0.1)), min_component_fraction=0.0)
    assert mesh_report(mesh).is_sound
    fewer = decimate(mesh, target)
    assert 0 < len(fewer.faces) <= target
    report = mesh_report(fewer)
    assert report.is_watertight
    assert report.nonmanifold_vertices == 0
    assert report.is_consistently_wound


def test_smoothing_takes_noise_off_a_ball_and_keeps_its_size():
    x = torch.linspace(-1, 1, 40)
    radius = torch.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None] ** 2)
    ball = clean_mesh(extract_surface(Grid(0.7 - radius, torch.full((3,), -1.0), 2 / 39)))
    noise = 0.01 * np.random.default_rng(1).normal(size=(len(ball.vertices), 1))
    rough = Mesh(ball.vertices * (1 + noise), ball.faces)
    smooth = smooth_mesh(rough, steps=5)
    spread = [np.linalg.norm(m.vertices, axis=1).std() for m in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]
    assert mesh_report(smooth).volume == pytest.approx(mesh_report(ball).volume, rel=0.01)
