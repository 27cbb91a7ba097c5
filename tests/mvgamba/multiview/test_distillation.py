"""Score distillation as a function of views: guidance, annealing, and what models of pixels and of latents make of it."""

import math

import pytest
import torch
from torch import nn

from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidInput
from mvgamba.multiview.distillation import (
    FIRST_NOISE,
    LAST_NOISE,
    Group,
    GuidanceOptions,
    LatentModel,
    LatentPrior,
    Prior,
    StarterPrior,
    distillation_loss,
    drawn_time,
    expected_views,
    guided,
    noise_range,
    turned_rig,
)
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.multiview.starter_network import to_signal
from mvgamba.types import SourceImage
from tests.mvgamba.multiview.tiny import tiny_model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Certain:
    """Takes every view for one and the same picture, or with the negative prompt for another; noise as in rectified flow."""

    size = 4

    def __init__(self, wanted: torch.Tensor, other: torch.Tensor) -> None:
        self.wanted, self.other = wanted, other

    def group(self, generator):
        return Group(orbit_cameras([0.0, 1.0], [0.0, 0.0], radius=2.5, fovy=0.8, height=4, width=4))

    def encode(self, rgb, alpha):
        return torch.cat([rgb, alpha], 1)

    def noised(self, latents, time, noise):
        return time * latents + (1 - time) * noise

    def predict_clean(self, noisy, time, group, shown):
        return self.wanted, self.other


def test_the_gradient_leads_from_views_to_what_is_expected():
    wanted = torch.randn(2, 4, 4, 4, generator=seeded())
    prior = Certain(wanted, torch.zeros_like(wanted))
    assert isinstance(prior, Prior)
    views = torch.randn(2, 4, 4, 4, generator=seeded(1)).requires_grad_(True)
    group, plain = prior.group(seeded()), GuidanceOptions(scale=1.0)
    loss = distillation_loss(prior, views, 0.5, torch.zeros_like(wanted), group, plain)
    loss.backward()
    torch.testing.assert_close(views.grad, (views.detach() - wanted) / 2)
    assert float(loss.detach()) == pytest.approx(float(0.5 * (views.detach() - wanted).square().sum() / 2))


def test_guidance_goes_through_and_rescaling_takes_its_contrast_back():
    wanted, other = torch.randn(2, 3, 2, 4, 4, 4, generator=seeded()).unbind(0)[0].unbind(0)[:2]
    torch.testing.assert_close(guided(wanted, other, GuidanceOptions(3.0, 0.0)), other + 3 * (wanted - other))
    torch.testing.assert_close(guided(wanted, other, GuidanceOptions(1.0, 0.7)), wanted)
    calm = guided(wanted, other, GuidanceOptions(10.0, 1.0))
    assert float(calm.std()) == pytest.approx(float(wanted.std()), rel=1e-5)
    loud = guided(wanted, other, GuidanceOptions(10.0, 0.0))
    half = guided(wanted, other, GuidanceOptions(10.0, 0.5))
    torch.testing.assert_close(half, 0.5 * (loud + calm))


def test_noise_begins_at_one_value_and_widens_until_four_fifths():
    assert noise_range(0.0) == (FIRST_NOISE, FIRST_NOISE)
    assert noise_range(0.8) == noise_range(1.0) == pytest.approx(LAST_NOISE)
    halfway = [(FIRST_NOISE + last) / 2 for last in LAST_NOISE]
    assert noise_range(0.4) == pytest.approx(tuple(halfway))
    assert noise_range(1.0, first=0.4) == pytest.approx((LAST_NOISE[0], 0.4))
    drawn = [drawn_time(1.0, seeded(i)) for i in range(200)]
    assert min(drawn) >= 1 - LAST_NOISE[1] and max(drawn) <= 1 - LAST_NOISE[0] and max(drawn) - min(drawn) > 0.4


def test_noise_shares_are_those_of_the_schedule_of_stable_diffusion():
    alphas = schedule()
    for step, share in ((980, FIRST_NOISE), (20, LAST_NOISE[0]), (500, LAST_NOISE[1])):
        ratio = float(((1 - alphas[step]) / alphas[step]).sqrt())
        assert ratio / (1 + ratio) == pytest.approx(share, abs=1e-3)


def test_the_starter_network_sees_signals_from_its_own_rig():
    prior = StarterPrior(tiny_model(), "a red barrel")
    assert isinstance(prior, Prior)
    rgb, alpha = torch.rand(5, 3, 16, 16), torch.rand(5, 1, 16, 16)
    torch.testing.assert_close(prior.encode(rgb * alpha, alpha), to_signal(rgb, alpha))
    group = prior.group(seeded())
    torch.testing.assert_close(group.cameras.c2w, rig_cameras(size=16).c2w)
    noise = torch.randn(5, 4, 16, 16, generator=seeded())
    views = prior.encode(rgb * alpha, alpha)
    one = expected_views(prior, views, 0.5, noise, group, GuidanceOptions())
    assert one.shape == views.shape and not one.requires_grad
    torch.testing.assert_close(one, expected_views(prior, views, 0.5, noise, group, GuidanceOptions()), rtol=0, atol=0)
    blue = expected_views(StarterPrior(tiny_model(), "a barrel"), views, 0.5, noise, group, GuidanceOptions())
    shy = StarterPrior(tiny_model(), "a red barrel", negative_prompt="barrel")
    assert float((blue - one).abs().max()) > 1e-4
    assert float((expected_views(shy, views, 0.5, noise, group, GuidanceOptions()) - one).abs().max()) > 1e-4


def test_turned_groups_take_their_own_first_view_for_the_picture():
    prior = StarterPrior(tiny_model(), "a red barrel", turned=1.0)
    groups = [prior.group(seeded(i)) for i in range(40)]
    assert all(0 < group.turn < 2 * math.pi for group in groups) and len({group.turn for group in groups}) > 8
    group = groups[0]
    torch.testing.assert_close(group.cameras.c2w, turned_rig(group.turn, group.tilt, size=16).c2w)
    torch.testing.assert_close(turned_rig(0.0, 0.0, size=16).c2w, rig_cameras(size=16).c2w)
    views = to_signal(torch.rand(5, 3, 16, 16), (torch.rand(5, 1, 16, 16) > 0.5).float())
    other = torch.cat([-views[:1], views[1:]])
    noisy = torch.randn(5, 4, 16, 16, generator=seeded())
    wanted = [prior.predict_clean(noisy, 0.5, group, shown)[0] for shown in (views, other)]
    assert float((wanted[0] - wanted[1]).abs().max()) > 1e-4
    # of the object as it stands the prompt alone speaks
    still = Group(rig_cameras(size=16))
    wanted = [prior.predict_clean(noisy, 0.5, still, shown)[0] for shown in (views, other)]
    torch.testing.assert_close(wanted[0], wanted[1])


def test_a_picture_is_told_to_the_network_with_its_elevation():
    picture = SourceImage(torch.rand(3, 30, 30), (torch.rand(1, 30, 30) > 0.5).float())
    prior = StarterPrior(tiny_model(), "", picture=picture, elevation=0.26)
    group = prior.group(seeded())
    assert group.tilt == 0.26
    torch.testing.assert_close(group.cameras.c2w, rig_cameras(0.26, size=16).c2w)
    noisy = torch.randn(5, 4, 16, 16, generator=seeded())
    wanted, other = prior.predict_clean(noisy, 0.5, group, noisy)
    assert float((wanted - other).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StarterPrior(tiny_model(), " "), "neither prompt nor picture"),
        (lambda: StarterPrior(tiny_model(), "a", turned=1.5), "turned is 1.5"),
        (lambda: GuidanceOptions(scale=-1.0), "guidance is -1.0"),
        (lambda: GuidanceOptions(rescale=2.0), "rescale is 2.0"),
        (lambda: LatentPrior(Toy(), ""), "There is no prompt"),
    ],
)
def test_what_cannot_be_distilled_is_named(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


def schedule() -> torch.Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


class Toy(nn.Module):
    """A latent model of one thing: its latents are means of pixels, and it knows that everything is of one grey, by prompt."""

    size = 8
    greys = {"light": 0.9, "dark": 0.1}

    def __init__(self) -> None:
        super().__init__()
        self.alphas = schedule().float()

    def encode(self, pictures):
        return 2 * torch.nn.functional.avg_pool2d(pictures, 2) - 1

    def predict_noise(self, noisy, step, cameras, prompts):
        kept = self.alphas[step]
        clean = [torch.full_like(noisy, 2 * self.greys.get(prompt, 0.5) - 1) for prompt in prompts]
        return torch.stack([(noisy - kept.sqrt() * c) / (1 - kept).sqrt() for c in clean])


def test_a_latent_model_answers_in_the_same_time_and_gives_back_what_it_knows():
    model = Toy()
    assert isinstance(model, LatentModel)
    prior = LatentPrior(model, "light", negative_prompt="dark")
    assert isinstance(prior, Prior)
    assert [prior.step_at(1 - share) for share in (FIRST_NOISE, *LAST_NOISE)] == pytest.approx([980, 20, 500], abs=2)
    group = prior.group(seeded())
    eyes = group.cameras.c2w[:, :3, 3]
    assert len(eyes) == 4 and torch.allclose(eyes.norm(dim=1), eyes.norm(dim=1)[:1])
    assert float((eyes[0] * torch.tensor([1, 0, 1])) @ eyes[1]) == pytest.approx(0, abs=1e-6)  # a quarter turn apart
    alpha = torch.zeros(4, 1, 8, 8)
    rgb = torch.rand(4, 3, 8, 8, generator=seeded()).requires_grad_(True)
    latents = prior.encode(rgb, alpha + 1)
    noise = torch.randn(latents.shape, generator=seeded(1))
    clean = expected_views(prior, latents, 0.5, noise, group, GuidanceOptions(1.0, 0.0))
    torch.testing.assert_close(clean, torch.full_like(clean, 0.8), rtol=0, atol=1e-4)
    distillation_loss(prior, latents, 0.5, noise, group, GuidanceOptions(1.0, 0.0)).backward()
    assert float(rgb.grad.abs().min()) > 0
    # what is not covered shows a grey that changes from step to step
    empty = [float(prior.encode(0 * rgb.detach(), alpha).mean()) for _ in range(2)]
    assert empty[0] != empty[1]
