"""The sampler: guidance, steps, beginnings, previews, stops."""

import pytest
import torch

from mvgamba.errors import Cancelled, InvalidCameras, InvalidInput
from mvgamba.multiview.mvdream.guidance import clean_from_noise, guide, noise_from_clean, rough_rgb
from tests.mvgamba.multiview.mvdream.checkpoints import SIZE


def latents_of(pipeline, rig, **more):
    noise = torch.Generator().manual_seed(more.pop("seed", 3))
    given = {"steps": 2, "guidance": 3.0, "decode": False, "c2w": rig.c2w} | more
    return pipeline(given.pop("prompt", "a red chair"), generator=noise, **given).latents


@pytest.fixture
def passes(monkeypatch, mvdream):
    """Sizes of the batches that the network was given."""
    seen = []
    forward = mvdream.unet.forward

    def counted(latents, *args, **kwargs):
        seen.append(len(latents))
        return forward(latents, *args, **kwargs)

    monkeypatch.setattr(mvdream.unet, "forward", counted)
    return seen


def test_the_same_seed_gives_the_same_views_and_another_gives_others(mvdream, rig):
    base = latents_of(mvdream, rig)
    assert base.shape == (4, 4, 8, 8)
    assert torch.equal(latents_of(mvdream, rig), base)
    assert float((latents_of(mvdream, rig, seed=4) - base).abs().max()) > 0.1


def test_prompts_cameras_and_guidance_all_count(mvdream, rig):
    base = latents_of(mvdream, rig)
    for more in ({"prompt": "blue boat"}, {"negative_prompt": "ugly"}, {"guidance": 6.0}, {"c2w": rig.c2w.roll(1, 0)}):
        assert float((latents_of(mvdream, rig, **more) - base).abs().max()) > 1e-3, more


def test_without_guidance_the_network_is_asked_once_a_step(mvdream, rig, passes):
    once = latents_of(mvdream, rig, guidance=1.0)
    assert passes == [1, 1]
    assert torch.equal(latents_of(mvdream, rig, guidance=0.0, negative_prompt="ugly"), once)
    passes.clear()
    latents_of(mvdream, rig, guidance=1.01)
    assert passes == [2, 2]


def test_three_views_and_one_are_made_as_well(mvdream, rig):
    assert latents_of(mvdream, rig, c2w=rig.c2w[:3]).shape[0] == 3
    assert latents_of(mvdream, rig, c2w=rig.c2w[:1]).shape[0] == 1


def test_pictures_are_decoded_between_black_and_white(mvdream, rig):
    images = mvdream("a red chair", c2w=rig.c2w[:2], steps=1, generator=torch.Generator().manual_seed(0)).images
    assert images.shape == (2, 3, SIZE, SIZE) and images.dtype == torch.float32
    assert 0 <= float(images.min()) < float(images.max()) <= 1


def test_nothing_that_is_given_is_changed_and_neither_is_the_scheduler(imagedream, rig):
    given = {"image": torch.rand(3, 50, 50), "start": torch.rand(4, 3, SIZE, SIZE), "c2w": rig.c2w}
    before, config = {k: v.clone() for k, v in given.items()}, dict(imagedream.scheduler.config)
    steps = imagedream.scheduler.num_inference_steps
    imagedream("", steps=2, strength=0.5, decode=False, generator=torch.Generator().manual_seed(0), **given)
    assert all(torch.equal(given[k], before[k]) for k in given)
    assert dict(imagedream.scheduler.config) == config and imagedream.scheduler.num_inference_steps == steps


def test_strength_says_how_much_of_the_start_is_kept(mvdream, rig, passes):
    start = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    kept = mvdream.encode_images(start)
    made = {s: latents_of(mvdream, rig, steps=4, guidance=1.0, start=start, strength=s) for s in (0.0, 0.5, 1.0)}
    assert len(passes) == 0 + 2 + 4
    torch.testing.assert_close(made[0.0], kept)
    assert torch.equal(made[1.0], latents_of(mvdream, rig, steps=4, guidance=1.0))
    assert float((made[0.5] - made[1.0]).abs().max()) > 1e-2


def test_the_image_counts_through_both_its_paths(imagedream, rig):
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    base = latents_of(imagedream, rig, image=image)
    assert base.shape == (4, 4, 8, 8)  # the view of the image is not among them
    assert float((latents_of(imagedream, rig, image=1 - image) - base).abs().max()) > 1e-3
    features, latents = imagedream._encode_prompt_image(image)
    assert features.shape == (1, 17, 80) and latents.shape == (1, 4, 8, 8)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of this version of diffusers
def test_dpm_solver_needs_the_same_network_and_gives_like_views(mvdream, rig):
    slow = latents_of(mvdream, rig, steps=30, guidance=1.0)
    ddim = mvdream.scheduler
    try:
        mvdream.use_scheduler("dpmsolver")
        fast = latents_of(mvdream, rig, steps=12, guidance=1.0)
        with pytest.raises(InvalidInput, match="must be one of ddim, dpmsolver"):
            mvdream.use_scheduler("euler")
        mvdream.use_scheduler("ddim")
        assert {k: v for k, v in mvdream.scheduler.config.items() if k in ("beta_end", "steps_offset")} == {
            "beta_end": 0.012,
            "steps_offset": 1,
        }
    finally:
        mvdream.register_modules(scheduler=ddim)
    # both follow one path from the same noise: much nearer to each other than to another seed's end
    other = latents_of(mvdream, rig, steps=12, guidance=1.0, seed=9)
    assert float((fast - slow).norm()) < 0.35 * float((other - slow).norm())


def test_each_step_tells_how_far_it_is_and_can_stop(mvdream, rig):
    seen = []
    latents_of(mvdream, rig, steps=3, guidance=1.0, on_step=lambda fraction, clean: seen.append((fraction, clean)))
    assert [fraction for fraction, _ in seen] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert all(clean.shape == (4, 4, 8, 8) for _, clean in seen)

    def stop(fraction, clean):
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        latents_of(mvdream, rig, on_step=stop)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"steps": 0}, "steps is 0; it must be from 1"),
        ({"guidance": -1.0}, "guidance is -1; it must be from 0"),
        ({"guidance_rescale": 2.0}, "guidance_rescale is 2"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": 0.5}, "nothing to start from"),
        ({"start": torch.zeros(3, 3, 8, 8)}, "start has 3 views, expected one for each of the 4"),
    ],
)
def test_numbers_out_of_range_are_refused(mvdream, rig, more, said):
    with pytest.raises(InvalidInput, match=said):
        latents_of(mvdream, rig, **more)


def test_a_mirrored_camera_is_refused(mvdream, rig):
    c2w = rig.c2w.clone()
    c2w[2, :3, 0] *= -1
    with pytest.raises(InvalidCameras, match="mirrored"):
        latents_of(mvdream, rig, c2w=c2w)


def test_imagedream_needs_an_image(imagedream, rig):
    with pytest.raises(InvalidInput, match="give an image, or use MVDream"):
        latents_of(imagedream, rig)


def test_the_end_of_a_long_prompt_is_named(mvdream):
    assert mvdream.left_out("a chair") == ""
    assert mvdream.left_out("a " * 22 + "b c") == "b c"


def test_noise_and_clean_latents_are_two_words_for_one_thing():
    x, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(noise_from_clean(x, clean_from_noise(x, noise, 0.3), 0.3), noise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clean_from_noise(0.6**0.5 * x + 0.4**0.5 * noise, noise, 0.6), x, atol=1e-5, rtol=1e-5)


def test_rescaled_guidance_has_the_contrast_of_the_unguided_views():
    x, without, wanted = (torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    plain = clean_from_noise(x, wanted, 0.4).std()

    def contrast(rescale):
        guided = guide(x, without, wanted, scale=7.0, rescale=rescale, alpha_bar=0.4)
        return float(clean_from_noise(x, guided, 0.4).std() / plain)

    assert contrast(1.0) == pytest.approx(1.0, abs=1e-4)
    assert contrast(0.0) > 1.5
    assert contrast(0.5) == pytest.approx((contrast(0.0) + 1.0) / 2, abs=1e-4)
    one = guide(x, without, wanted, scale=1.0, rescale=0.7, alpha_bar=0.4)
    torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-5)


def test_rough_colours_are_colours():
    assert torch.equal(rough_rgb(torch.zeros(1, 4, 2, 2)), torch.full((1, 3, 2, 2), 0.5))
    bright, dark = (rough_rgb(torch.tensor([v, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)).mean() for v in (2.0, -2.0))
    assert float(bright) > 0.7 and float(dark) < 0.3
