"""The weights that come with the package."""

import dataclasses
import json

import pytest

from mvgamba import weights
from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.ray_reconstructor import load_ray_network


def test_what_is_shipped_is_whole_small_and_loads():
    listed = weights.shipped()
    assert listed and sum(w.path.stat().st_size for w in listed) < 60 * 2**20
    for entry in listed:
        path = weights.verified(entry)
        assert path.stat().st_size < 25 * 2**20
        assert (path.parent / f"{entry.name}.md").is_file()  # its model card
    assert load_ray_network(weights.default("reconstructor", "ray").path).config.num_layers > 1


def test_damaged_and_missing_weights_are_told_apart(tmp_path, monkeypatch):
    entry = weights.shipped()[0]
    data = bytearray(entry.path.read_bytes())
    data[len(data) // 2] ^= 1
    assert tmp_path != entry.path.parent
    monkeypatch.setattr(weights, "folder", lambda: tmp_path)
    with pytest.raises(WeightsMissing, match=entry.name):
        weights.verified(entry)
    assert weights.default("reconstructor", "ray") is None
    entry.path.write_bytes(data)
    (tmp_path / "manifest.json").write_text(json.dumps([dataclasses.asdict(entry)]))
    with pytest.raises(WeightsCorrupt, match="not those that were shipped"):
        weights.verified(entry)
    assert weights.default("reconstructor", "nothing") is None
