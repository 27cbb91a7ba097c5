import numpy as np
import pytest
import torch

from mvgamba.errors import EmptyReconstruction
from mvgamba.meshing import Grid, clean_mesh, decimate, extract_surface, fuse, mesh_report, visual_hull
from mvgamba.types import RenderOutput

LOW, HIGH = torch.full((3,), -0.6), torch.full((3,), 0.6)


def ball(centre, radius):
    middle = torch.tensor(centre, dtype=torch.float32)
    return lambda p: (p - middle).norm(dim=-1) - radius


def box(centre, half):
    middle, half = torch.tensor(centre, dtype=torch.float32), torch.tensor(half, dtype=torch.float32)

    def distance(p):
        q = (p - middle).abs() - half
        return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)

    return distance


def torus(p):
    return torch.hypot(torch.hypot(p[..., 0], p[..., 2]) - 0.35, p[..., 1]) - 0.12


def bowl(p):
    """A ball shell, open at the top."""
    shell = (p.norm(dim=-1) - 0.4).abs() - 0.04
    return torch.maximum(shell, p[..., 1] - 0.1)


def either(*shapes):
    return lambda p: torch.stack([s(p) for s in shapes]).amin(0)


def reconstruct(rendered, shape, resolution=64, **options):
    render, cameras = rendered(shape, **options)
    return extract_surface(fuse(render, cameras, low=LOW, high=HIGH, resolution=resolution))


def distance_to(shape, mesh):
    return shape(torch.from_numpy(mesh.vertices).float()).numpy()


def euler_number(mesh):
    return len(mesh.vertices) - len(mesh.faces) // 2


@pytest.mark.parametrize(
    ("shape", "volume", "euler"),
    [
        (ball([0.1, 0.0, -0.05], 0.35), 4 / 3 * np.pi * 0.35**3, 2),
        (torus, 2 * np.pi**2 * 0.35 * 0.12**2, 0),
        (box([0.0, 0.05, 0.1], [0.3, 0.2, 0.25]), 8 * 0.3 * 0.2 * 0.25, 2),
        (either(ball([-0.3, 0, 0], 0.2), ball([0.3, 0, 0], 0.15)), 4 / 3 * np.pi * (0.2**3 + 0.15**3), 4),
    ],
    ids=["ball", "torus", "box", "two balls"],
)
def test_shapes_keep_place_volume_and_topology(rendered, shape, volume, euler):
    mesh = clean_mesh(reconstruct(rendered, shape))
    report = mesh_report(mesh)
    spacing = 1.2 / 63
    assert report.is_sound
    assert report.volume == pytest.approx(volume, rel=0.05)
    assert euler_number(mesh) == euler
    away = np.abs(distance_to(shape, mesh))
    assert np.sqrt((away**2).mean()) < 0.25 * spacing
    assert away.max() < 1.5 * spacing  # at the edges of the box, which a grid cannot hold


def test_a_thin_plate_does_not_vanish_or_swell(rendered):
    thickness = 2 * 1.2 / 63
    plate = box([0.0, 0.003, 0.0], [0.4, thickness / 2, 0.3])
    mesh = clean_mesh(reconstruct(rendered, plate, views=24))
    assert mesh_report(mesh).is_sound
    assert euler_number(mesh) == 2
    assert mesh_report(mesh).volume == pytest.approx(0.8 * 0.6 * thickness, rel=0.25)


def test_a_bowl_stays_open(rendered):
    mesh = clean_mesh(reconstruct(rendered, bowl, views=32))
    report = mesh_report(mesh)
    assert report.is_sound
    assert euler_number(mesh) == 2
    grid_volume = 1.2**3 * (bowl(torch.rand(200_000, 3) * 1.2 - 0.6) < 0).double().mean().item()
    assert report.volume == pytest.approx(grid_volume, rel=0.15)
    bottom = mesh.vertices[np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 2]) < 0.05, 1]
    assert bottom.max() < -0.3  # one looks at the bottom of the bowl from above, not at a lid


def test_an_asymmetric_object_is_not_mirrored(rendered):
    arms = [
        ball([0.0, 0.0, 0.0], 0.15),
        box([0.25, 0.0, 0.0], [0.25, 0.05, 0.05]),
        box([0.0, 0.2, 0.0], [0.05, 0.2, 0.05]),
        box([0.0, 0.0, 0.15], [0.05, 0.05, 0.15]),
    ]
    mesh = clean_mesh(reconstruct(rendered, either(*arms)))
    assert mesh.vertices.max(axis=0) == pytest.approx([0.5, 0.4, 0.3], abs=0.03)
    assert mesh.vertices.min(axis=0) == pytest.approx([-0.15, -0.15, -0.15], abs=0.03)


def test_the_hull_cuts_what_sticks_out(rendered):
    render, cameras = rendered(ball([0.0, 0.0, 0.0], 0.4))
    smaller, _ = rendered(ball([0.0, 0.0, 0.0], 0.25))
    hull = visual_hull(smaller.alpha, cameras, low=LOW, high=HIGH, resolution=48)
    grid = fuse(render, cameras, low=LOW - 0.05, high=HIGH, resolution=61, hull=hull)  # another grid than the hull's
    radii = np.linalg.norm(extract_surface(grid).vertices, axis=1)
    assert radii.max() < 0.25 * 1.15
    assert radii.min() > 0.25 - 0.01


def test_a_hull_alone_gives_a_closed_mesh(rendered):
    render, cameras = rendered(torus, views=4)
    mesh = clean_mesh(extract_surface(visual_hull(render.alpha, cameras, low=LOW, high=HIGH, resolution=48)))
    assert mesh_report(mesh).is_sound
    assert distance_to(torus, mesh).max() < 0.4


def test_surfaces_close_at_the_border_of_the_grid():
    grid = Grid(torch.ones(4, 5, 6), torch.tensor([1.0, 2.0, 3.0]), 0.5)
    mesh = extract_surface(grid)
    assert mesh_report(mesh).is_sound
    assert mesh.vertices.min(axis=0) == pytest.approx([0.5, 1.5, 2.5], abs=0.26)
    assert mesh.vertices.max(axis=0) == pytest.approx([3.0, 4.5, 6.0], abs=0.26)


def test_nothing_seen_raises_a_clear_error(rendered):
    render, cameras = rendered(ball([0.0, 0.0, 0.0], 0.3), views=3, size=32)
    nothing = RenderOutput(*(torch.zeros_like(getattr(render, n)) for n in render.__dataclass_fields__))
    with pytest.raises(EmptyReconstruction, match="silhouettes may be empty"):
        extract_surface(fuse(nothing, cameras, low=LOW, high=HIGH, resolution=24))


@pytest.mark.parametrize("shape", [torus, bowl], ids=["torus", "bowl"])
def test_meshes_stay_sound_and_near_when_decimated(rendered, shape):
    mesh = clean_mesh(reconstruct(rendered, shape, views=20, resolution=96))
    for target in (20_000, 5_000, 500):
        fewer = decimate(mesh, target)
        report = mesh_report(fewer)
        assert report.is_sound
        assert report.num_components == 1
        assert 0.9 * min(target, len(mesh.faces)) < len(fewer.faces) <= target
        assert euler_number(fewer) == euler_number(mesh)
        assert np.abs(distance_to(shape, fewer)).max() < 0.05
