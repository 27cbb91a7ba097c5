"""The words that are known, and what others are taken for."""

import json

import pytest

from mvgamba.__main__ import main
from mvgamba.multiview.captions import COLOR_NAMES, key_of, phrase_of
from mvgamba.multiview.memory import load_memory
from mvgamba.multiview.vocabulary import Known, Synonym, Unknown, Vocabulary, read_lexicon
from mvgamba.multiview.words import words_of

CAPTIONS = [
    ["a wooden barrel", "a brown wooden barrel"],
    ["a red couch"],
    ["ice cream", "an ice lolly"],
    ["cherries"],
    ["a dark brown dog"],
    ["a character with a dog"],
    ["an apple"],
]
LEXICON = {
    "colors": {"crimson": "red", "navy blue": "red"},
    "things": {
        "cask": "barrel",
        "settee": "couch",
        "chest of drawers": "barrel",
        "granny smith": "apple",
        "berry": "cherries",
    },
    "roughly": {"cat": "dog", "knight": "character"},
    "german": {"faß": "barrel", "ein": "a", "mit": "with", "Bär": "dog"},
}


@pytest.fixture(scope="module")
def small() -> Vocabulary:
    return Vocabulary(CAPTIONS, LEXICON)


@pytest.fixture(scope="module")
def shipped() -> Vocabulary:
    return load_memory().vocabulary


def test_a_word_is_known_or_taken_for_another_or_unknown(small):
    assert small.lookup("barrel") == Known("barrel", 1) == small.lookup("BARREL")
    assert small.lookup("dogs") == Known("dog", 2) and small.lookup("cherry") == Known("cherries", 1)
    assert small.lookup("dark brown") == Known("dark brown", 1)
    assert small.lookup("casks") == Synonym("barrel", "things")
    assert small.lookup("berries") == Synonym("cherries", "things")
    assert small.lookup("Chest of Drawers") == Synonym("barrel", "things")
    assert small.lookup("barell") == Unknown(("barrel",))
    for strange in ("", "zzz", "樽", "🛢️", "..."):
        assert small.lookup(strange) == Unknown(())


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("a crimson cask", "a red barrel"),
        ("a granny smith", "an apple"),
        ("a navy-blue settee", "a red couch"),
        ("Three casks, crimson.", "Three barrel, red."),
        ("ein Faß mit cask", "a barrel with barrel"),
        ("a BÄR", "a dog"),
        ("a chest, of drawers", "a chest, of drawers"),
        ("a barrel's cask", "a barrel barrel"),
        ("a wooden dark brown barrel", "a wooden dark brown barrel"),
        ("", ""),
    ],
)
def test_a_prompt_is_put_in_known_words(small, said, taken):
    assert small.translate(said).prompt == taken


def test_what_was_taken_for_what_is_said_as_is_what_means_nothing(small):
    found = small.translate("a crimson dragon's cat and 2 樽 🛢️")
    assert [(s.said, s.taken, s.is_rough) for s in found.substitutions] == [
        ("crimson", "red", False),
        ("cat", "dog", True),
    ]
    assert found.unknown == ("dragon's", "樽")
    assert found.known == ("a", "and", "2")
    assert small.translate("A red BARREL with barrels").known == ("a", "red", "barrel", "with", "barrels")
    # rough ones only for what the prompt is about: a cat barrel is no dog
    assert small.translate("a cat barrel").prompt == "a cat barrel"
    assert small.translate("a cat barrel").unknown == ("cat",)
    # what is put in known words stays as it is
    again = small.translate(found.prompt)
    assert again.prompt == found.prompt and again.substitutions == ()


def test_nouns_and_colours_are_counted_and_suggested(small):
    assert small.nouns() == {
        "apple": 1,
        "barrel": 1,
        "character": 1,
        "cherries": 1,
        "couch": 1,
        "dog": 1,
        "ice cream": 1,
    }
    assert small.colors() == {"brown": 1, "dark brown": 1, "red": 1}
    assert small.suggest("b") == [("barrel", 1), ("brown", 1)]
    assert small.suggest("") == small.suggest("", 10) and len(small.suggest("", 3)) == 3
    assert small.suggest("q") == []


def test_every_entry_of_the_lexicon_leads_to_known_words_and_none_from_one(shipped):
    groups = read_lexicon()
    assert sum(map(len, groups.values())) >= 300
    keys = {key_of(w) for w in shipped.words}
    said_before = set()
    for group, entries in groups.items():
        for said, taken in entries.items():
            words = words_of(said.replace("ß", "ss"))
            assert words and tuple(words) not in said_before, f"{group}: {said} is there twice or has no word"
            said_before.add(tuple(words))
            strange = [w for w in words_of(taken) if w not in shipped.words]
            assert not strange, f"{group}: {said} leads to {strange}, which no caption has"
            if len(words) == 1:
                assert key_of(words[0]) not in keys, f"{group}: {said} is in the captions"
            else:
                assert shipped.lookup(said) == Synonym(taken, group)
    assert set(groups["colors"].values()) <= set(COLOR_NAMES)


@pytest.mark.parametrize("group", ["things", "roughly", "german", "french", "spanish"])
def test_things_of_the_lexicon_are_remembered(group):
    memory = load_memory()
    nouns = {taken for taken in read_lexicon()[group].values() if phrase_of(taken).heads}
    skipped = {"a", "the", "with", "of", "and", "on"}
    adjectives = {"small", "large", "old", "round", "wooden", "stone", "female"}
    for noun in sorted(nouns - skipped - adjectives):
        scores = memory.index.scores(noun)
        assert max(scores) > 0.2, noun


def test_the_shipped_words_are_those_that_artists_use(shipped):
    for said, taken in [
        ("a crimson cask", "a red barrel"),
        ("an azure settee", "a blue couch"),
        ("a turquoise lorry", "a teal truck"),
        ("a beige wardrobe", "a tan cabinet"),
        ("a gray doughnut", "a grey donut"),
        ("ein roter Pilz", "a red mushroom"),
    ]:
        assert shipped.translate(said).prompt == taken
    assert shipped.lookup("sofa") == Known("sofa", 2)
    assert isinstance(shipped.lookup("dragon"), Unknown)
    assert shipped.suggest("barr")[0][0] == "barrel"


def test_the_command_says_what_a_word_means(capsys):
    def said(*arguments: str) -> str:
        assert main(["vocabulary", *arguments]) == 0
        return capsys.readouterr().out

    assert "barrel: known" in said("barrel")
    assert "cask: taken for barrel" in said("cask") and "only comes near" in said("robot")
    assert "barell: not known; spelt alike: barrel" in said("barell")
    assert said("a", "crimson", "cask").splitlines()[0] == "a red barrel" == said("a crimson cask").splitlines()[0]
    assert "樽: not known" in said("a 樽")
    assert json.loads(said("cask", "--json")) == {"said": "cask", "is": "synonym", "of": "barrel", "group": "things"}
    assert json.loads(said("a cask", "--json"))["substitutions"][0]["taken"] == "barrel"
    assert json.loads(said("--json"))["nouns"]["barrel"] > 5
    text = said()
    assert "barrel" in text and "Colours" in text and max(map(len, text.splitlines())) < 120
    assert "not known" in said("")
