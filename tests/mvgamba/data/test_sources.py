"""Where photographs for training come from."""

import math

import numpy as np
import pytest
import torch

from mvgamba.cameras import project
from mvgamba.data import GlbFolder
from mvgamba.data.sources import ring_cameras
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import read_drawable
from tests.mvgamba.data.objects import write_corpus


def test_a_folder_gives_its_objects_in_order_and_the_same_each_time(tmp_path):
    source = GlbFolder(write_corpus(tmp_path))
    assert source.names == ["object_0.glb", "object_1.glb", "object_2.glb"]
    first, again = source.views(1, 3, size=32).inputs, source.views(1, 3, size=32).inputs
    assert torch.equal(first.rgb, again.rgb) and torch.equal(first.cameras.c2w, again.cameras.c2w)
    other = source.views(1, 1, size=32).inputs
    assert not torch.allclose(first.cameras.c2w, other.cameras.c2w)


def test_the_ring_is_level_and_centred_on_the_object(tmp_path):
    drawable = read_drawable(GlbFolder(write_corpus(tmp_path)).folder / "object_2.glb")
    cameras = ring_cameras(drawable, 0.4, size=64)
    center = torch.from_numpy(drawable.center)
    pixels, _ = project(center[None].float(), cameras)
    assert torch.allclose(pixels, torch.full_like(pixels, 32.0), atol=1e-3)
    away = cameras.c2w[:, :3, 3] - center
    assert torch.allclose(away[:, 1], torch.zeros(4, dtype=torch.float64), atol=1e-9)
    turns = torch.atan2(away[:, 0], away[:, 2])
    assert turns[0].item() == pytest.approx(0.4)
    assert (turns[1] - turns[0]).item() == pytest.approx(math.pi / 2)


def test_variant_0_stands_as_the_file_has_it(tmp_path):
    views = GlbFolder(write_corpus(tmp_path)).views(0, 0, size=32)
    position = views.inputs.cameras.c2w[0, :3, 3]
    drawable = read_drawable(tmp_path / "object_0.glb")
    assert np.allclose(position[0], drawable.center[0]) and position[2] > 0
    assert views.inputs.depth is not None
    covered = views.inputs.alpha[0, 0] > 0.99
    assert 0.05 < covered.float().mean() < 0.9
    assert (views.inputs.depth[0, 0][covered] > 0).float().mean() > 0.99


def test_an_empty_folder_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="holds no .glb files"):
        _ = GlbFolder(tmp_path).names
    (tmp_path / "broken.glb").write_bytes(b"glTF")
    with pytest.raises(InvalidInput, match="broken.glb"):
        GlbFolder(tmp_path).views(0, 0, size=32)
