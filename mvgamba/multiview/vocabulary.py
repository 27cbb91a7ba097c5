"""The words that the starter generator knows, and what it takes others for.

Known is what occurs in the captions that it learned from. `lexicon.json` takes some other words to those: synonyms, spellings, colours and
sizes, common things that come near ("roughly"), and the commonest nouns and colours of a few languages.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.multiview.captions import COLOR_NAMES, FILLERS, JOINED, SEPARATORS, key_of, phrase_of, spelt_alike
from mvgamba.multiview.prompts import pieces_of, words_of
from mvgamba.weights import default, memory_of
from mvgamba.weights.header import read_header

ROUGHLY = "roughly"
"""The group of the lexicon whose words are not synonyms."""
_LONGEST = 4
"""Words of a phrase in the lexicon."""
_LEAST_ALIKE = 0.3


@dataclass(frozen=True)
class Known:
    """A word of the captions."""

    word: str
    """As the captions spell it."""
    count: int
    """Training objects that have it."""


@dataclass(frozen=True)
class Synonym:
    """A word that is taken for known ones."""

    of: str
    """One or more words of the captions."""
    group: str
    """Of the lexicon: colors, qualities, things, roughly, or a language; spelling where it is the same word."""


@dataclass(frozen=True)
class Unknown:
    """A word that means nothing to the generator beyond its spelling."""

    nearest: tuple[str, ...]
    """Known words that are spelt alike; there may be none."""


@dataclass(frozen=True)
class Substitution:
    """What was said, and what it was taken for."""

    said: str
    taken: str
    is_rough: bool
    """The two are not the same, only near."""


@dataclass(frozen=True)
class Translation:
    """A prompt in words of the captions."""

    prompt: str
    substitutions: tuple[Substitution, ...]
    unknown: tuple[str, ...]
    """Words that stayed as they were though no caption has them."""
    known: tuple[str, ...] = ()
    """Words that needed no other, lower-case and without accents, each once."""


@dataclass(frozen=True)
class Entry:
    """A word or phrase that is read, for a list."""

    word: str
    count: int
    """Training objects that have it; 0 for one that is taken for others."""
    taken: str = ""
    is_rough: bool = False
    """What it is taken for only comes near."""


class Vocabulary:
    """See the module.

    Args:
        captions: Of each training object, the plain name first.
        lexicon: Groups of words and phrases with what they are taken for.
    """

    def __init__(self, captions: Iterable[Sequence[str]], lexicon: Mapping[str, Mapping[str, str]]) -> None:
        each = list(captions)
        words = [{w for caption in one for w in words_of(caption)} for one in each]
        self.words = Counter(w for one in words for w in one)
        """Those of the captions, with the number of objects that have them."""
        keys = [{key_of(w) for w in one} for one in words]
        self._keys = Counter(k for one in keys for k in one)
        self._spelt: dict[str, str] = {}
        for word, _ in sorted(self.words.items(), key=lambda pair: (-pair[1], pair[0])):
            self._spelt.setdefault(key_of(word), word)
        self._pieces = {word: frozenset(pieces_of(word)) for word in self.words}
        self._lexicon: dict[tuple[str, ...], Synonym] = {}
        for group, entries in lexicon.items():
            for said, taken in entries.items():
                self._lexicon.setdefault(tuple(_words(said)), Synonym(taken, group))
        heads = [{h for caption in one[:1] for h in phrase_of(caption).heads} for one in each]
        colors = [{c for caption in one for c in phrase_of(caption).colors} for one in each]
        self._colors = Counter(c for one in colors for c in one if c in COLOR_NAMES)
        spelt = self._spelt | {joined: " ".join(pair) for pair, joined in JOINED.items()}
        self._nouns = Counter(spelt[k] for one in heads for k in one if k in spelt)

    @property
    def lexicon(self) -> Mapping[tuple[str, ...], Synonym]:
        """Words and phrases, by their words."""
        return self._lexicon

    def lookup(self, word: str) -> Known | Synonym | Unknown:
        """One word or phrase. Singular and plural are the same."""
        said = tuple(_words(word))
        if len(said) == 1 and key_of(said[0]) in self._keys:
            key = key_of(said[0])
            return Known(said[0] if said[0] in self.words else self._spelt[key], self._keys[key])
        found = self._taken(said)
        if found is not None:
            return found
        if len(said) > 1 and all(key_of(w) in self._keys for w in said):
            return Known(" ".join(said), min(self._keys[key_of(w)] for w in said))
        return Unknown(tuple(self.nearest(word)))

    def nearest(self, word: str, n: int = 3) -> list[str]:
        """Known words that are spelt most like one, the most alike first, see `spelt_alike`; no two of them one word in singular and plural."""
        alike = spelt_alike("".join(_words(word)), self._pieces)
        found = {self._spelt[key_of(w)]: None for w, share in alike if share >= _LEAST_ALIKE}
        return [w for w in found if w not in FILLERS and w not in SEPARATORS][:n]

    def translate(self, prompt: str) -> Translation:
        """The prompt with what the captions do not have in words that they have, where the lexicon knows any; the rest as it is."""
        spans = [(m.start(), m.end(), _words(m[0])) for m in re.finditer(r"[^\W_]+(?:[-'’][^\W_]+)*", prompt)]
        pieces: list[str] = []
        substitutions: list[Substitution] = []
        unknown: list[str] = []
        known: list[str] = []
        at, i = 0, 0
        while i < len(spans):
            start, end, words = spans[i]
            length, found = self._longest(spans, i, prompt)
            if found is not None:
                end = spans[i + length - 1][1]
                pieces += [prompt[at:start], found.of]
                at = end
                if self._is_idle(found.of):
                    known += [w for _, _, run in spans[i : i + length] for w in run]
                else:
                    substitutions.append(Substitution(prompt[start:end], found.of, found.group == ROUGHLY))
            elif not words or not all(self._means_something(w) for w in words):
                unknown.append(prompt[start:end])
            else:
                known += words
            i += length
        joined = "".join([*pieces, prompt[at:]])
        if at:
            joined = re.sub(r"\b(a|an) (?=(\w))", lambda m: "an " if m[2] in "aeiou" else "a ", joined)
        return Translation(
            joined, tuple(substitutions), tuple(dict.fromkeys(unknown)), known=tuple(dict.fromkeys(known))
        )

    def entries(self) -> list[Entry]:
        """All that is read but words that mean nothing ("a", "with"): those of the captions, the commonest first, then the lexicon's."""
        words = sorted(self.words.items(), key=lambda pair: (-pair[1], pair[0]))
        found = [Entry(w, count) for w, count in words if not self._is_idle(w)]
        taken = sorted(((" ".join(said), s) for said, s in self._lexicon.items()), key=lambda pair: pair[0])
        return found + [Entry(said, 0, s.of, s.group == ROUGHLY) for said, s in taken if not self._is_idle(s.of)]

    def suggest(self, prefix: str = "", n: int = 10) -> list[tuple[str, int]]:
        """Nouns and colours that begin so, with the number of training objects, the commonest first; for a list beside a prompt."""
        begin = " ".join(words_of(prefix))
        found = [(w, c) for w, c in {**self.nouns(), **self.colors()}.items() if w.startswith(begin)]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:n]

    def nouns(self) -> dict[str, int]:
        """What objects are, with their number, the commonest first."""
        return dict(sorted(self._nouns.items(), key=lambda pair: (-pair[1], pair[0])))

    def colors(self) -> dict[str, int]:
        """Colour words, with the number of objects whose captions name them, the commonest first."""
        return dict(sorted(self._colors.items(), key=lambda pair: (-pair[1], pair[0])))

    def _longest(
        self, spans: Sequence[tuple[int, int, list[str]]], first: int, prompt: str
    ) -> tuple[int, Synonym | None]:
        """How many words of a prompt, from one on, are taken for something else, and for what. Known words are left alone."""
        for length in range(min(_LONGEST, len(spans) - first), 0, -1):
            run = spans[first : first + length]
            if re.search(r"[,;:.!?()\n]", prompt[run[0][0] : run[-1][1]]):
                continue  # not one phrase
            said = tuple(w for _, _, words in run for w in words)
            if length == 1 and said and all(self._means_something(w) for w in said):
                break
            found = self._taken(said) or (self._split(said[0]) if len(said) == 1 else None)
            if found is not None and not (found.group == ROUGHLY and self._describes(spans, first + length, prompt)):
                return length, found
        return 1, None

    def _describes(self, spans: Sequence[tuple[int, int, list[str]]], following: int, prompt: str) -> bool:
        """Whether another noun follows, so that what comes before only describes it: a cat bed is a bed, and not like a dog."""
        if following == len(spans) or re.search(r"[,;:.!?()\n]", prompt[spans[following - 1][1] : spans[following][0]]):
            return False
        return not any(w in SEPARATORS or w in FILLERS for w in spans[following][2])

    def _split(self, word: str) -> Synonym | None:
        """A word with a hyphen or an 's that is known without."""
        if word.endswith("'s"):
            base = word[:-2]
            found = self._taken((base,))
            if key_of(base) in self._keys:
                return Synonym(base, "spelling")
            return found if found is not None and found.group != ROUGHLY else None
        parts = tuple(word.split("-"))
        if len(parts) == 1:
            return None
        if all(self._means_something(part) for part in parts):
            return self._taken(parts) or Synonym(" ".join(parts), "spelling")
        return self._taken(parts)

    def _taken(self, said: tuple[str, ...]) -> Synonym | None:
        if not said:
            return None
        if said in self._lexicon:
            return self._lexicon[said]
        # plurals: the last word is the noun
        return self._singulars.get((*said[:-1], key_of(said[-1])))

    @functools.cached_property
    def _singulars(self) -> dict[tuple[str, ...], Synonym]:
        found: dict[tuple[str, ...], Synonym] = {}
        for said, synonym in self._lexicon.items():
            found.setdefault((*said[:-1], key_of(said[-1])), synonym)
        return found

    @staticmethod
    def _is_idle(word: str) -> bool:
        return word in FILLERS or word in SEPARATORS

    def _means_something(self, word: str) -> bool:
        return key_of(word) in self._keys or word in FILLERS or word in SEPARATORS or word.isdigit()


def vocabulary_source(user_folder: Path | None = None) -> Path:
    """The file that says which words the starter generator knows: the table of its memory, or its weights where it has none.

    Raises: WeightsMissing, WeightsCorrupt.
    """
    generator = default("generator", "starter", user_folder)
    if generator is None:
        raise WeightsMissing("No weights of the starter generator are here. Install the package again, or train some.")
    memory = memory_of(generator, user_folder)
    return generator.path if memory is None else memory.path.with_suffix(".json")


def read_vocabulary(source: Path) -> Vocabulary:
    """From a `vocabulary_source`; neither pictures nor tensors are read. Weights alone know their words, and no lexicon is asked for them.

    Raises: WeightsMissing, WeightsCorrupt.
    """
    if source.suffix != ".json":
        words = read_header(source).get("config", {}).get("words", {}).get("vocabulary", [])
        return Vocabulary([(word,) for word in words], {})
    try:
        captions = [tuple(row["captions"]) for row in json.loads(source.read_text(encoding="utf-8"))["objects"]]
    except FileNotFoundError as error:
        raise WeightsMissing(f"{source} is not there; a memory is a picture and a table. Import it again.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsCorrupt(f"{source} is not the table of a starter generator's memory: {error!r}.") from error
    return Vocabulary(captions, read_lexicon())


@functools.cache
def read_lexicon() -> dict[str, dict[str, str]]:
    """The one that comes with the package."""
    text = resources.files("mvgamba.multiview").joinpath("lexicon.json").read_text(encoding="utf-8")
    groups: dict[str, dict[str, str]] = json.loads(text)
    return groups


def _words(text: str) -> list[str]:
    """As `words_of`, which knows no sharp s and no curly apostrophe."""
    return words_of(text.replace("ß", "ss").replace("’", "'"))
