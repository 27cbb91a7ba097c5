"""What the extension says, in other languages: one JSON file for each, English sentence to translated one."""

import json
import logging
from pathlib import Path

import bpy

from ..core.i18n import CONTEXT

log = logging.getLogger(__name__)

LANGUAGES = {"de": ("de", "de_DE"), "ja": ("ja", "ja_JP"), "zh": ("zh_HANS", "zh_CN")}
"""File to the names that Blender, across its versions, has for the language."""
CONTEXTS = ("*", CONTEXT)
"""Blender looks tooltips up without a context, and all else of ours in our own (`scene.classes`)."""


def read_catalog(language: str) -> dict[str, str]:
    """English to translated sentences of one language."""
    path = Path(__file__).with_name(f"{language}.json")
    return json.loads(path.read_text(encoding="utf-8"))


def current_catalog() -> Path | None:
    """The file of the language that Blender speaks now; None for English and for languages that we do not have."""
    spoken = bpy.app.translations.pgettext_iface(_PROBE, CONTEXT)
    return _catalogs.get(spoken)


_PROBE = "The backend does not answer"
_catalogs: dict[str, Path] = {}
"""The file in which the probe is said like this."""


def register() -> None:
    table: dict[str, dict[tuple[str, str], str]] = {}
    for language, names in LANGUAGES.items():
        catalog = read_catalog(language)
        _catalogs[catalog[_PROBE]] = Path(__file__).with_name(f"{language}.json")
        entries = {(context, key): text for key, text in catalog.items() for context in CONTEXTS}
        table.update(dict.fromkeys(names, entries))
    bpy.app.translations.register(__package__, table)


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
