"""What objects of an outline usually look like, by the memory that comes with the package."""

import pytest
import torch

from mvgamba.multiview.memory import load_memory
from mvgamba.multiview.resembling import SETS, Resembling, adapted, completed
from mvgamba.multiview.starter_network import from_signal, to_signal
from mvgamba.types import SourceImage


@pytest.fixture(scope="module")
def memory():
    return load_memory()


@pytest.fixture(scope="module")
def resembling(memory):
    return Resembling(memory)


def overlap(one, other):
    a, b = one[:, 3] > 0, other[:, 3] > 0
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp_min(1)


def test_a_picture_of_a_remembered_object_brings_back_that_object(memory, resembling):
    names = [o.name for o in memory.objects]
    scores, distances = [], []
    for index in range(5, len(names), 71):
        views = memory.views(index)
        found = resembling(SourceImage(views[0, :3], views[0, 3:]))
        distances.append(found.distance)
        scores.append(overlap(found.signals, to_signal(views[:, :3], views[:, 3:])))
    assert sorted(distances)[len(distances) // 2] < 0.02
    assert float(torch.stack(scores).mean()) > 0.75


def test_sets_are_turned_as_the_object_is(memory, resembling):
    # the set with the left in front shows what stood in front on its right
    index = 40
    plain, turned = resembling._views(index, 0), resembling._views(index, 1)
    assert torch.equal(turned[0], plain[3]) and torch.equal(turned[1], plain[0]) and torch.equal(turned[2], plain[1])
    mirrored = resembling._views(index, 2)
    assert torch.equal(mirrored[0], plain[0].flip(-1)) and torch.equal(mirrored[1], plain[3].flip(-1))
    assert len(SETS) == 4


def test_the_picture_is_in_front_and_its_outline_behind(memory):
    views = memory.views(3)
    image = SourceImage(views[0, :3], views[0, 3:])
    done = completed(to_signal(views[:, :3], views[:, 3:]), image)
    _, alpha = from_signal(done)
    assert torch.equal(alpha[2], alpha[0].flip(-1))
    assert float((alpha[0] - views[0, 3:]).abs().mean()) < 0.01


def test_views_take_the_proportions_and_the_colours_of_the_picture():
    def block(rows, columns, color):
        alpha = torch.zeros(1, 64, 64)
        alpha[:, slice(*rows), slice(*columns)] = 1
        return to_signal(torch.tensor(color)[:, None, None].expand(3, 64, 64), alpha)

    cube = torch.stack([block((20, 44), (20, 44), (0.8, 0.1, 0.1))] * 5)
    wide = block((26, 38), (14, 50), (0.1, 0.2, 0.9))
    made = adapted(cube, wide)
    rgb, alpha = from_signal(made)
    covered = alpha[:, 0] > 0.5
    height, width = covered[0].any(1).sum(), covered[0].any(0).sum()
    assert float(width / height) == pytest.approx(1.6, rel=0.1), "as far as a stretch goes"
    assert float(covered[1].any(0).sum() / covered[1].any(1).sum()) == pytest.approx(1.0, rel=0.1), "the depth is kept"
    assert torch.allclose(rgb[0][:, 32, 32], torch.tensor([0.1, 0.2, 0.9]), atol=0.05)


def test_a_picture_of_nothing_that_is_remembered_still_gives_five_views(resembling):
    alpha = torch.zeros(1, 90, 90)
    alpha[:, 10:80, 44:46] = 1
    found = resembling(SourceImage(torch.rand(3, 90, 90), alpha))
    assert found.signals.shape == (5, 4, 64, 64) and bool(torch.isfinite(found.signals).all())
