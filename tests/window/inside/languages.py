"""The panel in each language of the extension."""

from collections.abc import Iterator

import bpy
from harness import Window

SAID = ("Generate", "Start", "Reveal", "Enter a prompt", "Queued, {count} ahead")
"""Among them words that Blender itself translates otherwise."""


def steps(window: Window) -> Iterator[float]:
    window.view.spaces.active.overlay.show_overlays = False  # one colour below the panels, for trimming
    yield from window.open_sidebar()
    view, settings = bpy.context.preferences.view, bpy.context.scene.mvgamba
    settings.source = "TEXT"
    said: dict[str, list[str]] = {}
    for file, names in window.module("translations").LANGUAGES.items():
        name = next(name for name in names if name in bpy.app.translations.locales)
        view.language = name
        view.use_translate_interface = view.use_translate_tooltips = True
        yield 2.0
        window.region("UI").tag_redraw()
        yield 1.0
        window.sidebar_picture(f"language_{file}")
        said[file] = [window.module("core.i18n").tr(text) for text in SAID]
    view.language = "en_US"
    yield 1.0
    window.report.update(said=said, again=[window.module("core.i18n").tr(text) for text in SAID])
