import re
from pathlib import Path

import pytest

from blender_addon.core.errors import REMEDIES, remedy, sentence
from blender_addon.core.i18n import use_translator

ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_of_the_library_has_a_sentence():
    errors = pytest.importorskip("mvgamba.errors", reason="the library is not importable here")

    def tree(cls):
        yield cls
        for sub in cls.__subclasses__():
            yield from tree(sub)

    missing = {cls.reason for cls in tree(errors.MVGambaError)} - REMEDIES.keys()
    assert not missing


def test_every_reason_of_the_service_has_a_sentence():
    errors = pytest.importorskip("mvgamba_backend.errors", reason="the service is not importable here")
    assert not errors.STATUS_OF_REASON.keys() - REMEDIES.keys()


def test_every_button_is_an_operator_of_the_extension():
    source = "".join(path.read_text() for path in (ROOT / "blender_addon" / "ui").glob("*.py"))
    operators = set(re.findall(r'bl_idname = "([a-z_.]+)"', source))
    assert {button.operator for row in REMEDIES.values() for button in row.buttons} <= operators


def test_sentences_are_short_and_have_no_final_period():
    for row in REMEDIES.values():
        assert 5 < len(row.sentence) < 60 and not row.sentence.endswith(".")
        assert row.buttons and all(button.label == button.label.title() for button in row.buttons)


def test_every_job_that_failed_has_a_button():
    for reason, row in REMEDIES.items():
        for kind in ("capture", "text", "image", "variation"):
            assert row.buttons_for(kind), (reason, kind)


def test_buttons_fit_the_job():
    empty = REMEDIES["EMPTY_RECONSTRUCTION"]
    assert [button.label for button in empty.buttons_for("capture")] == ["Retry With More Views"]
    assert [button.label for button in empty.buttons_for("text")] == ["New Seed", "Approve Views"]


def test_sentences_and_buttons_are_in_the_language_of_the_person():
    use_translator(str.upper)
    try:
        assert sentence("QUEUE_FULL") == "THE BACKEND'S QUEUE IS FULL"
        assert REMEDIES["PORT_IN_USE"].button == "USE AUTOMATIC PORT"
    finally:
        use_translator(None)


def test_the_detail_of_the_server_follows_on_one_line():
    assert (
        sentence("OUT_OF_MEMORY", "needed 11.2 GB,\n7.9 GB free.") == "Not enough memory: needed 11.2 GB, 7.9 GB free"
    )
    assert sentence("QUEUE_FULL", "32 jobs") == "The backend's queue is full"


def test_a_reason_of_a_newer_server_is_still_a_sentence():
    assert remedy("NOT_YET_INVENTED") is REMEDIES["INTERNAL"]
