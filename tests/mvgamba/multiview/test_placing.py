"""Boxes, windows and pictures in their place."""

import pytest
import torch

from mvgamba.multiview.placing import (
    boxes,
    centered,
    place_picture,
    place_side,
    sampled,
    with_outlines_of_front,
)
from mvgamba.multiview.starter_network import from_signal, to_signal
from mvgamba.types import SourceImage


def block(*, rows, columns, size=64, color=(1.0, 0.0, 0.0)):
    alpha = torch.zeros(1, size, size)
    alpha[:, slice(*rows), slice(*columns)] = 1
    return to_signal(torch.tensor(color)[:, None, None].expand(3, size, size), alpha)


def test_boxes_are_in_pixels_and_the_frame_where_nothing_is():
    covered = torch.zeros(2, 10, 20, dtype=torch.bool)
    covered[0, 3:7, 5:16] = True
    low, high = boxes(covered)
    assert low.tolist() == [[5, 3], [0, 0]] and high.tolist() == [[16, 7], [20, 10]]


def test_a_window_of_the_whole_frame_changes_nothing():
    signal = block(rows=(8, 30), columns=(20, 60))
    same = sampled(signal[None], torch.tensor([[32.0, 32.0]]), torch.tensor([[64.0, 64.0]]), size=64)
    torch.testing.assert_close(same[0], signal, atol=1e-5, rtol=0)


def test_outside_the_frame_is_nothing():
    full = to_signal(torch.ones(3, 16, 16), torch.ones(1, 16, 16))
    wide = sampled(full[None], torch.tensor([[8.0, 8.0]]), torch.tensor([[32.0, 32.0]]), size=16)
    _, alpha = from_signal(wide[0])
    assert bool((alpha[0, :3] == 0).all()) and bool((alpha[0, 5:11, 5:11] == 1).all())


@pytest.mark.parametrize(("rows", "columns"), [((8, 30), (20, 60)), ((0, 64), (30, 34)), ((40, 60), (1, 9))])
def test_a_centred_object_fills_four_fifths(rows, columns):
    low, high = boxes(centered(block(rows=rows, columns=columns)[None], size=80)[:, 3] > 0)
    assert float((high - low).max()) == pytest.approx(64, abs=1.5)
    assert torch.allclose((low + high) / 2, torch.full((1, 2), 40.0), atol=1)


def test_nothing_centred_is_nothing():
    empty = to_signal(torch.zeros(3, 20, 20), torch.zeros(1, 20, 20))
    assert torch.equal(centered(empty[None], size=20)[0], empty)


def test_a_large_picture_is_averaged_not_picked_from():
    size = 512
    stripes = torch.zeros(3, size, size)
    stripes[0, :, ::2] = 1
    front = block(rows=(16, 48), columns=(16, 48))
    color, alpha = from_signal(place_picture(SourceImage(stripes, torch.ones(1, size, size)), front, size=64))
    inside = color[0, 20:44, 20:44]
    assert float((inside - 0.5).abs().max()) < 0.05 and bool((alpha[0, 20:44, 20:44] == 1).all())


def test_the_picture_of_a_side_stands_as_high_as_that_of_the_front():
    def picture(rows, columns):
        alpha = torch.zeros(1, 128, 128)
        alpha[:, slice(*rows), slice(*columns)] = 1
        return SourceImage(torch.ones(3, 128, 128), alpha)

    front_image, side_image = picture((14, 114), (34, 94)), picture((14, 114), (54, 74))
    front, made = block(rows=(12, 52), columns=(20, 44)), block(rows=(15, 49), columns=(36, 48))
    _, alpha = from_signal(place_side(side_image, made, front_image, front, size=64))
    low, high = boxes(alpha > 0.5)
    assert low[0, 1] == pytest.approx(12, abs=1) and high[0, 1] == pytest.approx(52, abs=1), "as high as the front"
    assert float(low[0, 0] + high[0, 0]) / 2 == pytest.approx(42, abs=1), "where the made side has it"
    assert float(high[0, 0] - low[0, 0]) == pytest.approx(8, abs=1.5), "of its own width"


def views_of_blocks(*blocks):
    rgb, alpha = from_signal(
        torch.stack([block(rows=rows, columns=columns, color=color) for rows, columns, color in blocks])
    )
    return rgb, alpha


def test_level_sides_are_as_high_as_the_front():
    rgb, alpha = views_of_blocks(
        ((30, 34), (4, 60), (1.0, 0.0, 0.0)),
        ((34, 40), (20, 44), (0.0, 1.0, 0.0)),
        ((30, 34), (4, 60), (0.0, 0.0, 1.0)),
    )
    _, after = with_outlines_of_front(rgb, alpha, sides=[1], back=None)
    low, high = boxes(after[:, 0] > 0.5)
    assert (low[1, 1], high[1, 1]) == (30, 34)  # or rows of a thin thing would miss each other
    assert (low[1, 0], high[1, 0]) == (20, 44)  # its depth is its own
    assert torch.equal(after[2], alpha[2])


def test_the_back_has_the_outline_of_the_front_turned_over_and_its_own_colours():
    rgb, alpha = views_of_blocks(((10, 50), (4, 30), (1.0, 0.0, 0.0)), ((10, 50), (36, 58), (0.0, 0.0, 1.0)))
    colors, after = with_outlines_of_front(rgb, alpha, sides=[], back=1)
    assert torch.equal(after[1], alpha[0].flip(-1))
    assert colors[1, :, 30, 40].tolist() == [0.0, 0.0, 1.0]
    assert colors[1, :, 30, 59].tolist() == [1.0, 0.0, 0.0]  # nothing was made there: what the front has


def test_a_side_of_another_height_altogether_is_left_alone():
    rgb, alpha = views_of_blocks(((4, 60), (4, 60), (1.0, 0.0, 0.0)), ((30, 36), (4, 60), (1.0, 0.0, 0.0)))
    _, after = with_outlines_of_front(rgb, alpha, sides=[1], back=None)
    assert torch.equal(after, alpha)
