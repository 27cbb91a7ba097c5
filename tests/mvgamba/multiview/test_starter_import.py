"""Weights of one's own in the user's folder."""

import pytest

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.protocol import GeneratorSettings
from mvgamba.multiview.starter_generator import starter_from_settings
from mvgamba.multiview.starter_import import import_starter
from mvgamba.multiview.starter_model import save_starter
from tests.mvgamba.multiview.tiny import tiny_model


def test_imported_weights_are_used_when_they_are_preferred(tmp_path):
    save_starter(tiny_model(), tmp_path / "mine.safetensors")
    folder = tmp_path / "weights"
    folder.mkdir()
    taken = import_starter(tmp_path / "mine.safetensors", folder, name="own", preferred=True)
    assert taken.kind == "generator" and taken.is_there and (folder / "own.md").is_file()
    generator = starter_from_settings(GeneratorSettings(weights_folder=folder))
    assert generator.weights == "own" and generator.memory is None


def test_what_is_no_starter_generator_is_refused(tmp_path):
    with pytest.raises(WeightsMissing):
        import_starter(tmp_path / "none.safetensors", tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsCorrupt):
        import_starter(tmp_path / "bad.safetensors", tmp_path)
    save_starter(tiny_model(), tmp_path / "mine.safetensors")
    with pytest.raises(InvalidInput, match="cannot be used"):
        import_starter(tmp_path / "mine.safetensors", tmp_path, name="../mine")
