"""Other colours."""

from types import SimpleNamespace

import numpy as np
import torch

from mvgamba.multiview.repainting import Colored, paints, recolored, recolored_caption, repainted

BROWN, GREY, RED = [0.6, 0.4, 0.2], [0.5, 0.5, 0.5], [0.8, 0.1, 0.1]
BLUE, DARK = [0.2, 0.3, 0.8], [0.3, 0.2, 0.1]


def thing() -> SimpleNamespace:
    return SimpleNamespace(
        color_names=np.array(["brown", "grey"]),
        color_rgb=np.array([BROWN, GREY], np.float32),
        color_shares=np.array([0.9, 0.1], np.float32),
    )


def test_the_main_colour_becomes_another_with_its_shades_and_the_rest_stays():
    barrel = thing()
    assert isinstance(barrel, Colored)
    colors = torch.tensor([BROWN, GREY, [0.55, 0.35, 0.15], [0.65, 0.45, 0.25]])
    rgb = colors.T[None, :, :, None].expand(1, 3, 4, 4).contiguous()
    new = repainted(rgb, barrel, torch.tensor(RED))[0, :, :, 0].T
    assert torch.allclose(new[0], torch.tensor(RED), atol=0.03)
    assert torch.allclose(new[1], torch.tensor(GREY), atol=0.03)
    assert new[2].mean() < new[0].mean() < new[3].mean()


def views_of(rows: list[list[float]]) -> torch.Tensor:
    """One column of pixels for each colour."""
    rgb = torch.tensor(rows).T[None, :, None].expand(1, 3, len(rows), len(rows))
    return torch.cat([rgb, torch.ones(1, 1, len(rows), len(rows))], 1)


def test_any_of_the_colours_can_be_replaced_and_two_at_once_do_not_disturb_each_other():
    rows = [BROWN, GREY, [0.55, 0.35, 0.15], [0.5, 0.3, 0.1], *[BROWN] * 8]
    views = views_of(rows)
    one = recolored(views, thing(), {1: torch.tensor(RED)})[0, :3, 0].T
    assert torch.allclose(one[1], torch.tensor(RED), atol=0.03) and torch.allclose(
        one[0], torch.tensor(BROWN), atol=0.03
    )
    both = recolored(views, thing(), {0: torch.tensor(BLUE), 1: torch.tensor(RED)})[0, :3, 0].T
    assert torch.allclose(both[0], torch.tensor(BLUE), atol=0.03) and torch.allclose(
        both[1], torch.tensor(RED), atol=0.03
    )
    assert both[3].mean() < both[2].mean() < both[0].mean()
    assert recolored(views, thing(), {}) is views


def test_a_body_that_runs_from_one_colour_into_another_is_repainted_as_one():
    share = torch.linspace(0, 1, 24)[:, None]
    runs = views_of((share * torch.tensor(BROWN) + (1 - share) * torch.tensor(DARK)).tolist())
    parts = views_of([BROWN] * 12 + [DARK] * 12)
    blue = torch.tensor(BLUE)
    wooden = SimpleNamespace(**vars(thing()) | {"color_rgb": np.array([BROWN, DARK], np.float32)})

    def is_blue(views: torch.Tensor) -> float:
        rgb = recolored(views, wooden, {0: blue})[0, :3, 0].T
        return float((rgb[:, 2] > 1.5 * rgb[:, 0]).float().mean())

    assert is_blue(runs) == 1 and is_blue(parts) == 0.5
    cream = SimpleNamespace(
        **vars(thing()) | {"color_rgb": np.array([[0.9, 0.8, 0.7], [0.88, 0.88, 0.88]], np.float32)}
    )
    share = torch.linspace(0, 1, 24)[:, None]
    skull = views_of(
        (share * torch.from_numpy(cream.color_rgb[0]) + (1 - share) * torch.from_numpy(cream.color_rgb[1])).tolist()
    )
    bones = recolored(skull, cream, {0: blue})[0, :3, 0].T
    assert bool((bones[:, 2] > 1.5 * bones[:, 0]).all())
    # grey metal does not run over into wood, however many pixels lie between
    share = torch.linspace(0, 1, 24)[:, None]
    mixed = views_of((share * torch.tensor(BROWN) + (1 - share) * torch.tensor(GREY)).tolist())
    kept = recolored(mixed, thing(), {0: blue})[0, :3, 0].T
    assert torch.allclose(kept[0], torch.tensor(GREY), atol=0.03)


def test_paints_are_the_main_colours_of_all():
    found = paints([thing(), thing()])
    assert set(found) == {"brown"} and found["brown"].shape == (1, 3)  # grey is too small a share


def test_a_caption_gets_the_colour_and_its_article():
    assert recolored_caption("a wooden barrel", "brown", "red") == "a red wooden barrel"
    assert recolored_caption("a red banner", "red", "orange") == "an orange banner"
    assert recolored_caption("cherries", "red", "blue") == "blue cherries"
