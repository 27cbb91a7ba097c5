"""What the generator knows of a prompt, asked in a thread, so that a text field can say so without waiting."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from .errors import AddonError
from .i18n import tr
from .server_info import WordsFound

log = logging.getLogger(__name__)

MOST_SUGGESTIONS = 12


class WordClient(Protocol):
    """What is asked of a connection. Raises: AddonError."""

    def look_up_words(self, prompt: str, *, list_all: bool = False) -> WordsFound: ...

    def close(self) -> None: ...


class WordBook:
    """Answers that have come, by prompt. `look_up` and the readers belong to the main thread."""

    def __init__(self) -> None:
        self._found: dict[str, WordsFound] = {}
        self._known: tuple[str, ...] = ()
        """The commonest first, and then what is taken for them."""
        self._recent: list[str] = []
        self._thread: threading.Thread | None = None
        self._waiting = ""
        self.is_changed = False
        """Whether an answer has come that nobody has shown yet; the one who shows it sets this back."""

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def look_up(self, prompt: str, connect: Callable[[], WordClient]) -> None:
        """Ask about a prompt unless the answer is there; returns at once. While one is asked the latest other waits."""
        self._waiting = prompt
        if self.is_busy or (prompt in self._found and self._known):
            return
        self._thread = threading.Thread(target=self._ask, args=(connect,), name="mvgamba-words", daemon=True)
        self._thread.start()

    def remember(self, prompt: str) -> None:
        """A prompt that was sent, to be suggested again."""
        if prompt:
            self._recent = [prompt, *(p for p in self._recent if p != prompt)][:MOST_SUGGESTIONS]

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def note(self, prompt: str) -> str:
        """What a person should know of the words of a prompt; empty when all are read as they are meant, or nothing is known yet."""
        found = self._found.get(prompt, WordsFound())
        unknown = found.unknown
        if not unknown:
            rough = next((one for one in found.taken if one.is_rough), None)
            if rough is None:
                return ""
            text = tr('"{word}" is read as "{taken}", which only comes near')
            return text.format(word=rough.word, taken=rough.taken_for)
        word, nearest = max(unknown.items(), key=lambda item: bool(item[1]))  # the first that something is near to
        more = tr("; {count} more unknown").format(count=len(unknown) - 1) if len(unknown) > 1 else ""
        if nearest:
            text = tr('"{word}" is unknown to the generator, near to it: {nearest}')
            return text.format(word=word, nearest=", ".join(nearest)) + more
        return tr('"{word}" is unknown to the generator').format(word=word) + more

    def completions(self, text: str) -> list[str]:
        """What a prompt that is being typed may become: prompts of before, then its last word made whole."""
        begun = text.casefold()
        found = [prompt for prompt in self._recent if prompt.casefold().startswith(begun) and prompt != text]
        head, _, last = text.rpartition(" ")
        if last:
            stem = last.casefold()
            lead = f"{head} " if head else ""
            found += [lead + word for word in self._known if word.startswith(stem) and word != stem]
        return found[:MOST_SUGGESTIONS]

    def _ask(self, connect: Callable[[], WordClient]) -> None:
        try:
            client = connect()
            try:
                while True:
                    prompt = self._waiting
                    if prompt not in self._found:
                        self._found[prompt] = client.look_up_words(prompt)
                        self.is_changed = True
                    if prompt == self._waiting:
                        break
                if not self._known:
                    self._known = tuple(one.word for one in client.look_up_words("", list_all=True).vocabulary)
            finally:
                client.close()
        except AddonError as error:
            log.debug("no word on the words: %s", error)
