"""The weights that come with the package."""

import dataclasses
import json
from pathlib import Path

import pytest

from mvgamba import weights
from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.ray_reconstructor import load_ray_network
from mvgamba.weights.header import read_header
from mvgamba.weights.user import folder_for, register


def test_what_is_shipped_is_whole_small_and_loads():
    listed = weights.shipped()
    assert listed and sum(w.path.stat().st_size for w in listed) < 60 * 2**20
    for entry in listed:
        path = weights.verified(entry)
        assert path.stat().st_size < 25 * 2**20
        assert (path.parent / f"{entry.name}.md").is_file()  # its model card
        if path.suffix == ".safetensors":
            beside = json.loads(path.with_suffix(".json").read_text())
            assert beside == read_header(path), "run mvgamba.weights.header.write_config on the new file"
        assert not {"url", "preferred", "place"} & entry.as_entry().keys()  # published nowhere yet
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a list of weights"),
        ('[{"name": "x"}]', "is not a list of weights"),
        ("FILE:../../evil.safetensors", "'../../evil.safetensors'"),
        ("SHA:../../../x", "'../../../x'"),
    ],
)
def test_a_manifest_that_is_not_one_or_leads_out_of_its_folder_is_refused(tmp_path, text, words):
    entry = weights.shipped()[0].as_entry()
    if text.startswith("FILE:"):
        text = json.dumps([entry | {"file": text[5:]}])
    elif text.startswith("SHA:"):
        text = json.dumps([entry | {"sha256": text[4:]}])
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsCorrupt, match=words):
        weights.users(tmp_path)


def test_no_manifest_can_say_where_its_weights_lie(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps([weights.shipped()[0].as_entry() | {"place": "/etc"}]))
    assert weights.users(tmp_path)[0].place == tmp_path


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/mvgamba/weights"),
        ("linux", {"XDG_CACHE_HOME": "x"}, "x/mvgamba/weights"),
        ("darwin", {}, "home/Library/Caches/mvgamba/weights"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/mvgamba/weights"),
        ("win32", {"LOCALAPPDATA": "local", "MVGAMBA_WEIGHTS": "mine"}, "mine"),
    ],
)
def test_each_platform_keeps_weights_where_it_keeps_what_can_be_had_again(platform, environment, expected):
    assert folder_for(environment, platform=platform, home=Path("home")) == Path(expected)


def test_the_users_weights_come_after_shipped_ones_unless_preferred(tmp_path):
    entry = weights.shipped()[0]
    (tmp_path / "a.safetensors").write_bytes(entry.path.read_bytes())
    (tmp_path / "b.safetensors").write_bytes(entry.path.read_bytes())

    def add(name, **changes):
        return register(dataclasses.replace(entry, name=name, file=f"{name}.safetensors", **changes), tmp_path)

    add("a")
    assert weights.default("reconstructor", "ray", tmp_path) == entry
    assert [w.name for w in weights.known(tmp_path) if w.kind == "reconstructor"] == [entry.name, "a"]
    first = add("a", preferred=True)
    assert weights.default("reconstructor", "ray", tmp_path) == first and first.path.parent == tmp_path
    second = add("b", preferred=True)  # takes the mark from the first
    assert weights.default("reconstructor", "ray", tmp_path) == second
    assert [w.preferred for w in weights.users(tmp_path)] == [False, True]
    assert weights.default("reconstructor", "ray") == entry
    # where the package has none, the user's are used without being asked for
    other = add("a", model="mvgamba")
    assert weights.default("reconstructor", "mvgamba", tmp_path) == other
    (tmp_path / "b.safetensors").unlink()
    assert weights.default("reconstructor", "ray", tmp_path) == entry
