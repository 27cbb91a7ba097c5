"""What a server says about itself and about words, as plain data, and whether this extension can talk to it."""

import re
from dataclasses import dataclass, field

from .errors import AddonError
from .i18n import tr

API = "v1"
"""The revision of the contract that is spoken here."""
OLDEST_BACKEND = "0.1.0"
"""The oldest backend that has every call that is made here."""


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
class DeviceInfo:
    """Where a server computes."""

    id: str
    """For `JobOptions.device`."""
    name: str
    memory_bytes: int
    """0 when it is not told."""
    free_memory_bytes: int


@dataclass(frozen=True)
class ServerInfo:
    """What can be asked of a server."""

    is_ready: bool
    """Whether the rest is known already."""
    sources: tuple[str, ...]
    """Of capture, text, image and variation, what works there."""
    generators: tuple[GeneratorInfo, ...]
    version: str = ""
    api: tuple[str, ...] = ()
    """Revisions of the contract that are served."""
    devices: tuple[DeviceInfo, ...] = ()
    num_queued: int = 0
    num_running: int = 0
    problem: str = ""
    """Why the pipeline does not load, in a sentence."""
    packages: tuple[tuple[str, str], ...] = ()
    """Names and versions, such as torch."""

    def lacks(self, device: str) -> bool:
        """Whether jobs for this device (`JobOptions.device`) are refused there, as far as that is known."""
        if not self.devices or device in ("", "auto"):
            return False
        ids = [known.id for known in self.devices]
        return not any(known.startswith("cuda") for known in ids) if device == "cuda" else device not in ids


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


def check_version(version: str, api: tuple[str, ...]) -> None:
    """Raises: AddonError, VERSION_MISMATCH, when this extension cannot talk to a backend that says this of itself."""
    found = version or tr("of an unknown version")
    if version_key(version) < version_key(OLDEST_BACKEND):
        text = tr("backend {found} is too old for this extension, which needs {needed}")
        raise AddonError("VERSION_MISMATCH", text.format(found=found, needed=OLDEST_BACKEND))
    if API not in api:
        text = tr("backend {found} speaks {spoken}, this extension {needed}")
        raise AddonError("VERSION_MISMATCH", text.format(found=found, spoken=", ".join(api) or "?", needed=API))


def version_key(version: str) -> tuple[int, ...]:
    """Orders versions such as 0.1.0 and 0.10; what follows the numbers is passed over."""
    numbers = [int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3]]
    return tuple(numbers + [0] * (3 - len(numbers))) if numbers else (-1,)
