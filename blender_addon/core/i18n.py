"""Sentences in the language of the person. No bpy here: the part of the extension that knows Blender says how to translate."""

from collections.abc import Callable

CONTEXT = "MVGamba"
"""In which Blender looks our words up, so that they are not taken for its own."""

_translate: Callable[[str], str] | None = None


def tr(text: str) -> str:
    """A literal sentence or label, in the language that is set. Fill in values afterwards: `tr("{n} views").format(n=8)`.

    What is given to it as a literal is found by the tool that collects what is to be translated.
    """
    return _translate(text) if _translate is not None else text


def use_translator(translate: Callable[[str], str] | None) -> None:
    """How `tr` translates from now on; None for not at all."""
    global _translate
    _translate = translate
