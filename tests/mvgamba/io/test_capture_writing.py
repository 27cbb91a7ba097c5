"""What is written is read again."""

import dataclasses

import pytest
import torch

from mvgamba.errors import OutputFailed
from mvgamba.io.capture_writing import write_captures
from mvgamba.io.captures import read_captures
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.types import PosedViews


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    cameras = rig_cameras(0.3, size=24)
    alpha = torch.ones(5, 1, 24, 24)
    alpha[:, :, :6] = 0
    rgb = (torch.rand(5, 3, 24, 24, generator=generator) * 255).round() / 255
    return PosedViews(rgb, alpha, cameras)


def test_written_views_are_read_as_they_were(views, tmp_path):
    paths = write_captures(views, tmp_path / "views")
    assert [p.name for p in paths] == ["front.png", "right.png", "back.png", "left.png", "above.png"]
    again = read_captures(tmp_path / "views")
    torch.testing.assert_close(again.rgb, views.rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.alpha, views.alpha)
    torch.testing.assert_close(again.cameras.c2w, views.cameras.c2w)
    torch.testing.assert_close(again.cameras.intrinsics, views.cameras.intrinsics)


def test_many_views_are_numbered(views, tmp_path):
    cameras = views.cameras[[0, 1, 2, 3, 4, 0, 1]]
    many = PosedViews(views.rgb[[0, 1, 2, 3, 4, 0, 1]], views.alpha[[0, 1, 2, 3, 4, 0, 1]], cameras)
    assert write_captures(many, tmp_path / "views")[6].name == "006.png"


def test_captures_that_are_there_are_not_overwritten(views, tmp_path):
    write_captures(views, tmp_path)
    with pytest.raises(OutputFailed, match="holds captures already"):
        write_captures(views, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="cannot be written"):
        write_captures(dataclasses.replace(views), tmp_path / "file" / "below")
