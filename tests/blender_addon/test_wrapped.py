"""Sentences that are longer than a panel is wide."""

import pytest

pytest.importorskip("bpy", reason="needs Blender's Python")

pytestmark = pytest.mark.blender


@pytest.fixture
def wrapped(addon):
    module = addon.module("ui.wrapped")
    return lambda text, room: list(module.wrapped(text, room))


def test_lines_break_between_words(wrapped):
    assert wrapped("the backend is loading, jobs start", 16) == ["the backend is", "loading, jobs", "start"]
    assert wrapped("short", 16) == ["short"] and wrapped("", 16) == []


def test_what_has_no_blanks_is_cut(wrapped):
    lines = wrapped("/home/somebody/a/very/long/path/of/a/file.blend", 16)
    assert max(map(len, lines)) <= 16 and "".join(lines) == "/home/somebody/a/very/long/path/of/a/file.blend"


def test_wide_letters_count_twice_and_break_anywhere(wrapped):
    assert wrapped("作業はバックエンドを待ちます", 10) == ["作業はバッ", "クエンドを", "待ちます"]


def test_nothing_is_lost(wrapped):
    text = "one two  three 四五六 seven-eight nine"
    assert "".join("".join(wrapped(text, 9)).split()) == "".join(text.split())


def test_without_a_region_the_usual_width_is_taken(addon):
    assert addon.module("ui.wrapped").columns(None) == 34
