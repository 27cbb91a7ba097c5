import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
import trimesh
from torch.nn.functional import avg_pool2d, grid_sample

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras, resize_cameras
from mvgamba.errors import InvalidInput
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.texturing.bake import BakeOptions, bake_texture
from mvgamba.texturing.gains import exposure_gains
from mvgamba.texturing.texels import look, sight_of, texels_of
from mvgamba.texturing.unwrap import unwrap
from mvgamba.types import Mesh, PosedViews, TexturedMesh

RED, GREEN, BLUE, YELLOW = (torch.tensor(c) for c in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1, 0]))


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))


def cameras_at(angles, *, size=64, radius=2.5, fovy=0.8):
    azimuths, elevations = zip(*angles)
    return orbit_cameras(
        [math.radians(a) for a in azimuths],
        [math.radians(e) for e in elevations],
        radius=radius,
        fovy=fovy,
        height=size,
        width=size,
    )


AROUND = [(0, 0), (90, 0), (180, 0), (270, 0), (45, 45), (135, -40), (225, 40), (315, -45)]
ELSEWHERE = [(20, 15), (110, -15), (200, 35), (290, 50), (65, 5)]


def photograph(vertices, faces, color_of, cameras, *, samples=3) -> PosedViews:
    """Pictures of a mesh with a colour for each point: the mean of samples x samples points of a pixel."""
    fine = resize_cameras(cameras, cameras.height * samples, cameras.width * samples)
    planes = rasterize_mesh(
        torch.tensor(vertices).float(),
        torch.tensor(faces),
        c2w_to_w2c_opencv(fine.c2w).float(),
        fine.intrinsics.float(),
        height=fine.height,
        width=fine.width,
    )
    hit = planes.face_ids >= 0
    ids, weights = planes.face_ids[hit].long(), planes.barycentrics[hit]
    rgb = torch.zeros(*hit.shape, 3)
    rgb[hit] = color_of(torch.tensor(faces)[ids], weights)
    alpha = avg_pool2d(hit[:, None].float(), samples)
    rgb = avg_pool2d(rgb.permute(0, 3, 1, 2), samples) / alpha.clamp_min(1e-6)
    return PosedViews(rgb, alpha, cameras)


def painted(mesh: Mesh, paint, cameras) -> PosedViews:
    """Pictures of a mesh whose colour is a function of the place."""
    vertices = torch.tensor(mesh.vertices).float()
    return photograph(mesh.vertices, mesh.faces, lambda f, w: paint((vertices[f] * w[..., None]).sum(1)), cameras)


def textured(mesh: TexturedMesh, cameras) -> PosedViews:
    """Pictures of a textured mesh, its texture read as glTF says."""
    uvs = torch.tensor(mesh.uvs).float()
    texture = torch.tensor(mesh.albedo).permute(2, 0, 1)[None] / 255

    def color_of(faces, weights):
        at = (uvs[faces] * weights[..., None]).sum(1) * 2 - 1
        return grid_sample(texture, at[None, None], align_corners=False, padding_mode="border")[0, :, 0].T

    return photograph(mesh.vertices, mesh.faces, color_of, cameras)


def psnr(a: PosedViews, b: PosedViews) -> float:
    inside = (torch.minimum(a.alpha, b.alpha) > 0.99).float()
    return float(-10 * torch.log10(((a.rgb - b.rgb).square() * inside).sum() / (3 * inside.sum())))


def quarters(points):
    """Seen from +Z: red, green above, blue, yellow below."""
    left, top = points[:, :1] < 0, points[:, 1:2] > 0
    return torch.where(top, torch.where(left, RED, GREEN), torch.where(left, BLUE, YELLOW))


def patches(points):
    odd = torch.floor(points * 4 + 0.3).sum(1, keepdim=True) % 2 > 0
    smooth = 0.5 + 0.4 * torch.sin(points * torch.tensor([5.0, 4.0, 6.0]) + 1.0)
    return torch.where(odd, smooth, 1 - 0.7 * smooth)


def square(half=0.7, z=0.0) -> Mesh:
    vertices = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]))


def test_a_picture_comes_back_the_same_way_round():
    mesh = square()
    baked = bake_texture(
        unwrap(mesh, texture_size=128), painted(mesh, quarters, cameras_at([(0, 0)])), texture_size=128
    )
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], (2, 500))
    points = np.einsum("fnk,fkc->fnc", weights, baked.vertices[baked.faces]).reshape(-1, 3)
    uvs = np.einsum("fnk,fkc->fnc", weights, baked.uvs[baked.faces]).reshape(-1, 2)
    clear = np.abs(points[:, :2]).min(axis=1) > 0.08  # not beside the borders between colours
    found = baked.albedo[(uvs[:, 1] * 128).astype(int), (uvs[:, 0] * 128).astype(int)]
    wanted = quarters(torch.tensor(points).float()).numpy() * 255
    assert np.abs(found - wanted)[clear].max() < 8


def test_texels_are_at_their_centres():
    mesh = square()
    # a ramp: a shift by half a texel would be seen as a change of its mean
    ramp = painted(mesh, lambda p: (p + 1) / 2, cameras_at([(0, 0)], size=128))
    baked = bake_texture(unwrap(mesh, texture_size=64), ramp, texture_size=64, options=BakeOptions(sharpen_rounds=0))
    texels = texels_of(unwrap(mesh, texture_size=64), 64)
    found = baked.albedo.reshape(-1, 3)[texels.index.numpy(), :2] / 255 * 2 - 1
    inner = (texels.points[:, :2].abs() < 0.6).all(dim=1).numpy()
    error = (found - texels.points[:, :2].numpy())[inner]
    texel = 1.4 / 58  # the square has about so many texels
    assert np.abs(error.mean(axis=0)).max() < 0.1 * texel
    assert np.abs(error).max() < 0.5 * texel


@pytest.fixture(scope="module")
def torus():
    mesh = mesh_of(trimesh.creation.torus(0.6, 0.28, major_sections=48, minor_sections=24))
    return mesh, unwrap(mesh, texture_size=256), painted(mesh, patches, cameras_at(AROUND, size=96))


def test_other_cameras_see_what_was_photographed(torus):
    mesh, flat, views = torus
    truth = painted(mesh, patches, cameras_at(ELSEWHERE, size=96))
    baked = textured(bake_texture(flat, views, texture_size=256), truth.cameras)
    blended = bake_texture(flat, views, texture_size=256, options=BakeOptions(sharpen_rounds=0))
    plain = psnr(textured(blended, truth.cameras), truth)
    assert plain > 22.0  # sharp squares at 128 pixels; a mirrored or shifted texture has less than 15
    assert psnr(baked, truth) > plain + 0.5


def test_geometry_that_is_a_bit_off_still_gets_its_colours(torus):
    mesh, _, views = torus
    bent = Mesh(mesh.vertices * [1.01, 0.99, 1.0] + [0.004, 0.0, -0.004], mesh.faces)
    truth = painted(mesh, patches, cameras_at(ELSEWHERE, size=96))
    baked = bake_texture(unwrap(bent, texture_size=256), views, texture_size=256)
    assert psnr(textured(baked, truth.cameras), truth) > 20.0


def test_a_view_of_something_else_is_outvoted(torus):
    mesh, flat, _ = torus
    views = painted(mesh, patches, cameras_at([(i * 24, 25 * (-1) ** i) for i in range(15)], size=64))
    rgb = views.rgb.clone()
    rgb[4] = 1 - rgb[4]
    odd = dataclasses.replace(views, rgb=rgb)
    truth = painted(mesh, patches, cameras_at([(85, 10), (105, -10)], size=64))
    options = BakeOptions(power=1.0, sharpen_rounds=0)
    with_vote = bake_texture(flat, odd, texture_size=256, options=options)
    without = bake_texture(flat, odd, texture_size=256, options=dataclasses.replace(options, rounds=0))
    gain = psnr(textured(with_vote, truth.cameras), truth) - psnr(textured(without, truth.cameras), truth)
    assert gain > 1.0


def test_views_of_different_exposure_are_made_equal(torus):
    mesh, flat, views = torus
    factors = torch.tensor([1.05, 0.95, 1.03, 0.96, 0.97, 1.05, 1.0, 0.99])
    truth = painted(mesh, patches, cameras_at(ELSEWHERE, size=96))
    dark = dataclasses.replace(views, rgb=(views.rgb * 0.9))  # nothing saturates
    uneven = dataclasses.replace(dark, rgb=dark.rgb * factors[:, None, None, None])
    texels = texels_of(flat, 256)[slice(None, None, 4)]
    gains = exposure_gains(*look(sight_of(flat, uneven), texels, power=1.0))
    torch.testing.assert_close(gains, factors.log().mean().exp() / factors, atol=0.015, rtol=0)
    even = exposure_gains(*look(sight_of(flat, dark), texels, power=1.0))
    assert (even == 1).all()
    dark_truth = dataclasses.replace(truth, rgb=truth.rgb * 0.9)
    level = psnr(textured(bake_texture(flat, dark, texture_size=256), truth.cameras), dark_truth)
    assert psnr(textured(bake_texture(flat, uneven, texture_size=256), truth.cameras), dark_truth) > level - 0.7


def test_what_stands_in_front_leaves_no_colour_behind_it():
    wall, post = square(0.7, -0.3), mesh_of(trimesh.creation.box((0.12, 1.0, 0.12)))
    mesh = Mesh(
        np.concatenate([wall.vertices, post.vertices]), np.concatenate([wall.faces, post.faces + len(wall.vertices)])
    )

    def paint(points):
        return torch.where(points[:, 2:] < -0.29, BLUE, RED)

    views = painted(mesh, paint, cameras_at([(0, 0), (25, 0), (-25, 0), (0, 25)], size=128))
    flat = unwrap(mesh, texture_size=256)
    baked = bake_texture(flat, views, texture_size=256)
    texels = texels_of(flat, 256)
    colors = baked.albedo.reshape(-1, 3)[texels.index.numpy()]
    wall_texels = (texels.faces < 2).numpy()
    assert (colors[wall_texels, 0] > 64).mean() < 0.002
    front = ((texels.normals[:, 2] > 0.9) & (texels.faces >= 2)).numpy()
    assert (colors[front, 0] > 200).mean() > 0.9


def test_what_no_view_saw_takes_the_colour_of_its_surroundings():
    mesh = mesh_of(trimesh.creation.icosphere(subdivisions=3, radius=0.7))

    def halves(points):
        return torch.where(points[:, 1:2] > 0, RED, BLUE)

    flat = unwrap(mesh, texture_size=256)
    baked = bake_texture(flat, painted(mesh, halves, cameras_at([(0, 0), (40, 0), (-40, 0)])), texture_size=256)
    texels = texels_of(flat, 256)
    colors = baked.albedo.reshape(-1, 3)[texels.index.numpy()].astype(int)
    behind = texels.points[:, 2] < -0.3
    above, below = (behind & (texels.points[:, 1] > 0.3)).numpy(), (behind & (texels.points[:, 1] < -0.3)).numpy()
    assert (colors[above] - [255, 0, 0])[:, 0].min() > -40 and colors[above, 2].max() < 40
    assert colors[below, 2].min() > 215 and colors[below, 0].max() < 40


def test_fill_views_paint_only_what_inputs_do_not_see():
    mesh = mesh_of(trimesh.creation.box((1.0, 1.0, 1.0)))
    flat = unwrap(mesh, texture_size=256)
    views = painted(mesh, lambda p: RED.expand(len(p), 3), cameras_at([(0, 0)], size=64))
    fill = painted(mesh, lambda p: GREEN.expand(len(p), 3), cameras_at(AROUND, size=64))
    baked = bake_texture(flat, views, texture_size=256, fill_views=fill)
    texels = texels_of(flat, 256)
    colors = baked.albedo.reshape(-1, 3)[texels.index.numpy()]
    front, back = (texels.normals[:, 2] > 0.9).numpy(), (texels.normals[:, 2] < -0.9).numpy()
    assert (colors[front] == [255, 0, 0]).all(axis=1).mean() > 0.97
    assert (colors[back] == [0, 255, 0]).all()


def test_the_texture_goes_on_past_the_edges_of_its_charts():
    mesh = mesh_of(trimesh.creation.box((1.0, 1.0, 1.0)))
    flat = unwrap(mesh, texture_size=256)
    baked = bake_texture(flat, painted(mesh, lambda p: (p + 0.5) * 0.6 + 0.2, cameras_at(AROUND)), texture_size=256)
    texels = texels_of(flat, 256)
    covered = torch.zeros(256 * 256)
    covered[texels.index] = 1
    covered = covered.view(1, 1, 256, 256)
    ring = (torch.nn.functional.max_pool2d(covered, 9, 1, 4) - covered).bool()[0, 0].numpy()
    assert baked.albedo[ring].min() >= 40  # no texel beside a chart is black; the paint starts at 0.2


def test_views_that_miss_the_mesh_are_told_and_give_grey(caplog):
    mesh = square()
    views = painted(mesh, quarters, cameras_at([(0, 0)]))
    blank = dataclasses.replace(views, alpha=torch.zeros_like(views.alpha))
    with caplog.at_level(logging.WARNING):
        baked = bake_texture(unwrap(mesh, texture_size=64), blank, texture_size=64)
    assert "No view sees" in caplog.text
    assert (np.abs(baked.albedo.astype(int) - 128) <= 1).all()


def test_progress_rises_to_one():
    mesh, seen = square(), []
    bake_texture(
        unwrap(mesh, texture_size=64),
        painted(mesh, quarters, cameras_at([(0, 0)])),
        texture_size=64,
        report=seen.append,
    )
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_bad_input_is_named():
    mesh = square()
    flat, views = unwrap(mesh, texture_size=64), painted(mesh, quarters, cameras_at([(0, 0)]))
    with pytest.raises(InvalidInput, match="between 16 and 8192"):
        bake_texture(flat, views, texture_size=9000)
    batched = PosedViews(
        views.rgb[None],
        views.alpha[None],
        dataclasses.replace(views.cameras, c2w=views.cameras.c2w[None], intrinsics=views.cameras.intrinsics[None]),
    )
    with pytest.raises(InvalidInput, match="no batch axes"):
        bake_texture(flat, batched, texture_size=64)
