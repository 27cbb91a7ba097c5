"""What the generator knows of a prompt, as far as answers have come: a text field says so without waiting."""

from collections.abc import Callable

from .i18n import tr
from .server_info import WordsFound

MOST_SUGGESTIONS = 12


class WordBook:
    """Answers that have come, by prompt."""

    def __init__(self, ask: Callable[[str, bool], None]) -> None:
        """
        Args:
            ask: Given a prompt, and whether everything that is known is asked for too; `take` gets the answer later.
        """
        self._ask = ask
        self._found: dict[str, WordsFound] = {}
        self._known: tuple[str, ...] = ()
        """The commonest first, and then what is taken for them."""
        self._recent: list[str] = []
        self._asked: str | None = None
        """The prompt whose answer has not come."""
        self._waiting = ""
        self.is_changed = False
        """Whether an answer has come that nobody has shown yet; the one who shows it sets this back."""

    @property
    def is_busy(self) -> bool:
        return self._asked is not None

    def look_up(self, prompt: str) -> None:
        """Ask about a prompt unless the answer is there. While one is asked the latest other waits."""
        self._waiting = prompt
        if self.is_busy or (prompt in self._found and self._known):
            return
        self._asked = prompt
        self._ask(prompt, not self._known)

    def take(self, prompt: str, found: WordsFound | None) -> None:
        """The answer to a question; None when there is none. That of somebody who is not asked any more is passed over."""
        if prompt != self._asked:
            return
        self._asked = None
        if found is None:
            return
        self._found[prompt] = found
        self._known = tuple(one.word for one in found.vocabulary) or self._known
        self.is_changed = True
        if self._waiting != prompt:
            self.look_up(self._waiting)

    def forget(self) -> None:
        """Another generator is asked from now on, which may know other words."""
        self._found.clear()
        self._known, self._asked = (), None

    def remember(self, prompt: str) -> None:
        """A prompt that was sent, to be suggested again."""
        if prompt:
            self._recent = [prompt, *(p for p in self._recent if p != prompt)][:MOST_SUGGESTIONS]

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
