"""Which words the generators know: for whoever types a prompt. Asked with every key, so in the server and without torch."""

import difflib
import os
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mvgamba.errors import Unavailable, WeightsMissing
from mvgamba.multiview.prompts import words_of
from mvgamba.weights import default
from mvgamba.weights.header import read_header
from mvgamba.weights.user import folder_for

FAKE_WORDS = ("barrel", "barrier", "blue", "bucket", "chair", "chest", "crate", "red", "wooden")
"""Of the pipeline that plays."""
MOST_NEAREST = 3
ALIKE = 0.7
"""Least likeness of spelling (difflib) for a word to be offered instead of another."""


@dataclass(frozen=True)
class WordsFound:
    """What is known of a prompt and of the beginning of a word."""

    known: list[str] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    """Word to the known ones that are spelt alike."""
    suggestions: list[str] = field(default_factory=list)


def look_up(prompt: str, prefix: str, vocabulary: Sequence[str], *, num_suggestions: int) -> WordsFound:
    """
    Args:
        vocabulary: In the order of the alphabet.
    """
    words, there = list(dict.fromkeys(words_of(prompt))), set(vocabulary)
    unknown = {
        word: difflib.get_close_matches(word, vocabulary, MOST_NEAREST, ALIKE) for word in words if word not in there
    }
    begun = "".join(words_of(prefix)[:1])
    first = bisect_left(vocabulary, begun)
    suggestions = [word for word in vocabulary[first : first + num_suggestions] if begun and word.startswith(begun)]
    return WordsFound([word for word in words if word in there], unknown, suggestions)


class KnownWords:
    """The words of the generators that are installed. From any thread; what was read is kept until the file is another."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._read: dict[tuple[Path, int], tuple[str, ...]] = {}

    def of(self, generator: str) -> tuple[str, ...]:
        """In the order of the alphabet.

        Args:
            generator: auto, or a name.
        Raises:
            Unavailable: It has no list of words: it reads what it likes.
            WeightsMissing, WeightsCorrupt.
        """
        if self._pipeline == "fake":
            return FAKE_WORDS
        if generator not in ("auto", "starter"):
            raise Unavailable(f"{generator!r} has no list of words. Ask for starter, or for none.")
        weights = default("generator", "starter", folder_for(os.environ))
        if weights is None:
            raise WeightsMissing(
                "No weights of the starter generator are here. Install the package again, or train some."
            )
        key = (weights.path, weights.path.stat().st_mtime_ns)
        with self._lock:
            if key not in self._read:
                words = read_header(weights.path).get("config", {}).get("words", {}).get("vocabulary", [])
                self._read = {key: tuple(sorted(words))}
            return self._read[key]
