"""Objects on plain backgrounds are cut out."""

import pytest
import torch

from mvgamba.errors import Unavailable
from mvgamba.multiview.mvdream.plain_background import cut_out
from mvgamba.multiview.rembg_background import why_no_rembg

SIZE = 48


def disc(radius=14.0):
    """Coverage of a disc with an edge one pixel wide."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    return (radius - torch.hypot(x - SIZE / 2, y - SIZE / 2) + 0.5).clamp(0, 1)[None]


def over(color, ground, alpha=None):
    alpha = disc() if alpha is None else alpha
    return (torch.tensor(color)[:, None, None] * alpha + ground * (1 - alpha))[None].float()


@pytest.mark.parametrize("grey", [1.0, 0.5, 0.0])
def test_a_disc_on_grey_keeps_its_outline_and_its_colour(grey):
    picture = over([0.8, 0.2, 0.3], grey) + 0.004 * torch.randn(
        1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)
    )
    rgb, alpha = cut_out(picture.clamp(0, 1), method="border")
    assert float(((alpha[0] > 0.5) != (disc() > 0.5)).float().mean()) < 0.03
    inside = (alpha[0, 0] > 0.5).expand(3, -1, -1)
    wanted = torch.tensor([0.8, 0.2, 0.3])[:, None, None].expand(3, SIZE, SIZE)
    torch.testing.assert_close(rgb[0][inside], wanted[inside], atol=0.12, rtol=0)
    assert float(alpha[0, 0, 0, 0]) == 0.0


def test_a_background_that_gets_darker_downwards_is_one_background():
    slope = torch.linspace(0.95, 0.80, SIZE)[None, :, None].expand(3, SIZE, SIZE)
    _, alpha = cut_out(over([0.1, 0.4, 0.7], slope), method="border")
    assert float(((alpha[0] > 0.5) != (disc() > 0.5)).float().mean()) < 0.03


def test_a_white_spot_on_the_object_is_no_hole_and_a_speck_is_no_object():
    picture = over([0.2, 0.3, 0.8], 1.0)
    picture[..., 22:26, 22:26] = 1.0
    picture[..., 2, 2] = 0.0
    _, alpha = cut_out(picture, method="border")
    assert bool((alpha[..., 22:26, 22:26] == 1).all())
    assert float(alpha[..., 2, 2].max()) == 0.0


def test_an_empty_picture_has_no_object():
    assert float(cut_out(torch.full((2, 3, SIZE, SIZE), 0.6), method="border")[1].max()) == 0.0


def test_rembg_by_name_says_what_is_missing():
    if why_no_rembg() is None:
        pytest.skip("rembg and a model are installed here")
    with pytest.raises(Unavailable, match="rembg"):
        cut_out(over([0.8, 0.2, 0.3], 1.0), method="rembg")
