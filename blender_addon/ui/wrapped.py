"""Sentences over several lines: a label of Blender's has one, and what does not fit into it is left out in its middle."""

import functools
import unicodedata
from collections.abc import Iterator

import bpy

UNITS_PER_COLUMN = 6.3
"""Width of an average letter of Blender's font, in units of the interface."""
FRAME = 62.0
"""What panel, box and icon take of the width, in units of the interface."""
USUAL_COLUMNS = 34
"""Of a sidebar as wide as Blender makes it; where there is no region to measure."""
MOST_LINES = 6


def draw_text(layout: bpy.types.UILayout, text: str, *, icon: str = "NONE") -> None:
    """A sentence, already translated, with an icon before its first line."""
    lines = _lines(text, columns(bpy.context.region))
    column = layout.column(align=True)
    column.scale_y = 0.8 if len(lines) > 1 else 1.0
    for number, line in enumerate(lines):
        column.label(text=line, icon=icon if number == 0 else ("BLANK1" if icon != "NONE" else "NONE"), translate=False)


def columns(region: bpy.types.Region | None) -> int:
    """How many letters a line of a region has room for."""
    if region is None or region.type not in ("UI", "WINDOW") or region.width <= 1:
        return USUAL_COLUMNS
    units = region.width / bpy.context.preferences.system.ui_scale
    return max(16, int((units - FRAME) / UNITS_PER_COLUMN))


@functools.lru_cache(maxsize=512)
def _lines(text: str, room: int) -> tuple[str, ...]:
    """Kept, because panels draw the same sentences again and again."""
    return tuple(wrapped(text, room))[:MOST_LINES]


def wrapped(text: str, room: int) -> Iterator[str]:
    """Lines of at most `room` columns, broken between words where there are blanks; letters of CJK take two and break anywhere."""
    line = ""
    for piece in _pieces(text):
        if line.strip() and _width(line + piece.rstrip()) > room:
            yield line.strip()
            line = ""
        line += piece
        while _width(line.rstrip()) > room:  # a word longer than a line, such as a path
            cut = next(n for n in range(len(line), 0, -1) if _width(line[:n]) <= room)
            yield line[:cut]
            line = line[cut:]
    if line.strip():
        yield line.strip()


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for letter in text:
        if piece and (_is_wide(letter) or _is_wide(piece[-1]) or (piece[-1] == " " and letter != " ")):
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece


def _width(text: str) -> int:
    return sum(2 if _is_wide(letter) else 1 for letter in text)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in ("W", "F")
