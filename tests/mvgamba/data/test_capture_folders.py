"""Captures as a source: world, cameras and pictures as they were taken, only what is needed is read."""

import numpy as np
import pytest
import torch

from mvgamba.cameras import fibonacci_cameras, project
from mvgamba.data import Source
from mvgamba.data.capture_folders import CaptureFolders
from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.io.captures import read_captures
from tests.mvgamba.conftest import BOX_CENTER, BOX_HALF, box, photograph, write_capture
from tests.mvgamba.data.layouts import assert_pictures_show, drawn_number


@pytest.fixture
def captures(tmp_path, box_views):
    write_capture(tmp_path / "b_box", box_views)
    (tmp_path / "notes").mkdir()
    write_capture(tmp_path / "a_small", box_views)
    return tmp_path


def test_cameras_and_pictures_are_those_that_were_taken(captures, box_views):
    source = CaptureFolders(captures)
    assert isinstance(source, Source) and source.names == ["a_small", "b_box"]
    taken = source.views(1, 4, size=96)
    assert taken.draw is None
    corners = box(BOX_CENTER, BOX_HALF)[0].numpy()
    for part, count in ((taken.inputs, 4), (taken.others, 6)):
        assert part.num_views == count
        for i in range(count):
            number = drawn_number(part.cameras.c2w[i], box_views)
            torch.testing.assert_close(part.alpha[i], box_views.alpha[number], atol=0.003, rtol=0)
        assert_pictures_show(part, corners)
    again = source.views(1, 4, size=96)
    assert torch.equal(taken.others.rgb, again.others.rgb)
    small = source.views(1, 4, size=24)
    assert small.inputs.rgb.shape == (4, 3, 24, 24)
    torch.testing.assert_close(small.inputs.alpha, torch.nn.functional.avg_pool2d(taken.inputs.alpha, 4))


def test_photographs_that_are_not_square_get_margins(tmp_path, box_views):
    cameras = fibonacci_cameras(10, radius=3.0, fovy=0.9, height=60, width=90)
    cameras.c2w[:, :3, 3] += BOX_CENTER
    write_capture(tmp_path / "wide", photograph(*box(BOX_CENTER, BOX_HALF), cameras))
    taken = CaptureFolders(tmp_path).views(0, 0, size=90)
    assert_pictures_show(taken.inputs, box(BOX_CENTER, BOX_HALF)[0].numpy())
    center = project(BOX_CENTER[None], taken.inputs.cameras)[0]
    torch.testing.assert_close(center, torch.full_like(center, 45.0))


def test_only_chosen_frames_are_read_in_the_order_of_the_choice(captures, box_views):
    for i in range(20):
        if i not in (3, 17):
            (captures / "b_box" / f"{i}.png").unlink()
    some = read_captures(captures / "b_box", choose=lambda c2w: [17, 3] if len(c2w) == 20 else [])
    assert [drawn_number(c, box_views) for c in some.cameras.c2w] == [17, 3]
    np.testing.assert_allclose(some.alpha[1], box_views.alpha[3], atol=0.003)


def test_what_is_missing_is_named(captures):
    for i in range(20):
        (captures / "b_box" / f"{i}.png").unlink()
    with pytest.raises(InvalidImage, match=r"b_box/\d+\.png does not exist"):
        CaptureFolders(captures).views(1, 0, size=48)
    with pytest.raises(InvalidInput, match="b_box has 20 views; 4 inputs and 20 others need 24"):
        CaptureFolders(captures, num_others=20).views(1, 0, size=48)
    with pytest.raises(InvalidInput, match="holds no captures"):
        _ = CaptureFolders(captures / "notes").names
