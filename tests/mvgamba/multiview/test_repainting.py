"""Other colours."""

from types import SimpleNamespace

import numpy as np
import torch

from mvgamba.multiview.repainting import Colored, paints, recolored_caption, repainted

BROWN, GREY, RED = [0.6, 0.4, 0.2], [0.5, 0.5, 0.5], [0.8, 0.1, 0.1]


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
    other = repainted(rgb, barrel, torch.tensor(RED), which=1)[0, :, :, 0].T
    assert torch.allclose(other[1], torch.tensor(RED), atol=0.03)
    assert torch.allclose(other[0], torch.tensor(BROWN), atol=0.03)


def test_paints_are_the_main_colours_of_all():
    found = paints([thing(), thing()])
    assert set(found) == {"brown"} and found["brown"].shape == (1, 3)  # grey is too small a share


def test_a_caption_gets_the_colour_and_its_article():
    assert recolored_caption("a wooden barrel", "brown", "red") == "a red wooden barrel"
    assert recolored_caption("a red banner", "red", "orange") == "an orange banner"
    assert recolored_caption("cherries", "red", "blue") == "blue cherries"
