import numpy as np
import pytest

from mvgamba.texturing.packing import pack


@pytest.mark.parametrize("count,edge,padding", [(1, 64, 2), (40, 256, 2), (300, 256, 1)])
def test_boxes_stay_apart_and_inside(count, edge, padding):
    sizes = np.random.default_rng(count).uniform(0.01, 1.0, (count, 2)) ** 2
    scale, corners = pack(sizes, edge, padding=padding)
    taken = np.zeros((edge, edge), int)
    for (x, y), (width, height) in zip(corners, np.ceil(sizes * scale).astype(int)):
        assert x >= padding and y >= padding and x + width <= edge - padding and y + height <= edge - padding
        taken[y : y + height, x : x + width] += 1
        around = taken[y - padding : y + height + padding, x - padding : x + width + padding]
        assert around.sum() == width * height  # nothing else within the padding
    assert taken.max() == 1


def test_boxes_fill_most_of_the_square():
    sizes = np.random.default_rng(0).uniform(0.2, 1.0, (120, 2))
    sizes = np.sort(sizes, axis=1)[:, ::-1]  # lying, as `unwrap` turns them
    scale, _ = pack(sizes, 1024, padding=1)
    assert (sizes * scale).prod(axis=1).sum() > 0.75 * 1024**2


def test_more_boxes_than_texels_are_refused():
    assert pack(np.ones((300, 2)), 16, padding=0) is None
    assert pack(np.ones((1, 2)), 4, padding=2) is None
