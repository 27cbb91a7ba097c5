"""Which words are known, and what one that is being typed may become."""

import grpc
import pytest

from mvgamba.errors import Unavailable
from mvgamba.weights import Weights, sha256_of
from mvgamba.weights.user import register
from mvgamba_backend.words import KnownWords, look_up
from mvgamba_rpc.v1 import generation_pb2 as pb
from tests.backend.tiny_generator import save_untaught

WORDS = ("a", "barrel", "barrier", "bucket", "chair", "wooden")


def test_words_are_told_apart_and_near_ones_offered():
    found = look_up("A wooden BARREL, a wodden bucket; zzz", "", WORDS, num_suggestions=8)
    assert found.known == ["a", "wooden", "barrel", "bucket"]
    assert found.unknown == {"wodden": ["wooden"], "zzz": []}
    assert found.suggestions == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("ba", ["barrel", "barrier"]), ("Bár", ["barrel", "barrier"]), ("b", ["barrel", "barrier", "bucket"]), ("x", [])],
)
def test_a_beginning_is_completed_in_the_order_of_the_alphabet(prefix, expected):
    assert look_up("", prefix, WORDS, num_suggestions=8).suggestions == expected
    assert look_up("", prefix, WORDS, num_suggestions=1).suggestions == expected[:1]


@pytest.mark.parametrize("text", ["", " ", "\x00", "木桶", "\U0001f6e2"])
def test_what_has_no_words_has_none(text):
    found = look_up(text, text, WORDS, num_suggestions=8)
    assert (found.known, found.unknown, found.suggestions) == ([], {}, [])


def test_the_words_are_those_of_the_weights_that_are_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(tmp_path))
    known = KnownWords("real")
    assert {"barrel", "red"} <= set(known.of("auto")), "those that come with the package"
    install(tmp_path, ("chair", "a"))
    assert known.of("auto") == known.of("starter") == ("a", "chair")
    install(tmp_path, ("bed",))
    assert known.of("auto") == ("bed",)
    with pytest.raises(Unavailable, match="mvdream"):
        known.of("mvdream")


def install(folder, words):
    path = folder / f"{'-'.join(words)}.safetensors"
    save_untaught(path, words)
    entry = Weights(
        "tiny", "generator", "starter", path.name, sha256_of(path), "CC0-1.0", "Knows nothing.", preferred=True
    )
    register(entry, folder)


def test_the_service_answers_within_a_blink(service, refused):
    answer = service.call("LookUpWords", pb.LookUpWordsRequest(prompt="a red barel", prefix="ba", max_suggestions=1))
    assert (list(answer.known), list(answer.suggestions)) == (["red"], ["barrel"])
    assert {u.word: list(u.nearest) for u in answer.unknown}["barel"][0] == "barrel"
    for bad in ({"prompt": "x" * 2001}, {"prefix": "x" * 65}, {"max_suggestions": 101}):
        refusal = refused(service.call, "LookUpWords", pb.LookUpWordsRequest(**bad))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
        assert next(iter(bad)) in refusal.message
