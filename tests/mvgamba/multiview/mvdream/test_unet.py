"""The network: every published key, and what its parts must do."""

from pathlib import Path

import pytest
import torch

from mvgamba.errors import InvalidInput
from mvgamba.multiview.mvdream.unet import MultiViewUNet, step_code
from tests.mvgamba.multiview.mvdream.checkpoints import random_module

KEYS = Path(__file__).with_name("published_unet_keys.txt")
TINY = {"model_channels": 32, "channel_mult": (1, 2), "attention_resolutions": (2, 1), "num_res_blocks": 1}
TINY |= {"num_head_channels": 16, "context_dim": 24}
IMAGES = {"ip_dim": 3, "feature_width": 20, "resampler_heads": 1, "resampler_depth": 2}


def published_keys():
    """Of MVDream's UNet, and of ImageDream's."""
    both: list[dict[str, tuple[int, ...]]] = []
    for line in KEYS.read_text().splitlines():
        if line.startswith("#"):
            both.append(dict(both[-1]) if both else {})
        else:
            key, shape = line.split()
            both[-1][key] = tuple(int(n) for n in shape.split("x"))
    return both


@pytest.mark.parametrize(("which", "more", "parameters"), [(0, {}, 867_572_164), (1, {"ip_dim": 16}, 941_672_900)])
def test_at_full_size_it_has_every_published_key_and_no_other(which, more, parameters):
    with torch.device("meta"):
        unet = MultiViewUNet(**more)
    assert {key: tuple(value.shape) for key, value in unet.state_dict().items()} == published_keys()[which]
    assert sum(p.numel() for p in unet.parameters()) == parameters


@pytest.fixture(scope="module")
def unet():
    return random_module(MultiViewUNet(**TINY))


@pytest.fixture(scope="module")
def image_unet():
    return random_module(MultiViewUNet(**TINY, **IMAGES))


def inputs(views=4, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, views, 4, 8, 8, generator=generator)
    context = torch.randn(batch, 5, 24, generator=generator)
    cameras = torch.randn(batch, views, 16, generator=generator)
    return latents, torch.full((batch,), 300.0), context, cameras


def image_inputs(batch=2):
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(batch, 6, 20, generator=generator)
    return {"image_features": features, "image_latents": torch.randn(batch, 4, 8, 8, generator=generator)}


@torch.no_grad()
def test_views_of_one_object_see_each_other_and_objects_do_not(unet):
    latents, steps, context, cameras = inputs()
    base = unet(latents, steps, context, cameras=cameras)
    other = latents.clone()
    other[0, 3] += 1.0
    changed = (unet(other, steps, context, cameras=cameras) - base).abs().amax((2, 3, 4))
    assert bool((changed[0] > 1e-4).all()) and float(changed[1].max()) < 1e-6


@torch.no_grad()
def test_the_order_of_the_views_does_not_matter(unet):
    latents, steps, context, cameras = inputs()
    order = [2, 0, 3, 1]
    base = unet(latents, steps, context, cameras=cameras)
    turned = unet(latents[:, order], steps, context, cameras=cameras[:, order])
    torch.testing.assert_close(turned, base[:, order], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("views", [1, 2, 6])
def test_any_number_of_views_is_taken(unet, views):
    latents, steps, context, cameras = inputs(views)
    assert unet(latents, steps, context, cameras=cameras).shape == latents.shape


@torch.no_grad()
def test_cameras_words_and_steps_all_tell(unet):
    latents, steps, context, cameras = inputs()
    base = unet(latents, steps, context, cameras=cameras)
    for changed in (
        unet(latents, steps, context, cameras=cameras.roll(1, 1)),
        unet(latents, steps, context.flip(0), cameras=cameras),
        unet(latents, steps + 50, context, cameras=cameras),
        unet(latents, steps, context),
    ):
        assert float((changed - base).abs().max()) > 1e-3


@torch.no_grad()
def test_the_image_goes_along_without_a_camera_and_comes_to_no_output(image_unet):
    latents, steps, context, cameras = inputs()
    given = image_inputs()
    base = image_unet(latents, steps, context, cameras=cameras, **given)
    assert base.shape == latents.shape
    without = {**given, "image_latents": None}
    assert float((image_unet(latents, steps, context, cameras=cameras, **without) - base).abs().max()) > 1e-3
    # the same by hand: a fifth view that is the image, whose camera is all zeros
    five = torch.cat([latents, given["image_latents"][:, None]], 1)
    codes = torch.cat([cameras, torch.zeros(2, 1, 16)], 1)
    by_hand = image_unet(five, steps, context, cameras=codes, image_features=given["image_features"])[:, :4]
    torch.testing.assert_close(base, by_hand, atol=1e-6, rtol=1e-5)
    other = {**given, "image_features": given["image_features"].flip(0)}
    assert float((image_unet(latents, steps, context, cameras=cameras, **other) - base).abs().max()) > 1e-3


@torch.no_grad()
def test_nothing_that_is_given_is_changed(image_unet):
    latents, steps, context, cameras = inputs()
    given = {"latents": latents, "timesteps": steps, "context": context, "cameras": cameras, **image_inputs()}
    before = {name: value.clone() for name, value in given.items()}
    image_unet(**given)
    assert all(torch.equal(given[name], before[name]) for name in given)


@torch.no_grad()
@pytest.mark.parametrize("slices", ["auto", "max", 1, 3])
def test_slicing_attention_changes_no_number(image_unet, slices):
    latents, steps, context, cameras = inputs()
    base = image_unet(latents, steps, context, cameras=cameras, **image_inputs())
    image_unet.set_attention_slice(slices)
    try:
        sliced = image_unet(latents, steps, context, cameras=cameras, **image_inputs())
    finally:
        image_unet.set_attention_slice(None)
    torch.testing.assert_close(sliced, base, atol=1e-6, rtol=1e-5)


def test_recomputing_gives_the_same_gradients():
    unet = random_module(MultiViewUNet(**TINY))
    gradients = []
    for recompute in (False, True):
        unet.enable_gradient_checkpointing() if recompute else unet.disable_gradient_checkpointing()
        latents, steps, context, cameras = inputs(views=2, batch=1)
        unet.zero_grad()
        unet(latents, steps, context, cameras=cameras).square().sum().backward()
        gradients.append([p.grad.clone() for p in unet.parameters()])
    assert all(float(g.abs().max()) > 0 for g in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_settings_are_kept_when_it_is_saved(tmp_path, image_unet):
    image_unet.save_pretrained(tmp_path)
    again = MultiViewUNet.from_pretrained(tmp_path)
    assert again.config.ip_dim == 3 and list(again.config.channel_mult) == [1, 2]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in image_unet.state_dict().items())


def test_what_the_network_does_not_take_is_refused(unet, image_unet):
    latents, steps, context, cameras = inputs()
    with pytest.raises(InvalidInput, match="needs the features of an image"):
        image_unet(latents, steps, context, cameras=cameras)
    with pytest.raises(InvalidInput, match="takes no image"):
        unet(latents, steps, context, **image_inputs())
    without = MultiViewUNet(**TINY, camera_dim=None)
    with pytest.raises(InvalidInput, match="without cameras"):
        without(latents, steps, context, cameras=cameras)


def test_the_code_of_a_step_is_known():
    """Cosine first; the slowest frequency is 10,000 ** -(1 - 2 / 8)."""
    code = step_code(torch.tensor([0.0, 1.0]), 8)
    assert code[0].tolist() == [1.0] * 4 + [0.0] * 4
    torch.testing.assert_close(code[1, [0, 4]], torch.tensor([1.0, 1.0]).cos() * torch.tensor([1.0, 1.5574077]))
    assert float(code[1, 7]) == pytest.approx(10_000**-0.75, rel=1e-5)
