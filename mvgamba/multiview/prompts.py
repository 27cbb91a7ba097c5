"""Prompts as text: what is taken of them, and which words they hold. Without torch, so that a service can ask before a model is loaded."""

import re
import unicodedata

from mvgamba.errors import InvalidInput

MOST_CHARACTERS = 2000
"""Of a prompt."""
_WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*")


def plain_prompt(text: str) -> str:
    """Composed characters, single blanks, and no control characters."""
    plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)
    return " ".join(unicodedata.normalize("NFC", plain).split())


def checked_prompt(text: str, *, may_be_empty: bool = False) -> str:
    """`plain_prompt`. Raises: InvalidInput if it is empty or too long."""
    plain = plain_prompt(text)
    if not plain and not may_be_empty:
        raise InvalidInput("The prompt is empty; describe one object in a few words, such as: a red wooden barrel.")
    if len(plain) > MOST_CHARACTERS:
        raise InvalidInput(
            f"The prompt has {len(plain)} characters; at most {MOST_CHARACTERS} are taken. A few words do best."
        )
    return plain


def words_of(text: str) -> list[str]:
    """Lower-case words of Latin letters and digits, accents taken off; nothing for other scripts."""
    plain = unicodedata.normalize("NFKD", text).lower()
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def pieces_of(word: str) -> list[str]:
    """Runs of three, four and five letters, with marks where the word begins and ends."""
    marked = f"<{word}>"
    return [marked[i : i + n] for n in (3, 4, 5) for i in range(max(len(marked) - n + 1, 0))]
