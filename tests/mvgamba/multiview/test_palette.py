"""Colours of views that nobody has described, and their new paint."""

import torch

from mvgamba.multiview.memory import Recollection, load_memory
from mvgamba.multiview.palette import described


def views_of(upper, lower):
    views = torch.zeros(5, 4, 64, 64)
    views[:, 3, 8:56, 16:48] = 1
    views[:, :3, 8:44, 16:48] = torch.tensor(upper)[:, None, None]
    views[:, :3, 44:56, 16:48] = torch.tensor(lower)[:, None, None]
    return views


def test_main_colours_are_named_with_their_shares():
    thing = described(views_of((0.8, 0.1, 0.1), (0.5, 0.52, 0.55)), load_memory().paints)
    assert thing.color_names.tolist() == ["red", "grey"]
    assert abs(float(thing.color_shares[0]) - 0.75) < 0.01


def test_a_thing_that_nobody_described_is_painted_as_the_prompt_says():
    memory, views = load_memory(), views_of((0.8, 0.1, 0.1), (0.5, 0.52, 0.55))
    thing = described(views, memory.paints)
    painted = memory.repaint(Recollection(views, thing, 1.0), "a green barrel")
    upper, lower = painted[0, :3, 20, 32], painted[0, :3, 50, 32]
    assert float(upper[1]) > float(upper[0]) + 0.1, "green"
    assert torch.allclose(lower, torch.tensor([0.5, 0.52, 0.55]), atol=0.05), "the rest stays"
    assert torch.equal(memory.repaint(Recollection(views, thing, 1.0), "a barrel"), views)


def test_nothing_has_no_colours():
    thing = described(torch.zeros(5, 4, 16, 16), load_memory().paints)
    assert len(thing.color_names) == 0
    views = torch.zeros(5, 4, 16, 16)
    assert torch.equal(load_memory().repaint(Recollection(views, thing, 1.0), "a red barrel"), views)
