"""What a caption or a prompt is about: its head noun, what describes it, what comes along with it, and in which colours.

"a red wooden table with a green lamp" is a table, wooden and red, with a lamp that is green. This is no grammar: the head is the last word
before "with", "on" and their like. That is right for noun phrases, and those are what captions and most prompts are.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mvgamba.multiview.prompts import pieces_of, words_of

JOINED = {
    ("hot", "dog"): "hotdog",
    ("corn", "dog"): "corndog",
    ("ice", "cream"): "icecream",
    ("gingerbread", "man"): "gingerbreadman",
    ("ferris", "wheel"): "ferriswheel",
    ("onion", "ring"): "onionring",
    ("onion", "rings"): "onionring",
    ("candy", "bar"): "candybar",
    ("cannon", "ball"): "cannonball",
    ("rolling", "pin"): "rollingpin",
    ("cookie", "cutter"): "cookiecutter",
    ("orange", "fruit"): "orange",
}
"""Nouns of two words that are not a kind of the second: a hot dog is no dog. Written as one word they are the same."""


def key_of(word: str) -> str:
    """The same for singular and plural; not a word any more."""
    for ending, instead in (
        ("ies", "y"),
        ("ie", "y"),
        ("ves", "f"),
        ("ve", "f"),
        ("fe", "f"),
        ("oes", "o"),
        ("oe", "o"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + instead
    if re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    if re.search(r"[sxz]e$", word):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


COLOR_NAMES = tuple(words_of("red orange yellow green teal blue purple pink brown tan cream white grey black"))
COLOR_NAMES = (*COLOR_NAMES, "dark brown")
"""The colours that captions name."""
SEPARATORS = frozenset(
    words_of(
        "with on in at under for from of over beside behind near by inside atop against without to into onto upon between through "
        "made full filled covered stacked mounted wearing holding carrying having has that which who whose is are"
    )
)
"""A head stands before the first of these."""
_MEASURES = frozenset(
    key_of(word)
    for word in words_of(
        "slice half piece pair row set stack pile heap group cluster bunch scoop strip stick ear head wheel bar block corner patch base "
        "ring couple lot bit loaf chunk lump handful dozen number collection kind sort type assortment"
    )
)
"""Before "of", these are how much of the thing there is, and what follows is the thing."""
_PICTURES = frozenset(words_of("model picture photo photograph image drawing rendering render sculpture version"))
"""Before "of", these are how it is shown, which is not said of the thing at all."""
FILLERS = frozenset(
    words_of(
        "a an the some this these my our your its it any and or mostly very really quite simple cartoon cartoonish stylised stylized low-poly "
        "lowpoly poly 3d asset please make me generate create draw show give want need i would like let us you top cute nice"
    )
)
"""Said of anything, or of nothing."""
_HEAD, _MODIFIER, _TAIL = 2.5, 1.0, 0.5
"""How much a word counts by its place, times how rare it is."""
_WORTH = {
    (_HEAD, _HEAD): 1.0,
    (_MODIFIER, _MODIFIER): 1.0,
    (_TAIL, _TAIL): 1.0,
    (_HEAD, _MODIFIER): 0.4,
    (_HEAD, _TAIL): 0.35,
}
"""What a word that both have is worth by its places, the greater first; 0.6 for a modifier of one that comes along with the other."""
_UNKNOWN_WEIGHT = 0.4
"""Of a modifier that no caption has: nothing could match it."""
LEAST_ALIKE = 0.5
"""Of words that are taken for one another, see `spelt_alike`."""


@dataclass(frozen=True)
class Phrase:
    """The parts of a caption; words as `key_of` has them."""

    heads: tuple[str, ...]
    """One, or both of "a sword and shield"; none where there is no word."""
    modifiers: tuple[str, ...]
    tail: tuple[str, ...]
    """What comes along, and what describes that."""
    colors: tuple[str, ...]
    """Of the thing itself, in the order in which they are named."""
    tail_colors: tuple[tuple[str, str], ...]
    """Of what comes along: its head and its colour."""

    @property
    def roles(self) -> dict[str, float]:
        """Words with what their place counts."""
        found = dict.fromkeys(self.tail, _TAIL) | dict.fromkeys(self.modifiers, _MODIFIER)
        return found | dict.fromkeys(self.heads, _HEAD)


@lru_cache(maxsize=4096)
def phrase_of(text: str) -> Phrase:
    """Take a caption apart. Words that are said of anything ("a simple", "low-poly", "3d model of") are left out."""
    heads: list[str] = []
    modifiers: list[str] = []
    tail: list[str] = []
    colors: list[str] = []
    tail_colors: list[tuple[str, str]] = []
    along = False
    for part in re.split(r"[,;:.!?()\n]+", text):
        for number, words in enumerate(_clauses(_joined(words_of(part)))):
            named, rest = _colors_apart(words)
            keys = [key_of(w) for w in rest if w not in FILLERS]
            if not keys and not heads and named[-1:] == ["orange"]:
                keys, named = ["orange"], named[:-1]  # the fruit
            along = along or (number > 0 and bool(heads))
            if along:
                tail += keys
                tail_colors += _colored(words)
                continue
            colors += named
            if heads:
                modifiers += keys  # "a barrel, old and wooden"
            elif keys:
                is_pair = rest[-2:-1] == ["and"] and len(keys) > 1
                heads, modifiers = (keys[-2:], keys[:-2]) if is_pair else (keys[-1:], keys[:-1])
    return Phrase(tuple(heads), tuple(modifiers), tuple(tail), tuple(colors), tuple(tail_colors))


def _colored(words: Sequence[str]) -> list[tuple[str, str]]:
    """Things and the colour before each: "pink icing and sprinkles" has pink icing, "red and white stripes" have both."""
    found: list[tuple[str, str]] = []
    run: list[str] = []
    for word in [*words, "and"]:
        named, rest = _colors_apart(run)
        nouns = [w for w in rest if w not in FILLERS]
        if word == "and" and nouns:
            found += [(key_of(nouns[-1]), color) for color in named]
            run = []
        else:
            run.append(word)
    return found


def _joined(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if found and (found[-1], word) in JOINED:
            found[-1] = JOINED[found[-1], word]
        else:
            found.append(word)
    return found


def _clauses(words: Sequence[str]) -> list[list[str]]:
    """A sentence cut at its separators; what it is without is left out."""
    found: list[list[str]] = [[]]
    hidden = False
    for word in words:
        now = found[-1]
        if word not in SEPARATORS:
            if not hidden:
                now.append(word)
            continue
        hidden = word == "without"
        last = now[-1] if now else ""
        if word == "of" and last in _PICTURES:
            now.clear()
        elif not (word == "of" and key_of(last) in _MEASURES):  # behind either, what follows is the thing itself
            found.append([])
    return found


def _colors_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The colours that are named, and the words that are none."""
    colors: list[str] = []
    rest: list[str] = []
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        if f"{before} {word}" in COLOR_NAMES:
            colors.append(f"{before} {word}")
            rest.pop()
        elif word in COLOR_NAMES and not (word == "cream" and before in ("whipped", "sour")):
            colors.append(word)
        else:
            rest.append(word)
    return colors, rest


class CaptionIndex:
    """How well things fit a prompt by their captions. Colours do not count: they can be painted.

    Args:
        captions: Of each thing; it fits as well as the best of them.
    """

    def __init__(self, captions: Iterable[Sequence[str]]) -> None:
        self._phrases: list[tuple[int, dict[str, float]]] = []  # whose, and its words with what their places count
        self._with_word: dict[str, list[int]] = {}
        self.num_things = 0
        for thing, one in enumerate(captions):
            self.num_things = thing + 1
            for phrase in dict.fromkeys(phrase_of(caption) for caption in one):
                for word in phrase.roles:
                    self._with_word.setdefault(word, []).append(len(self._phrases))
                self._phrases.append((thing, phrase.roles))
        self.counts = {word: len({self._phrases[p][0] for p in where}) for word, where in self._with_word.items()}
        """Words as `key_of` has them, with the number of things that have them."""
        self._pieces = {word: frozenset(pieces_of(word)) for word in self.counts}

    def scores(self, prompt: str) -> list[float]:
        """For each thing from 0, nothing of what is asked for, to 1, a caption with the same words."""
        found = [0.0] * self.num_things
        asked = phrase_of(prompt).roles
        like = {word: self._like(word) for word in asked}
        weights = {word: role * self._rarity(word, role) for word, role in asked.items()}
        for number in sorted({p for alike in like.values() for word in alike for p in self._with_word[word]}):
            thing, has = self._phrases[number]
            found[thing] = max(found[thing], self._score(has, asked, like, weights))
        return found

    def _score(
        self,
        has: dict[str, float],
        asked: dict[str, float],
        like: dict[str, dict[str, float]],
        weights: dict[str, float],
    ) -> float:
        matched: dict[str, float] = {}
        got = 0.0
        for word, role in asked.items():
            best, which = 0.0, ""
            for other, alike in like[word].items():
                if other in has:
                    places = (max(role, has[other]), min(role, has[other]))
                    worth = alike * _WORTH.get(places, 0.6)
                    if worth > best:
                        best, which = worth, other
            got += weights[word] * best
            if which:
                matched[which] = max(matched.get(which, 0.0), best)
        own = {word: role * self._rarity(word, role) for word, role in has.items()}
        wanted = sum(own[word] * worth for word, worth in matched.items())
        return got / sum(weights.values()) * (0.8 + 0.2 * wanted / sum(own.values()))

    def _rarity(self, word: str, role: float) -> float:
        count = self.counts.get(word, 0)
        rare = math.log(1 + self.num_things / max(count, 1))
        return rare if count or role == _HEAD else _UNKNOWN_WEIGHT * rare

    def _like(self, word: str) -> dict[str, float]:
        """Words of the captions that a word may mean: itself, or those that are spelt nearly so."""
        if word in self.counts:
            return {word: 1.0}
        return {other: 0.8 * alike for other, alike in self.near(word) if alike >= LEAST_ALIKE}

    def near(self, word: str) -> list[tuple[str, float]]:
        """Words of the captions that are spelt alike, see `spelt_alike`."""
        return spelt_alike(word, self._pieces)


def spelt_alike(word: str, others: Mapping[str, frozenset[str]]) -> list[tuple[str, float]]:
    """Words that are spelt alike and how much, 1 for the same, the nearest first.

    By pieces that both have (Dice), by the order of letters (difflib, for slips of the finger), or because the word ends in the other, as
    "bookshelf" does.

    Args:
        others: Words with their pieces, see `pieces_of`.
    """
    mine = frozenset(pieces_of(word))
    alike = {w: 2 * len(mine & pieces) / (len(mine) + len(pieces)) for w, pieces in others.items() if mine & pieces}
    if len(word) > 4:
        for other in difflib.get_close_matches(word, alike, n=5, cutoff=0.8):
            alike[other] = max(alike[other], difflib.SequenceMatcher(None, word, other).ratio())
    for other in alike:
        if len(other) > 3 and word.endswith(other):
            alike[other] = max(alike[other], 0.7)
    return sorted(alike.items(), key=lambda pair: (-pair[1], pair[0]))
