"""Which reconstructor a job gets, and that the learned one is worth it."""

import contextlib
import dataclasses

import pytest
import torch

from mvgamba import weights
from mvgamba.errors import EmptyReconstruction
from mvgamba.evaluation.drawable import drawable_of, read_drawable
from mvgamba.evaluation.run import EvaluationSettings, photograph_subject, score_result
from mvgamba.pipeline import choose_reconstructor, generate
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork
from mvgamba.reconstructor.ray_reconstructor import save_ray_network
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


def test_a_learned_start_that_misses_the_silhouettes_gives_way_to_the_hull(subject, tmp_path, caplog):
    # weights that say "at the far side" for every ray, and that nothing is seen from the top
    network = RayNetwork(RayConfig(width=32, num_layers=1))
    with torch.no_grad():
        network.pixel[-1].weight.zero_()
        network.pixel[-1].bias.copy_(torch.tensor([12.0, -5.0, -12.0, 0.0, 0.0, 0.0]))
    save_ray_network(network, tmp_path / "wrong.safetensors")
    options = dataclasses.replace(DRAFT, refine=False, weights=tmp_path / "wrong.safetensors")
    facts = generate(GenerateRequest(subject.inputs, options)).facts
    assert facts["reconstructor"] == "hull" and "meets a silhouette by" in facts["reconstructor_because"]
    assert "Going on from the visual hull" in caplog.text
    # who asks for it gets it
    asked = dataclasses.replace(options, reconstructor="ray")
    with contextlib.suppress(EmptyReconstruction):
        assert generate(GenerateRequest(subject.inputs, asked)).facts["reconstructor"] == "ray"
