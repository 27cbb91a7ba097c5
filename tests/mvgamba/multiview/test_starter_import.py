"""Weights of one's own in the user's folder."""

import json

import pytest

from mvgamba.__main__ import main
from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.memory_files import ATLAS, write_memory
from mvgamba.multiview.protocol import GeneratorSettings
from mvgamba.multiview.starter_generator import starter_from_settings
from mvgamba.multiview.starter_import import import_starter
from mvgamba.multiview.starter_model import save_starter
from mvgamba.weights import default, memory_of, verified
from tests.mvgamba.multiview.test_memory import GREEN, RED, pictures, thing
from tests.mvgamba.multiview.tiny import tiny_model


def test_imported_weights_are_used_when_they_are_preferred(tmp_path):
    save_starter(tiny_model(), tmp_path / "mine.safetensors")
    folder = tmp_path / "weights"
    folder.mkdir()
    taken = import_starter(tmp_path / "mine.safetensors", folder, name="own", preferred=True)
    assert taken.kind == "generator" and taken.is_there and (folder / "own.md").is_file()
    generator = starter_from_settings(GeneratorSettings(weights_folder=folder))
    assert generator.weights == "own" and generator.memory is None


def test_a_memory_beside_the_weights_comes_along_and_is_asked(tmp_path, monkeypatch, capsys):
    source, folder = tmp_path / "made", tmp_path / "weights"
    source.mkdir()
    save_starter(tiny_model(), source / "mine.safetensors")
    things = [thing("sofa", "a plush sofa", ("red", 1.0, RED)), thing("tree", "a tree", ("green", 1.0, GREEN))]
    write_memory(things, pictures()[:2], source)
    taken = import_starter(source / "mine.safetensors", folder, name="own", preferred=True)
    assert "with a memory of 2 objects" in taken.about
    generator = starter_from_settings(GeneratorSettings(weights_folder=folder))
    assert generator.weights == "own" and [o.name for o in generator.memory.objects] == ["sofa", "tree"]
    memory = memory_of(taken, folder)
    assert memory.name == "own-memory" and verified(memory) == folder / "own-memory.webp"
    assert not write_config_of(memory), "its table is not overwritten by a configuration"
    # it is none for the weights of the package
    assert default("memory", "starter", folder).name == "starter-memory"
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(folder))
    assert main(["vocabulary", "plush"]) == 0 and "plush: known" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0
    # the same name again, without a memory: the old one would be of other objects
    (source / ATLAS).unlink()
    import_starter(source / "mine.safetensors", folder, name="own", preferred=True)
    assert memory_of(taken, folder) is None
    assert starter_from_settings(GeneratorSettings(weights_folder=folder)).memory is None
    assert main(["vocabulary", "plush"]) == 0 and "plush: not known" in capsys.readouterr().out


def write_config_of(memory) -> bool:
    return "objects" not in json.loads(memory.path.with_suffix(".json").read_text())


def test_a_broken_memory_beside_the_weights_is_said_and_nothing_is_taken(tmp_path):
    save_starter(tiny_model(), tmp_path / "mine.safetensors")
    (tmp_path / "mine-memory.webp").write_bytes(b"no picture")
    with pytest.raises(WeightsMissing, match=r"mine-memory\.json"):
        import_starter(tmp_path / "mine.safetensors", tmp_path / "weights")
    (tmp_path / "mine-memory.json").write_text("[]")
    with pytest.raises(WeightsCorrupt, match=r"mine-memory\.json"):
        import_starter(tmp_path / "mine.safetensors", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_what_is_no_starter_generator_is_refused(tmp_path):
    with pytest.raises(WeightsMissing):
        import_starter(tmp_path / "none.safetensors", tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsCorrupt):
        import_starter(tmp_path / "bad.safetensors", tmp_path)
    save_starter(tiny_model(), tmp_path / "mine.safetensors")
    with pytest.raises(InvalidInput, match="cannot be used"):
        import_starter(tmp_path / "mine.safetensors", tmp_path, name="../mine")
