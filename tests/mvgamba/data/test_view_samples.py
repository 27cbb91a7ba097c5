"""Samples of the MVGamba network: photographs in the frame of the first camera, the same after reading."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mvgamba.cameras import project
from mvgamba.data import GlbFolder
from mvgamba.data.shards import read_shards, write_shards
from mvgamba.data.sources import TrainingViews, ring_cameras
from mvgamba.data.view_samples import NUM_OTHERS, make_view_sample, read_view_shards, write_view_shards
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.types import Cameras
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"), 2))


class Tilted:
    """The same objects from rings that do not stand level; photographs alone where it cannot draw."""

    def __init__(self, folder, *, draws=True, others=5, size_of_others=None):
        self.folder, self.draws, self.others, self.size_of_others = folder, draws, others, size_of_others

    @property
    def names(self):
        return self.folder.names

    def views(self, index, variant, *, size):
        drawable = read_drawable(self.folder.folder / self.names[index])
        taken = self.folder.views(index, variant, size=size)
        inputs = taken.draw(ring_cameras(drawable, 0.7, size=size, tilts=(0.5, 0.2, 0.5, -0.2)))
        if self.draws:
            return TrainingViews(inputs, draw=taken.draw)
        more = ring_cameras(drawable, 0.3, size=self.size_of_others or size, tilts=(0.3,) * self.others)
        return TrainingViews(inputs, others=taken.draw(more))


@pytest.mark.parametrize("draws", [True, False])
def test_the_first_camera_is_the_identity_whatever_its_elevation(source, draws):
    tilted = Tilted(source, draws=draws)
    sample = make_view_sample(tilted, 1, 0, size=32)
    assert (sample.num_given, sample.num_others) == (4, NUM_OTHERS if draws else 5)
    expected = np.eye(4, dtype=np.float32)
    expected[2, 3] = 1.5
    assert np.allclose(sample.c2w[0], expected, atol=1e-6)
    # all cameras were turned, moved and scaled together
    world = tilted.views(1, 0, size=32).inputs.cameras.c2w.numpy()
    local = sample.c2w[:4].astype(np.float64)
    ratios = [
        np.linalg.norm(local[i, :3, 3] - local[j, :3, 3]) / np.linalg.norm(world[i, :3, 3] - world[j, :3, 3])
        for i in range(4)
        for j in range(i)
    ]
    assert np.ptp(ratios) < 1e-5
    relative = [world[0, :3, :3].T @ pose[:3, :3] for pose in world]
    assert np.allclose(local[:, :3, :3], relative, atol=1e-6)


def test_every_view_sees_the_object_where_the_others_say_it_is(source):
    sample = make_view_sample(Tilted(source), 0, 1, size=64)
    views = sample.views(list(range(len(sample.rgb))))
    # points that the first view's neighbours agree to lie inside must lie inside everywhere
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.6, 0.6, 25)] * 3, indexing="ij"), -1).reshape(-1, 3)
    pixels, depth = project(grid, views.cameras)
    at = pixels.long().clamp(0, 63)
    inside = torch.stack([views.alpha[v, 0][at[v, :, 1], at[v, :, 0]] > 0.5 for v in range(views.num_views)])
    assert (depth > 0).all() and views.num_views == 16
    hull_of_inputs, hull_of_all = inside[:4].all(0).sum(), inside.all(0).sum()
    assert hull_of_all > 0.55 * hull_of_inputs > 100  # a wrong frame leaves next to nothing


def test_shards_of_photographs_come_back_and_are_not_mixed_up(source, tmp_path):
    made = write_view_shards(source, tmp_path / "views", variants=1, size=32)
    assert made.written == 2 and not made.skipped
    samples = read_view_shards(tmp_path / "views")
    fresh = make_view_sample(source, 1, 0, size=32).arrays()
    assert all(np.array_equal(fresh[name], value) for name, value in samples[1].arrays().items())
    with pytest.raises(InvalidInput, match="holds shards of views, and rays are needed"):
        read_shards(tmp_path / "views")
    with pytest.raises(InvalidInput, match="another corpus or size, or for another model"):
        write_shards(source, tmp_path / "views", variants=1, size=32)
    header = tmp_path / "views" / "index.json"
    header.write_text(json.dumps({k: v for k, v in json.loads(header.read_text()).items() if k != "kind"}))
    with pytest.raises(InvalidInput, match="holds shards of rays, and views are needed"):
        read_view_shards(tmp_path / "views")  # those of rays do not name their kind


def test_photographs_of_another_size_are_refused_by_name(source):
    with pytest.raises(InvalidInput, match="object_0.glb comes in views of .* all must be 32 x 32"):
        make_view_sample(Tilted(source, draws=False, size_of_others=48), 0, 0, size=32)


def test_given_views_are_the_source_in_eight_bits(source):
    sample = make_view_sample(source, 0, 1, size=32)
    taken = source.views(0, 1, size=32).inputs
    views = sample.views([0, 1, 2, 3])
    assert (views.rgb - taken.rgb).abs().max() <= 0.5 / 255 + 1e-6
    assert (views.alpha - taken.alpha).abs().max() <= 0.5 / 255 + 1e-6
    assert isinstance(views.cameras, Cameras) and dataclasses.is_dataclass(sample)
