"""Variants of a corpus: other shapes, other rigs, and the truth always that of what is seen."""

import math

import numpy as np
import pytest
import torch

from mvgamba.cameras import project
from mvgamba.data import GlbFolder
from mvgamba.data.samples import make_sample
from mvgamba.data.sources import read_solid
from mvgamba.data.variation import MISPLACED_BY, VariedGlbs, put_together, random_rig, stretched
from mvgamba.evaluation.photograph import photograph
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return VariedGlbs(GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"))))


def test_a_variant_is_the_same_each_time_and_others_differ(source):
    first, again, other = (source.views(1, v, size=24).inputs for v in (3, 3, 4))
    assert torch.equal(first.rgb, again.rgb) and torch.equal(first.cameras.c2w, again.cameras.c2w)
    assert first.cameras.c2w.shape != other.cameras.c2w.shape or not torch.equal(first.cameras.c2w, other.cameras.c2w)
    later = VariedGlbs(source.folder, first=3).views(1, 0, size=24).inputs
    assert torch.equal(later.rgb, first.rgb)


def test_rigs_have_two_to_eight_views_and_keep_the_object_in_the_frame(source):
    drawable = read_solid(source.folder.folder / "object_1.glb")
    counts = set()
    for seed in range(60):
        rig = random_rig(np.random.default_rng(seed))
        counts.add(len(rig.angles))
        cameras = rig.cameras(drawable, size=32)
        pixels, depth = project(torch.from_numpy(drawable.vertices).float(), cameras)
        assert (pixels > 0).all() and (pixels < 32).all() and (depth > 0).all()
    assert counts == {2, 3, 4, 5, 6, 8}


def test_a_stretch_keeps_the_middle(source):
    drawable = read_solid(source.folder.folder / "object_0.glb")
    wide = stretched(drawable, np.array([2.0, 1.0, 0.5]))
    (low, high), (low2, high2) = drawable.bounds, wide.bounds
    np.testing.assert_allclose(high2 - low2, (high - low) * [2.0, 1.0, 0.5])
    np.testing.assert_allclose(wide.center, drawable.center)


@pytest.mark.parametrize("seed", range(4))
def test_two_things_touch_and_keep_their_colours(source, seed):
    first, second = (read_solid(source.folder.folder / f"object_{i}.glb") for i in (0, 2))
    both = put_together(first, second, np.random.default_rng(seed))
    count = len(first.vertices)
    np.testing.assert_array_equal(both.vertices[:count], first.vertices)
    moved = both.vertices[count:]
    # boxes meet along one axis and overlap by the small step that makes them touch
    gaps = np.maximum(moved.min(0) - first.bounds[1], first.bounds[0] - moved.max(0))
    assert gaps.max() == pytest.approx(-0.02 * first.radius, abs=1e-6)
    cameras = random_rig(np.random.default_rng(1)).cameras(both, size=48)
    seen = photograph(both, cameras, samples=1)
    alone = photograph(first, cameras, samples=1)
    assert ((seen.alpha > 0) >= (alone.alpha > 0)).all() and (seen.alpha > 0).sum() > (alone.alpha > 0).sum()


def test_a_misplaced_view_has_the_truth_of_its_camera(source, monkeypatch):
    straight = source.views(0, 2, size=32)
    assert straight.inputs.depth is not None
    monkeypatch.setattr("mvgamba.data.variation.MISPLACED", 1.0)
    moved = source.views(0, 2, size=32)
    assert torch.equal(moved.inputs.cameras.c2w, straight.inputs.cameras.c2w)
    assert torch.equal(moved.inputs.depth, straight.inputs.depth)
    differs = (moved.inputs.rgb != straight.inputs.rgb).flatten(1).any(1)
    assert differs.sum() == 1 and not differs[0]
    assert math.degrees(MISPLACED_BY) == pytest.approx(15)


def test_every_variant_becomes_a_sample(source):
    samples = [make_sample(source, i % 3, i, size=32) for i in range(8)]
    for sample in samples:
        assert len(sample.rgb) == sample.num_given + 2
        both = (sample.solid == 1) & (sample.hit == 1)
        assert both.sum() > 0.9 * sample.solid.sum()
