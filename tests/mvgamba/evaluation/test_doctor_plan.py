"""What `mvgamba doctor --plan` says, in values and for people."""

import dataclasses
import json

import pytest

from mvgamba.errors import InvalidInput
from mvgamba.evaluation import doctor
from mvgamba.planning import Memory
from mvgamba.types import GenerateOptions

OPTIONS = GenerateOptions(quality="standard", device="cpu")


def test_a_plan_that_fits_has_its_peak_and_nothing_reduced(monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda device: Memory(64 << 30, 0))
    facts = doctor.examine_plan(OPTIONS, views=8, image_size=256)
    assert facts["fits"] and facts["reduced"] == [] and facts["problem"] is None
    assert facts["peak_gib"] == max(facts["stages_gib"].values()) > 0.3
    assert json.loads(json.dumps(facts)) == facts
    text = doctor.plan_to_text(facts)
    assert all(f"  {stage} " in text for stage in facts["stages_gib"])
    assert "8 views of 256 x 256" in text and "It fits as it is." in text


def test_a_short_machine_is_told_what_would_be_given_up(monkeypatch):
    options = GenerateOptions(texture_size=8192, device="cpu")
    monkeypatch.setattr(doctor, "free_memory", lambda device: Memory(4 << 30, 0))
    facts = doctor.examine_plan(options, views=8, image_size=256)
    assert facts["fits"] and facts["reduced"]
    assert f"Memory is short: {facts['reduced'][0]}" in doctor.plan_to_text(facts)


def test_a_job_that_cannot_fit_says_so_with_the_numbers(monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda device: Memory(1 << 27, 0))
    facts = doctor.examine_plan(OPTIONS, views=8, image_size=256)
    assert not facts["fits"] and "0.12 GiB are free" in facts["problem"]
    assert facts["problem"] in doctor.plan_to_text(facts)


def test_a_budget_is_told_beside_what_is_free(monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda device: Memory(64 << 30, 0))
    options = dataclasses.replace(OPTIONS, texture_size=4096, memory_mib=2048)
    facts = doctor.examine_plan(options, views=8, image_size=256)
    assert facts["fits"] and facts["reduced"] and (facts["free_gib"], facts["budget_gib"]) == (64.0, 2.0)
    assert "  budget          2.00 GiB" in doctor.plan_to_text(facts)
    assert "budget" not in doctor.plan_to_text(doctor.examine_plan(OPTIONS, views=8, image_size=256))


@pytest.mark.parametrize(("views", "size", "words"), [(0, 256, "views is 0"), (8, 0, "height is 0")])
def test_impossible_sizes_are_refused(views, size, words):
    with pytest.raises(InvalidInput, match=words):
        doctor.examine_plan(OPTIONS, views=views, image_size=size)
