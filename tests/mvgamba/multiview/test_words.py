"""Sentences as numbers."""

import pytest
import torch

from mvgamba.multiview.words import MOST_WORDS, WordConfig, WordEncoder, WordNumbers, pieces_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red, wooden Barrel!", ["a", "red", "wooden", "barrel"]),
        ("low-poly 3d model of a cook's hat", ["low-poly", "3d", "model", "of", "a", "cook's", "hat"]),
        ("café", ["cafe"]),
        ("樽", []),
        ("🛢️ barrel 🛢️", ["barrel"]),
        ("\x00\n\t", []),
        ("", []),
    ],
)
def test_words_are_lower_case_and_latin(text, words):
    assert words_of(text) == words


def test_pieces_mark_where_a_word_begins_and_ends():
    assert pieces_of("cat") == ["<ca", "cat", "at>", "<cat", "cat>", "<cat>"]


def test_a_sentence_has_a_mark_and_then_its_words():
    words, pieces, known = WordNumbers(WordConfig(vocabulary=("a", "barrel")))(["a barrel", "barrel", ""])
    assert words.tolist() == [[1, 2, 3], [1, 3, 0], [1, 0, 0]]
    assert known.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert bool((pieces[0, 1:] > 0).any(-1).all()) and not bool(pieces[2].any())


def test_a_long_sentence_is_cut():
    words, _, _ = WordNumbers(WordConfig())(["barrel " * 100])
    assert words.shape == (1, 1 + MOST_WORDS)


def test_what_a_sentence_means_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    encoder = WordEncoder(WordConfig(vocabulary=("a", "barrel"), width=16, num_heads=2)).eval()
    alone, together = encoder(["a barrel"]), encoder(["a barrel", "a barrel with a very long description"])
    torch.testing.assert_close(together.tokens[0, :3], alone.tokens[0])
    assert together.known.sum(1).tolist() == [3, 8]


def test_a_word_outside_the_vocabulary_is_told_from_others_by_its_spelling():
    torch.manual_seed(0)
    encoder = WordEncoder(WordConfig(vocabulary=("barrel",), width=16, num_heads=2)).eval()
    one, other = (encoder([w]).tokens[0, 1] for w in ("casket", "teapot"))
    assert bool((one - other).norm() > 0.1)
    shared = set(pieces_of("casket")) & set(pieces_of("caskets"))
    assert len(shared) > 0.5 * len(pieces_of("casket")), "spellings that are near have most of their pieces in common"


def test_training_forgets_words_now_and_then():
    torch.manual_seed(0)
    encoder = WordEncoder(WordConfig(vocabulary=("barrel",), width=16, num_heads=2))
    told = {tuple(encoder(["barrel"]).tokens[0, 1].tolist()) for _ in range(40)}
    assert len(told) == 2
