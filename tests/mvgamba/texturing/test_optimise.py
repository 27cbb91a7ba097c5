import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import drawable_of
from mvgamba.evaluation.photograph import photograph
from mvgamba.texturing.bake import BakeOptions, bake_texture
from mvgamba.texturing.optimise import TextureOptions, optimise_texture
from mvgamba.texturing.texels import texels_of
from mvgamba.texturing.unwrap import unwrap
from mvgamba.types import PosedViews
from tests.mvgamba.texturing.test_bake import AROUND, ELSEWHERE, cameras_at, mesh_of, painted, patches, psnr, textured


def smooth(points):
    return 0.5 + 0.35 * torch.sin(points * torch.tensor([5.0, 4.0, 6.0]) + 1.0)


@pytest.fixture(scope="module")
def torus():
    mesh = mesh_of(trimesh.creation.torus(0.6, 0.28, major_sections=48, minor_sections=24))
    return mesh, unwrap(mesh, texture_size=256), cameras_at(AROUND, size=96), cameras_at(ELSEWHERE, size=96)


def noisy(views: PosedViews, amount: float) -> PosedViews:
    noise = torch.randn(views.rgb.shape, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(views, rgb=(views.rgb + amount * noise).clamp(0, 1))


def test_what_blending_blurred_comes_back(torus):
    mesh, flat, near, elsewhere = torus
    views, truth = painted(mesh, patches, near), painted(mesh, patches, elsewhere)
    blended = bake_texture(flat, views, texture_size=256, options=BakeOptions(sharpen_rounds=0))
    before, after = (psnr(textured(t, elsewhere), truth) for t in (blended, optimise_texture(blended, views)))
    assert after > before + 0.5


def test_total_variation_keeps_noise_out(torus):
    mesh, flat, near, elsewhere = torus
    views, truth = noisy(painted(mesh, smooth, near), 0.05), painted(mesh, smooth, elsewhere)
    baked = bake_texture(flat, views, texture_size=256)

    def score(**options):
        return psnr(textured(optimise_texture(baked, views, options=TextureOptions(**options)), elsewhere), truth)

    assert score(variation=0.02) > max(score(variation=0.0), psnr(textured(baked, elsewhere), truth)) + 0.5


def test_photographs_in_linear_light_gain_over_the_bake(torus):
    """A renderer adds up light, and the bake adds up sRGB: at contrasts this strong that is seen."""
    mesh, flat, near, elsewhere = torus
    source = drawable_of(bake_texture(flat, painted(mesh, patches, near), texture_size=256))
    views, truth = photograph(source, near), photograph(source, elsewhere)
    baked = bake_texture(flat, views, texture_size=256)
    fitted = optimise_texture(baked, views)
    before, after = (psnr(photograph(drawable_of(t), elsewhere), truth) for t in (baked, fitted))
    assert after > before + 0.5


def test_texels_that_no_view_sees_stay_as_they_were(torus):
    mesh, flat, _, _ = torus
    views = painted(mesh, smooth, cameras_at([(0, 20), (30, 20)], size=96))
    baked = bake_texture(flat, views, texture_size=256)
    fitted = optimise_texture(baked, views)
    texels = texels_of(flat, 256)
    away = texels.index[texels.normals[:, 2] < -0.7].numpy()
    assert (fitted.albedo.reshape(-1, 3)[away] == baked.albedo.reshape(-1, 3)[away]).all()
    assert (fitted.albedo != baked.albedo).any()
    np.testing.assert_array_equal(fitted.uvs, baked.uvs)


def test_the_background_does_not_bleed_over_the_outlines(torus):
    mesh, _, near, _ = torus
    views = painted(mesh, lambda p: torch.full((len(p), 3), 0.7), near)
    fat = dataclasses.replace(mesh, vertices=mesh.vertices * 1.03)  # its rim lies on the black around the object
    baked = bake_texture(unwrap(fat, texture_size=256), views, texture_size=256)
    fitted = optimise_texture(baked, views, options=TextureOptions(pull=1e-4))
    covered = texels_of(unwrap(fat, texture_size=256), 256).index.numpy()
    assert np.abs(fitted.albedo.reshape(-1, 3)[covered].astype(int) - 0.7 * 255).max() < 4


def test_views_of_other_exposure_do_not_print_their_borders(torus):
    mesh, flat, near, elsewhere = torus
    views, truth = painted(mesh, smooth, near), painted(mesh, smooth, elsewhere)
    factors = torch.tensor([1.05, 0.95, 1.03, 0.96, 0.97, 1.05, 1.0, 0.99])
    baked = bake_texture(flat, views, texture_size=256)
    level = psnr(textured(optimise_texture(baked, views), elsewhere), truth)
    uneven = dataclasses.replace(views, rgb=views.rgb * factors[:, None, None, None])
    assert psnr(textured(optimise_texture(baked, uneven), elsewhere), truth) > level - 1.5


def test_views_that_miss_the_mesh_leave_it_as_it_was(torus, caplog):
    mesh, flat, near, _ = torus
    views = painted(mesh, smooth, near)
    baked = bake_texture(flat, views, texture_size=256)
    same = optimise_texture(baked, dataclasses.replace(views, alpha=torch.zeros_like(views.alpha)))
    assert (same.albedo == baked.albedo).all()
    assert "stays as it was baked" in caplog.text


def test_progress_rises_to_one_and_bad_input_is_named(torus):
    mesh, flat, near, _ = torus
    views, seen = painted(mesh, smooth, near), []
    baked = bake_texture(flat, views, texture_size=256)
    optimise_texture(baked, views, report=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0
    with pytest.raises(InvalidInput, match="must be square, got 256 x 128"):
        optimise_texture(dataclasses.replace(baked, albedo=baked.albedo[:128]), views)
    batched = PosedViews(
        views.rgb[None],
        views.alpha[None],
        dataclasses.replace(views.cameras, c2w=views.cameras.c2w[None], intrinsics=views.cameras.intrinsics[None]),
    )
    with pytest.raises(InvalidInput, match="no batch axes"):
        optimise_texture(baked, batched)
