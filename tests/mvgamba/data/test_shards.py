"""Samples on disk: the same after reading, taken up again, and honest about what was left out."""

import json

import numpy as np
import pytest

from mvgamba.data import GlbFolder
from mvgamba.data.samples import make_sample
from mvgamba.data.shards import read_shards, write_shards
from mvgamba.errors import InvalidInput
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus")))


def test_a_sample_knows_the_truth_between_near_and_far(source):
    sample = make_sample(source, 0, 1, size=48)
    assert sample.rgb.shape == (6, 3, 48, 48) and sample.num_given == 4
    both = (sample.solid == 1) & (sample.hit == 1)
    assert both[4].any() and both[5].any()  # the queried views see it too
    assert both.sum() > 0.97 * sample.solid.sum()
    depth, near, far = (getattr(sample, n)[both].astype(np.float32) for n in ("depth", "near", "far"))
    # half precision and a hull of 64 cells leave a little
    assert np.mean(depth >= near - 0.03) > 0.99
    assert np.mean(depth <= far + 0.03) > 0.99
    # beyond the object the hull goes on, so a queried silhouette has something to learn
    assert (sample.hit[4] == 1).sum() > (sample.solid[4] == 1).sum()


def test_shards_come_back_whole_and_are_not_made_twice(source, tmp_path):
    report = write_shards(source, tmp_path, variants=2, size=32)
    assert report.written == 6 and not report.skipped
    samples = read_shards(tmp_path)
    assert len(samples) == 6
    fresh = make_sample(source, 2, 0, size=32).arrays()
    assert all(np.array_equal(fresh[name], value) for name, value in samples[2].arrays().items())
    stamp = (tmp_path / "00000.tar").stat().st_mtime_ns
    write_shards(source, tmp_path, variants=2, size=32)
    assert (tmp_path / "00000.tar").stat().st_mtime_ns == stamp
    with pytest.raises(InvalidInput, match="another corpus or size"):
        write_shards(source, tmp_path, variants=2, size=48)


def test_a_corrupt_object_is_left_out_and_named(tmp_path):
    folder = write_corpus(tmp_path / "corpus", 2)
    (folder / "a_broken.glb").write_bytes(b"glTF")
    report = write_shards(GlbFolder(folder), tmp_path / "shards", variants=1, size=32)
    assert report.written == 2
    assert list(report.skipped) == ["a_broken.glb, variant 0"]
    kept = json.loads((tmp_path / "shards" / "report.json").read_text())
    assert kept["skipped"] == report.skipped


def test_broken_and_missing_shards_are_errors(tmp_path):
    with pytest.raises(InvalidInput, match="no shards"):
        read_shards(tmp_path)
    (tmp_path / "00000.tar").write_bytes(b"nothing like a tar file" * 100)
    with pytest.raises(InvalidInput, match="00000.tar cannot be read"):
        read_shards(tmp_path)
