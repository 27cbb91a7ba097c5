"""Which words are known, and what one that is being typed may become."""

import subprocess
import sys
import time

import grpc
import pytest

from mvgamba.errors import Unavailable
from mvgamba.multiview.vocabulary import Vocabulary
from mvgamba.weights import Weights, sha256_of
from mvgamba.weights.user import register
from mvgamba_backend.convert import words_to_proto
from mvgamba_backend.words import KnownWords, UnknownWord, WordsFound, look_up
from mvgamba_rpc.v1 import generation_pb2 as pb
from tests.backend.tiny_generator import save_untaught

WORDS = ("a", "barrel", "barrier", "bucket", "chair", "wooden")
VOCABULARY = Vocabulary(
    [(word,) for word in WORDS],
    {"things": {"cask": "barrel", "chest of drawers": "bucket"}, "roughly": {"stool": "chair"}, "german": {"ein": "a"}},
)


def test_words_are_told_apart_and_near_ones_offered():
    found = look_up("A wooden BARREL, a wodden bucket; Zzz", "", VOCABULARY, num_suggestions=8)
    assert found.known == ("a", "wooden", "barrel", "bucket")
    assert found.unknown == (UnknownWord("wodden", ("wooden",)), UnknownWord("zzz"))
    assert (found.suggestions, found.vocabulary) == ((), ())


def test_words_and_phrases_are_taken_for_known_ones():
    found = look_up("ein Cask, two casks and a chest of drawers with a stool", "", VOCABULARY, num_suggestions=8)
    assert found.unknown == (
        UnknownWord("cask", (), "barrel"),
        UnknownWord("casks", (), "barrel"),
        UnknownWord("chest of drawers", (), "bucket"),
        UnknownWord("stool", (), "chair", is_rough=True),
        UnknownWord("two", ()),
    )
    assert found.known == ("ein", "and", "a", "with")


def test_all_words_are_listed_the_commonest_first_and_never_too_many():
    listed = look_up("", "", VOCABULARY, num_suggestions=1, list_all=True).vocabulary
    assert [e.word for e in listed] == [*WORDS[1:], "cask", "chest of drawers", "stool"]
    assert (listed[-1].taken, listed[-1].is_rough, listed[-1].count, listed[0].count) == ("chair", True, 0, 1)
    many = Vocabulary([(f"{'word' * 5}{i}",) for i in range(5000)], {})
    listed = look_up("", "", many, num_suggestions=1, list_all=True).vocabulary
    size = words_to_proto(WordsFound(vocabulary=listed)).ByteSize()
    assert 1000 < len(listed) < 5000 and 40 << 10 < size <= 64 << 10


def test_the_list_of_the_package_is_whole_and_small():
    whole = KnownWords("real").of("auto")
    answer = words_to_proto(look_up("", "", whole, num_suggestions=1, list_all=True))
    assert len(answer.vocabulary) == len(whole.entries()) > 1500 and answer.ByteSize() <= 64 << 10
    counts = [word.count for word in answer.vocabulary]
    assert counts == sorted(counts, reverse=True)
    assert {w.word: w.taken_for for w in answer.vocabulary}.items() >= {"cask": "barrel", "crimson": "red"}.items()


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("ba", ["barrel", "barrier"]), ("Bár", ["barrel", "barrier"]), ("b", ["barrel", "barrier", "bucket"]), ("x", [])],
)
def test_a_beginning_is_completed_in_the_order_of_the_alphabet(prefix, expected):
    assert list(look_up("", prefix, VOCABULARY, num_suggestions=8).suggestions) == expected
    assert list(look_up("", prefix, VOCABULARY, num_suggestions=1).suggestions) == expected[:1]


@pytest.mark.parametrize("text", ["", " ", "\x00", "\U0001f6e2", "..."])
def test_what_has_no_words_has_none(text):
    assert look_up(text, text, VOCABULARY, num_suggestions=8) == WordsFound()


def test_other_scripts_are_unknown_as_they_are_written():
    assert look_up("木桶", "木桶", VOCABULARY, num_suggestions=8) == WordsFound(unknown=(UnknownWord("木桶"),))


def test_the_words_are_those_of_the_weights_that_are_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(tmp_path))
    known = KnownWords("real")
    assert {"barrel", "red"} <= set(known.of("auto").words), "those that come with the package"
    assert look_up("a crimson cask", "", known.of("auto"), num_suggestions=1).unknown == (
        UnknownWord("crimson", (), "red"),
        UnknownWord("cask", (), "barrel"),
    )
    install(tmp_path, ("chair", "a"))
    assert known.of("auto") is known.of("starter") and set(known.of("auto").words) == {"a", "chair"}
    # weights without a memory read words as they are
    assert look_up("a crimson seat", "", known.of("auto"), num_suggestions=1).unknown[0] == UnknownWord("crimson")
    install(tmp_path, ("bed",))
    assert set(known.of("auto").words) == {"bed"}
    with pytest.raises(Unavailable, match="mvdream"):
        known.of("mvdream")


def test_words_are_looked_up_without_torch(env):
    code = (
        "import sys; from mvgamba_backend.words import KnownWords, look_up; "
        "found = look_up('a cask', '', KnownWords('real').of('auto'), num_suggestions=1); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or not found.unknown)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=30).returncode == 0


def test_a_long_prompt_of_strange_words_takes_no_second():
    vocabulary = KnownWords("real").of("auto")
    prompt = " ".join(f"zq{i:03d}" for i in range(333))
    begin = time.perf_counter()
    assert len(look_up(prompt, "", vocabulary, num_suggestions=8).unknown) == 333
    assert time.perf_counter() - begin < 2  # 0.1 s on an idle machine


def install(folder, words):
    path = folder / f"{'-'.join(words)}.safetensors"
    save_untaught(path, words)
    entry = Weights(
        "tiny", "generator", "starter", path.name, sha256_of(path), "CC0-1.0", "Knows nothing.", preferred=True
    )
    register(entry, folder)


def test_the_service_answers_within_a_blink(service, refused):
    answer = service.call("LookUpWords", pb.LookUpWordsRequest(prompt="a red barel", prefix="ba", max_suggestions=1))
    assert (list(answer.known), list(answer.suggestions)) == (["a", "red"], ["barrel"])
    assert {u.word: list(u.nearest) for u in answer.unknown}["barel"][0] == "barrel"
    answer = service.call("LookUpWords", pb.LookUpWordsRequest(prompt="a cask", list_all=True))
    assert list(answer.unknown) == [pb.UnknownWord(word="cask", taken_for="barrel")]
    assert pb.KnownWord(word="stool", taken_for="chair", is_rough=True) in answer.vocabulary
    assert pb.KnownWord(word="barrel", count=1) in answer.vocabulary
    for bad in ({"prompt": "x" * 2001}, {"prefix": "x" * 65}, {"max_suggestions": 101}):
        refusal = refused(service.call, "LookUpWords", pb.LookUpWordsRequest(**bad))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
        assert next(iter(bad)) in refusal.message
