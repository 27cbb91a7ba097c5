import math

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras, orbit_cameras
from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.rasterize_mesh import check_inputs, homogeneous_corners, rasterize_mesh
from mvgamba.kernels.rasterize_mesh_nvdiffrast import clip_corners, planes_of

VARIANTS = ["warp-cpu", "reference", "warp-cuda"]
"""On CPU tensors `warp-cuda` runs its blocks one after the other: the same arithmetic, none of the speed."""


def call(variant, *args, **options):
    """As `rasterize_mesh` with a variant forced; `warp-cuda` runs where its tensors are."""
    return rasterize_mesh.function(variant)(*args, **options)


def draw(vertices, faces, cameras, *, variant="warp-cpu", **options):
    return call(
        variant,
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
    return call(
        variant,
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
    planes = call(
        variant,
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


def soup(faces, *, size=0.5, seed=0):
    """Triangles at random in a box of edge 1."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand((faces, 1, 3), generator=generator) - 0.5
    vertices = (centres + size * (torch.rand((faces, 3, 3), generator=generator) - 0.5)).reshape(-1, 3)
    return vertices, torch.arange(3 * faces).reshape(faces, 3)


def assert_the_same(fast, slow):
    same = fast.face_ids == slow.face_ids
    assert same.float().mean() > 0.999  # a tie in depth may round either way
    torch.testing.assert_close(fast.depth, slow.depth, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.barycentrics[same], slow.barycentrics[same], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["warp-cpu", "warp-cuda"])
@pytest.mark.parametrize("faces,size", [(0, 5), (1, 1), (1, 16), (200, 48)])
def test_the_variants_agree(faces, size, variant):
    vertices, indices = soup(faces, seed=faces)
    cameras = fibonacci_cameras(3, radius=0.9, fovy=1.0, height=size, width=size + 3)  # some faces meet the near plane
    slow = draw(vertices, indices, cameras, variant="reference", near=0.3)
    assert_the_same(draw(vertices, indices, cameras, variant=variant, near=0.3), slow)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_faces_and_large_ones_meet_in_one_picture(variant):
    """Faces below a pixel, of a few pixels, and larger than the picture, in front of and behind each other."""
    parts = [soup(30, size=s, seed=i)[0] for i, s in enumerate((0.01, 0.1, 2.5))]
    vertices = torch.cat(parts)
    cameras = fibonacci_cameras(2, radius=1.5, fovy=0.8, height=31, width=40)
    indices = torch.arange(len(vertices)).reshape(-1, 3)
    assert_the_same(
        draw(vertices, indices, cameras, variant=variant), draw(vertices, indices, cameras, variant="reference")
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_and_depth_are_those_of_a_ray_in_double_precision(variant):
    vertices, indices = soup(60, seed=4)
    cameras = fibonacci_cameras(2, radius=1.4, fovy=0.9, height=24, width=30)
    planes = draw(vertices, indices, cameras, variant=variant)
    view, row, column = torch.nonzero(planes.face_ids >= 0).T
    w2c, k = c2w_to_w2c_opencv(cameras.c2w).float().double()[view], cameras.intrinsics.float().double()[view]
    corners = vertices.double()[indices[planes.face_ids[view, row, column].long()]]
    local = torch.einsum("nij,ncj->nci", w2c[:, :3, :3], corners) + w2c[:, None, :3, 3]
    pixel = torch.stack([column + 0.5, row + 0.5, torch.ones(len(row))], dim=-1).double()
    ray = torch.linalg.solve(k, pixel)
    # sum b_i p_i = z ray with sum b_i = 1, four equations for b and z
    system = torch.zeros((len(row), 4, 4), dtype=torch.float64)
    system[:, :3, :3], system[:, :3, 3], system[:, 3, :3] = local.transpose(1, 2), -ray, 1
    well = torch.linalg.cond(system) < 1e4
    solved = torch.linalg.solve(system[well], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(well.sum(), 4))
    assert well.float().mean() > 0.9
    torch.testing.assert_close(planes.barycentrics[view, row, column][well].double(), solved[:, :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(planes.depth[view, row, column][well].double(), solved[:, 3], atol=0, rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors_of_any_layout_and_precision_give_the_same(variant):
    vertices, indices = soup(40, seed=2)
    vertices = vertices.half().float()  # exact in half precision
    cameras = fibonacci_cameras(2, radius=1.4, fovy=0.9, height=20, width=20)
    w2c, k = c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()
    plain = call(variant, vertices, indices, w2c, k, height=20, width=20)
    strided = vertices.T.contiguous().T
    backwards = indices.flip(1).contiguous().flip(1).repeat_interleave(2, dim=0)[::2]
    stepped = w2c.repeat_interleave(2, dim=0)[::2]
    assert not strided.is_contiguous() and not backwards.is_contiguous() and not stepped.is_contiguous()
    for v, f, m in (
        (strided, backwards, stepped),
        (vertices.half(), indices.int(), w2c),
        (vertices.double(), indices.to(torch.int16), w2c.double()),
    ):
        other = call(variant, v, f, m, k, height=20, width=20)
        for name in ("face_ids", "barycentrics", "depth"):
            assert getattr(other, name).dtype == getattr(plain, name).dtype
            assert torch.equal(getattr(other, name), getattr(plain, name))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mesh_without_faces_gives_empty_planes(variant):
    planes = call(
        variant,
        torch.zeros((0, 3)),
        torch.zeros((0, 3), dtype=torch.int64),
        torch.eye(4)[None],
        torch.eye(3)[None],
        height=3,
        width=2,
    )
    assert (planes.face_ids == -1).all() and planes.face_ids.shape == (1, 3, 2)
    assert (planes.depth == 0).all() and (planes.barycentrics == 0).all()


@pytest.mark.cuda
def test_cuda_gives_what_the_cpu_gives():
    vertices, indices = soup(20_000, size=0.1, seed=1)
    cameras = fibonacci_cameras(4, radius=1.6, fovy=0.8, height=512, width=500)
    args = [vertices, indices, c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()]
    slow = call("warp-cpu", *args, height=512, width=500)
    fast = call("warp-cuda", *[a.cuda() for a in args], height=512, width=500)
    for name in ("face_ids", "barycentrics", "depth"):
        torch.testing.assert_close(getattr(fast, name).cpu(), getattr(slow, name), atol=1e-6, rtol=1e-6)


@pytest.mark.cuda
def test_nvdiffrast_sees_the_same_faces():
    pytest.importorskip("nvdiffrast", reason="nvdiffrast is not installed")
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    cameras = orbit_cameras([0.0, 0.7], [0.0, 0.3], radius=2.0, fovy=0.6, height=129, width=120)
    args = [
        torch.tensor(ball.vertices).float(),
        torch.tensor(ball.faces),
        c2w_to_w2c_opencv(cameras.c2w).float(),
        cameras.intrinsics.float(),
    ]
    ours = call("warp-cpu", *args, height=129, width=120)
    theirs = call("nvdiffrast", *[a.cuda() for a in args], height=129, width=120)
    same = theirs.face_ids.cpu() == ours.face_ids
    assert same.float().mean() > 0.98  # it rounds corners to 1/16 of a pixel
    inner = same & (ours.face_ids >= 0)
    torch.testing.assert_close(theirs.barycentrics.cpu()[inner], ours.barycentrics[inner], atol=0.05, rtol=0)
    torch.testing.assert_close(theirs.depth.cpu()[inner], ours.depth[inner], atol=1e-3, rtol=0)


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
        ({"near": float("nan")}, InvalidInput, "near"),
        ({"vertices": [[float("inf"), 0.0, 1.0]] * 3}, InvalidInput, "3 of 3 vertices are not finite"),
        ({"faces": [[-1, 1, 2]]}, InvalidInput, "-1 to 2, but there are 3"),
        ({"width": 40_000}, InvalidInput, "1 to 32767"),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bad_input_is_named(change, error, words, variant):
    good = {"vertices": [[0.0, 0.0, 1.0]] * 3, "faces": [[0, 1, 2]], "height": 4, "width": 4}
    with pytest.raises(error, match=words):
        flat(**{**good, **change}, variant=variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_camera_is_refused(variant):
    with pytest.raises(InvalidCameras, match="At least one view"):
        call(
            variant,
            torch.zeros((3, 3)),
            torch.zeros((1, 3), dtype=torch.int64),
            torch.zeros((0, 4, 4)),
            torch.zeros((0, 3, 3)),
            height=4,
            width=4,
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_cameras_and_devices_that_cannot_be_used_are_named(variant):
    vertices, faces = torch.eye(3), torch.tensor([[0, 1, 2]])
    broken = torch.eye(4)[None] * float("nan")
    with pytest.raises(InvalidCameras, match="w2c holds numbers that are not finite"):
        call(variant, vertices, faces, broken, torch.eye(3)[None], height=4, width=4)
    with pytest.raises(InvalidInput, match="on one device, got cpu, meta"):
        call(variant, vertices, faces.to("meta"), torch.eye(4)[None], torch.eye(3)[None], height=4, width=4)
    many = torch.zeros((1, 3), dtype=torch.int32).expand(2**31, 3)  # takes no memory
    with pytest.raises(InvalidInput, match="2147483648 faces are too many"):
        call(variant, vertices, many, torch.eye(4)[None], torch.eye(3)[None], height=4, width=4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_faces_out_of_any_proportion_do_no_harm(variant):
    """Corners at the limit of float32, on the eye, behind it, and faces of no width: drawn or not, never broken."""
    huge = 3e38
    vertices = [[-huge, -huge, huge], [huge, -huge, huge], [0.0, huge, huge], [0.0, 0.0, 0.0], [1.0, 1.0, -1.0]]
    planes = flat(
        [*vertices, [4.0, 4.0, 2.0]], [[0, 1, 2], [3, 4, 5], [3, 3, 3], [4, 4, 5]], height=8, width=8, variant=variant
    )
    assert torch.isfinite(planes.depth).all() and torch.isfinite(planes.barycentrics).all()
    hit = planes.face_ids >= 0
    assert ((planes.barycentrics.sum(-1) - hit.float()).abs() < 1e-6).all()
    assert (planes.depth[hit] > 0).all()


def test_the_clip_space_for_nvdiffrast_puts_points_at_their_pixels():
    """Weights times corners in clip space, divided by w, is the pixel's place in [-1, 1], first row at -1."""
    vertices, indices = soup(30, seed=8)
    cameras = fibonacci_cameras(2, radius=1.5, fovy=0.8, height=24, width=40)
    w2c, k = c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()
    planes = call("reference", vertices, indices, w2c, k, height=24, width=40)
    clip = clip_corners(vertices, w2c, k, height=24, width=40, near=1e-3)
    view, row, column = torch.nonzero(planes.face_ids >= 0).T
    ids, weights = planes.face_ids[view, row, column].long(), planes.barycentrics[view, row, column]
    point = (clip[view[:, None], indices[ids]] * weights[..., None]).sum(1)
    at = point[:, :3] / point[:, 3:]
    torch.testing.assert_close(at[:, 0], 2 * (column + 0.5) / 40 - 1, atol=1e-4, rtol=0)
    torch.testing.assert_close(at[:, 1], 2 * (row + 0.5) / 24 - 1, atol=1e-4, rtol=0)
    assert (at[:, 2].abs() < 1).all()
    # and back again: its (u, v) are the weights of the first two corners, its numbers begin at 1
    raster = torch.cat(
        [planes.barycentrics[..., :2], planes.depth[..., None], planes.face_ids[..., None] + 1.0], dim=-1
    )
    ids, weights, depth = planes_of(raster, indices, homogeneous_corners(vertices, w2c, k))
    assert torch.equal(ids, planes.face_ids)
    torch.testing.assert_close(weights, planes.barycentrics, atol=1e-6, rtol=0)
    torch.testing.assert_close(depth, planes.depth, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "vertices,faces,words",
    [
        (torch.eye(3), torch.eye(3), "faces must be integers"),
        (torch.eye(3), torch.eye(3) > 0, "faces must be integers"),
        (torch.eye(3)[:, :2], torch.zeros((1, 3), dtype=torch.int64), r"vertices must be floats of shape \(P, 3\)"),
        (torch.eye(3).long(), torch.zeros((1, 3), dtype=torch.int64), "vertices must be floats"),
    ],
)
def test_tensors_of_the_wrong_shape_or_type_are_named(vertices, faces, words):
    with pytest.raises(InvalidInput, match=words):  # what every variant asks first
        check_inputs(vertices, faces, torch.eye(4)[None], torch.eye(3)[None], height=4, width=4, near=1.0)
