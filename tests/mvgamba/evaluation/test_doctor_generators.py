"""Which generators `mvgamba doctor` says there are."""

from pathlib import Path

import pytest

from mvgamba.evaluation import doctor
from mvgamba.weights import Weights, sha256_of
from mvgamba.weights.user import register
from tests.backend.tiny_generator import save_untaught


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package itself ships nothing, so that the test says the same once it does."""
    monkeypatch.setattr("mvgamba.weights.shipped", list)
    return tmp_path


def test_a_generator_is_there_with_its_weights_whole(folder: Path) -> None:
    def starter() -> dict[str, object]:
        facts = doctor.examine(self_test=False, weights_folder=folder)
        assert facts["generators"]["starter"]["available"] == ("not available" not in line_of(facts, "starter"))
        return facts["generators"]["starter"]

    def line_of(facts: dict[str, object], name: str) -> str:
        (line,) = (line for line in doctor.to_text(facts).splitlines() if line.startswith(f"Generator  {name}"))
        return line

    assert starter() == {
        "available": False,
        "why_not": "No weights of starter are installed.",
        "sources": ["text", "image", "variation"],
    }
    path = folder / "tiny.safetensors"
    save_untaught(path)
    register(Weights("tiny", "generator", "starter", path.name, sha256_of(path), "CC0-1.0", "Knows nothing."), folder)
    assert starter()["available"] and starter()["why_not"] == ""
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "SHA-256" in str(starter()["why_not"])
