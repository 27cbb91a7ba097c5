"""Which words the generators know: for whoever types a prompt. Asked with every key, so in the server and without torch."""

import os
import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mvgamba.errors import Unavailable
from mvgamba.multiview.prompts import words_of
from mvgamba.multiview.vocabulary import Entry, Vocabulary, read_vocabulary, vocabulary_source
from mvgamba.weights.user import folder_for

FAKE_WORDS = ("barrel", "barrier", "blue", "bucket", "chair", "chest", "crate", "red", "wooden")
FAKE_LEXICON = {"things": {"cask": "barrel"}, "roughly": {"stool": "chair"}}
"""Of the pipeline that plays."""
MOST_LISTED_BYTES = 64 << 10
_ENTRY_BYTES = 12
"""Of an entry beside its text, at most."""


@dataclass(frozen=True)
class UnknownWord:
    """A word of a prompt that the generator was not taught."""

    word: str
    nearest: tuple[str, ...] = ()
    """Known ones that are spelt alike."""
    taken_for: str = ""
    """Known ones that are read instead."""
    is_rough: bool = False
    """These only come near."""


@dataclass(frozen=True)
class WordsFound:
    """What is known of a prompt and of the beginning of a word."""

    known: tuple[str, ...] = ()
    unknown: tuple[UnknownWord, ...] = ()
    suggestions: tuple[str, ...] = ()
    vocabulary: tuple[Entry, ...] = field(default=(), repr=False)
    """Everything, where that was asked for."""


def look_up(
    prompt: str, prefix: str, vocabulary: Vocabulary, *, num_suggestions: int, list_all: bool = False
) -> WordsFound:
    read = vocabulary.translate(prompt)
    unknown = [UnknownWord(s.said.lower(), (), s.taken, s.is_rough) for s in read.substitutions]
    strange = dict.fromkeys(word.lower() for word in read.unknown)
    unknown += [UnknownWord(word, tuple(vocabulary.nearest(word))) for word in strange]
    return WordsFound(
        read.known,
        tuple({one.word: one for one in unknown}.values()),
        _begun(prefix, vocabulary, num_suggestions),
        _listed(vocabulary.entries()) if list_all else (),
    )


def _begun(prefix: str, vocabulary: Vocabulary, count: int) -> tuple[str, ...]:
    """In the order of the alphabet."""
    begun = "".join(words_of(prefix)[:1])
    if not begun:
        return ()
    words = sorted(vocabulary.words)
    first = bisect_left(words, begun)
    return tuple(word for word in words[first : first + count] if word.startswith(begun))


def _listed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """As many as may be told at once."""
    found, left = [], MOST_LISTED_BYTES
    for entry in entries:
        left -= len(entry.word.encode()) + len(entry.taken.encode()) + _ENTRY_BYTES
        if left < 0:
            break
        found.append(entry)
    return tuple(found)


class KnownWords:
    """The words of the generators that are installed. From any thread; what was read is kept until the file is another."""

    def __init__(self, pipeline: str) -> None:
        self._fake = Vocabulary([(word,) for word in FAKE_WORDS], FAKE_LEXICON) if pipeline == "fake" else None
        self._lock = threading.Lock()
        self._read: dict[tuple[Path, int], Vocabulary] = {}

    def of(self, generator: str) -> Vocabulary:
        """
        Args:
            generator: auto, or a name.
        Raises:
            Unavailable: It has no list of words: it reads what it likes.
            WeightsMissing, WeightsCorrupt.
        """
        if self._fake is not None:
            return self._fake
        if generator not in ("auto", "starter"):
            raise Unavailable(f"{generator!r} has no list of words. Ask for starter, or for none.")
        source = vocabulary_source(folder_for(os.environ))
        with self._lock:
            key = (source, source.stat().st_mtime_ns if source.is_file() else 0)
            if key not in self._read:
                self._read = {key: read_vocabulary(source)}
            return self._read[key]
