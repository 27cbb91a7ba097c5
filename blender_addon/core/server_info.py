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
class WordsFound:
    """What is known of a prompt, and of a word that is being typed."""

    known: tuple[str, ...] = ()
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Word to the known ones that are spelt alike, the nearest first."""
    suggestions: tuple[str, ...] = ()
