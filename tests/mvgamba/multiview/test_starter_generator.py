"""Sampling, placing a picture, and the generator as a whole."""

import dataclasses
import math

import pytest
import torch

from mvgamba.errors import Cancelled, InvalidInput
from mvgamba.multiview.placing import place_picture
from mvgamba.multiview.protocol import MultiviewGenerator, ViewsRequest
from mvgamba.multiview.starter_generator import StarterGenerator, rig_cameras
from mvgamba.multiview.starter_network import camera_code, from_signal, ray_code, to_signal
from mvgamba.multiview.starter_sampling import Conditions, SamplingOptions, sample, with_details
from mvgamba.progress import CancelToken
from mvgamba.types import PosedViews, SourceImage
from tests.mvgamba.multiview.tiny import tiny_model


class Knower(torch.nn.Module):
    """Says one thing for the wanted words and another for none."""

    def __init__(self, wanted, other):
        super().__init__()
        self.wanted, self.other, self.calls = wanted, other, 0

    def forward(self, noisy, time, cameras, rays, sentences, picture=None):
        self.calls += 1
        return self.wanted if sentences[0] else self.other


def conditions(**more):
    cameras = rig_cameras(size=16)
    return Conditions(camera_code(cameras)[None], ray_code(cameras, 2)[None], ["a barrel"], [""], **more)


def keep(done, clean):
    return clean


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_what_the_network_knows_is_what_comes_out(steps):
    truth = torch.rand(1, 5, 4, 16, 16) - 0.5
    noise = torch.randn_like(truth)
    made = sample(Knower(truth, truth), conditions(), noise, SamplingOptions(steps=steps), keep)
    torch.testing.assert_close(made, truth)


def test_guidance_of_one_asks_once_and_more_goes_beyond():
    wanted, other = torch.full((1, 5, 4, 16, 16), 0.2), torch.zeros(1, 5, 4, 16, 16)
    knower = Knower(wanted, other)
    assert torch.allclose(sample(knower, conditions(), other, SamplingOptions(steps=3, guidance=1.0), keep), wanted)
    assert knower.calls == 3
    beyond = sample(knower, conditions(), other, SamplingOptions(steps=3, guidance=3.0, rescale=0.0), keep)
    assert torch.allclose(beyond, 3 * wanted)


def test_strength_says_how_much_of_the_start_is_given_up():
    start, other = torch.full((1, 5, 4, 16, 16), 0.5), torch.full((1, 5, 4, 16, 16), -0.5)
    seen = []

    class Watcher(Knower):
        def forward(self, noisy, time, *rest):
            seen.append((float(time[0]), float(noisy.mean())))
            return super().forward(noisy, time, *rest)

    for strength, asked in ((0.4, 4), (1.0, 10)):
        seen.clear()
        options = SamplingOptions(steps=10, guidance=1.0, strength=strength)
        sample(Watcher(other, other), conditions(start=start), torch.zeros_like(start), options, keep)
        assert len(seen) == asked and seen[0] == pytest.approx((1 - strength, 0.5 * (1 - strength)))


def test_nothing_given_up_is_the_start_itself():
    start = torch.rand(1, 5, 4, 16, 16)
    made = sample(
        Knower(-start, start), conditions(start=start), torch.zeros_like(start), SamplingOptions(strength=0.0), keep
    )
    assert torch.equal(made, start)


def test_details_that_the_network_loses_come_back_by_their_share():
    start = torch.rand(1, 5, 4, 16, 16) - 0.5
    blurred = start.mean((3, 4), keepdim=True).expand_as(start)
    knower, given, noise = Knower(blurred, blurred), conditions(start=start), torch.zeros_like(start)
    made = sample(knower, given, noise, SamplingOptions(steps=4, strength=0.5), keep)
    torch.testing.assert_close(with_details(knower, given, made, noise, share=1.0), start)
    torch.testing.assert_close(with_details(knower, given, made, noise, share=0.5), 0.5 * (start + blurred))
    assert with_details(knower, given, made, noise, share=0.0) is made
    assert with_details(knower, conditions(), made, noise, share=1.0) is made


def test_a_picture_is_placed_where_the_made_view_has_the_object():
    rgb, alpha = torch.zeros(3, 100, 100), torch.zeros(1, 100, 100)
    alpha[:, 10:90, 30:70] = 1
    rgb[0, 10:50] = 1
    rgb[1, 50:90] = 1
    front = to_signal(torch.zeros(3, 64, 64), torch.zeros(1, 64, 64))
    front[3, 16:48, 8:24] = 1  # half as high as the frame
    color, coverage = from_signal(place_picture(SourceImage(rgb, alpha), front, size=128))
    inside = coverage[0] > 0.5
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]) + 1) == (32, 96) and (int(columns[0]), int(columns[-1]) + 1) == (16, 48)
    assert color[0, 40, 32] > 0.95 and color[1, 90, 32] > 0.95, "the upper half is red, the lower green"


@pytest.fixture(scope="module")
def generator():
    return StarterGenerator(tiny_model(), weights="tiny")


def picture():
    alpha = torch.zeros(1, 32, 32)
    alpha[:, 4:28, 8:24] = 1
    return SourceImage(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)), alpha)


def test_it_is_a_generator_with_cameras_about_the_unit_ball(generator):
    assert isinstance(generator, MultiviewGenerator)
    views = generator.generate(ViewsRequest(prompt="a barrel", steps=2)).views
    assert views.rgb.shape == (5, 3, 256, 256) and views.alpha.shape == (5, 1, 256, 256)
    torch.testing.assert_close(views.cameras.c2w, generator.cameras.c2w)
    assert float(views.rgb.min()) >= 0 and float(views.rgb.max()) <= 1


def test_a_seed_says_what_is_made_and_candidates_do_not_change_each_other(generator):
    request = ViewsRequest(prompt="a barrel", steps=2, seed=3)
    one, again = generator.generate(request), generator.generate(request)
    assert torch.equal(one.views.rgb, again.views.rgb)
    other = generator.generate(dataclasses.replace(request, seed=4))
    assert not torch.equal(one.views.rgb, other.views.rgb)
    several = generator.generate(dataclasses.replace(request, candidates=3))
    assert several.facts["candidates"] == 3 and len(several.facts["scores"]) == 3
    assert several.facts["scores"][0] == one.facts["scores"][0]


def test_the_front_view_of_a_picture_is_the_picture(generator):
    made = generator.generate(ViewsRequest(image=picture(), steps=3, elevation=math.radians(20)))
    source, views = picture(), made.views
    box = lambda a: [int(x[0]) for x in (a.any(1).nonzero(), a.any(0).nonzero())]  # noqa: E731
    assert made.facts["elevation_deg"] == 20
    covered = views.alpha[0, 0] > 0.5
    ratio = covered.any(1).sum() / covered.any(0).sum()
    assert float(ratio) == pytest.approx(24 / 16, rel=0.1), box(covered)
    assert (
        float(
            (views.rgb[0] * covered)
            .sum((1, 2))
            .div(covered.sum())
            .sub(source.rgb[:, 4:28, 8:24].mean((1, 2)))
            .abs()
            .max()
        )
        < 0.05
    )


def test_the_elevation_of_a_picture_is_chosen_among_those_that_were_learned(generator):
    made = generator.generate(ViewsRequest(image=picture(), steps=2, candidates=3))
    assert made.facts["elevation_deg"] in (0.0, 15.0, 30.0)


def test_views_are_shown_while_they_are_made_and_it_stops_when_asked(generator):
    shown, token = [], CancelToken()

    def show(done, views):
        shown.append((done, views))
        if len(shown) == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        generator.generate(ViewsRequest(prompt="a barrel", steps=6), preview=show, cancel=token)
    assert [round(done, 2) for done, _ in shown] == [0.17, 0.33] and shown[0][1].num_views == 5


def test_words_that_it_does_not_know_are_named(generator):
    made = generator.generate(ViewsRequest(prompt="a red teapot", steps=1))
    assert len(made.warnings) == 1 and "teapot" in made.warnings[0] and "red" not in made.warnings[0]
    foreign = generator.generate(ViewsRequest(prompt="樽", steps=1))
    assert "Latin" in foreign.warnings[0]
    assert generator.generate(ViewsRequest(prompt="a red barrel", steps=1)).warnings == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": " "}, "no prompt, no image"),
        ({"candidates": 0}, "candidates is 0"),
        ({"candidates": 99}, "candidates is 99"),
        ({"steps": 0}, "steps is 0"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"elevation": math.pi / 2, "image": picture()}, "elevation is 90"),
    ],
)
def test_what_cannot_be_asked_for_is_named(generator, changes, said):
    with pytest.raises(InvalidInput, match=said):
        generator.generate(ViewsRequest(**{"prompt": "a barrel", **changes}))


def test_a_start_of_other_views_is_refused(generator):
    views = PosedViews(torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16), rig_cameras(size=16)[[0, 1]])
    with pytest.raises(InvalidInput, match="start has 2 views"):
        generator.generate(ViewsRequest(prompt="a barrel", start=views))


def test_finished_views_end_before_the_frame(generator):
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 30:33] = 1.0  # a plank from one border to the other
    wide = SourceImage(torch.full((3, 64, 64), 0.5), alpha)
    views = generator.generate(ViewsRequest(image=wide, steps=2, elevation=0.0)).views
    border = torch.ones_like(views.alpha[0, 0], dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert float(views.alpha[:, 0, border].max()) == 0.0  # or it would go on for ever beside the pictures
