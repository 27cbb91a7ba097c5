"""Which reconstructor a job gets, and that the learned one is worth it."""

import dataclasses

import pytest
import torch

from mvgamba import weights
from mvgamba.evaluation.drawable import drawable_of, read_drawable
from mvgamba.evaluation.run import EvaluationSettings, photograph_subject, score_result
from mvgamba.pipeline import choose_reconstructor, generate
from mvgamba.types import GenerateOptions, GenerateRequest, PosedViews
from tests.mvgamba.data.objects import write_corpus

DRAFT = GenerateOptions(quality="draft", texture_size=256, target_faces=4000)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), 1)
    return photograph_subject(
        read_drawable(folder / "object_0.glb"), EvaluationSettings(num_views=4, image_size=128, seed=3)
    )


def test_few_views_get_the_learned_one_and_others_the_hull(subject, monkeypatch, tmp_path):
    views = subject.inputs
    assert choose_reconstructor(views, DRAFT)[0] == "ray"
    assert choose_reconstructor(views, dataclasses.replace(DRAFT, reconstructor="hull")) == ("hull", "asked for")
    deep = dataclasses.replace(views, depth=torch.ones_like(views.alpha))
    assert choose_reconstructor(deep, DRAFT)[0] == "hull"
    c2w, intrinsics = views.cameras.c2w.repeat(3, 1, 1), views.cameras.intrinsics.repeat(3, 1, 1)
    cameras = dataclasses.replace(views.cameras, c2w=c2w, intrinsics=intrinsics)
    many = PosedViews(views.rgb.repeat(3, 1, 1, 1), views.alpha.repeat(3, 1, 1, 1), cameras)
    name, because = choose_reconstructor(many, DRAFT)
    assert name == "hull" and because.startswith("12 views")
    monkeypatch.setattr(weights, "folder", lambda: tmp_path)
    assert choose_reconstructor(views, DRAFT) == ("hull", "no trained weights are installed")


@pytest.mark.slow
def test_four_views_of_a_box_with_a_knob_are_better_learned_than_carved(subject):
    scores = {}
    for name in ("auto", "hull"):
        result = generate(GenerateRequest(subject.inputs, dataclasses.replace(DRAFT, reconstructor=name)))
        assert result.facts["reconstructor"] == {"auto": "ray", "hull": "hull"}[name]
        scores[name], _ = score_result(subject, drawable_of(result.mesh))
    assert scores["auto"]["iou"] > scores["hull"]["iou"]
    assert scores["auto"]["psnr"] > scores["hull"]["psnr"]


def test_the_network_alone_gives_a_closed_mesh(subject):
    result = generate(GenerateRequest(subject.inputs, dataclasses.replace(DRAFT, refine=False)))
    assert result.facts["reconstructor"] == "ray"
    scores, _ = score_result(subject, drawable_of(result.mesh))
    assert scores["iou"] > 0.8
