"""What is taken of a prompt."""

import subprocess
import sys

import pytest

from mvgamba.errors import InvalidInput
from mvgamba.multiview.prompts import MOST_CHARACTERS, checked_prompt, plain_prompt, words_of


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  a\tred\n barrel ", "a red barrel"),
        ("a\x00barrel\u200b!", "a barrel !"),
        ("Fa\u0308sschen", "F\u00e4sschen"),
        ("\x07\u2028", ""),
        ("木桶 \U0001f6e2", "木桶 \U0001f6e2"),
    ],
)
def test_a_prompt_loses_what_nobody_sees(text: str, plain: str) -> None:
    assert plain_prompt(text) == plain
    assert plain_prompt(plain) == plain


def test_an_empty_or_endless_prompt_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is empty"):
        checked_prompt("\x00 \u200b")
    assert checked_prompt(" ", may_be_empty=True) == ""
    with pytest.raises(InvalidInput, match=f"has {MOST_CHARACTERS + 1} characters"):
        checked_prompt("x" * (MOST_CHARACTERS + 1))
    assert len(checked_prompt("x" * MOST_CHARACTERS + 100 * " ")) == MOST_CHARACTERS


def test_words_are_latin_letters_and_digits_without_accents() -> None:
    assert words_of("A Crème-brûlée, 3 barrels; it's 木桶") == ["a", "creme-brulee", "3", "barrels", "it's"]


def test_prompts_are_checked_without_torch() -> None:
    code = "import sys, mvgamba.multiview.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
