"""What `run.json` may hold, and what the named runs are."""

import dataclasses
import json

import pytest

from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.presets import PRESETS as NETWORKS
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.training.config import PRESETS, SurfelOptions, TrainConfig
from mvgamba.training.surfel_loss import SurfelLossWeights


def test_the_published_runs_are_those_of_the_paper_and_the_code():
    paper, released = PRESETS["paper"], PRESETS["released"]
    for run, least, chance in ((paper, 1e-5, 0.3), (released, 1e-4, 0.5)):
        assert (run.model, run.learning_rate, run.least_learning_rate) == ("mvgamba", 1e-3, least)
        assert (run.weight_decay, run.clip, run.precision, run.checkpointing) == (0.05, 1.0, "bf16", True)
        assert (run.losses.rgb, run.losses.mask, run.losses.perceptual, run.losses.opacity) == (1.0, 1.0, 0.6, 0.001)
        augmentation = run.surfels.augmentation
        assert (augmentation.grid_distortion, augmentation.camera_jitter) == (chance, chance)
        assert run.network.image_size == 448 and run.surfels.num_others == 6
        assert run.learning_rate_at(run.warm_up) == pytest.approx(1e-3)
        assert run.learning_rate_at(run.steps) == pytest.approx(least)
    assert paper.network == NETWORKS["paper"] and released.network == NETWORKS["released"]
    assert paper.steps == 300 * 80_000 // paper.batch_size and released.steps == 900 * 80_000 // released.batch_size


def test_the_choice_of_rotations_cools_as_published():
    paper, released = PRESETS["paper"], PRESETS["released"]
    at = [paper.surfels.temperature_at(step, paper.steps) for step in (0, paper.steps // 2, paper.steps)]
    assert at[0] == 2.0 and at[2] == pytest.approx(0.01) and at[1] == pytest.approx((2.0 * 0.01) ** 0.5, rel=1e-3)
    assert released.surfels.temperature_at(100_000, released.steps) == pytest.approx(2 * 0.999995**100_000)
    assert released.surfels.temperature_at(10**7, released.steps) == 0.5


def test_a_file_names_a_preset_and_changes_what_it_likes(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps({"preset": "paper", "data": "D", "batch_size": 4, "network": {"width": 64}, "losses": {"mask": 2}})
    )
    config = TrainConfig.read(path)
    assert config.network == NETWORKS["paper"].replace(width=64)
    assert config.losses == dataclasses.replace(SurfelLossWeights(), mask=2.0)
    assert (config.batch_size, config.steps, config.preset) == (4, PRESETS["paper"].steps, "paper")
    starter = TrainConfig.of({"preset": "starter-cpu", "data": "D"})
    assert (starter.model, starter.steps, starter.batch_size, starter.warm_up) == ("ray", 5000, 8, 150)
    plain = TrainConfig.of({"model": "mvgamba", "data": "D"})
    assert plain.network == NetworkConfig() and plain.surfels == SurfelOptions()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "nerf"}, "model is 'nerf'; it must be ray or mvgamba"),
        ({"preset": "best"}, "preset is 'best'; there are paper, released, starter-cpu, starter"),
        ({"preset": "paper", "model": "ray"}, "model is 'ray'; it must be mvgamba"),
        ({"model": "mvgamba", "network": {"pixel_width": 3}}, "network has no field 'pixel_width'; there are width"),
        (
            {"model": "mvgamba", "network": {"rotation_head": "euler"}},
            "rotation_head is 'euler'; it must be 'rotnet_soft'",
        ),
        (
            {"model": "mvgamba", "network": {"image_size": 65}},
            "image_size is 65; it must be a multiple of patch_size, 14",
        ),
        (
            {"model": "mvgamba", "surfels": {"augmentation": {"grid_strength": 2}}},
            "grid_strength is 2.0; it must lie in",
        ),
        ({"steps": "many"}, "steps is 'many'; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"init": 3}, "init is 3; it must be text or null"),
        ({"losses": 3}, "losses must be a JSON object, got 3"),
        ({"precision": "fp8"}, "precision is 'fp8'; it must be 'fp32' or 'bf16'"),
        ({"checkpointing": True}, "are for the model 'mvgamba'"),
        ({"data": ""}, "data is missing"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(values, words):
    with pytest.raises(InvalidInput, match=words):
        TrainConfig.of({"data": "D"} | values)
    with pytest.raises(InvalidInput, match="must be a JSON object"):
        TrainConfig.of([1, 2])


def test_a_network_belongs_to_its_model():
    with pytest.raises(
        InvalidInput, match="model is 'ray', which takes a RayConfig and RayLossWeights, got NetworkConfig"
    ):
        TrainConfig(data="D", network=NetworkConfig())
