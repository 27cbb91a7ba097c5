import math

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras, orbit_cameras
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.rasterize_mesh import rasterize_mesh

VARIANTS = ["warp-cpu", "reference"]


def draw(vertices, faces, cameras, *, variant="warp-cpu", **options):
    with rasterize_mesh.use(variant):
        return rasterize_mesh(
            torch.as_tensor(vertices, dtype=torch.float32),
            torch.as_tensor(faces),
            c2w_to_w2c_opencv(cameras.c2w).float(),
            cameras.intrinsics.float(),
            height=cameras.height,
            width=cameras.width,
            **options,
        )


def flat(vertices, faces, *, height, width, variant="warp-cpu", **options):
    """Pixels as coordinates: a camera at the origin with the identity as pinhole matrix."""
    with rasterize_mesh.use(variant):
        return rasterize_mesh(
            torch.tensor(vertices, dtype=torch.float32),
            torch.tensor(faces),
            torch.eye(4)[None],
            torch.eye(3)[None],
            height=height,
            width=width,
            **options,
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels_are_covered_when_their_centre_is(variant):
    planes = flat(
        [[1.5, 2.5, 1.0], [4.49, 2.5, 1.0], [1.5, 6.51, 1.0]], [[0, 1, 2]], height=8, width=7, variant=variant
    )
    assert planes.face_ids.dtype == torch.int32
    assert planes.face_ids.shape == (1, 8, 7)
    covered = torch.nonzero(planes.face_ids[0] == 0).tolist()
    assert [1, 1] not in covered and [2, 0] not in covered
    assert [2, 1] in covered and [2, 3] in covered and [6, 1] in covered  # (row, column); 2.5 is the centre of row 2
    assert [2, 4] not in covered and [7, 1] not in covered
    torch.testing.assert_close(planes.barycentrics[0, 2, 1], torch.tensor([1.0, 0.0, 0.0]))
    assert (planes.depth[0][planes.face_ids[0] < 0] == 0).all()
    assert (planes.depth[0][planes.face_ids[0] >= 0] == 1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_barycentrics_give_back_the_point_on_the_ray(variant):
    generator = torch.Generator().manual_seed(3)
    vertices = torch.rand((30, 3), generator=generator) - 0.5
    faces = torch.arange(30).reshape(10, 3)
    cameras = fibonacci_cameras(3, radius=1.2, fovy=1.2, height=40, width=56)
    planes = draw(vertices, faces, cameras, variant=variant)
    hit = planes.face_ids >= 0
    assert hit.float().mean() > 0.1
    points = (vertices[faces][planes.face_ids[hit].long()] * planes.barycentrics[hit][..., None]).sum(1)
    view, row, column = torch.nonzero(hit).T
    w2c = c2w_to_w2c_opencv(cameras.c2w).float()[view]
    local = torch.einsum("nij,nj->ni", w2c[:, :3, :3], points) + w2c[:, :3, 3]
    pixel = torch.einsum("nij,nj->ni", cameras.intrinsics.float()[view], local)
    assert (pixel[:, 0] / pixel[:, 2] - (column + 0.5)).abs().max() < 1e-3
    assert (pixel[:, 1] / pixel[:, 2] - (row + 0.5)).abs().max() < 1e-3
    torch.testing.assert_close(local[:, 2], planes.depth[hit], atol=1e-5, rtol=1e-5)


def test_a_closed_mesh_has_no_cracks_and_shows_its_nearest_side():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    cameras = orbit_cameras([0.0, 0.7], [0.0, 0.3], radius=2.0, fovy=0.6, height=129, width=129)
    planes = draw(ball.vertices, ball.faces, cameras)
    rows, columns = np.mgrid[:129, :129] + 0.5
    focal = float(cameras.intrinsics[0, 0, 0])
    away = np.hypot(columns - 64.5, rows - 64.5)
    inside = focal * 0.5 / math.sqrt(4 - 0.25)
    for view in range(2):
        assert (planes.face_ids[view].numpy()[away < 0.97 * inside] >= 0).all()
        assert (planes.face_ids[view].numpy()[away > 1.01 * inside] == -1).all()
    assert planes.depth[0, 64, 64].item() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cube_seen_along_its_diagonals_has_no_cracks(variant):
    cube = trimesh.creation.box()
    cameras = orbit_cameras([0.0, math.pi / 2], [0.0, 0.0], radius=3.0, fovy=0.3, height=33, width=33)
    planes = draw(cube.vertices, cube.faces, cameras, variant=variant)
    assert (planes.face_ids >= 0).all()  # edges and diagonals run through centres of pixels
    torch.testing.assert_close(planes.depth, torch.full_like(planes.depth, 2.5))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_floor_that_reaches_behind_the_camera_is_cut_at_the_near_plane(variant):
    vertices = [[-100.0, 1.0, -100.0], [100.0, 1.0, -100.0], [100.0, 1.0, 100.0], [-100.0, 1.0, 100.0]]
    with rasterize_mesh.use(variant):
        planes = rasterize_mesh(
            torch.tensor(vertices),
            torch.tensor([[0, 1, 2], [0, 2, 3]]),
            torch.eye(4)[None],
            torch.tensor([[[20.0, 0, 20], [0, 20, 20], [0, 0, 1]]]),
            height=40,
            width=40,
            near=1.2,
        )
    rows = torch.arange(40) + 0.5
    depth = 20.0 / (rows - 20.0)  # y = 1 meets row r at z = f / (r - cy)
    wanted = torch.where((depth >= 1.2) & (depth <= 100.0), depth, torch.zeros(()))
    assert (wanted > 0).sum() == 17
    torch.testing.assert_close(planes.depth[0], wanted[:, None].expand(40, 40), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("faces,size", [(0, 5), (1, 1), (1, 16), (200, 48)])
def test_the_variants_agree(faces, size):
    generator = torch.Generator().manual_seed(faces)
    centres = torch.rand((faces, 1, 3), generator=generator) - 0.5
    vertices = (centres + 0.5 * (torch.rand((faces, 3, 3), generator=generator) - 0.5)).reshape(-1, 3)
    indices = torch.arange(3 * faces).reshape(faces, 3)
    cameras = fibonacci_cameras(3, radius=0.9, fovy=1.0, height=size, width=size + 3)  # some faces meet the near plane
    fast = draw(vertices, indices, cameras, near=0.3)
    slow = draw(vertices, indices, cameras, variant="reference", near=0.3)
    same = fast.face_ids == slow.face_ids
    assert same.float().mean() > 0.999  # a tie in depth may round either way
    torch.testing.assert_close(fast.depth, slow.depth, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.barycentrics[same], slow.barycentrics[same], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_two_faces_at_the_same_place_the_first_is_seen(variant):
    triangle = [[0.0, 0.0, 2.0], [32.0, 0.0, 2.0], [0.0, 32.0, 2.0]]
    planes = flat(triangle, [[0, 2, 1], [0, 1, 2]], height=8, width=8, variant=variant)
    assert (planes.face_ids == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_faces_without_area_are_not_drawn(variant):
    vertices = [[0.0, 0.0, 1.0], [4.0, 4.0, 1.0], [8.0, 8.0, 1.0]]
    planes = flat(vertices, [[0, 1, 2], [0, 0, 1]], height=8, width=8, variant=variant)
    assert (planes.face_ids == -1).all()
    assert torch.isfinite(planes.barycentrics).all()


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"vertices": [[float("nan"), 0.0, 1.0]] * 3}, InvalidInput, "not finite"),
        ({"faces": [[0, 1, 3]]}, InvalidInput, "0 to 3, but there are 3"),
        ({"height": 0}, InvalidInput, "1 to 32767"),
        ({"near": 0.0}, InvalidInput, "near"),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bad_input_is_named(change, error, words, variant):
    good = {"vertices": [[0.0, 0.0, 1.0]] * 3, "faces": [[0, 1, 2]], "height": 4, "width": 4}
    with pytest.raises(error, match=words):
        flat(**{**good, **change}, variant=variant)


def test_no_camera_is_refused():
    with pytest.raises(InvalidCameras, match="At least one view"):
        rasterize_mesh(
            torch.zeros((3, 3)),
            torch.zeros((1, 3), dtype=torch.int64),
            torch.zeros((0, 4, 4)),
            torch.zeros((0, 3, 3)),
            height=4,
            width=4,
        )
