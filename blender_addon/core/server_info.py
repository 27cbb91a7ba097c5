"""What a server says about itself and about words, as plain data."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GeneratorInfo:
    """A model that makes views."""

    name: str
    """For `JobOptions.generator`."""
    is_available: bool
    why_not: str
    """In a sentence, for people."""
    sources: tuple[str, ...]
    """Of text, image and variation, what it begins from."""


@dataclass(frozen=True)
class ServerInfo:
    """What can be asked of a server."""

    is_ready: bool
    """Whether the rest is known already."""
    sources: tuple[str, ...]
    """Of capture, text, image and variation, what works there."""
    generators: tuple[GeneratorInfo, ...]


@dataclass(frozen=True)
class KnownWord:
    """A word or phrase that a generator reads."""

    word: str
    count: int = 0
    """Objects of its training that have it; 0 for one that is taken for others."""
    taken_for: str = ""
    """Known words that are read instead; empty for a word that is known itself."""
    is_rough: bool = False
    """What it is taken for only comes near."""


@dataclass(frozen=True)
class WordsFound:
    """What is known of a prompt, and of a word that is being typed."""

    known: tuple[str, ...] = ()
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Word that means nothing there to the known ones that are spelt alike, the nearest first."""
    suggestions: tuple[str, ...] = ()
    taken: tuple[KnownWord, ...] = ()
    """Words and phrases of the prompt that are taken for others."""
    vocabulary: tuple[KnownWord, ...] = ()
    """All that is known, the commonest first, where it was asked for."""
