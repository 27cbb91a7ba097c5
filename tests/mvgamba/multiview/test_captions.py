"""What captions and prompts are about."""

import pytest

from mvgamba.multiview.captions import CaptionIndex, key_of, phrase_of
from mvgamba.multiview.words import words_of

THINGS = [
    ["a park bench", "a simple park bench"],
    ["a tree"],
    ["a wooden table"],
    ["a table lamp"],
    ["a wooden barrel", "a brown wooden barrel"],
    ["cherries", "a pair of cherries"],
    ["an ice cream cone"],
    ["a slice of bread"],
    ["a long table with bread on it"],
]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("coin", "coins"),
        ("cherry", "cherries"),
        ("knife", "knives"),
        ("shelf", "shelves"),
        ("leaf", "leaves"),
        ("box", "boxes"),
        ("house", "houses"),
        ("vase", "vases"),
        ("torch", "torches"),
        ("tomato", "tomatoes"),
        ("shoe", "shoes"),
        ("cookie", "cookies"),
        ("glove", "gloves"),
        ("axe", "axes"),
        ("glass", "glasses"),
        ("bus", "buses"),
    ],
)
def test_one_and_many_have_the_same_key(one, many):
    assert key_of(one) == key_of(many)


def test_different_things_have_different_keys():
    words = words_of("table tablecloth car cart pan pane pin pine plan plane bar bare barrel can cane cannon")
    assert len({key_of(word) for word in words}) == len(words)


def test_the_head_is_the_last_word_before_with_or_of_unless_that_is_how_much_there_is():
    table = phrase_of("a red wooden table with a green lamp on it")
    assert table.heads == ("table",) and table.modifiers == ("wooden",) and table.tail == ("lamp",)
    assert table.colors == ("red",) and table.tail_colors == (("lamp", "green"),)
    donut = phrase_of("a donut with pink icing and sprinkles, and with red and white stripes")
    assert donut.tail_colors == (("icing", "pink"), ("stripe", "red"), ("stripe", "white"))
    assert phrase_of("an open tin can").heads == ("can",)
    assert phrase_of("a slice of bread").heads == ("bread",)
    assert phrase_of("a bowl of soup").heads == ("bowl",)
    assert phrase_of("a 3d model of a barrel").heads == ("barrel",)
    assert phrase_of("a picture frame").heads == ("frame",)
    assert phrase_of("a broken sword and shield").heads == ("sword", "shield")
    assert set(phrase_of("a barrel, old and wooden").modifiers) == {"old", "wooden"}
    assert phrase_of("a house without a roof").tail == ()
    assert phrase_of("Please make me a low-poly barrel!").roles.keys() == {"barrel"}


def test_colours_and_kinds_are_told_from_things_that_are_called_alike():
    assert phrase_of("a red and white mushroom").colors == ("red", "white")
    assert phrase_of("a dark brown chest").colors == ("dark brown",)
    assert phrase_of("an orange").heads == ("orange",) and phrase_of("an orange orange").colors == ("orange",)
    assert phrase_of("a cream sofa").colors == ("cream",) and phrase_of("ice cream").heads == ("icecream",)
    assert phrase_of("a hot dog").heads == ("hotdog",)
    assert phrase_of("red").heads == () and phrase_of("red").colors == ("red",)


@pytest.mark.parametrize("text", ["", "   ", "with", "a the of", "樽", "бочка", "🛢️", "...", "red", "of of of"])
def test_what_names_no_thing_fits_nothing(text):
    assert phrase_of(text).heads == ()
    assert set(CaptionIndex(THINGS).scores(text)) == {0.0}


def best(prompt: str) -> str:
    scores = CaptionIndex(THINGS).scores(prompt)
    assert all(0 <= s <= 1 for s in scores) and max(scores) > 0
    return THINGS[scores.index(max(scores))][0]


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("a park bench", "a park bench"),
        ("a bench in a park", "a park bench"),
        ("a park tree", "a tree"),
        ("a table with a lamp", "a wooden table"),
        ("a lamp on a table", "a table lamp"),
        ("a red barrel", "a wooden barrel"),
        ("a cherry", "cherries"),
        ("bread", "a slice of bread"),
        ("a table with bread", "a long table with bread on it"),
        ("two barels", "a wooden barrel"),
        ("an apple-tree barrelll", "a wooden barrel"),
    ],
)
def test_the_head_counts_more_than_what_describes_it(prompt, caption):
    assert best(prompt) == caption


def test_colours_do_not_count_and_the_same_words_are_a_full_score():
    index = CaptionIndex(THINGS)
    assert index.scores("a red wooden barrel") == index.scores("a purple wooden barrel")
    assert max(index.scores("a wooden barrel")) == pytest.approx(1)
    assert max(index.scores("a dragon")) == 0
    assert 0 < max(index.scores("a magnificent wooden barrel")) < 1


def test_words_that_are_spelt_alike_are_near_and_compounds_are_near_their_end():
    index = CaptionIndex(THINGS)
    assert index.near("barrell")[0][0] == "barrel"
    assert dict(index.near("worktable"))["table"] >= 0.7
    assert index.near("zzz") == []
